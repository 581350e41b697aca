"""How the queue is shown: tables on a terminal, lines with tabs in a pipe, JSON where it is asked for.

Senders, addresses and replies come from strangers: what is not printable is not printed.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli.options import printable

if TYPE_CHECKING:
    from relay.spool.desk import Obeyed
    from relay.spool.inspection import QueuedMail

_COLUMNS: Final = ("id", "age", "size", "upstream", "sender", "waiting", "held", "next", "last reply")


def print_list(mails: "Iterable[QueuedMail]", *, as_json: bool) -> bool:
    """Print messages as they are found; False where there were none."""
    import msgspec

    now, count = datetime.now(UTC), 0
    if as_json or not sys.stdout.isatty():
        for count, mail in enumerate(mails, 1):
            if count == 1 and not as_json:
                click.echo("\t".join(_COLUMNS))
            click.echo(msgspec.json.encode(mail).decode() if as_json else "\t".join(_cells(mail, now)))
        return count > 0
    rows, copies, held = [], 0, 0
    for mail in mails:
        rows.append(_cells(mail, now))
        copies += mail.count("waiting") + mail.count("in_flight")
        held += mail.count("held")
    if rows:
        _print_table(_COLUMNS, rows)
        click.echo(f"{len(rows)} messages, {copies} copies wait, {held} are held")
    return bool(rows)


def print_mail(mail: "QueuedMail", content: bytes, *, as_json: bool) -> None:
    """Print one message with all its recipients, and its header or all of it."""
    import msgspec

    text = content.decode("utf-8", "replace")
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.structs.asdict(mail), "content": text}).decode())
        return
    now = datetime.now(UTC)
    facts = {
        "id": mail.id,
        "accepted": f"{mail.accepted_at.isoformat(timespec='seconds')} ({_duration(now - mail.accepted_at)} ago)",
        "size": f"{mail.size_bytes} bytes",
        "sender": mail.sender or "<>",
        "upstream": mail.upstream,
        "set": mail.configuration_set or "-",
        "slot": f"{mail.slot:02d}",
    }
    for name, value in facts.items():
        click.echo(f"{name + ':':<10}{printable(value)}")
    if mail.report:
        click.echo("It is a delivery report of ours.")
    click.echo()
    columns = ("recipient", "state", "attempts", "next", "last reply")
    rows = [
        [one.address, one.state, str(one.attempts), _until(one.next_attempt_at, now), one.reply or "-"]
        for one in mail.recipients
    ]
    print_rows(columns, rows)
    click.echo()
    for line in text.splitlines():
        click.echo(printable(line.replace("\t", "    ")))


def print_rows(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """Print a table on a terminal, and its rows as lines with tabs in a pipe."""
    if sys.stdout.isatty():
        _print_table(columns, rows)
        return
    for row in (columns, *rows):
        click.echo("\t".join(map(printable, row)))


def print_objects(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print objects with the same keys as a table; the values of a list are told apart by a space."""
    cells = [[" ".join(value) if isinstance(value, list) else str(value) for value in row.values()] for row in rows]
    print_rows(tuple(key.replace("_", " ") for key in rows[0]), cells)


class Total:
    """What came of an order, over all who were asked."""

    def __init__(self, order: str, done: str) -> None:
        """Take the order, and how its success is told: `"is held"`."""
        self._order = order
        self._done = done
        self._asked = 0
        self._is_complete = True
        self.messages: set[str] = set()
        self.copies = 0
        self.on_their_way = 0
        self.failed: list[str] = []

    def asked(self, ids: list[str]) -> None:
        """Note which messages the order was about."""
        self._asked += len(ids)

    def add(self, obeyed: "Obeyed | str") -> None:
        """Note what somebody did, or why it was not done."""
        if isinstance(obeyed, str):
            self.failed.append(obeyed)
            return
        self.messages.update(obeyed.messages)
        self.copies += obeyed.copies
        self.on_their_way += obeyed.on_their_way
        self._is_complete &= obeyed.is_complete

    def print(self, *, as_json: bool) -> None:
        """Print it."""
        import msgspec

        if as_json:
            document = {
                "order": self._order,
                "messages": sorted(self.messages),
                "copies": self.copies,
                "on_their_way": self.on_their_way,
                "errors": self.failed,
            }
            click.echo(msgspec.json.encode(document).decode())
            return
        for why in self.failed:
            click.echo(f"mailwake: {printable(why)}", err=True)
        if not self._asked:
            click.echo("mailwake: there is no such message in the spool", err=True)
        elif missing := self._asked - len(self.messages):
            hint = "" if self._is_complete else ": the service is still reading its spool, try again"
            click.echo(f"mailwake: {missing} messages are unknown to the service or gone{hint}", err=True)
        if self.messages:
            for message in sorted(self.messages):
                click.echo(f"{message} {self._done}")
        if self.on_their_way:
            click.echo(f"{self.on_their_way} copies are on their way and cannot be called back")


def _cells(mail: "QueuedMail", now: datetime) -> list[str]:
    open_ones = mail.count("waiting") + mail.count("in_flight")
    cells = [
        mail.id,
        _duration(now - mail.accepted_at),
        str(mail.size_bytes),
        mail.upstream,
        mail.sender or "<>",
        f"{open_ones} of {len(mail.recipients)}",
        str(mail.count("held")),
        _until(mail.next_attempt_at, now),
        mail.last.reply or "-",
    ]
    return [printable(cell) for cell in cells]


def _until(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "-"
    return f"in {_duration(at - now)}" if at > now else "now"


def _duration(duration: timedelta) -> str:
    """Write a time in its largest unit, `"3d"`, `"17m"`."""
    seconds = max(0, int(duration.total_seconds()))
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= factor:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"


def _print_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == "id")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
