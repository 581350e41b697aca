"""Journal records as bytes: JSON of the structs of `events.py`, ids as their text, times in ISO 8601 UTC.

The first member of every object is `kind`. A reader of this version takes unknown members for those of a later one and
ignores them; an unknown kind is a `RecordError`, so that a later version's journal is noticed, not thrown away.
`docs/reference/journal.md` has a vector of each kind.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from tracker.contract.errors import IdError, RecordError
from tracker.contract.events import Click, Hit, JournalRecord, Open, Probe
from tracker.contract.ids import CopyId, EventId, MessageId

_OPEN: Final = b'{"kind":"open","event":"%b","copy":"%b","hit":{"at":%b%b}'
_CLICK: Final = b'{"kind":"click","event":"%b","copy":"%b","hit":{"at":%b%b,"link_index":%d,"part":%b,"url":%b}'
_SOME_TIME: Final = datetime.fromtimestamp(0, UTC)
_VISITORS_REMEMBERED: Final = 4096  # 1 KB each

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


def encode_hit(record: Open | Click | Probe) -> bytes:
    """Return what `encode` does, in a third of the time: what is the same in many hits is encoded once."""
    if isinstance(record, Probe):
        return encode(record)
    hit, event, copy = record.hit, record.event.text.encode(), record.copy.text.encode()
    at = _ENCODER.encode(hit.at)
    visitor = _encode_visitor((hit.address, hit.user_agent, hit.signals, hit.country, hit.count, hit.rules))
    if isinstance(record, Open):
        return _OPEN % (event, copy, at, visitor)
    link = (record.link_index, _ENCODER.encode(record.part), _ENCODER.encode(record.url))
    return _CLICK % (event, copy, at, visitor, *link)


@lru_cache(maxsize=_VISITORS_REMEMBERED)
def _encode_visitor(visitor: tuple[str, str, tuple[str, ...], str, int, str]) -> bytes:
    """Encode the fields of a `Hit` behind its time: `,"address":"192.0.2.0",…}`."""
    address, user_agent, signals, country, count, rules = visitor
    hit = Hit(
        at=_SOME_TIME,
        address=address,
        user_agent=user_agent,
        signals=signals,
        country=country,
        count=count,
        rules=rules,
    )
    return _ENCODER.encode(hit).removeprefix(_ENCODER.encode({"at": _SOME_TIME}).removesuffix(b"}"))


def decode(raw: bytes | memoryview) -> JournalRecord:
    """Read a record. RecordError: not JSON, an unknown kind, or a member that is missing or of another type."""
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError as error:
        raise RecordError(f"a journal record cannot be read: {error}") from error
