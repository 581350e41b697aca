"""`mailwake queue`: what waits in the spool, and what an operator orders about it.

Looking reads the spool's files and asks no process. An order goes to every process that runs, for only the one that has
a message in memory may change it; the slots that nobody owns are locked, and their files changed in place.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from relay.cli.options import EXIT_NO, config_option, json_option, load
from relay.cli.since import Ago

if TYPE_CHECKING:
    from relay.appconfig import Config
    from relay.spool.desk import Obeyed
    from relay.spool.inspection import QueuedMail, QueueFilter
    from relay.spool.transitions import Order

F = TypeVar("F", bound=Callable[..., object])
DONE: Final = {
    "flush": "is due now",
    "hold": "is held",
    "release": "is due now",
    "remove": "is removed",
    "return": "is returned to its author",
}


class _Queue(click.Group):
    """Says what of the spool cannot be read, mostly because it belongs to another user."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        try:
            return super().invoke(ctx)
        except OSError as error:
            click.echo(f"mailwake: {error.filename or 'the spool'}: {error.strerror}", err=True)
            raise SystemExit(EXIT_NO) from error


@click.group(cls=_Queue)
def queue() -> None:
    """Look at the mail that waits, and order what becomes of it."""


def _filters(command: F) -> F:
    for option in (
        click.option("--older-than", "before", type=Ago(), metavar="TIME", help="Accepted longer ago than 1h, 7d, ..."),
        click.option("--held", is_flag=True, help="Held messages."),
        click.option("--sender-domain", "domain", metavar="DOMAIN", help="Sent from this domain or one below it."),
        click.option("--upstream", metavar="NAME", help="Messages for this upstream."),
    ):
        command = option(command)
    return command


@queue.command("list")
@config_option
@_filters
@json_option
def list_(
    *,
    config_path: Path | None,
    upstream: str | None,
    domain: str | None,
    held: bool,
    before: datetime | None,
    as_json: bool,
) -> None:
    """List messages, oldest first. Exit code 1: there are none."""
    from relay.cli import queueprint
    from relay.spool import inspection

    config = load(config_path)
    found = inspection.waiting(config.spool.directory, _filter((), upstream, domain, held, before))
    if not queueprint.print_list(found, as_json=as_json):
        raise SystemExit(EXIT_NO)


@queue.command()
@click.argument("message", metavar="ID")
@config_option
@click.option("--body", is_flag=True, help="Print the whole message, not only its header.")
@json_option
def show(*, message: str, config_path: Path | None, body: bool, as_json: bool) -> None:
    """Show one message: its recipients, what the upstream said, and its header. Exit code 1: it is not there."""
    from relay.cli import queueprint
    from relay.spool import inspection
    from relay.spool.errors import SpoolDamagedError

    root = load(config_path).spool.directory
    mail = next(inspection.waiting(root, _filter((message,), None, None, False, None)), None)
    if mail is None:
        _nothing()
    try:
        content = inspection.content(root, mail)
    except FileNotFoundError:
        _nothing()
    except SpoolDamagedError as error:
        click.echo(f"mailwake: {mail.id}: {error}", err=True)
        content = b""
    queueprint.print_mail(mail, content if body else content.partition(b"\r\n\r\n")[0] + b"\r\n", as_json=as_json)


def _command(name: str, text: str) -> None:
    def run(
        *,
        ids: tuple[str, ...],
        config_path: Path | None,
        everything: bool,
        upstream: str | None,
        domain: str | None,
        held: bool,
        before: datetime | None,
        to_author: bool = False,
        as_json: bool,
    ) -> None:
        from relay.spool.transitions import Order

        if not (ids or everything or upstream or domain or held or before):
            raise click.UsageError("say which messages: their IDs, an option that chooses, or --all")
        wanted = _filter(ids, upstream, domain, held, before)
        _carry_out(load(config_path), Order.RETURN if to_author else Order(name), wanted, as_json=as_json)

    run.__doc__ = text
    if name == "remove":
        run = click.option("--return", "to_author", is_flag=True, help="Send their authors a report that says so.")(run)
    run = click.option("--all", "everything", is_flag=True, help="Every message.")(json_option(run))
    run = click.argument("ids", nargs=-1, metavar="[ID]...")(config_option(_filters(run)))
    queue.command(name)(run)


_command("flush", "Make messages due now, and let their upstreams be probed at once. Exit code 1: there are none.")
_command("hold", "Hold messages back, over restarts too, until they are released. Exit code 1: there are none.")
_command("release", "Make held messages due now. Exit code 1: there are none.")
_command(
    "remove",
    "Give messages up: each copy that is not delivered ends as a Bounce event, `Removed by an operator`, and without a "
    "report to the author unless --return asks for it. Exit code 1: there are none.",
)


def _filter(
    ids: tuple[str, ...],
    upstream: str | None,
    domain: str | None,
    held: bool,  # noqa: FBT001 - from click, by name there
    before: datetime | None,
) -> "QueueFilter":
    from relay.spool.inspection import QueueFilter
    from tracker.contract.address import normalize_domain
    from tracker.contract.errors import AddressError

    try:
        normal = None if domain is None else normalize_domain(domain)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="--sender-domain") from error
    return QueueFilter(
        ids=frozenset(ids) if ids else None, upstream=upstream, domain=normal, held=held, accepted_before=before
    )


def _carry_out(config: "Config", order: "Order", wanted: "QueueFilter", *, as_json: bool) -> None:
    from relay.cli import queueprint
    from relay.spool import inspection
    from relay.spool.desk import MAX_IDS

    total = queueprint.Total(order.value, DONE[order.value])
    chosen = iter(inspection.waiting(config.spool.directory, wanted))
    while batch := list(islice(chosen, MAX_IDS)):
        for obeyed in _obey(config, order, batch):
            total.add(obeyed)
        total.asked([mail.id for mail in batch])
    total.print(as_json=as_json)
    if total.failed or not total.messages:
        raise SystemExit(EXIT_NO)


def _obey(config: "Config", order: "Order", batch: "list[QueuedMail]") -> "Iterator[Obeyed | str]":
    """Give an order to whoever has each message; a text is why somebody could not obey."""
    import msgspec

    from relay.spool import desk, inspection
    from relay.spool.desk import Obeyed, QueueRequest
    from tracker.runtime import control, slots

    ids = [mail.id for mail in batch]
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    with slots.hold_off_starts(config.spool.directory):
        for slot in inspection.slots_of(config.spool.directory):
            own = [mail.id for mail in batch if mail.slot == int(slot.name)]
            descriptor = slots.lock(slot / slots.LOCK) if own else None
            if descriptor is None:
                continue
            try:
                yield desk.obey_on_files(slot, order, own, now_ms=now_ms)
            except OSError as error:
                yield f"{slot}: {error.strerror}"
            finally:
                os.close(descriptor)
    request = msgspec.json.encode(QueueRequest(order=order, ids=ids))
    for path in control.sockets(config.run_directory):
        match control.ask(path, request, Obeyed):
            case Obeyed() as obeyed:
                yield obeyed
            case control.Refusal(error=why):
                yield f"{path.stem}: {why}"
            case None:
                pass  # a process that is gone: its slots are free


def _nothing() -> NoReturn:
    click.echo("mailwake: there is no such message in the spool", err=True)
    raise SystemExit(EXIT_NO)
