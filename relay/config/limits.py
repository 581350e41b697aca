"""The limits of `[relay]`: what a client may ask of us before it is told to stop, each with its reason."""

from datetime import timedelta
from typing import Final, Literal

from pydantic import Field, field_validator

from tracker.runtime.configtypes import Count, Duration, Section, Size
from tracker.runtime.units import UnfitError

_MAX_MESSAGE_BYTES: Final = 1 << 30
_LEAST_LINE_BYTES: Final = 998  # RFC 5322 §2.1.1
_LEAST_MEMORY_BYTES: Final = 1 << 20
_LEAST_COMMAND_TIMEOUT: Final = timedelta(seconds=1)


class Limits(Section):
    """The keys of `[relay]` that bound what clients take."""

    max_message: Size = Field(25 << 20, description="The largest message taken in.")
    max_line: Size = Field(
        64 << 10,
        description="The longest line of a message, its end not counted. Mail servers may break or refuse what is over"
        " 998 octets.",
    )
    large_headers: Literal["untracked", "reject"] = Field(
        "untracked",
        description="What a message with more than 128 KiB or 1,000 lines of header gets: it passes unrewritten, or is"
        " refused.",
    )
    max_recipients: Count = Field(1000, ge=100, le=100_000, description="The most recipients of a message.")
    max_connections: Count = Field(1000, ge=1, le=100_000, description="The most connections at a time.")
    max_connections_per_address: Count = Field(
        100, ge=1, le=100_000, description="The most from one address; loopback and allow_networks excepted."
    )
    max_errors: Count = Field(
        20, ge=1, le=10_000, description="Commands answered 5xx between two messages: the last one ends the session."
    )
    max_junk_commands: Count = Field(
        100, ge=1, le=10_000, description="Commands that bring no mail, between two messages; then the session ends."
    )
    command_timeout: Duration = Field(
        timedelta(minutes=5), description="How long a client that may send is waited for, for one command or reply."
    )
    login_timeout: Duration = Field(
        timedelta(minutes=1), description="How long one that may not send yet has to log in, in all."
    )
    session_timeout: Duration = Field(
        timedelta(hours=1), description="How long a connection lasts in all; a message under way may end."
    )
    data_timeout: Duration = Field(timedelta(minutes=30), description="How long one message may take to come.")
    min_data_rate: Size = Field(
        500, description="The least of a message that each second must bring, over a minute: less is a held connection."
    )
    memory_in_flight: Size = Field(
        128 << 20, description="About how much memory large messages take that are read, accepted and sent, together."
    )
    max_memory: Size | None = Field(
        None,
        examples=['"1GiB"'],
        description="With more than this, a process takes no connection and no message. Left out: 75% of the cgroup's"
        " limit or of the machine.",
    )

    @field_validator("max_message")
    @classmethod
    def _has_a_bound(cls, value: int) -> int:
        if not 1 << 10 <= value <= _MAX_MESSAGE_BYTES:
            raise UnfitError("it is not between 1KiB and 1GiB", 'write it like "25MiB"')
        return value

    @field_validator("max_line")
    @classmethod
    def _takes_what_the_rfc_allows(cls, value: int) -> int:
        if not _LEAST_LINE_BYTES <= value <= _MAX_MESSAGE_BYTES:
            raise UnfitError("it is not between 998B and 1GiB", 'write it like "64KiB"')
        return value

    @field_validator("memory_in_flight")
    @classmethod
    def _holds_a_message(cls, value: int) -> int:
        if value < _LEAST_MEMORY_BYTES:
            raise UnfitError("it is less than 1MiB", 'write it like "128MiB"')
        return value

    @field_validator("command_timeout", "login_timeout", "session_timeout", "data_timeout")
    @classmethod
    def _lets_a_client_answer(cls, value: timedelta) -> timedelta:
        if value < _LEAST_COMMAND_TIMEOUT:
            raise UnfitError("it is less than 1s", 'write it like "5m"')
        return value
