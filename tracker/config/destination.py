"""`[event_destination.NAME]`: where events go."""

from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tracker.contract.events import EventType
from tracker.contract.settings import EventDestination
from tracker.runtime.configtypes import Duration, FilePath, Kind, Section, Texts, as_list
from tracker.runtime.units import UnfitError

DEFAULT_JSONL_KEEP: Final = timedelta(days=60)
_NO_SUCH_EVENTS: Final = frozenset({"complaint", "renderingfailure", "subscription"})  # SES has them, Mailwake does not
_EVENTS: Final = {event.value.replace("_", ""): event.value for event in EventType}


def _event(value: object) -> object:
    """Read an event's name in our spelling or any of SES's: `delivery_delay`, `deliveryDelay`, `DELIVERY_DELAY`."""
    if not isinstance(value, str):
        return value
    folded = value.lower().replace("_", "").replace("-", "")
    if folded in _EVENTS:
        return _EVENTS[folded]
    if folded in _NO_SUCH_EVENTS:
        raise UnfitError(f"Mailwake has no event {value!r}", "remove it")
    raise UnfitError(f"there is no event {value!r}", f"choose from {', '.join(_EVENTS.values())}")


EventName = Annotated[str, BeforeValidator(_event)]


class EventDestinationSection(Section):
    """`[event_destination.NAME]`: where events go."""

    type: Literal["jsonl", "stdout"] = Field(examples=['"jsonl"'], description="jsonl or stdout.")
    path: FilePath | None = Field(None, description="jsonl: the folder of PATH/YYYY-MM-DD.jsonl, by UTC day.")
    keep: Duration | None = Field(None, description='jsonl: how long a file is kept; "60d" where it is left out.')
    sets: Texts = Field(("*",), description="The sets whose events it takes.")
    events: Annotated[tuple[EventName, ...], BeforeValidator(as_list)] = Field(
        tuple(event.value for event in EventType),
        min_length=1,
        examples=['["open", "click"]'],
        description="The events it takes; SES's spellings are understood.",
    )
    format: Literal["ses"] = Field("ses", description="The shape of an event.")

    @field_validator("type", mode="before")
    @classmethod
    def _is_there(cls, value: object) -> object:
        if value in ("webhook", "nats"):
            raise UnfitError(f"{value!r} is planned, and not in this version", 'write "jsonl" or "stdout"')
        return value

    @field_validator("format", mode="before")
    @classmethod
    def _is_ses(cls, value: object) -> object:
        if value in ("sns", "tencent"):
            raise UnfitError(f"{value!r} is planned, and not in this version", 'write "ses"')
        return value

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type == "jsonl" and self.path is None:
            raise UnfitError("jsonl needs a path", 'write path = "var/events"')
        if self.type == "stdout" and (self.path is not None or self.keep is not None):
            raise UnfitError("path and keep belong to jsonl", "remove them")
        return self


EVENT_DESTINATION: Final = Kind(
    name="event_destination",
    named=True,
    model=EventDestinationSection,
    planned=frozenset(
        {"url", "secret", "batch", "allow_private", "servers", "stream", "credentials", "exclude_machine"}
    ),
)


def event_destination(name: str, section: EventDestinationSection) -> EventDestination:
    """Make the snapshot's entry of a table."""
    return EventDestination(
        name=name,
        type=section.type,
        path=section.path,
        keep=(section.keep or DEFAULT_JSONL_KEEP) if section.type == "jsonl" else None,
        sets=section.sets,
        events=frozenset(section.events),
    )
