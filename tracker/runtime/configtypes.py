"""The types of keys that both halves' sections are made of, and the base of those sections.

Owns how pydantic sees the spellings of `units`; the sections themselves are in `tracker/config` and `relay/config`.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationInfo
from pydantic.json_schema import WithJsonSchema

from tracker.runtime import units
from tracker.runtime.units import ListenAddress, Network, UnfitError

BASE: Final = "base"  # the key of the validation context: the folder that relative paths are relative to
NAME_PATTERN: Final = r"[A-Za-z0-9_-]{1,64}"


class Section(BaseModel):
    """A table of the file; every key has a default or is required, and is described."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


S = TypeVar("S", bound=Section)
S_co = TypeVar("S_co", bound=Section, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[S_co]):
    """A table's name in the file, its model, and the keys that a later version will have.

    `named`: there is a table of it for each name, `[upstream.NAME]`. `inner` are keys that are tables with a kind of
    their own, whose name has a dot: `relay.tls`.
    """

    name: str
    named: bool = False
    model: type[S_co]
    planned: frozenset[str] = field(default_factory=frozenset)
    inner: frozenset[str] = field(default_factory=frozenset)


def resolve(path: str, info: ValidationInfo) -> Path:
    """Make a path absolute, relative to the folder of the file."""
    if not path or "\0" in path:
        raise UnfitError("the path is empty", "name a file or folder")
    base: Path = info.context[BASE] if info.context else Path()
    return base / Path(path).expanduser()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UnfitError(f"a {type(value).__name__} stands where a text belongs", "put it in quotes")
    return value


def _size(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else units.parse_size(_text(value))


def _duration(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else units.parse_duration(_text(value))


def _rate(value: object) -> float:
    return value if isinstance(value, float) else units.parse_rate(_text(value))


def _path(value: object, info: ValidationInfo) -> Path:
    return resolve(str(value) if isinstance(value, Path) else _text(value), info)


def _listen(value: object) -> ListenAddress:
    return value if isinstance(value, ListenAddress) else ListenAddress.parse(_text(value))


def _network(value: object) -> Network:
    return units.parse_network(_text(value))


def as_list(value: object) -> object:
    """Take a lone text for a list of one, as an environment variable gives it."""
    return [value] if isinstance(value, str) else value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise UnfitError("true or false stands where a number belongs", "write a whole number")
    return value


def _schema(example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": [example]})


Size = Annotated[int, PlainValidator(_size), PlainSerializer(units.format_size), _schema("25MiB")]
Duration = Annotated[timedelta, PlainValidator(_duration), PlainSerializer(units.format_duration), _schema("15m")]
Rate = Annotated[float, PlainValidator(_rate), PlainSerializer(units.format_rate), _schema("100/s")]
FilePath = Annotated[Path, PlainValidator(_path), PlainSerializer(str), _schema("var/spool")]
Listen = Annotated[ListenAddress, PlainValidator(_listen), PlainSerializer(str), _schema("127.0.0.1:2525")]
NetworkField = Annotated[Network, PlainValidator(_network), PlainSerializer(str), _schema("10.0.0.0/8")]
Count = Annotated[int, BeforeValidator(_no_bool)]
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Texts = Annotated[tuple[str, ...], BeforeValidator(as_list)]
Listens = Annotated[tuple[Listen, ...], BeforeValidator(as_list)]
Networks = Annotated[tuple[NetworkField, ...], BeforeValidator(as_list)]


def key_values(section: Section) -> dict[str, Any]:
    """Return a section's keys and values as they are spelled in the file, secrets masked."""
    return section.model_dump(mode="json")
