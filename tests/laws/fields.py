"""Laws of what is read out of header values: controls, mailboxes, encoded words. Readers are total, and only narrow."""

from collections.abc import Sequence

from relay.core import encoded_words
from relay.core.controls import MAX_TAGS, NONE, Values, read
from relay.core.headers import HeaderBlock
from relay.core.mailboxes import first_mailbox, split
from tracker.contract.address import Address


def controls_only_narrow(values: Values) -> None:
    """Reading never raises; what cannot be read tracks nothing; a recipient never gets more than the message."""
    controls = read(values)
    assert controls.readable or controls.wishes == NONE
    assert len(controls.tags) <= MAX_TAGS
    for recipient, _ in controls.by_recipient:
        wishes = controls.wishes_of(recipient)
        assert wishes.narrowed(controls.wishes) == wishes
        assert str(Address.parse(recipient)) == recipient


def controls_of_a_block_only_narrow(block: HeaderBlock) -> None:
    """The same of fields as they stand in a header."""
    controls_only_narrow(block.values)


def a_mailbox_is_read_as_it_stands(value: str) -> None:
    """Entries are pieces of the value, and the first mailbox prints as an address of our grammar."""
    assert all(entry in value for entry in split(value))
    mailbox = first_mailbox(value)
    assert mailbox is None or Address.parse(str(mailbox)) == mailbox


def decoding_for_display_is_bounded(value: str) -> None:
    """Text without encoded words is shown as it is; no other text grows beyond four characters for one."""
    shown = encoded_words.decode(value)
    assert len(shown) <= 4 * len(value)
    if "=?" not in value and len(value) <= encoded_words.MAX_VALUE:
        assert shown == value


def named(name: str, fields: Sequence[str]) -> Values:
    """Give the values of one field name, none for others: `named("X-MC-Track", ["opens"])`."""
    return lambda wanted: fields if wanted == name else ()
