"""What comes of asking the witness."""

from dataclasses import dataclass
from enum import StrEnum

from relay.testimony import Disagreement
from relay.verification import limits


class Why(StrEnum):
    """Why there is no verdict on a message."""

    QUEUE_FULL = "queue_full"
    """Too many messages waited."""
    TOO_LARGE = "too_large"
    """The message is too large to be asked about."""
    CPU = "cpu"
    """The witness used all the processor time that a message may take."""
    MEMORY = "memory"
    """It used all the memory."""
    DEADLINE = "deadline"
    """It did not answer in time."""
    ERROR = "error"
    """Its libraries could not read the message."""
    DIED = "died"
    """Its process could not be started, or was ended by somebody else."""
    STOPPED = "stopped"
    """The relay stopped first."""

    @property
    def sentence(self) -> str:
        """Say it to people."""
        return {
            Why.QUEUE_FULL: f"more than {limits.MAX_WAITING} messages waited",
            Why.TOO_LARGE: f"the message is larger than {limits.MAX_MESSAGE_BYTES >> 20} MiB",
            Why.CPU: f"took more than {limits.CPU_S} s of CPU",
            Why.MEMORY: f"took more than {limits.MEMORY_BYTES >> 20} MiB of memory",
            Why.DEADLINE: f"took more than {limits.WALL_S:.0f} s",
            Why.ERROR: "the libraries of the witness cannot read the message",
            Why.DIED: "the process of the witness could not be started, or was ended",
            Why.STOPPED: "the relay stopped first",
        }[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """The copy is what was promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreed:
    """It is not: at least one disagreement."""

    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """Nobody knows."""

    why: Why


Verdict = Agreed | Disagreed | Unverified
