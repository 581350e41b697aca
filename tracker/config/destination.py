"""`[event_destination.NAME]`: where events go."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from tracker.contract.events import EventType
from tracker.contract.settings import DestinationType, EventDestination, RecordFormat
from tracker.contract.webhooks import fault_of_secret
from tracker.core.reach import fault_of_url, without_secret
from tracker.runtime.configtypes import Count, Duration, FilePath, Kind, Section, Texts, as_list
from tracker.runtime.units import UnfitError

DEFAULT_JSONL_KEEP: Final = timedelta(days=60)
MAX_BATCH: Final = 100  # a record has up to 20 KB, and receivers take a few megabytes
_NO_SUCH_EVENTS: Final = frozenset({"complaint", "renderingfailure", "subscription"})  # SES has them, Mailwake does not
_MAX_SECRETS: Final = 4  # a rotation has two; each is a signature of every request
_KEYS_OF: Final = {
    "jsonl": frozenset({"path", "keep"}),
    "webhook": frozenset({"url", "secret", "batch", "allow_private"}),
    "nats": frozenset({"servers", "stream", "credentials"}),
}
_NATS_SCHEMES: Final = ("nats", "tls")
_MAKE_ONE: Final = 'make one: echo "whsec_$(openssl rand -base64 32)"'
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

    type: DestinationType = Field(examples=['"webhook"'], description="jsonl, webhook, nats or stdout.")
    path: FilePath | None = Field(None, description="jsonl: the folder of PATH/YYYY-MM-DD.jsonl, by UTC day.")
    keep: Duration | None = Field(None, description='jsonl: how long a file is kept; "60d" where it is left out.')
    allow_private: bool = Field(
        default=False, description="webhook: true lets it post to addresses of private networks, and by http:."
    )
    url: str | None = Field(
        None, examples=['"https://events.shop.example/hook"'], description="webhook: where events are posted to."
    )
    secret: Annotated[tuple[SecretStr, ...] | None, BeforeValidator(as_list)] = Field(
        None,
        max_length=_MAX_SECRETS,
        examples=['"env:WEBHOOK_SECRET"'],
        description="webhook: what signs, whsec_ and base64 of 24 to 64 bytes; of a list each signs.",
    )
    batch: Count = Field(1, ge=1, le=MAX_BATCH, description="webhook: more than 1 posts lists of up to so many events.")
    servers: Texts | None = Field(
        None, examples=['["nats://127.0.0.1:4222"]'], description="nats: the servers, tried in order."
    )
    stream: str = Field("MAILWAKE", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="nats: the JetStream stream.")
    credentials: FilePath | None = Field(None, description="nats: the file of the login, as NATS's tools make it.")
    sets: Texts = Field(("*",), description="The sets whose events it takes.")
    events: Annotated[tuple[EventName, ...], BeforeValidator(as_list)] = Field(
        tuple(event.value for event in EventType),
        min_length=1,
        examples=['["open", "click"]'],
        description="The events it takes; SES's spellings are understood.",
    )
    exclude_machine: bool = Field(
        default=False, description="true: opens and clicks of the class machine are not told."
    )
    format: RecordFormat = Field("ses", description="The shape of an event: ses, sns or tencent.")

    @field_validator("url")
    @classmethod
    def _can_be_posted_to(cls, value: str | None, info: ValidationInfo) -> str | None:
        fault = value and fault_of_url(value, allow_private=bool(info.data.get("allow_private")))
        if fault:
            raise UnfitError(*fault)
        return value

    @field_serializer("url", when_used="json")
    def _shown(self, value: str | None) -> str | None:
        """Mask the query, which may be what the receiver knows us by."""
        return value and without_secret(value)

    @field_validator("secret")
    @classmethod
    def _can_sign(cls, value: tuple[SecretStr, ...] | None) -> tuple[SecretStr, ...] | None:
        for secret in value or ():
            wrong = fault_of_secret(secret.get_secret_value())
            if wrong is not None:
                raise UnfitError(wrong, _MAKE_ONE)
        return value

    @field_validator("servers")
    @classmethod
    def _are_servers(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for server in value or ():
            url = urlsplit(server)
            if url.scheme not in _NATS_SCHEMES or not url.hostname:
                raise UnfitError(f"{server!r} is no server", 'write it like "nats://127.0.0.1:4222"')
            if "@" in url.netloc:
                raise UnfitError("a server holds a login", "write credentials, the file of the login")
        return value

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        for wrong, remedy in self._misfits():
            raise UnfitError(wrong, remedy)
        return self

    def _misfits(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go together, and what to do."""
        for kind, keys in _KEYS_OF.items():
            strange = sorted(keys & self.model_fields_set)
            if kind != self.type and strange:
                belong = "belongs" if len(strange) == 1 else "belong"
                yield f"{' and '.join(strange)} {belong} to {kind}", "remove what is not its own"
        if self.type == "jsonl" and self.path is None:
            yield "jsonl needs a path", 'write path = "var/events"'
        if self.type == "webhook" and self.url is None:
            yield "webhook needs a url", 'write url = "https://events.shop.example/hook"'
        if self.type == "webhook" and not self.secret:
            yield "webhook needs a secret", f'write secret = "env:NAME"; {_MAKE_ONE}'
        if self.batch > 1 and self.format == "sns":
            yield "an SNS notification has one event", "remove batch"
        if self.type == "nats" and not self.servers:
            yield "nats needs servers", 'write servers = ["nats://127.0.0.1:4222"]'


EVENT_DESTINATION: Final = Kind(name="event_destination", named=True, model=EventDestinationSection)


def event_destination(name: str, section: EventDestinationSection) -> EventDestination:
    """Make the snapshot's entry of a table."""
    return EventDestination(
        name=name,
        type=section.type,
        path=section.path,
        keep=(section.keep or DEFAULT_JSONL_KEEP) if section.type == "jsonl" else None,
        url=section.url or "",
        secrets=tuple(secret.get_secret_value() for secret in section.secret or ()),
        batch=section.batch,
        allow_private=section.allow_private,
        servers=section.servers or (),
        stream=section.stream,
        credentials=section.credentials,
        sets=section.sets,
        events=frozenset(section.events),
        exclude_machine=section.exclude_machine,
        format=section.format,
    )
