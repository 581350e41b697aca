"""`mailwake export` and `mailwake forget`: what is kept of a person, and its end."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli.options import EXIT_NO, config_option, end, json_option, load
from relay.cli.sample import AddressType
from relay.cli.storage import Storage, persons_of, read, with_storage

if TYPE_CHECKING:
    from relay.appconfig import Config
    from relay.spool.inspection import QueuedMail
    from tracker.contract.address import Address
    from tracker.contract.consent import Persons
    from tracker.publish.erasure import ErasedLines
    from tracker.store.forget import Forgetting

_COPIES: Final = 20  # of one transaction: each has a handful of events
_CURSOR_PATIENCE_S: Final = 5.0
_LOG_PATIENCE_S: Final = 5.0


@click.command("export")
@click.argument("address", metavar="ADDR", type=AddressType())
@config_option
@json_option
def export(*, address: "Address", config_path: Path | None, as_json: bool) -> None:
    """Print all that is kept of a person as one JSON document. Exit code 1: there is nothing."""
    import msgspec

    from tracker.store import personal

    config = load(config_path)
    persons = persons_of(config)
    document: dict[str, Any] = {"address": str(address), "exportedAt": datetime.now(UTC).isoformat()}
    document |= read(config, lambda connection: personal.kept(connection, persons, str(address))) or {}
    document["spool"] = [_own(mail, persons, address) for mail in _in_spool(config, persons, address)]
    raw = msgspec.json.encode(document)
    click.echo((raw if as_json else msgspec.json.format(raw, indent=2)).decode())
    kept = ("consent", "forgottenAt", "messages", "events", "waiting", "deadLetters", "spool")
    if not any(document.get(name) for name in kept):
        raise SystemExit(EXIT_NO)


@click.command("forget")
@click.argument("address", metavar="ADDR", type=AddressType())
@config_option
@json_option
def forget(*, address: "Address", config_path: Path | None, as_json: bool) -> None:
    """Erase all that is kept of a person, and say what cannot be reached from here. Mail that waits is delivered."""
    config = load(config_path)
    outcome = with_storage(config, lambda storage: _forget(config, storage, address))
    if as_json:
        click.echo(json.dumps(outcome))
        return
    for name, count in outcome["erased"].items():
        click.echo(f"{name.replace('_', ' ')}: {count}")
    for text in outcome["left"]:
        click.echo(f"not reached: {text}")


async def _forget(config: "Config", storage: Storage, address: "Address") -> dict[str, Any]:
    from tracker.store.forget import Forgetting
    from tracker.store.publishing import last_number

    persons = persons_of(config)
    began_s = time.time()
    work = Forgetting(str(address), persons, now=datetime.now(UTC), collect_for=config.tracking.collect_for)
    await storage.write(work.begin)
    copies = await storage.read(work.copies)
    for start in range(0, len(copies), _COPIES):
        await storage.write(partial(work.silence, copies=copies[start : start + _COPIES]))
    own: dict[str, list[str]] = defaultdict(list)
    for one in copies:
        own[one.message].append(one.suffix)
    for message, suffixes in own.items():
        await _page_by_page(storage, partial(work.redact, message_id=message, own=suffixes))
    for start in range(0, len(copies), _COPIES):
        await storage.write(partial(work.erase, copies=copies[start : start + _COPIES]))
    for part in (work.rejects, work.dead_letters, work.set_aside):
        await _page_by_page(storage, part)
    for column, text in await storage.read(work.named_totals):
        await storage.write(partial(work.rename_total, column=column, text=text))
    last = await storage.read(last_number)
    ids = {str(one.id) for one in copies}
    lines, behind = await _erase_lines(config, storage, work, ids=ids, began_s=began_s, last=last)
    waiting, removed = _leave_spool(config, persons, address)
    is_whole = await _empty_log(config)
    erased = work.erased
    return {
        "erased": {
            "messages": erased.messages,
            "copies": erased.copies,
            "events": erased.events,
            "dead_letters": erased.dead_letters,
            "records_put_aside": erased.set_aside,
            "records_kept_without_the_address": erased.redacted + lines.redacted,
            "jsonl_lines": lines.gone,
            "spool_files": removed,
        },
        "left": [*_left(config, waiting, behind), *([] if is_whole else [_LOG_LEFT.format(config.storage.path)])],
    }


async def _page_by_page(storage: Storage, work: Callable[..., int | None]) -> None:
    after: int | None = 0
    while after is not None:
        after = await storage.write(partial(work, after=after))


_LOG_LEFT: Final = (
    "pages of the storage as they were before, in {}-wal, which somebody reads now: they go with the next checkpoint"
)


async def _erase_lines(
    config: "Config", storage: Storage, work: "Forgetting", *, ids: set[str], began_s: float, last: int
) -> "tuple[ErasedLines, list[str]]":
    """Take the person out of the files, and once more when what a publisher had read before is in them, too."""
    from tracker.publish.erasure import ErasedLines, erase

    folders = {name: section.path for name, section in config.destinations.items() if section.path is not None}
    total = ErasedLines()

    async def take_out(changed_since_s: float) -> None:
        for folder in set(folders.values()):
            try:
                found = await asyncio.to_thread(erase, folder, work.redaction, ids, changed_since_s=changed_since_s)
            except OSError as error:
                end(f"{error.filename or folder}: {error.strerror}; mend it and run this again")
            total.gone += found.gone
            total.redacted += found.redacted

    await take_out(0)
    behind = await _behind(config, storage, sorted(folders), last)
    await take_out(began_s - 1)
    return total, behind


async def _behind(config: "Config", storage: Storage, names: list[str], last: int) -> list[str]:
    """Wait for the destinations to be past a number of the log; return those that are not, where a service runs."""
    from tracker.runtime import control
    from tracker.store.publishing import cursors

    if not names or not await asyncio.to_thread(control.running, config.run_directory):
        return []
    ends_at = time.monotonic() + _CURSOR_PATIENCE_S
    while True:
        found = await storage.read(cursors)
        behind = [name for name in names if found.get(name, last) < last]
        if not behind or time.monotonic() > ends_at:
            return behind
        await asyncio.sleep(0.1)


async def _empty_log(config: "Config") -> bool:
    from tracker.store.database import StorageUnavailableError, empty_log

    ends_at = time.monotonic() + _LOG_PATIENCE_S
    while time.monotonic() < ends_at:
        try:
            if await asyncio.to_thread(empty_log, config.storage.path):
                return True
        except StorageUnavailableError:
            pass
        await asyncio.sleep(0.1)
    return False


def _leave_spool(config: "Config", persons: "Persons", address: "Address") -> "tuple[list[QueuedMail], int]":
    from relay.spool import leftovers

    root = config.spool.directory
    mails = _in_spool(config, persons, address)
    try:
        gone = leftovers.remove_finished(root, mails) if mails else set()
    except OSError as error:
        end(f"{error.filename or root}: {error.strerror}")
    return [mail for mail in mails if mail.id not in gone], len(gone)


def _left(config: "Config", waiting: "list[QueuedMail]", behind: list[str]) -> list[str]:
    """Say what a command on this machine does not reach, of this very set-up."""
    from relay.spool import leftovers

    journal = config.journal
    hours = journal.keep.total_seconds() / 3600
    left = [
        f"message {mail.id} in the spool: it is delivered, and its file goes when its last recipient is finished"
        for mail in waiting
    ]
    left += [f"what the destination {name} had read: it is stuck, run this again when it is not" for name in behind]
    if quarantine := leftovers.quarantined(config.spool.directory):
        left.append(f"{quarantine} files in the quarantine of the spool, which cannot be read: look at them yourself")
    left.append(
        f"the journal in {journal.directory}: its segments go {hours:g} hours after they were taken in, and nothing of "
        "this person is taken in from them; the journals of other nodes alike"
    )
    for name, section in sorted(config.destinations.items()):
        where = {
            "webhook": "what was posted to its receiver",
            "nats": "what is in its stream",
            "stdout": "what was written to standard output",
        }.get(section.type)
        if where is not None:
            left.append(f"event destination {name}: {where}")
    for name, upstream in sorted(config.upstreams.items()):
        what = (
            f"the mail in {upstream.url.maildir}"
            if upstream.url.maildir is not None
            else "the mail that it took, and its logs"
        )
        left.append(f"upstream {name}: {what}")
    left.append("the logs of the service, with addresses" if config.log.addresses else "logs: they name nobody")
    left.append("backups and copies of these files, and files of event destinations that are configured no more")
    return left


def _in_spool(config: "Config", persons: "Persons", address: "Address") -> "list[QueuedMail]":
    from relay.spool import leftovers

    person = persons.of(str(address))
    try:
        return list(leftovers.of_recipient(config.spool.directory, lambda recipient: persons.of(recipient) == person))
    except OSError as error:
        end(f"{error.filename or config.spool.directory}: {error.strerror}")


def _own(mail: "QueuedMail", persons: "Persons", address: "Address") -> dict[str, Any]:
    """What waits for the person, without the other recipients."""
    import msgspec

    person = persons.of(str(address))
    own = [one for one in mail.recipients if persons.of(one.address) == person]
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(mail, recipients=tuple(own)))
    return fields
