"""The witness's process: what it answers, how it breaks and is replaced, and that it never outlives the relay."""

import asyncio
import os
import signal
import smtplib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from relay.core import plan
from relay.testimony import Kind, Question, promise_of
from relay.verification.child import Child, ask_once
from relay.verification.verdict import Agreed, Disagreed, Unverified, Why
from tests.acceptance.service import wait_until
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, serving
from tests.machine import ROOT
from tests.unit.rewriting import FixedMint, html_mail, joined, options

_HONEST = html_mail('<a href="https://shop.example/a">a</a>', "Subject: secret plans")
_HOSTILE = html_mail(("<a " * 300 + "\n") * 200)
_HOSTILE_LIMIT_S = 90.0  # of CPU it gets 5 s, at the lowest priority

_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def _question(message: bytes, old: bytes = b"", new: bytes = b"") -> Question:
    made = plan.make(message, options())
    promise = promise_of(made, FixedMint())
    return Question(message=message, copy=joined(made).replace(old, new, 1), promise=promise)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def _is_alive(pid: int) -> bool:
    """Say whether a process runs; one that nobody has waited for is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_copy_is_agreed_to_or_not() -> None:
    """One process answers question after question; a deliberate bad copy is a disagreement of its kind."""
    child = Child()
    try:
        assert await child.ask(_question(_HONEST)) == Agreed()
        pid = child.pid
        verdict = await child.ask(_question(_HONEST, b">a<", b">b<"))
        assert isinstance(verdict, Disagreed)
        assert {one.kind for one in verdict.disagreements} == {Kind.MARKUP}
        assert await child.ask(_question(_HONEST)) == Agreed()
        assert child.pid == pid
    finally:
        await child.close()
    assert child.pid is None


@pytest.mark.timeout(180)
async def test_a_hostile_message_ends_the_process_and_the_next_one_is_verified() -> None:
    """The libraries need quadratic time for it; the kernel's limit of CPU does not."""
    child = Child(is_background=False)
    try:
        assert await child.ask(_question(_HOSTILE)) == Unverified(why=Why.CPU)
        assert child.pid is None
        assert await child.ask(_question(_HONEST)) == Agreed()
    finally:
        await child.close()


async def test_a_message_that_takes_too_long_is_given_up() -> None:
    """The parent holds the clock, whatever the process does."""
    child = Child(wall_s=1.5)
    try:
        assert await child.ask(_question(_HOSTILE)) == Unverified(why=Why.DEADLINE)
        assert child.pid is None
    finally:
        await child.close()


async def test_too_much_memory_is_no_verdict() -> None:
    """A limit on its memory keeps the process from taking the machine's; a fresh one takes over."""
    child = Child(is_background=False)
    try:
        verdict = await child.ask(_question(b"X: y\r\n\r\n" + bytes(150 * 1024 * 1024)))
        assert isinstance(verdict, Unverified)
        assert verdict.why in {Why.MEMORY, Why.DIED}
        assert await child.ask(_question(_HONEST)) == Agreed()
    finally:
        await child.close()


@_linux
async def test_a_process_that_somebody_ends_is_replaced() -> None:
    """The out-of-memory killer takes it first: the message it had counts as unverified."""
    child = Child()
    try:
        assert await child.ask(_question(_HONEST)) == Agreed()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        assert await child.ask(_question(_HONEST)) == Unverified(why=Why.DIED)
        assert await child.ask(_question(_HONEST)) == Agreed()
    finally:
        await child.close()


@_linux
async def test_the_process_has_nothing_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file but its pipes, no secret of the environment, no terminal; the last in line for CPU, the first to go."""
    monkeypatch.setenv("UPSTREAM_PASSWORD", "s3cret")
    child = Child()
    try:
        assert await child.ask(_question(_HONEST)) == Agreed()
        process = Path(f"/proc/{child.pid}")
        assert sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2"]
        assert b"s3cret" not in (process / "environ").read_bytes()
        assert b"secret plans" not in (process / "cmdline").read_bytes()
        assert os.getsid(child.pid or 0) == child.pid
        assert os.getpriority(os.PRIO_PROCESS, child.pid or 0) == 19
        assert (process / "oom_score_adj").read_text() == "1000\n"
    finally:
        await child.close()


async def test_one_question_needs_no_more() -> None:
    """What `mailwake explain` asks."""
    assert await ask_once(_question(_HONEST)) == Agreed()


@_linux
async def test_an_answer_that_nobody_waits_for_leaves_no_process() -> None:
    """Who gives up a question and closes has ended the process, however busy it is."""
    child = Child()
    assert await child.ask(_question(_HONEST)) == Agreed()
    pid = child.pid
    assert pid is not None
    asking = asyncio.ensure_future(child.ask(_question(_HOSTILE)))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await child.close()

    assert not _is_alive(pid)


def test_a_serving_process_loads_nothing_that_parses_html() -> None:
    """BeautifulSoup stays in the process that has limits."""
    program = "import sys, relay.cli.serve, relay.app; print([name for name in sys.modules if name.startswith('bs4')])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=LIMIT_S)

    assert done.stdout.strip() == "[]"


def _config(folder: Path) -> Path:
    return configure(folder, CONFIG + "[tracking]\nverify_sample = 1.0\n")


def _send(server: Server, *messages: bytes) -> None:
    with smtplib.SMTP(*server.address("relay"), local_hostname="client.example") as client:
        client.ehlo()
        for message in messages:
            client.sendmail("news@shop.example", ["ana@client.example", "bo@client.example"], message)


def _count(server: Server, outcome: str) -> float:
    wanted = f'mailwake_witness_total{{outcome="{outcome}"}} '
    lines = server.get("metrics", "/metrics")[2].splitlines()
    return float(next(line for line in lines if line.startswith(wanted)).removeprefix(wanted))


@pytest.mark.timeout(240)
def test_a_share_of_live_mail_is_verified(tmp_path: Path) -> None:
    """Every message that is rewritten is agreed to; a hostile one is unverified, and those after it are verified."""
    with serving(_config(tmp_path)) as server:
        _send(server, *([_HONEST] * 10))
        wait_until(partial(_count, server, "agreed"), lambda count: count == 10, LIMIT_S, server.log)
        _send(server, *([_HONEST] * 10))
        wait_until(partial(_count, server, "agreed"), lambda count: count == 20, LIMIT_S, server.log)
        assert _count(server, "disagreed") == _count(server, "unverified") == 0

        _send(server, _HOSTILE, _HONEST)
        wait_until(partial(_count, server, "agreed"), lambda count: count == 21, _HOSTILE_LIMIT_S, server.log)
        assert _count(server, "unverified") == 1
        assert _count(server, "disagreed") == 0
        assert server.stop() == 0
    log = server.log()
    assert "witness_gave_no_verdict" in log
    assert "Unknown child process" not in log
    assert "secret plans" not in log


@_linux
def test_the_process_ends_with_the_relay(tmp_path: Path) -> None:
    """An orderly stop waits for its end."""
    with serving(_config(tmp_path)) as server:
        _send(server, _HONEST)
        wait_until(partial(_count, server, "agreed"), lambda count: count == 1, LIMIT_S, server.log)
        (child,) = _children(server.process.pid)
        assert server.stop() == 0
        assert not _is_alive(child)


@_linux
def test_the_process_does_not_outlive_a_relay_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no orphan, in the middle of a hostile message as little as between two."""
    with serving(_config(tmp_path)) as server:
        _send(server, _HOSTILE)
        (child,) = wait_until(lambda: _children(server.process.pid), bool, LIMIT_S, server.log)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: _is_alive(child), lambda alive: not alive, LIMIT_S)
