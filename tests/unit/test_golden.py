"""Golden pairs: `golden/AREA/CASE/in.eml` becomes `out.eml`, to the byte.

`case.toml` says why the case is there (`why`), what differs from tracking everything (`options`, `rules`), how long a
token is, and what plan says: the links, the skips as `SECTION REASON [URL]`, the reason for the whole message.

`make golden-update` writes `out.eml` and the expectations again; the difference is reviewed by hand.
"""

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay import witness
from relay.core import plan
from relay.core.linkrules import LinkRules
from relay.core.plan import RewriteOptions, RewritePlan
from tests.unit.rewriting import HOST, FixedMint, joined, options

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/*/case.toml"))
IS_UPDATE = os.environ.get("MAILWAKE_GOLDEN_UPDATE") == "1"


@pytest.mark.parametrize("folder", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_message_becomes_the_expected_copy(folder: Path) -> None:
    """The copy, the links and the reasons are those on file, and the witness agrees."""
    case = tomllib.loads((folder / "case.toml").read_text())
    message = (folder / "in.eml").read_bytes()
    mint = FixedMint(token_characters=case.get("token_characters", 24))
    made = plan.make(message, _options(case))
    copy = joined(made, mint)
    if IS_UPDATE:
        (folder / "out.eml").write_bytes(copy)
        (folder / "case.toml").write_text(_written(case, made))
        case = tomllib.loads((folder / "case.toml").read_text())
    assert copy == (folder / "out.eml").read_bytes()
    assert _expectations(made) == case["expect"]
    assert witness.check(message, copy, made, mint) == []


def test_there_are_cases() -> None:
    """An empty folder would pass everything."""
    assert len(CASES) >= 25


def _options(case: dict[str, Any]) -> RewriteOptions:
    stated: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in case.get("rules", {}).items()
    }
    rules = replace(LinkRules(own_hosts=frozenset({HOST})), **stated)
    return replace(options(rules=rules), **case.get("options", {}))


def _expectations(made: RewritePlan) -> dict[str, object]:
    return {
        "reason": made.reason.value if made.reason else "",
        "pixel": made.pixel,
        "links": [f"{link.index} {link.section} {link.url}" for link in made.links],
        "skips": [" ".join(filter(None, (skip.section, skip.reason.value, skip.url))) for skip in made.skips],
    }


def _written(case: dict[str, Any], made: RewritePlan) -> str:
    """Write the case as TOML; JSON's texts, numbers and lists are TOML's."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in case.items() if not isinstance(value, dict)]
    for table in ("options", "rules"):
        if table in case:
            lines += ["", f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in case[table].items())]
    lines += ["", "[expect]"]
    for name, value in _expectations(made).items():
        if isinstance(value, list) and value:
            lines += [f"{name} = [", *(f"  {json.dumps(item, ensure_ascii=False)}," for item in value), "]"]
        else:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
