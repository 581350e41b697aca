"""`[journal]`, `[storage]`, `[keys]`, `[verification]` and `[log]`: what a node keeps, and how it says what it does."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from tracker.runtime.configtypes import Duration, FilePath, Kind, Section, Size, resolve
from tracker.runtime.units import ListenAddress, UnfitError

SQLITE: Final = "sqlite:"
_ONE_DAY: Final = timedelta(days=1)
_LEAST_JOURNAL_BYTES: Final = 64 << 20  # four segments: what is written, what is read, and some of what is kept


def _resolver(value: object) -> object:
    return value if value == "system" or not isinstance(value, str) else str(ListenAddress.parse(value))


def _sqlite(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or value.startswith("postgresql:"):
        raise UnfitError("only SQLite is there in this version", 'write it like "sqlite:var/mailwake.db"')
    path = value.removeprefix(SQLITE)
    if not value.startswith(SQLITE) or not path or path.startswith(":"):
        raise UnfitError(f"{value!r} is no storage", 'write it like "sqlite:var/mailwake.db"')
    return f"{SQLITE}{resolve(path, info)}"


class JournalSection(Section):
    """`[journal]`: the events that were answered for, until the storage has them."""

    directory: FilePath = Field(Path("var/journal"), description="Where the journal lies, on a local disk.")
    keep: Duration = Field(_ONE_DAY, description="How long what the storage has taken in is kept beyond that.")
    max_size: Size = Field(
        5 << 30,
        ge=_LEAST_JOURNAL_BYTES,
        description="How large it may grow. The last 5 % are for hits alone; a hit for which there is no room is lost.",
    )


class StorageSection(Section):
    """`[storage]`: what has happened to messages, for statistics, publishing and the console."""

    url: Annotated[str, BeforeValidator(_sqlite)] = Field(
        "sqlite:var/mailwake.db", description="The database; its folder is made."
    )

    keep: Duration = Field(
        timedelta(days=60),
        description="How long all of a message is kept from its acceptance; at least tracking.collect_for.",
    )
    keep_statistics: Duration = Field(
        timedelta(days=5 * 365), description="How long totals are kept, which name nobody."
    )

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(self.url.removeprefix(SQLITE))


class KeysSection(Section):
    """`[keys]`: the secrets that seal links."""

    file: FilePath = Field(
        Path("var/keys.json"),
        description="The keys file, mode 0600. Made only while spool, journal and storage are empty.",
    )


class VerificationSection(Section):
    """`[verification]`: how DNS is asked whether domains are set up."""

    resolver: Annotated[str, BeforeValidator(_resolver)] = Field(
        "system", description="Who is asked: system, or a server's ADDRESS:PORT."
    )


class LogSection(Section):
    """`[log]`: what the process says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error.")
    addresses: bool = Field(default=False, description="true: mail addresses in logs; else a hash of each.")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto (text on a terminal, else json), text or json."
    )


JOURNAL: Final = Kind(name="journal", model=JournalSection)
STORAGE: Final = Kind(name="storage", model=StorageSection)
KEYS: Final = Kind(name="keys", model=KeysSection)
VERIFICATION: Final = Kind(
    name="verification", model=VerificationSection, planned=frozenset({"ca_file", "http_port", "https_port"})
)
LOG: Final = Kind(name="log", model=LogSection)
