"""Laws of addresses, ids and tokens as strangers send them: an error of ours or a value that prints as it parses."""

from binascii import a2b_base64

from tests.unit.tokens import KEYS
from tracker.contract.address import Address, normalize_domain, parse_path
from tracker.contract.errors import AddressError, IdError, TokenError
from tracker.contract.ids import CopyId, EventId, MessageId
from tracker.contract.token import Purpose, TokenPayload


def a_path_prints_what_was_checked(text: str) -> None:
    """Any text is an address or an AddressError; what it prints parses to itself, without line ends."""
    try:
        path, rest = parse_path(text)
    except AddressError:
        return
    printed = str(path)
    assert text.endswith(f">{rest}")
    assert parse_path(f"<{printed}>") == (path, "")
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in printed)
    printed.encode()  # never a lone surrogate


def an_address_prints_as_it_parses(text: str) -> None:
    """parse(str(a)) == a, and its domain is normal already."""
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address
    assert normalize_domain(address.domain) == address.domain
    assert address.domain.isascii()


def an_id_has_one_spelling(text: str) -> None:
    """What parses prints as it was written."""
    for kind in (MessageId, CopyId, EventId):
        try:
            assert str(kind.parse(text)) == text
        except IdError:
            continue


def any_text_is_a_bad_token_or_one_of_ours(text: str) -> None:
    """Whatever a stranger writes, the answer is TokenError; a token that is read is the one that we would seal."""
    for purpose in Purpose:
        try:
            payload = KEYS.read(text, purpose)
        except TokenError:
            continue
        assert payload.purpose is purpose
        assert text.startswith(KEYS.seal(payload, 1))


def a_changed_token_is_bad(payload: TokenPayload, place: int, other: str) -> None:
    """Every character counts, the unused bits of the last one too; what follows the token does not."""
    token = KEYS.seal(payload, 1)
    assert KEYS.read(token + other, payload.purpose) == payload
    place %= len(token)
    if token[place] == other:
        return
    try:
        KEYS.read(token[:place] + other + token[place + 1 :], payload.purpose)
    except TokenError:
        return
    raise AssertionError(f"token with {other!r} at {place} was read: {a2b_base64(token[:8])!r}")
