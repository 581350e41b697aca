"""`mailwake destinations` and a service with a webhook: what an operator sees, tries, sends again and rotates."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from standardwebhooks import Webhook

from relay.cli.main import main
from tests.integration.endpoint import SECRET, receiving, status
from tests.integration.serving import CONFIG, LIMIT_S, configure, send, serving
from tracker.publish import probe
from tracker.publish.guard import ask_system

NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDlkdLaKPLZPQ="
MESSAGE = b"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: list\r\n\r\nhello\r\n"


def _with_webhook(folder: Path, url: str, secret: str = f'"{SECRET}"') -> Path:
    table = f'[event_destination.shop]\ntype = "webhook"\nurl = "{url}"\nsecret = {secret}\nallow_private = true\n'
    return configure(folder, CONFIG.replace('["archive"]', '["archive", "shop"]') + table)


def _run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["destinations", *arguments, "--config", str(config)])


async def _ask(config: Path, *arguments: str) -> Any:  # noqa: ANN401 - a document
    """Run a command beside the endpoint, and return its JSON."""
    done = await asyncio.to_thread(_run, config, *arguments, "--json")
    return json.loads(done.stdout)


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.05)


def _listed(config: Path, name: str = "shop") -> dict[str, Any]:
    rows: list[dict[str, Any]] = json.loads(_run(config, "list", "--json").output)
    return next(row for row in rows if row["name"] == name)


async def test_a_service_posts_events_and_keeps_what_is_refused_for_a_replay(tmp_path: Path) -> None:
    """The Send is refused, the Delivery taken; the operator sees it, mends the receiver and has it sent again."""
    async with receiving(status(422, body=b"unknown tenant"), status(204)) as endpoint:
        config = _with_webhook(tmp_path, endpoint.url)
        with serving(config) as server:
            await asyncio.to_thread(send, server.address("relay"), MESSAGE)
            await _until(lambda: len(endpoint.requests) == 2)
            await _until(lambda: _listed(config)["dead_letters"] == 1)
            row = _listed(config)
            assert (row["state"], row["behind"], row["why"]) == ("ok", 0, None)
            shown = await _ask(config, "show", "shop")
            (letter,) = shown["last_dead_letters"]
            assert (letter["type"], letter["reason"]) == ("send", "HTTP 422: unknown tenant")
            assert SECRET not in json.dumps(shown)

            done = await _ask(config, "replay", "shop", "--id", str(letter["id"]))
            assert done == {"name": "shop", "dead_letters": 1}
            await _until(lambda: _listed(config)["dead_letters"] == 0)
            assert server.log().count("events_dead") == 1
        refused, _, again = endpoint.requests
        assert refused.id == again.id == letter["event_id"]
        assert refused.body == again.body
        done = await asyncio.to_thread(_run, config, "replay", "shop", "--all")
        assert (done.exit_code, done.output) == (1, "mailwake: shop has no such dead letter\n")


async def test_a_secret_is_rotated_by_reloads_without_a_gap(tmp_path: Path) -> None:
    """Old; old and new; new: at each step a receiver that has the old or the new one verifies what it is due."""
    async with receiving() as endpoint:
        config = _with_webhook(tmp_path, endpoint.url)
        with serving(config) as server:
            for step, secret in enumerate((f'"{SECRET}"', f'["{NEW}", "{SECRET}"]', f'"{NEW}"')):
                _with_webhook(tmp_path, endpoint.url, secret)
                done = await asyncio.to_thread(server.run, "reload")
                assert done.exit_code == 0, done.output
                assert "restart" not in done.output
                await asyncio.to_thread(send, server.address("relay"), MESSAGE)
                await _until(lambda: len(endpoint.requests) >= 2 * step + 2)  # noqa: B023 - awaited here

    assert len(endpoint.requests) == 6
    for secret, requests in ((SECRET, endpoint.requests[:4]), (NEW, endpoint.requests[2:])):
        for request in requests:
            Webhook(secret).verify(request.body, request.headers)


async def test_a_destination_that_is_gone_is_enabled_by_command(tmp_path: Path) -> None:
    """410: its events wait; the archive goes on."""
    async with receiving(status(410), status(204)) as endpoint:
        config = _with_webhook(tmp_path, endpoint.url)
        with serving(config) as server:
            await asyncio.to_thread(send, server.address("relay"), MESSAGE)
            await _until(lambda: _listed(config)["state"] == "disabled")
            row = _listed(config)
            assert row["why"] == "HTTP 410; `mailwake destinations enable shop`"
            await _until(lambda: _listed(config)["behind"] == 2)
            await _until(lambda: _listed(config, "archive")["behind"] == 0)
            text = (await asyncio.to_thread(_run, config, "list")).output
            assert "disabled" in text

            done = await asyncio.to_thread(_run, config, "enable", "shop")
            assert done.output == "shop is tried at once.\n"
            await _until(lambda: len(endpoint.requests) == 3)
            await _until(lambda: _listed(config)["state"] == "ok")


async def test_a_test_hands_over_a_sample_and_says_what_came_of_it(tmp_path: Path) -> None:
    """In the destination's format, signed as any other; nothing is stored of it."""
    async with receiving(status(204), status(500, body=b"down")) as endpoint:
        config = _with_webhook(tmp_path, endpoint.url)
        done = await _ask(config, "test", "shop")
        assert done == {"name": "shop", "event_id": endpoint.requests[0].id, "taken": True, "why": None}
        body = json.loads(endpoint.requests[0].body)
        assert (body["eventType"], body["mail"]["tags"]["mailwake:test"]) == ("Delivery", ["true"])
        assert body["mail"]["destination"] == ["test@mailwake.invalid"]
        Webhook(SECRET).verify(endpoint.requests[0].body, endpoint.requests[0].headers)

        failed = await asyncio.to_thread(_run, config, "test", "shop")
        assert failed.exit_code == 1
        assert "did not take the event" in failed.output
        assert "HTTP 500: down" in failed.output
    assert (await asyncio.to_thread(_run, config, "test", "archive")).exit_code == 0
    (line,) = [path.read_text() for path in (tmp_path / "var/events").glob("*.jsonl")]
    assert json.loads(line)["eventType"] == "Delivery"
    assert not (tmp_path / "var/mailwake.db").exists()


def test_without_a_storage_there_is_nothing_to_send_again(tmp_path: Path) -> None:
    """Exit code 1; 2 where the question is no question, and the storage is not made by asking."""
    config = configure(tmp_path, CONFIG + '[event_destination.spare]\ntype = "stdout"\n')

    rows = {row["name"]: row for row in json.loads(_run(config, "list", "--json").output)}
    assert {name: (row["state"], row["why"]) for name, row in rows.items()} == {
        "archive": ("new", "it has not been tried yet"),
        "spare": ("unused", "no configuration set sends it events"),
    }
    assert "archive\tjsonl\t" in _run(config, "list").output
    assert "state = new" in _run(config, "show", "archive").output
    assert _run(config, "replay", "archive", "--all").exit_code == 1
    assert _run(config, "enable", "archive").exit_code == 1
    assert _run(config, "replay", "archive").exit_code == 2
    assert _run(config, "replay", "archive", "--all", "--id", "1").exit_code == 2
    for command in ("show", "test", "enable"):
        done = _run(config, command, "nobody")
        assert (done.exit_code, done.output) == (1, "mailwake: there is no event destination 'nobody'\n")
    assert not (tmp_path / "var/mailwake.db").exists()


@pytest.mark.parametrize(
    "host, wrong",
    [("127.0.0.1", None), ("localhost", None), ("events.invalid", "not known"), ("169.254.1.1", "no public address")],
)
async def test_check_looks_at_a_receiver_without_posting(tmp_path: Path, host: str, wrong: str | None) -> None:
    """Name, addresses and connection."""
    async with receiving() as endpoint:
        url = f"http://{host}:{endpoint.port}/hook?token=secret"
        config = _with_webhook(tmp_path, url)
        if wrong == "no public address":
            done = await asyncio.to_thread(lambda: CliRunner().invoke(main, ["check", "--config", str(config)]))
            assert f"event_destination.shop.url: {host} is no public address" in done.output.replace("FAILED  ", "")
            return

        async def nobody(name: str) -> list[str]:
            raise OSError("Name or service not known")

        (destination,) = [one for one in _settings(config).destinations.values() if one.name == "shop"]
        trouble = await probe.trouble_of(destination, nobody if wrong else ask_system)
        assert (trouble is None) if wrong is None else (trouble is not None and wrong in trouble)
        assert probe.target_of(destination) == f"http://{host}:{endpoint.port}/hook?..."
    assert endpoint.requests == []


def _settings(config: Path) -> Any:  # noqa: ANN401 - a snapshot
    from relay import appconfig

    return appconfig.load(config, {}).settings()


async def test_check_says_which_destination_cannot_be_used(tmp_path: Path) -> None:
    """A folder that cannot be made, and a receiver that is not there."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/events").touch()
    config = _with_webhook(tmp_path, "http://127.0.0.1:1/")
    done = await asyncio.to_thread(lambda: CliRunner().invoke(main, ["check", "--config", str(config)]))

    assert done.exit_code == 1
    assert "FAILED  event_destination.archive" in done.output
    assert "no folder that this user may write to" in done.output
    assert "FAILED  event_destination.shop: http://127.0.0.1:1/" in done.output
    assert "mailwake destinations test shop" in done.output
