"""Tokens: what is sealed in a link or a pixel, its layout, its keys. This docstring is the specification, version 1.

A token stands in mail for ever, so a token of version 1 is read by every later release, whatever else changes.

Spelling
    URL-safe base64 (RFC 4648 §5) without padding, in the one spelling that encoding gives: unused bits of the last
    character are zero. A reader takes the number of characters that the length field demands and ignores all that
    follows, because mail programs append queries, brackets and full stops.

Layout (integers are big-endian)
    ====== ====== ==========================================================================================
    offset bytes  field
    ====== ====== ==========================================================================================
    0      1      version: 1
    1      2      key id
    3      1      purpose: 0x69 (`i`, a pixel) or 0x6C (`l`, a link), the letter of the URL's path
    4      2      n: how many sealed bytes follow
    6      n      sealed: AES-SIV (RFC 5297), 16 bytes of SIV and the ciphertext of the payload,
                  with one string of associated data: the six bytes before it
    ====== ====== ==========================================================================================

    The payload:
    ====== ====== ==========================================================================================
    0      1      flags: 0x01 sample (redirects, is never recorded); 0x02 redact (events hold no query of the URL);
                  0x04 labelled; every other bit is zero, else the token is bad
    1      16     message id
    17     6      suffix of the copy id
    23     2      day of acceptance, in days since 1970-01-01 UTC (until 2149)
    25     2      link index, from 0                      (link only)
    27     1      part: 0 HTML, 1 text                    (link only)
    ...    1 + s  configuration set: s, then s bytes      (labelled only)
    ...    1 + d  sender domain: d, then d bytes          (labelled only)
    ...    ...    destination URL, UTF-8, 1 byte or more  (link only, to the end)
    ====== ====== ==========================================================================================
    The labels are ASCII, the domain in A-labels; either may be empty, and where both are, the token is not labelled.

Keys
    A key of the keys file is 32 bytes. The 64 bytes of AES-256-SIV are HKDF-SHA256 of it (RFC 5869, no salt, info
    `mailwake token v1`), so the same secret can never serve another purpose by accident.
    A key mints from its `mint_from` on; the one with the latest `mint_from` that is not in the future mints. Every key
    in the file verifies, for ever.

Properties
    Sealing is deterministic: no nonce to lose, and a retry of a copy is the same mail. Two copies never share a token,
    because the copy's suffix is inside. SIV authenticates with 128 bits; nothing of the recipient can be read.
    Neither a pixel's token nor a link's can be used in the place of the other: the purpose is authenticated.

Limits: a token has at most 4,096 characters; a URL of more than `MAX_URL_BYTES` bytes, less those of the labels
(`room_for_url`), is not sealed.
"""

import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from tracker.contract.errors import KeysError, TokenError
from tracker.contract.ids import CopyId

VERSION: Final = 1
MAX_TOKEN_CHARACTERS: Final = 4096
SECRET_BYTES: Final = 32

_HEADER: Final = struct.Struct(">BHBH")
_HEADER_CHARACTERS: Final = 8  # six bytes are exactly eight characters: the header can be read on its own
_COMMON: Final = struct.Struct(">B16s6sH")
_LINK: Final = struct.Struct(">B16s6sHHB")
_COMMON_READ: Final = struct.Struct(">B22sH").unpack_from  # the two ids as one, `CopyId.raw`
_LINK_READ: Final = struct.Struct(">B22sHHB").unpack_from
_SIV_BYTES: Final = 16
_FLAG_SAMPLE: Final = 0x01
_FLAG_REDACT: Final = 0x02
_FLAG_LABELLED: Final = 0x04
_KNOWN_FLAGS: Final = _FLAG_SAMPLE | _FLAG_REDACT | _FLAG_LABELLED
_LEAST_LABELS_BYTES: Final = 2  # the two lengths
_MAX_LABEL_BYTES: Final = 0xFF  # a set's name has 64 characters, a domain 253
_EPOCH: Final = date(1970, 1, 1).toordinal()
_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_+/", b"+/  ")  # in a token, + and / are as foreign as a space
_PADDING: Final = (b"", b"===", b"==", b"=")  # by how many characters are over
_MAX_DAY: Final = 0xFFFF
_DAYS_REMEMBERED: Final = 128  # links are collected for 60 days
_HEADS_REMEMBERED: Final = 8192  # of two purposes and 2,000 lengths, for two keys; more are read each time

MAX_URL_BYTES: Final = MAX_TOKEN_CHARACTERS * 3 // 4 - _HEADER.size - _SIV_BYTES - _LINK.size
MAX_LINK_INDEX: Final = 0xFFFF


class Purpose(IntEnum):
    """What a token is for; the value is the byte in its header and the letter in the URL's path."""

    OPEN = ord("i")
    CLICK = ord("l")


_OPEN, _CLICK = Purpose.OPEN, Purpose.CLICK  # each is slow to find in its enumeration (CPython 3.11)


class BodyPart(IntEnum):
    """The part of a message that a link stands in; the value is the byte in the token."""

    HTML = 0
    TEXT = 1


_PARTS: Final = tuple(BodyPart)


class LinkPayload(Struct, frozen=True, kw_only=True):
    """Where a link of a copy leads: `index` counts the links of the message, `url` is the author's, to the letter."""

    index: int
    part: BodyPart
    url: str


class TokenPayload(Struct, frozen=True, kw_only=True):
    """What a token says; `link` is None for a pixel.

    The labels, `configuration_set` and `from_domain` (the sender domain in A-labels), are empty where nothing is known,
    as in tokens of mail that was accepted before there were any.
    """

    copy: CopyId
    day: date
    configuration_set: str = ""
    from_domain: str = ""
    link: LinkPayload | None = None
    sample: bool = False
    redact: bool = False

    @property
    def purpose(self) -> Purpose:
        """Click for a link, open for a pixel."""
        return _OPEN if self.link is None else _CLICK


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """One secret of the keys file: `key_id` 1 to 65535, 32 bytes, and the time from which it mints."""

    key_id: int
    secret: bytes
    mint_from: datetime

    def __post_init__(self) -> None:
        if not 1 <= self.key_id <= 0xFFFF:
            raise KeysError(f"key id {self.key_id} is not between 1 and 65535")
        if len(self.secret) != SECRET_BYTES:
            raise KeysError(f"the secret of key {self.key_id} is {len(self.secret)} bytes long, not {SECRET_BYTES}")
        if self.mint_from.tzinfo is None:
            raise KeysError(f"mint_from of key {self.key_id} has no time zone")

    def __repr__(self) -> str:
        return f"TokenKey(key_id={self.key_id}, mint_from={self.mint_from.isoformat()})"


class TokenKeys:
    """The keys that seal and read tokens; immutable for whoever uses them, safe to share."""

    def __init__(self, keys: Iterable[TokenKey]) -> None:
        """Prepare the ciphers. KeysError: there is no key, or two share an id."""
        self.keys = tuple(sorted(keys, key=lambda key: (key.mint_from, key.key_id)))
        self._ciphers = {key.key_id: AESSIV(_derive(key.secret)) for key in self.keys}
        self._heads: dict[str, _Head] = {}
        if not self.keys:
            raise KeysError("there is no key")
        if len(self._ciphers) != len(self.keys):
            raise KeysError("two keys have the same id")

    def minting(self, now: datetime) -> int:
        """Return the id of the key that mints at `now`: the latest whose time has come, else the earliest."""
        due = [key for key in self.keys if key.mint_from <= now]
        return (due[-1] if due else self.keys[0]).key_id

    def has(self, key_id: int) -> bool:
        """Say whether tokens of this key can be sealed and read here."""
        return key_id in self._ciphers

    def seal(self, payload: TokenPayload, key_id: int) -> str:
        """Seal a payload under a key; the same payload and key always give the same token.

        TokenError: the URL is empty, longer than `room_for_url` or not encodable, a label cannot be one, or a number is
        out of range; all are refused before a mail is planned, so this is a broken contract, not an outcome.
        KeysError: no such key.
        """
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeysError(f"there is no key {key_id} in the keys file")
        plain = _pack(payload)
        header = _HEADER.pack(VERSION, key_id, payload.purpose, _SIV_BYTES + len(plain))
        return _encode(header + cipher.encrypt(plain, [header])).decode("ascii")

    def read(self, text: str, purpose: Purpose) -> TokenPayload:
        """Read the token that `text` begins with, of that purpose; TokenError for everything that we did not seal."""
        head = self._heads.get(text[:_HEADER_CHARACTERS])
        if head is None:
            head = self._read_head(text[:_HEADER_CHARACTERS], purpose)
        if head.letter != purpose:
            raise TokenError("made for another purpose")
        sealed = _decode(text[_HEADER_CHARACTERS : head.characters])
        if len(sealed) != head.sealed_bytes:
            raise TokenError("cut off")
        try:
            plain = head.cipher.decrypt(sealed, head.associated)
        except InvalidTag as error:
            raise TokenError("not sealed by this key") from error
        return _unpack(plain, purpose)

    def _read_head(self, text: str, purpose: Purpose) -> "_Head":
        """Read the clear header, and remember what it says: the tokens of a key differ in it by their length alone."""
        header = _decode(text)
        if len(header) != _HEADER.size:
            raise TokenError("too short")
        version, key_id, letter, sealed_bytes = _HEADER.unpack(header)
        if version != VERSION:
            raise TokenError("unknown version")
        if letter != purpose:
            raise TokenError("made for another purpose")
        characters = ((_HEADER.size + sealed_bytes) * 4 + 2) // 3
        if sealed_bytes < _SIV_BYTES + _COMMON.size or characters > MAX_TOKEN_CHARACTERS:
            raise TokenError("of an impossible length")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise TokenError("no such key")
        head = _Head(characters, sealed_bytes, letter, cipher, [header])
        if len(self._heads) < _HEADS_REMEMBERED:
            self._heads[text] = head
        return head


class _Head(NamedTuple):
    """What the clear header of a token says; `associated` is the header itself, as the cipher wants it."""

    characters: int
    sealed_bytes: int
    letter: int
    cipher: AESSIV
    associated: list[bytes]


def day_of(moment: datetime) -> date:
    """Return the UTC day of a moment, as tokens bear it."""
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).date()


def room_for_url(configuration_set: str, from_domain: str) -> int:
    """Return how many bytes the URL of a link with these labels may have, so that its token has 4,096 characters."""
    labels = configuration_set + from_domain
    return MAX_URL_BYTES - _LEAST_LABELS_BYTES - len(labels) if labels else MAX_URL_BYTES


def _encode(raw: bytes) -> bytes:
    return b2a_base64(raw, newline=False).translate(_TO_URL_SAFE, b"=")


def _decode(text: str) -> bytes:
    """Decode. TokenError: it is not the one spelling of its bytes."""
    try:
        spelling = text.encode("ascii")
        raw = a2b_base64(spelling.translate(_FROM_URL_SAFE) + _PADDING[len(spelling) % 4])
    except ValueError as error:
        raise TokenError("not base64") from error
    if b2a_base64(raw, newline=False).translate(_TO_URL_SAFE, b"=") != spelling:  # what is no base64 was skipped
        raise TokenError("not the one spelling of its bytes")
    return raw


def _pack(payload: TokenPayload) -> bytes:
    labels = _pack_labels(payload)
    flags = _FLAG_SAMPLE if payload.sample else 0
    flags |= (_FLAG_REDACT if payload.redact else 0) | (_FLAG_LABELLED if labels else 0)
    day = payload.day.toordinal() - _EPOCH
    if not 0 <= day <= _MAX_DAY:
        raise TokenError("the day is outside 1970 to 2149")
    link = payload.link
    if link is None:
        return _COMMON.pack(flags, payload.copy.message.raw, payload.copy.suffix, day) + labels
    try:
        url = link.url.encode()
    except UnicodeEncodeError as error:
        raise TokenError("the URL is not Unicode text") from error
    if not 0 < len(url) <= MAX_URL_BYTES - len(labels) or not 0 <= link.index <= MAX_LINK_INDEX:
        raise TokenError("the URL or its index cannot be sealed")
    fixed = _LINK.pack(flags, payload.copy.message.raw, payload.copy.suffix, day, link.index, link.part)
    return fixed + labels + url


def _pack_labels(payload: TokenPayload) -> bytes:
    name, domain = payload.configuration_set, payload.from_domain
    if not name and not domain:
        return b""
    if not name.isascii() or not domain.isascii() or max(len(name), len(domain)) > _MAX_LABEL_BYTES:
        raise TokenError("the set or the sender domain cannot be sealed")
    return b"%c%b%c%b" % (len(name), name.encode(), len(domain), domain.encode())


def _unpack(plain: bytes, purpose: Purpose) -> TokenPayload:
    """Read a payload; it is authentic, so what is wrong here was sealed by another version of ourselves."""
    try:
        link: LinkPayload | None = None
        if purpose is _CLICK:
            flags, copy, day, index, part = _LINK_READ(plain)
            name, domain, rest = _unpack_labels(flags, plain[_LINK.size :])
            link = LinkPayload(index=index, part=_PARTS[part], url=rest.decode())
        else:
            flags, copy, day = _COMMON_READ(plain)
            name, domain, rest = _unpack_labels(flags, plain[_COMMON.size :])
        if bool(rest) is not (link is not None):
            raise TokenError("a pixel with more than it bears, or a link without a URL")
    except (struct.error, ValueError, IndexError) as error:
        raise TokenError("a payload of another layout") from error
    if flags & ~_KNOWN_FLAGS:
        raise TokenError("a flag of another version")
    return TokenPayload(
        copy=CopyId.of(copy),
        day=_date(day),
        configuration_set=name,
        from_domain=domain,
        link=link,
        sample=bool(flags & _FLAG_SAMPLE),
        redact=bool(flags & _FLAG_REDACT),
    )


@lru_cache(maxsize=_DAYS_REMEMBERED)
def _date(day: int) -> date:
    return date.fromordinal(_EPOCH + day)


def _unpack_labels(flags: int, plain: bytes) -> tuple[str, str, bytes]:
    """Return set, sender domain and what follows them."""
    if not flags & _FLAG_LABELLED:
        return "", "", plain
    name_end = 1 + plain[0]
    domain_end = name_end + 1 + plain[name_end]
    if len(plain) < domain_end or domain_end == _LEAST_LABELS_BYTES:
        raise TokenError("labels that are cut off, or none")
    return plain[1:name_end].decode("ascii"), plain[name_end + 1 : domain_end].decode("ascii"), plain[domain_end:]


def _derive(secret: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=64, salt=None, info=b"mailwake token v1").derive(secret)
