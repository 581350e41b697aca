"""Statements for many rows at once: written in SQLAlchemy, compiled once, handed to the driver as they are.

Ingest writes some rows for each event. SQLAlchemy prepares each row's parameters anew, which takes longer than SQLite
takes to write it; rows are tuples here, in an order that is fixed when the statement is made.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as upsert

Row = tuple[Any, ...]

_DIALECT: Final = sqlite.dialect()


class Bulk:
    """A statement that is run once for each of many rows."""

    def __init__(self, statement: sa.Insert | sa.Update | sa.Delete, columns: Sequence[str]) -> None:
        """`columns` names the values of a row: columns that are inserted, or parameters."""
        compiled = statement.compile(dialect=_DIALECT, column_keys=list(columns))
        self._text = str(compiled)
        if tuple(compiled.positiontup or ()) != tuple(columns):
            raise ValueError(f"the statement takes {compiled.positiontup}, not {columns}: {self._text}")

    def run(self, connection: sa.Connection, rows: Collection[Row]) -> None:
        """Run it for the rows, if there are any."""
        if rows:
            connection.exec_driver_sql(self._text, list(rows))


class Query:
    """A SELECT that is asked once for each of many keys, where a join with the keys would be slower."""

    def __init__(self, statement: sa.Select[Any], parameters: Sequence[str]) -> None:
        """`parameters` names the values of a key, in the statement's order."""
        compiled = statement.compile(dialect=_DIALECT)
        self._text = str(compiled)
        if tuple(compiled.positiontup or ()) != tuple(parameters):
            raise ValueError(f"the query takes {compiled.positiontup}, not {parameters}: {self._text}")

    def of(self, connection: sa.Connection, keys: Iterable[Row]) -> list[Row]:
        """Return the rows of all keys."""
        cursor = connection.connection.cursor()
        try:
            found: list[Row] = []
            for key in keys:
                found += cursor.execute(self._text, key).fetchall()
            return found
        finally:
            cursor.close()


def insert(table: sa.Table) -> Bulk:
    """Insert rows of all columns but a number that the database draws."""
    columns = [column.name for column in table.columns if not column.primary_key or column.name != "seq"]
    return Bulk(sa.insert(table), columns)


def insert_new(table: sa.Table) -> Bulk:
    """Insert the rows that are not there yet."""
    return Bulk(upsert(table).on_conflict_do_nothing(), [column.name for column in table.columns])


def adding(table: sa.Table) -> Bulk:
    """Add to the counts of rows, all columns that are not of the key; a row that is not there is made."""
    new = upsert(table)
    counts = {column.name: column + new.excluded[column.name] for column in table.columns if not column.primary_key}
    keys = [column.name for column in table.primary_key.columns]
    return Bulk(new.on_conflict_do_update(index_elements=keys, set_=counts), [column.name for column in table.columns])


def replacing(table: sa.Table) -> Bulk:
    """Set the counts of rows; a row that is not there is made."""
    new = upsert(table)
    counts = {column.name: new.excluded[column.name] for column in table.columns if not column.primary_key}
    keys = [column.name for column in table.primary_key.columns]
    return Bulk(new.on_conflict_do_update(index_elements=keys, set_=counts), [column.name for column in table.columns])
