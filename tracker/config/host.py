"""`[tracker]`, `[tracker.tls]`, `[console]` and `[metrics]`: what this node serves over HTTP."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from tracker.config.rulefile import RuleFileField
from tracker.runtime.configtypes import Count, FilePath, Kind, Listen, Listens, Networks, Rate, Section, as_list
from tracker.runtime.places import Places
from tracker.runtime.units import HTTP, HTTPS, ListenAddress, UnfitError


def _base_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    url = urlsplit(value)
    try:
        usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        usable = False
    if not usable or url.username is not None or url.query or url.fragment or not value.isascii():
        raise UnfitError(f"{value!r} is no base of links", 'write it like "https://trace.shop.example"')
    if url.path not in ("", "/"):
        raise UnfitError("it has a path, and tokens stand at the root of the host", "write the scheme and host alone")
    default_port = ":80" if url.scheme == "http" else ":443"
    return f"{url.scheme}://{url.netloc.lower().removesuffix(default_port)}"


def _place_file(path: Path) -> Path:
    """Read it once, to say at the start what is wrong with it; who serves reads it again."""
    Places.read([path])
    return path


PlaceFile = Annotated[FilePath, AfterValidator(_place_file)]


def _http_listen(value: object) -> object:
    """Read `"https://0.0.0.0:443"` and `"http://127.0.0.1:8080"` beside plain addresses."""
    return [_with_scheme(one) for one in value] if isinstance(value, list | tuple) else as_list(_with_scheme(value))


def _with_scheme(value: object) -> object:
    for scheme in (HTTP, HTTPS):
        if isinstance(value, str) and value.startswith(scheme):
            return replace(ListenAddress.parse(value.removeprefix(scheme)), scheme=scheme)
    return value


class TrackerSection(Section):
    """`[tracker]`: the host that links and pixels point to."""

    listen: Annotated[Listens, BeforeValidator(_http_listen)] = Field(
        (ListenAddress("127.0.0.1", 8080),),
        min_length=1,
        description="Where the tracking host listens. With [tracker.tls] all of them speak TLS but http://ADDRESS:PORT.",
    )
    public_url: Annotated[str, BeforeValidator(_base_url)] | None = Field(
        None,
        examples=['"https://trace.shop.example"'],
        description="Where links point, as recipients reach it. Left out: the first address of `listen`, on loopback.",
    )
    trusted_proxies: Networks = Field((), description="Networks whose X-Forwarded-For is believed.")
    record_address: Literal["truncated", "full", "none"] = Field(
        "truncated", description="What is kept of a visitor's address: truncated (/24, /48), full or none."
    )
    geoip: Annotated[tuple[PlaceFile, ...], BeforeValidator(as_list)] = Field(
        (), max_length=4, description="Databases of countries and networks, in MaxMind's format."
    )
    rules: RuleFileField | None = Field(
        None, examples=['"rules.toml"'], description="A rule file of yours, laid over ours: how machines are told."
    )
    max_hits: Rate = Field(
        1000 / 60,
        examples=['"1000/m"'],
        description="Hits of a link above this pace are answered, and kept as one event a minute with a count.",
    )
    max_connections: Count = Field(
        4096,
        ge=64,
        le=65_536,
        description="Connections at a time; for one more, that which was silent longest is closed.",
    )


class ConsoleSection(Section):
    """`[console]`: the page that says what runs."""

    listen: Listens = Field(
        (ListenAddress("127.0.0.1", 8081),), min_length=1, description="Where the console listens: loopback only."
    )

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, value: tuple[Listen, ...]) -> tuple[Listen, ...]:
        for address in value:
            if not address.is_loopback:
                raise UnfitError(f"{address} can be reached from elsewhere, and there is no login yet", "use 127.0.0.1")
        return value


class MetricsSection(Section):
    """`[metrics]`: /metrics, /healthz and /readyz of this process."""

    listen: Listen = Field(
        ListenAddress("127.0.0.1", 9464), description="Where it listens: loopback or a private address."
    )

    @field_validator("listen")
    @classmethod
    def _is_private(cls, value: Listen) -> Listen:
        if not value.is_private:
            raise UnfitError(f"{value} is not on a private network", "use 127.0.0.1 or an address of your own network")
        return value


TRACKER: Final = Kind(name="tracker", model=TrackerSection, inner=frozenset({"tls"}))
CONSOLE: Final = Kind(name="console", model=ConsoleSection, planned=frozenset({"tls", "behind_proxy"}))
METRICS: Final = Kind(name="metrics", model=MetricsSection)
