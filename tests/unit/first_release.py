"""The spool of the first release, as it was left by it: `data/spool-1` is never made again.

Six messages, with rows in every state there is:
    1  tracked, nine recipients: waiting, put off, in flight, D, F, d, f, held, F at the end of its lifetime
    2  untouched, three recipients who wait      3  a delivery report      4  finished, its file was not removed yet
    5  SMTPUTF8 and 8-bit      6  delivered, but its row is torn: it counts as waiting
"""

import shutil
from pathlib import Path
from typing import Final

from tests.unit.spooling import make_id

FILES: Final = Path(__file__).parent / "data" / "spool-1"
TRACKED, UNTOUCHED, REPORT, FINISHED, EIGHT_BIT, TORN = (make_id(number) for number in range(1, 7))
WAITING: Final = ("waiting@a.example", "later@a.example", "flight@a.example")


def lay_out(slot: Path) -> None:
    """Copy the files into a slot, `spool/00`."""
    (slot / "q").mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in FILES.glob("*.bin"):
        shutil.copy(file, slot / "q" / file.stem)
