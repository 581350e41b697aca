"""The configuration file: found, read, overridden from the environment, and checked with every error at once.

Owns TOML, `"env:NAME"` and `"file:PATH"` values, `MAILWAKE__SECTION__KEY` overrides, where each value came from, and
the words of an error. Does not own the keys: each half declares its tables as `Kind`s and reads them with a `Reader`.

Standards: TOML 1.0 (tomllib).
"""

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tracker.runtime.configtypes import BASE, Kind, S
from tracker.runtime.units import UnfitError

ENVIRONMENT_FILE: Final = "MAILWAKE_CONFIG"
OVERRIDE_PREFIX: Final = "MAILWAKE__"
DEFAULT_PATHS: Final = (Path("config.toml"), Path("/etc/mailwake/config.toml"))
SOURCES: Final = ", "  # between the origins of a list whose texts come from several places
REFERENCE: Final = "docs/reference/configuration.md"

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_TOML_VALUE: Final = ("[", "{", '"', "'")
_MAX_SECRET_FILE_BYTES: Final = 64 << 10
_WORDS: Final = {"missing": "is missing", "too_short": "is empty"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file: the key's path, what is wrong with it, and what to do."""

    key: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong} - {self.remedy}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` are all that is wrong with it. Nothing was started."""

    def __init__(self, path: Path | None, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        super().__init__("\n".join([f"{path}:", *(f"  {line}" for line in lines)] if path else lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file as it was read: its values, and by key path where each came from (`"file"`, `"MAILWAKE__LOG__LEVEL"`).

    The texts of a list may come from several places: `"file, env:NAME"`.
    """

    path: Path
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    readable_by_others: bool = False

    @property
    def base(self) -> Path:
        """The folder that relative paths are relative to."""
        return self.path.parent


def find(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """Choose the file: the one named, else MAILWAKE_CONFIG's, else ./config.toml, else /etc/mailwake/config.toml."""
    if explicit is not None:
        return explicit
    if named := environ.get(ENVIRONMENT_FILE):
        return Path(named)
    for path in DEFAULT_PATHS:
        if path.is_file():
            return path
    remedy = f"name one with --config or {ENVIRONMENT_FILE}, or make one with `mailwake init DIR`"
    raise ConfigError(None, [Problem(key="--config", wrong="there is no configuration file", remedy=remedy)])


def read(path: Path, environ: Mapping[str, str]) -> Source:
    """Read a file and lay the environment over it. ConfigError: it cannot be read, or is no TOML."""
    path = path.absolute()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
    except OSError as error:
        problem = Problem(key=str(path), wrong=f"cannot be read: {error.strerror}", remedy="name another with --config")
        raise ConfigError(None, [problem]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = Problem(key="TOML", wrong=str(error), remedy="mend the line; texts stand in quotes")
        raise ConfigError(path, [problem]) from error
    loader = _Loader(path.parent, environ)
    loader.override(values)
    resolved = {key: loader.resolve((key,), value) for key, value in values.items()}
    return Source(
        path=path,
        values=resolved,
        origins=loader.origins,
        problems=tuple(loader.problems),
        readable_by_others=bool(mode & (stat.S_IRGRP | stat.S_IROTH)),
    )


def key_path(parts: Iterable[str]) -> str:
    """Write a key path as TOML does: `sender_domain."shop.example".configuration_set`."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else f'"{part}"' for part in parts)


@dataclass(slots=True)
class Reader:
    """Reads the tables of a file into their models, and gathers every problem on the way."""

    source: Source
    problems: list[Problem] = field(init=False)
    _claimed: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.problems = list(self.source.problems)

    def section(self, kind: Kind[S]) -> S | None:
        """Read `[name]`; a missing one has all defaults. None: it is wrong, and the problems say how."""
        parts = tuple(kind.name.split("."))
        self._claimed.add(parts[0])
        values: object = self.source.values
        for part in parts:
            values = values.get(part, {}) if isinstance(values, dict) else {}
        return self._validate(kind, parts, values)

    def table(self, kind: Kind[S]) -> dict[str, S | None]:
        """Read every `[name.NAME]`; None for one that is wrong."""
        self._claimed.add(kind.name)
        entries = self.source.values.get(kind.name, {})
        if not isinstance(entries, dict):
            self.add((kind.name,), "is no table", f"write [{kind.name}.NAME]")
            return {}
        return {name: self._validate(kind, (kind.name, name), entry) for name, entry in entries.items()}

    def add(self, parts: Iterable[str], wrong: str, remedy: str) -> None:
        """Note a problem of a key."""
        self.problems.append(Problem(key=key_path(parts), wrong=wrong, remedy=remedy))

    def finish(self, planned_sections: frozenset[str]) -> None:
        """Look at the tables that nobody asked for. ConfigError: there is any problem at all."""
        for name in self.source.values:
            if name not in self._claimed:
                self._unknown((name,), self._claimed, planned_sections)
        if self.problems:
            raise ConfigError(self.source.path, self.problems)

    def _validate(self, kind: Kind[S], parts: tuple[str, ...], values: object) -> S | None:
        if not isinstance(values, dict):
            self.add(parts, "is no table", f"write [{key_path(parts)}] and its keys below it")
            return None
        known = kind.model.model_fields
        for key in values:
            if key not in known and key not in kind.inner:
                self._unknown((*parts, key), known, kind.planned)
        try:
            kept = {key: value for key, value in values.items() if key in known and value is not _FAILED}
            section = kind.model.model_validate(kept, context={BASE: self.source.base})
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            items = {details["loc"][0] for details in found if len(details["loc"]) > 1}
            failed = {key for key in values if values[key] is _FAILED}
            for details in found:
                # A list is also said to be too short where its items are wrong; a value that could not be taken from
                # the environment or a file is also missing, and that was said.
                is_echo = details["type"] == "too_short" and details["loc"][0] in items
                if not is_echo and not failed.intersection(details["loc"][:1]):
                    self._explain(kind, parts, details)
            return None
        return None if any(value is _FAILED for value in values.values()) else section

    def _unknown(self, parts: tuple[str, ...], known: Iterable[str], planned: frozenset[str]) -> None:
        *_, key = parts
        if key in planned:
            self.add(parts, "is planned, and not in this version", "remove it")
            return
        close = difflib.get_close_matches(key, [*known, *planned], n=1)
        self.add(parts, "there is no such key", f"did you mean {close[0]!r}?" if close else f"see {REFERENCE}")

    def _explain(self, kind: Kind[S], parts: tuple[str, ...], details: ErrorDetails) -> None:
        inner = tuple(str(part) for part in details["loc"])
        where = (*parts, *inner[:1])
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, UnfitError):
            self.add(where, cause.wrong, cause.remedy)
            return
        field_info = kind.model.model_fields.get(inner[0]) if inner else None
        example = field_info.examples[0] if field_info is not None and field_info.examples else None
        remedy = f"write it like {inner[0]} = {example}" if example else f"see {REFERENCE}"
        wrong = _WORDS.get(details["type"]) or details["msg"][:1].lower() + details["msg"][1:]
        self.add(where, wrong, remedy)


_FAILED: Final = object()  # stands for a value that could not be taken from its place


class _Loader:
    """Lays overrides over the values, and takes values from where they point."""

    def __init__(self, base: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[str, str] = {}
        self._base = base
        self._environ = environ

    def override(self, values: dict[str, Any]) -> None:
        """Set `values["relay"]["hostname"]` from MAILWAKE__RELAY__HOSTNAME, and so on."""
        for variable in sorted(name for name in self._environ if name.startswith(OVERRIDE_PREFIX)):
            table: dict[str, Any] = values
            parts = variable.removeprefix(OVERRIDE_PREFIX).split("__")
            found = [_find_key(table, parts[0])]
            for part in parts[1:]:
                inner = table.setdefault(found[-1], {})
                if not isinstance(inner, dict):
                    break
                table = inner
                found.append(_find_key(table, part))
            if len(found) != len(parts) or len(parts) < 2 or "" in parts:
                self._fail(variable, "does not name a key", "write MAILWAKE__SECTION__KEY")
                continue
            table[found[-1]] = self._parse(variable)
            self.origins[key_path(found)] = variable

    def resolve(self, parts: tuple[str, ...], value: object) -> object:
        """Replace `"env:NAME"` and `"file:PATH"`, at any depth; note where each key came from."""
        if isinstance(value, dict):
            return {key: self.resolve((*parts, key), inner) for key, inner in value.items()}
        path = key_path(parts)
        here = self.origins.setdefault(path, "file")
        if isinstance(value, list):
            taken = [self._take(path, inner) for inner in value]
            sources = dict.fromkeys(inner if _is_reference(inner) else here for inner in value)
            self.origins[path] = SOURCES.join(sources) or here
            return _FAILED if any(inner is _FAILED for inner in taken) else taken
        return self._take(path, value)

    def _take(self, path: str, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.startswith("env:"):
            name = value.removeprefix("env:")
            self.origins[path] = value
            if name in self._environ:
                return self._environ[name]
            return self._fail(path, f"the environment has no {name}", f"set {name}, or write the value here")
        if value.startswith("file:"):
            self.origins[path] = value
            return self._take_file(path, self._base / Path(value.removeprefix("file:")).expanduser())
        return value

    def _take_file(self, path: str, file: Path) -> object:
        try:
            raw = file.read_bytes()
            if len(raw) > _MAX_SECRET_FILE_BYTES:
                return self._fail(path, f"{file} is longer than 64 KiB", "name a file that holds the value alone")
            return raw.decode().rstrip("\r\n")
        except OSError as error:
            return self._fail(path, f"{file} cannot be read: {error.strerror}", "make it, or write the value here")
        except UnicodeDecodeError:
            return self._fail(path, f"{file} is not UTF-8", "name a file that holds text")

    def _parse(self, variable: str) -> object:
        text = self._environ[variable]
        if not text.startswith(_TOML_VALUE):
            return text  # numbers and true or false are understood from their text by the models
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return self._fail(variable, "begins like a TOML value, but is none", 'write it like ["127.0.0.1:2525"]')

    def _fail(self, path: str, wrong: str, remedy: str) -> object:
        self.problems.append(Problem(key=path, wrong=wrong, remedy=remedy))
        return _FAILED


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("env:", "file:"))


def _find_key(table: Mapping[str, object], part: str) -> str:
    """Find a key that is written in another case; variables are in capitals by custom."""
    return next((key for key in table if key.lower() == part.lower()), part.lower())
