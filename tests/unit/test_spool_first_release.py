"""A spool that the first release left is taken up and finished by this one."""

from pathlib import Path

from relay.spool import layout
from relay.spool.files import Spool
from tests.unit import first_release
from tests.unit.first_release import EIGHT_BIT, FINISHED, REPORT, TORN, TRACKED, UNTOUCHED, WAITING
from tests.unit.spool_world import World


async def test_every_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    """None is quarantined; rows, envelope and message are what was written."""
    first_release.lay_out(tmp_path / "00")
    spool = Spool(tmp_path / "00")
    spool.open()
    found = {stored.entry.id: stored async for batch in spool.scan() for stored in batch}
    messages = {message: (await spool.read(message)).message for message in found}
    spool.close()

    assert set(found) == {TRACKED, UNTOUCHED, REPORT, FINISHED, EIGHT_BIT, TORN}
    rows = found[TRACKED].rows
    assert "".join(row.state for row in rows) == "  SDFdfHF"
    assert (rows[1].attempts, rows[1].delays_told, str(rows[1].reply)) == (2, 1, "451 4.7.1 greylisted")
    assert [row.expired for row in rows] == [False] * 8 + [True]
    assert not any(row.crashes or row.announced or row.unreported for row in rows)
    rewrite = found[TRACKED].entry.rewrite
    assert rewrite is not None
    assert rewrite.rules.skip_hosts == ("*.bank.example",)
    assert (found[TRACKED].entry.base_url, found[TRACKED].entry.key_id) == ("https://trace.shop.example", 1)
    assert found[REPORT].entry.report
    assert (found[EIGHT_BIT].entry.smtputf8, found[EIGHT_BIT].entry.body_8bit) == (True, True)
    assert b"Gr\xc3\xbc\xc3\x9fe" in messages[EIGHT_BIT]


async def test_a_spool_of_the_first_release_is_finished(tmp_path: Path) -> None:
    """Who waited gets the mail once, who had it does not; what is held stays, and nothing else."""
    world = World(tmp_path / "00")
    first_release.lay_out(tmp_path / "00")
    world.restart()
    async with world.running():
        await world.until_left(TRACKED)

    sent = sorted(recipient for transaction in world.sent for recipient in transaction.recipients)
    untouched = ["one@b.example", "two@b.example", "three@b.example", "jörg@b.example", "torn@b.example"]
    reports = ["shop@shop.example"] * 3  # the one that waited, and one for each row in F
    assert sent == sorted([*WAITING, *untouched, *reports])
    _, _, _, rows = layout.unpack((world.spool.directory / "q" / str(TRACKED)).read_bytes())
    assert "".join(row.state for row in rows) == "dddd" + "fdfH" + "f"
