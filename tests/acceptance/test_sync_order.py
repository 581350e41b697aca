"""The order of writing, as the system sees it: nothing is answered before it is on the disk."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.scripted_upstream import Upstream
from tests.acceptance.senders import Crowd, compose
from tests.acceptance.service import Service, by_type, wait_until
from tests.acceptance.syscalls import Call, can_trace, read, tracing
from tests.machine import lacking

MESSAGES, CLIENTS = 20, 4

_QUEUED = re.compile(r'"250 2\.0\.0 Ok: queued as (\w+)')


@pytest.fixture(scope="module")
def calls(
    installed_mailwake: Path, tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str], str]
) -> list[Call]:
    """Give the system calls of a service that took messages from several clients at once, and delivered them."""
    strace = require_tool("strace")
    if not can_trace(strace):
        lacking("processes may not be traced here")
    folder = tmp_path_factory.mktemp("traced")
    trace = folder / "calls"
    outgoing = [compose(number, "news@shop.example", ["ana@client.example"]) for number in range(MESSAGES)]
    with (
        Upstream() as upstream,
        Service(installed_mailwake, folder, upstream=upstream.url, under=tracing(strace, trace)) as service,
        Crowd(service, outgoing, CLIENTS) as crowd,
    ):
        wait_until(lambda: len(crowd.accepted), MESSAGES.__eq__, 60, service.log_end)
        service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == MESSAGES)
        wait_until(service.spooled, lambda left: not left, 60, service.log_end)
        assert service.stop() == 0
    wait_until(trace.read_text, lambda text: "+++ exited with 0 +++" in text.splitlines()[-1], 30)
    return read(trace)


def test_250_is_written_when_file_name_and_folder_are_on_the_disk(calls: list[Call]) -> None:
    """The file is flushed, renamed, its folder flushed after that; all is over before 250 is written."""
    answers = [(found[1], call) for call in calls if (found := _QUEUED.search(call.arguments)) and "TCP" in call.path]
    assert len(answers) == MESSAGES
    for message, answer in answers:
        writes = [call for call in calls if call.name == "write" and call.path.endswith(f"/tmp/{message}")]
        (sync,) = [call for call in calls if call.name == "fsync" and call.path.endswith(f"/tmp/{message}")]
        (rename,) = [call for call in calls if call.name.startswith("rename") and f'/q/{message}"' in call.arguments]
        folder_syncs = [
            call
            for call in calls
            if call.name == "fsync" and call.path.endswith("/spool/00/q") and rename.ended < call.began
        ]
        assert writes
        assert max(call.ended for call in writes) < sync.began
        assert sync.ended < rename.began
        assert sync.result == rename.result == 0
        assert any(call.ended < answer.began and call.result == 0 for call in folder_syncs), message


def test_the_folder_s_syncs_are_shared_by_clients_that_come_together(calls: list[Call]) -> None:
    """One for each message would be the most; none is left out for that, as the test above shows."""
    renames = [call for call in calls if call.name.startswith("rename") and "/spool/00/q/" in call.arguments]
    syncs = [call for call in calls if call.name == "fsync" and call.path.endswith("/spool/00/q")]

    assert len(renames) == MESSAGES
    assert len(syncs) <= MESSAGES + 1  # that of the start


def test_a_delivery_is_on_the_disk_before_it_is_told_and_told_before_the_file_goes(calls: list[Call]) -> None:
    """The row in D is flushed, then its record is written to the journal and flushed, then the file is removed."""
    rows = [call for call in calls if call.name == "pwrite64" and ', "D' in call.arguments]
    assert len(rows) == MESSAGES
    for row in rows:
        message = row.path.rpartition("/")[2]
        (row_flush,) = [call for call in calls if call.name == "fdatasync" and call.path == row.path]
        record = re.compile(rf'\\"kind\\":\\"delivery\\",\\"event\\":\\"\w+\\",\\"copy\\":\\"{message}-')
        (told,) = [call for call in calls if "/journal/" in call.path and record.search(call.arguments)]
        (removal,) = [call for call in calls if call.name == "unlink" and f'/q/{message}"' in call.arguments]
        told_flushes = [
            call for call in calls if call.name == "fdatasync" and call.path == told.path and told.ended < call.began
        ]
        assert row.ended < row_flush.began
        assert row_flush.ended < told.began
        assert row_flush.result == 0
        assert any(call.ended < removal.began and call.result == 0 for call in told_flushes)
