"""Forged tokens lead nowhere, leave nothing on the disk, and all get one and the same answer."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.forging import forged
from tests.acceptance.readers import first_mail
from tests.acceptance.service import Service, fetch

SEED = 20261128
_AT_ONCE = 20  # requests on the wire before their answers are read


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_forged_token_never_redirects_and_costs_no_write(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """Each bit flipped, cut, extended, spelled otherwise, of another kind, version or key; and made up."""
    count = count_of(4000, 100_000)
    with Service(installed_mailwake, tmp_path) as service:
        pixel, link = (urlsplit(url).path for url in first_mail(service)[:2])
        service.wait_for_events(lambda events: len(events) >= 2 and not service.spooled())
        before = _files(tmp_path / "var")
        tokens = forged(pixel, link, count=count, seed=SEED)
        answers: dict[str, Counter[bytes]] = {"/i/": Counter(), "/l/": Counter()}
        redirects = 0
        for (_, path), answer in zip(
            tokens, _ask(service.addresses["tracker"], [path for _, path in tokens]), strict=True
        ):
            redirects += b"location:" in answer.lower()
            answers[path[:3]][answer] += 1
        after = _files(tmp_path / "var")
        bad = service.metric('mailwake_hits_total{outcome="bad_token"}')
        events = service.events()
        assert fetch(service.local(f"http://x{link}"))[0] == 302
        assert service.stop() == 0

    figures = {
        "forged": count,
        "by_kind": dict(Counter(name for name, _ in tokens)),
        "redirects": redirects,
        "different_answers_to_links": len(answers["/l/"]),
        "different_answers_to_pixels": len(answers["/i/"]),
        "files_changed": [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)],
        "counted_as_bad": bad,
    }
    record_soak("forged-tokens", figures)
    print(figures)
    assert redirects == 0
    assert {answer.partition(b"\r\n")[0] for answer in answers["/l/"]} == {b"HTTP/1.1 404 Not Found"}
    assert {answer.partition(b"\r\n")[0] for answer in answers["/i/"]} == {b"HTTP/1.1 200 OK"}
    assert [len(answers[prefix]) for prefix in ("/l/", "/i/")] == [1, 1]
    assert figures["files_changed"] == []
    assert bad == count
    assert not [event for event in events if event["eventType"] in {"Open", "Click"}]


def _ask(address: tuple[str, int], paths: Sequence[str]) -> Iterator[bytes]:
    """Ask for all paths on one connection; give each answer without its Date."""
    with socket.create_connection(address, timeout=20) as connection, connection.makefile("rb") as answers:
        for start in range(0, len(paths), _AT_ONCE):
            part = paths[start : start + _AT_ONCE]
            connection.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in part))
            for _ in part:
                lines = []
                while (line := answers.readline()) not in {b"\r\n", b""}:
                    lines.append(line)
                length = next(int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length:"))
                kept = [line for line in lines if not line.startswith(b"Date: ")]
                yield b"".join(kept) + answers.read(length)


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file but the database's, which reads touch, too."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "mailwake.db" not in path.name
    }
