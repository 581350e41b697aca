"""`mailwake queue` with and without a running service, on the spool of the first release."""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.service import Service, by_type, parse, wait_until

FILES = Path(__file__).parents[1] / "unit" / "data" / "spool-1"
TRACKED, UNTOUCHED = (f"01kjmma2g0000000000000000{number}" for number in (1, 2))


def listed(service: Service, *options: str) -> list[dict[str, Any]]:
    """Return what `queue list --json` prints; an empty queue is exit code 1."""
    command = [service.command, "queue", "list", "--json", *options, "--config", str(service.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == (0 if found else 1), done.stderr
    return found


def test_the_queue_of_the_first_release_is_ordered_about_and_finished(installed_mailwake: Path, tmp_path: Path) -> None:
    """Held with nobody running, removed and released with the service running; each recipient gets the mail once."""
    with Service(installed_mailwake, tmp_path) as service:  # makes keys and folders
        assert service.stop() == 0
        queue = tmp_path / "var" / "spool" / "00" / "q"
        for file in FILES.glob("*.bin"):
            shutil.copy(file, queue / file.stem)

        assert len(listed(service)) == 6
        assert [mail["id"] for mail in listed(service, "--held")] == [TRACKED]
        assert f"{UNTOUCHED} is held" in service.run("queue", "hold", UNTOUCHED)
        shown = service.run("queue", "show", UNTOUCHED)
        assert "one@b.example\theld" in shown
        assert "Subject: Plain" in shown
        assert "A line." not in shown
        assert "A line." in service.run("queue", "show", "--body", UNTOUCHED)

        service.start()
        held = {TRACKED, UNTOUCHED}
        wait_until(lambda: {path.name for path in queue.iterdir()}, held.__eq__, 30, service.log)
        assert "is removed" in service.run("queue", "remove", TRACKED)
        assert json.loads(service.run("queue", "release", "--held", "--json"))["copies"] == 3
        wait_until(lambda: list(queue.iterdir()), lambda files: files == [], 30, service.log)
        assert listed(service) == []
        events = service.wait_for_events(lambda events: len(by_type(events, "Bounce")) == 3)
        assert service.stop() == 0

    got = Counter(str(parse(raw)["Delivered-To"]).partition("@")[0] for raw in service.delivered())
    once = ["waiting", "later", "flight", "one", "two", "three", "jörg", "torn"]
    assert got == Counter({**dict.fromkeys(once, 1), "shop": 3})  # a report that waited, and those of the rows in F
    removed = [event for event in by_type(events, "Bounce") if "Removed by an operator" in json.dumps(event)]
    assert [event["mailwake"]["recipient"] for event in removed] == ["held@a.example"]
    assert not list((tmp_path / "var" / "spool" / "00" / "quarantine").iterdir())
