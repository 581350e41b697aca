"""Golden pairs: `golden/AREA/CASE/in.eml` becomes `out.eml`, to the byte.

`case.toml` says why the case is there (`why`), what differs from tracking everything (`options`, `rules`), how long a
token is, and what plan says: the links, the skips as `SECTION REASON [URL]`, the reason for the whole message.

With a table `submission` (sender, recipients), the message takes the whole way from the client to the upstream:
`prepare` with what differs of `site`, `settings` and configuration `set`, then the copy with its header. A refusal has
its reply and no copy.

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
from relay.core import copies, plan
from relay.core.linkrules import LinkRules
from relay.core.plan import RewriteOptions, RewritePlan
from relay.core.policy import Untouched
from relay.core.prepare import Prepared, Site, prepare
from relay.core.reply import Reply
from tests.unit.rewriting import HOST, FixedMint, joined, options
from tests.unit.submissions import settings, submission
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/*/case.toml"))
IS_UPDATE = os.environ.get("MAILWAKE_GOLDEN_UPDATE") == "1"

_ID = MessageId.parse("01kb9xn8g0000000000000000m")
_SITE = Site(hostname="relay.example", instance="relay1")


@pytest.mark.parametrize("folder", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_message_becomes_the_expected_copy(folder: Path) -> None:
    """The copy, the links and the reasons are those on file, and the witness agrees."""
    case = tomllib.loads((folder / "case.toml").read_text())
    message = (folder / "in.eml").read_bytes()
    mint = FixedMint(token_characters=case.get("token_characters", 24))
    made, copy, reply = _submitted(message, case, mint) if "submission" in case else _planned(message, case, mint)
    expectations: dict[str, object] = {"reply": reply.line()} if reply else _expectations(made)
    if IS_UPDATE:
        _update(folder, case, copy, expectations)
        case = tomllib.loads((folder / "case.toml").read_text())
    assert copy == ((folder / "out.eml").read_bytes() if (folder / "out.eml").exists() else None)
    assert expectations == case["expect"]
    assert witness.check(made.message, joined(made, mint), made, mint) == []


def test_there_are_cases() -> None:
    """An empty folder would pass everything."""
    assert len(CASES) >= 100


_Outcome = tuple[RewritePlan, bytes | None, Reply | None]


def _planned(message: bytes, case: dict[str, Any], mint: FixedMint) -> _Outcome:
    made = plan.make(message, _options(case))
    return made, joined(made, mint), None


def _submitted(message: bytes, case: dict[str, Any], mint: FixedMint) -> _Outcome:
    """Take a message from the client to the upstream; the copy bears `c1` for its id."""
    chosen = ConfigurationSet(name="default", **_tuples(case.get("set", {})))
    prepared = prepare(
        submission(message, *case["submission"]["recipients"], sender=case["submission"]["sender"]),
        site=replace(_SITE, **case.get("site", {})),
        settings=settings(chosen, **case.get("settings", {})),
        message_id=_ID,
    )
    match prepared:
        case Reply():
            return RewritePlan(message=message), None, prepared
        case Prepared(plan=None, message=stored, decision=Untouched(reason=reason)):
            return RewritePlan(message=stored, reason=reason), stored, None
        case Prepared(plan=RewritePlan() as made):
            return made, b"".join(copies.copy_of(made, mint)), None  # type: ignore[arg-type]
    raise AssertionError(prepared)


def _options(case: dict[str, Any]) -> RewriteOptions:
    rules = replace(LinkRules(own_hosts=frozenset({HOST})), **_tuples(case.get("rules", {})))
    return replace(options(rules=rules), **case.get("options", {}))


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _expectations(made: RewritePlan) -> dict[str, object]:
    return {
        "reason": made.reason.value if made.reason else "",
        "pixel": made.pixel,
        "links": [f"{link.index} {link.section} {link.url}" for link in made.links],
        "skips": [" ".join(filter(None, (skip.section, skip.reason.value, skip.url))) for skip in made.skips],
    }


def _update(folder: Path, case: dict[str, Any], copy: bytes | None, expectations: dict[str, object]) -> None:
    if copy is None:
        (folder / "out.eml").unlink(missing_ok=True)
    else:
        (folder / "out.eml").write_bytes(copy)
    (folder / "case.toml").write_text(_written(case, expectations))


def _written(case: dict[str, Any], expectations: dict[str, object]) -> str:
    """Write the case as TOML; JSON's texts, numbers and lists are TOML's."""
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in case.items()
        if not isinstance(value, dict)
    ]
    for table in ("options", "rules", "submission", "site", "settings", "set"):
        if table in case:
            lines += ["", f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in case[table].items())]
    lines += ["", "[expect]"]
    for name, value in expectations.items():
        if isinstance(value, list) and value:
            lines += [f"{name} = [", *(f"  {json.dumps(item, ensure_ascii=False)}," for item in value), "]"]
        else:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
