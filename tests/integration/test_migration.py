"""A storage of an earlier version is brought up to date, with all that this version counts."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from tests.integration import recounts
from tests.integration.storage import Node, node
from tests.integration.test_roll_ups import lively
from tests.unit.happenings import accepted, clicked, message_id, opened
from tracker.store import database, schema

BEFORE = ("message", "copy", "copy_link", "event", "probe", "cursor")
ROLL_UPS = ("message_count", "link_count", "roll_up_event", "roll_up_mail", "roll_up_tag", "roll_up_link")


async def test_roll_ups_are_made_of_what_an_earlier_version_has_stored(tmp_path: Path) -> None:
    """The rows that ingest would have made, and the next event is counted on top of them."""
    async with node(tmp_path / "new") as new:
        await new.take_in(*lively())
        expected = {table: _rows(new, table) for table in ROLL_UPS}
        _write_version_3(new, tmp_path / "old" / "mailwake.db")
    async with node(tmp_path / "old") as old:
        await old.store.read(lambda connection: None)
        assert old.rows("SELECT version_num FROM alembic_version") == [(schema.HEAD,)]
        assert {table: _rows(old, table) for table in ROLL_UPS} == expected
        assert {row[2] for row in old.rows("SELECT * FROM roll_up_hit WHERE trait = 'device'")} == {""}
        recounts.agrees(old)

        await old.take_in(*lively(), opened(900), clicked(901, link=2), accepted(5))
        recounts.agrees(old)
        assert (str(message_id(5)),) in old.rows("SELECT message FROM message_count")


async def test_values_beyond_the_limits_are_other_in_an_old_storage_too(tmp_path: Path) -> None:
    """Two hundred values of a tag have names."""
    async with node(tmp_path / "new") as new:
        await new.take_in(*(accepted(number, tags=(("wave", str(number)),)) for number in range(1, 206)))
        _write_version_3(new, tmp_path / "old" / "mailwake.db")
    async with node(tmp_path / "old") as old:
        await old.store.read(lambda connection: None)
        assert old.rows("SELECT count(*) FROM roll_up_value WHERE kind = 'tag:wave'") == [(200,)]
        assert old.rows("SELECT sent FROM roll_up_tag WHERE value = 'other'") == [(5,)]


def _rows(here: Node, table: str) -> set[tuple[object, ...]]:
    return set(here.rows(f"SELECT * FROM {table}"))


def _write_version_3(new: Node, path: Path) -> None:
    """Put what is stored into tables as they were."""
    path.parent.mkdir()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
        command.upgrade(config, "0003")
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS new", (str(new.database),))
        for table in BEFORE:
            names = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        for message, facts in connection.execute("SELECT message, facts FROM main.message").fetchall():
            links = [(message, link["index"], link["url"]) for link in json.loads(facts)["facts"]["links"]]
            connection.executemany("INSERT INTO main.link VALUES (?, ?, ?)", links)
        connection.commit()
