"""What goes over the pipes to the witness's process and back: frames of msgpack, each behind its length.

A message never goes over disk or an argument: others could read it there.
"""

import struct
from typing import Final, Literal

import msgspec
from msgspec import Struct

from relay.testimony import Disagreement, Question

BACKGROUND: Final = "--background"
"""The argument of a process that nobody waits for: it gets the lowest priority."""
LENGTH: Final = struct.Struct(">I")
MAX_ANSWER_BYTES: Final = 1024 * 1024
"""An answer has twenty sentences at most; whoever sends more is not the witness."""


class Answer(Struct, frozen=True, kw_only=True):
    """The disagreements, or why there is no verdict: `memory`, or `error`, whose type stands in `detail`."""

    disagreements: tuple[Disagreement, ...] = ()
    failure: Literal["memory", "error"] | None = None
    detail: str = ""


def encode(value: Question | Answer) -> bytes:
    """Return a frame."""
    raw = msgspec.msgpack.encode(value)
    return LENGTH.pack(len(raw)) + raw


def decode_question(raw: bytes) -> Question:
    """Read a frame without its length. msgspec.MsgspecError: it is no question."""
    return msgspec.msgpack.decode(raw, type=Question)


def decode_answer(raw: bytes) -> Answer:
    """Read a frame without its length. msgspec.MsgspecError: it is no answer."""
    return msgspec.msgpack.decode(raw, type=Answer)
