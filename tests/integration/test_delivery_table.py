"""`docs/reference/delivery.md`: its table of reply by phase is what a real server's replies come to."""

import re

import pytest

from relay.core.attempt import Attempt
from relay.spool import transitions
from tests.integration.smtp_script import DROP, Script
from tests.integration.test_upstream import send, transaction
from tests.machine import ROOT

_PAGE = (ROOT / "docs" / "reference" / "delivery.md").read_text(encoding="utf-8")
_PHASES = {"connect": "greeting", "EHLO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "dot": "dot"}
_CODES = {421, 450, 451, 452, 454, 499, 500, 521, 530, 535, 550, 552, 554}
_SAID = {"lost or silent": DROP, "no reply at all: `hello`": "hello"}
_HEAD, *_ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in _PAGE.partition("## Reply by phase")[2].partition("\n- ")[0].splitlines()
    if line.startswith("|") and "---" not in line
]
_CASES = [
    (reply, phase, outcome)
    for reply, *outcomes in _ROWS
    for phase, outcome in zip(_HEAD[1:], outcomes, strict=True)
    if outcome != "–"
]


def test_the_table_has_every_code_and_phase() -> None:
    """Those that servers are known to give, at every command."""
    assert _HEAD[1:] == list(_PHASES)
    assert {int(row[0].strip("`")) for row in _ROWS if re.fullmatch(r"`\d{3}`", row[0])} >= _CODES


@pytest.mark.parametrize("reply, phase, outcome", _CASES)
async def test_reply_by_phase(reply: str, phase: str, outcome: str) -> None:
    """Over a real socket, one case a cell: the outcome, which phase it was, and no mail taken but where it says so."""
    text = _SAID.get(reply) or reply.strip("`")
    text = f"{text} as told" if re.fullmatch(r"\d{3}( \d\.\d\.\d+)?", text) else text
    script = Script(replies={_PHASES[phase]: text} | ({"helo": text} if phase == "EHLO" else {}))
    async with script as server:
        attempts: list[Attempt] = await send(server, transaction(), connect_timeout_s=2.0, command_timeout_s=2.0)

    assert [transitions.name_of(attempt) for attempt in attempts] == [outcome]
