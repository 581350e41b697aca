"""The rule files: ours, which comes with the program, and an operator's, which is laid over it (`tracker.rules`).

A file with a mistake is refused whole, when the configuration is loaded: a rule that silently never matches would be
worse than none.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

from pydantic import PlainSerializer, PlainValidator, ValidationInfo
from pydantic.json_schema import WithJsonSchema

from tracker.core.rules import Rules, RulesError
from tracker.runtime.configtypes import resolve
from tracker.runtime.units import UnfitError

MAX_BYTES: Final = 4 << 20  # some hundred thousand networks; reading them takes seconds


@dataclass(frozen=True, slots=True)
class RuleFile:
    """An operator's file that can be used, as it was read."""

    path: Path
    text: str = field(repr=False)

    def __str__(self) -> str:
        return str(self.path)


def rules(over: RuleFile | None = None) -> Rules:
    """Make the rules that are in force."""
    return Rules(_ours(), None if over is None else over.text)


def _read(value: object, info: ValidationInfo) -> RuleFile:
    if isinstance(value, RuleFile):
        return value
    if not isinstance(value, str):
        raise UnfitError("it is no text", 'write it like "rules.toml"')
    path = resolve(value, info)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        raise UnfitError(f"{path} cannot be read: {error.strerror}", "name a file that is there") from error
    except UnicodeDecodeError as error:
        raise UnfitError(f"{path} is not UTF-8", "write it as UTF-8") from error
    if len(raw) > MAX_BYTES:
        raise UnfitError(f"{path} is larger than {MAX_BYTES >> 20} MiB", "merge its networks into larger ones")
    found = RuleFile(path, text)
    try:
        rules(found)
    except RulesError as error:
        raise UnfitError(f"{path}: {error.entry}: {error.wrong}", error.remedy) from error
    return found


@cache
def _ours() -> str:
    return files("tracker.core").joinpath("data/rules.toml").read_text(encoding="utf-8")


RuleFileField = Annotated[
    RuleFile,
    PlainValidator(_read),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["rules.toml"]}),
]
