"""A program that writes a journal until it is killed: each number that it prints is the id of a durable record.

python -m tests.integration.journal_program DIRECTORY FIRST
"""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from tests.unit.happenings import opened
from tracker.journal.writer import Journal

_WRITERS = 8
_SEGMENT_BYTES = 100_000


async def _main(directory: Path, first: int) -> None:
    journal = Journal(directory, segment_bytes=_SEGMENT_BYTES)
    await journal.open()
    numbers = itertools.count(first)

    async def write() -> None:
        while True:
            number = next(numbers)
            await journal.emit([opened(number)])
            os.write(1, b"%d\n" % number)

    await asyncio.gather(*(write() for _ in range(_WRITERS)))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
