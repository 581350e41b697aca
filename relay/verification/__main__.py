"""The witness's process, `python -m relay.verification`: reads questions, answers each, ends with its input.

The only module of a running relay that loads the witness. Its parent holds the clock (`child.py`).
"""

import sys
from typing import BinaryIO

from relay import witness
from relay.testimony import Question
from relay.verification import limits, wire
from relay.verification.wire import Answer


def main() -> None:
    """Answer until the input ends, or until memory was short once: what is left of it then is nobody's guess."""
    limits.confine(is_background=wire.BACKGROUND in sys.argv)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints is no frame
    while (question := _read(questions)) is not None:
        limits.allow_cpu()
        answer = _answer(question)
        answers.write(wire.encode(answer))
        answers.flush()
        if answer.failure == "memory":
            return


def _read(stream: BinaryIO) -> Question | None:
    head = stream.read(wire.LENGTH.size)
    if len(head) < wire.LENGTH.size:
        return None
    (size,) = wire.LENGTH.unpack(head)
    raw = stream.read(size)
    return wire.decode_question(raw) if len(raw) == size else None


def _answer(question: Question) -> Answer:
    try:
        found = witness.compare(question.message, question.copy, question.promise)
        return Answer(disagreements=tuple(found))
    except MemoryError:
        return Answer(failure="memory")
    except Exception as error:  # noqa: BLE001 - libraries fail in any way on hostile mail; one question is one iteration
        return Answer(failure="error", detail=type(error).__name__)


if __name__ == "__main__":
    main()
