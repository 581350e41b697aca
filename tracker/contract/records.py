"""Journal records as bytes: JSON of the structs of `events.py`, ids as their text, times in ISO 8601 UTC.

The first member of every object is `kind`. A reader of this version takes unknown members for those of a later one and
ignores them; an unknown kind is a `RecordError`, so that a later version's journal is noticed, not thrown away.
`docs/reference/journal.md` has a vector of each kind.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tracker.contract.errors import IdError, RecordError
from tracker.contract.events import JournalRecord
from tracker.contract.ids import CopyId, EventId, MessageId

_PARSE: Final[Mapping[type, Callable[[str], object]]] = {one: one.parse for one in (MessageId, CopyId, EventId)}


def id_to_text(value: object) -> str:
    """Return an id as its text: the `enc_hook` of every file of ours that holds ids."""
    if isinstance(value, MessageId | CopyId | EventId):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no place in a record")


def id_from_text(kind: type, value: Any) -> object:  # noqa: ANN401 - the signature that msgspec calls
    """Read an id from its text: the `dec_hook` of the same files. ValueError: it is none."""
    try:
        return _PARSE[kind](value)
    except IdError as error:
        raise ValueError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise NotImplementedError(f"{kind.__name__} has no place in a record") from error


_ENCODER: Final = msgspec.json.Encoder(enc_hook=id_to_text)
_DECODER: Final[msgspec.json.Decoder[JournalRecord]] = msgspec.json.Decoder(JournalRecord, dec_hook=id_from_text)


def encode(record: JournalRecord) -> bytes:
    """Return the record as one line of JSON without its line end."""
    return _ENCODER.encode(record)


def decode(raw: bytes | memoryview) -> JournalRecord:
    """Read a record. RecordError: not JSON, an unknown kind, or a member that is missing or of another type."""
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError as error:
        raise RecordError(f"a journal record cannot be read: {error}") from error
