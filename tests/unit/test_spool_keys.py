"""Mail that waits for a key which the keys file lacks: an older keys file was put back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from structlog.testing import capture_logs

from relay.core.attempt import CopyForm
from relay.spool.entry import SpoolEntry
from relay.spool.layout import State
from relay.spool.transitions import Order
from tests.unit.spool_world import World, fresh
from tracker.contract.errors import KeysError


async def test_mail_whose_key_is_missing_waits_until_it_is_back(tmp_path: Path) -> None:
    """Neither lost nor sent with links that lead nowhere: the queue says which key it is, and a retry sends it."""
    world = World(tmp_path / "00")
    entry = fresh(1, "ana@client.example")
    made, is_there = world.copy_of, False

    def copy_of(entry: SpoolEntry, message: bytes, index: int, form: CopyForm) -> Sequence[bytes | memoryview]:
        if not is_there:
            raise KeysError("there is no key 2 in the keys file")
        return made(entry, message, index, form)

    world.copy_of = copy_of  # type: ignore[method-assign, assignment]
    with capture_logs() as logs:
        async with world.running() as runner:
            await world.accept(runner, entry)
            async with asyncio.timeout(10):
                while not world.rows(entry)[0].text:  # noqa: ASYNC110 - marked in threads
                    await asyncio.sleep(0.001)
            (row,) = world.rows(entry)
            assert (row.state, row.text) == (State.WAITING, "there is no key 2 in the keys file")
            assert not world.sent
            is_there = True
            await world.obeyed(runner, Order.FLUSH, entry)
            await world.until_empty()

    assert [transaction.recipients for transaction in world.sent] == [("ana@client.example",)]
    assert {line["event"] for line in logs} >= {"key_missing"}
    assert "copy_not_made" not in {line["event"] for line in logs}
