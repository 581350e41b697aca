"""What came of one cell of the table: one peer, one thing asked of it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passed:
    """It went as it must; `asserted` says what was looked at."""

    asserted: str


@dataclass(frozen=True, slots=True)
class NotOffered:
    """The peer does not do this, so nothing was asked; or Mailwake was seen to do what it must do without."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not go as it must."""

    what: str


Outcome = Passed | NotOffered | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`Cell(peer="swaks", item="STARTTLS", outcome=Passed("…"))`."""

    peer: str
    item: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program that took part: `Peer(name="swaks", version="20201014.0", absent="")`, or why it could not."""

    name: str
    version: str = ""
    absent: str = ""


class NotOfferedError(Exception):
    """Raised by a peer's driver for what the program cannot do; the text is the reason."""


class AbsentError(Exception):
    """Raised by a peer's driver where the program is not on this machine; the text says what is missing."""


def judge(check: Callable[[], str]) -> Outcome:
    """Run one check: what it returns is what it asserted, what it raises is why it failed."""
    try:
        return Passed(check())
    except NotOfferedError as error:
        return NotOffered(str(error))
    except Exception as error:  # noqa: BLE001 - a cell: the others are run all the same
        return Failed(f"{type(error).__name__}: {error}"[:1500])
