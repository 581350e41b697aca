"""`mailwake consent`: who wants to be tracked and who does not, told, looked up, brought in and handed out."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from relay.cli.options import EXIT_UNUSABLE, config_option, end, json_option, load
from relay.cli.sample import AddressType
from relay.cli.storage import Storage, persons_of, read, with_storage

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.contract.address import Address
    from tracker.contract.consent import Decision, Persons
    from tracker.store.consent import Told

MAX_SOURCE: Final = 200
"""Characters of a source: a few words by which the decision is found again."""

COLUMNS: Final = ("person", "decision", "at", "source")
_CHUNK: Final = 1_000  # decisions of one transaction
_PROBLEMS_SHOWN: Final = 10

source_option = click.option(
    "--source", default="", metavar="TEXT", help="Where the decision comes from, in a few words."
)


@click.group()
def consent() -> None:
    """Who wants to be tracked, and who does not.

    What is told here is in force within two seconds, with no restart. Addresses are not kept, but a keyed hash of each.
    """


def _decide(name: "Decision", text: str) -> None:
    def run(*, address: "Address", source: str, config_path: Path | None, as_json: bool) -> None:
        from tracker.store import consent as store

        config = load(config_path)
        now = datetime.now(UTC)

        async def work(storage: Storage) -> tuple[bool, int]:
            persons = persons_of(config)
            person = persons.of(str(address))
            told = store.Told(person=person, decision=name, at=now, source=_source(source))

            entered = await storage.write(partial(store.tell, decisions=[told])) > 0
            if name == "allow" or not entered:
                return entered, 0
            since_ms = store.collected_since(now, config.tracking.collect_for)
            find = partial(store.copies_of, persons=persons, address=str(address), since_ms=since_ms)
            copies = [one for one in await storage.read(find) if one.tracked]
            return entered, await storage.write(partial(store.silence, copies=copies, person=person))

        entered, silenced = with_storage(config, work)
        if not entered:
            end("a later decision of this person is stored, which stays")
        if as_json:
            click.echo(json.dumps({"decision": name, "at": _time(now), "silenced": silenced}))
        elif name == "allow":
            click.echo("It is stored: mail to this person may be tracked.")
        else:
            click.echo(f"It is stored: this person is not tracked. Copies whose hits are recorded no more: {silenced}.")

    run.__doc__ = text
    run = click.argument("address", metavar="ADDR", type=AddressType())(source_option(config_option(json_option(run))))
    consent.command(name)(run)


_decide(
    "allow", "Note that a person allows to be tracked. A denial before that is lifted, also for mail that was sent."
)
_decide("deny", "Note that a person does not want to be tracked: in mail to come, and in mail that was sent.")


@consent.command()
@click.argument("address", metavar="ADDR", type=AddressType())
@config_option
@json_option
def show(*, address: "Address", config_path: Path | None, as_json: bool) -> None:
    """Show what a person decided, when, and where that comes from. Exit code 1: nothing was told."""
    from tracker.store import consent as store

    config = load(config_path)
    told = read(config, lambda connection: store.told_by(connection, persons_of(config).of(str(address))))
    if told is None:
        end("this person has told nothing")
    row = _row(told)
    if as_json:
        click.echo(json.dumps(row, ensure_ascii=False))
        return
    for key, value in row.items():
        click.echo(f"{key} = {value}")


@consent.command("export")
@config_option
@json_option
def export_(*, config_path: Path | None, as_json: bool) -> None:
    """Print every decision, one a line: CSV with a heading, or with --json an object each."""
    from tracker.store import consent as store

    config = load(config_path)
    after = b""
    if not as_json:
        click.echo(",".join(COLUMNS))
    while page := read(config, partial(store.all_told, after=after, limit=_CHUNK)):
        for told in page:
            click.echo(json.dumps(_row(told), ensure_ascii=False) if as_json else _csv(_row(told).values()))
        after = page[-1].person


@consent.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@source_option
@config_option
@json_option
def import_(*, file: TextIO, source: str, config_path: Path | None, as_json: bool) -> None:
    """Read decisions from FILE or standard input, one a line: ADDR,allow|deny[,TIME[,SOURCE]] or a JSON object.

    A file with a line that cannot be read is refused whole. A person's later decision is not replaced by an older one.
    """
    from tracker.store import consent as store

    config = load(config_path)
    now = datetime.now(UTC)

    async def work(storage: Storage) -> tuple[int, int, int]:
        persons = persons_of(config)
        decisions = _parsed(file, persons, now, _source(source))
        entered = 0
        for start in range(0, len(decisions), _CHUNK):
            entered += await storage.write(partial(store.tell, decisions=decisions[start : start + _CHUNK]))
        denied = {one.person for one in decisions if one.decision == "deny"}
        return len(decisions), entered, await _silence(storage, config, persons, denied, now) if denied else 0

    lines, entered, silenced = with_storage(config, work)
    if as_json:
        click.echo(json.dumps({"lines": lines, "entered": entered, "silenced": silenced}))
    else:
        click.echo(f"Decisions: {lines}. Entered: {entered}. Copies whose hits are recorded no more: {silenced}.")


async def _silence(storage: Storage, config: "Config", persons: "Persons", denied: set[bytes], now: datetime) -> int:
    """Silence the copies of many people at once, by one look at all copies whose hits are still recorded."""
    from tracker.store import consent as store

    since_ms = store.collected_since(now, config.tracking.collect_for)
    found = await storage.read(
        lambda connection: [
            pair for page in store.scan(connection, persons, denied, since_ms=since_ms) for pair in page
        ]
    )
    tracked = [(person, one) for person, one in found if one.tracked]
    silenced = 0
    for start in range(0, len(tracked), _CHUNK):
        chunk = tracked[start : start + _CHUNK]

        def write(connection: Any, chunk: Sequence[Any] = chunk) -> int:  # noqa: ANN401 - the storage's own type
            # Who allowed it meanwhile, or by a later line, is left out.
            return sum(
                store.silence(connection, [one], person)
                for person, one in chunk
                if (told := store.told_by(connection, person)) is not None and told.decision == "deny"
            )

        silenced += await storage.write(write)
    return silenced


def _parsed(file: TextIO, persons: "Persons", now: datetime, source: str) -> "list[Told]":
    """Read every line; exit code 2: some cannot be read, and which, without repeating them."""
    found: list[Told] = []
    problems: list[str] = []
    for number, line in enumerate(file, start=1):
        if not line.strip() or (number == 1 and line.strip().startswith(("person,", "address,"))):
            continue
        try:
            found.append(_told(line, persons, now, source))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        end("nothing is stored: " + "; ".join(problems[:_PROBLEMS_SHOWN]) + more, EXIT_UNUSABLE)
    return found


def _told(line: str, persons: "Persons", now: datetime, source: str) -> "Told":
    """Read one line. ValueError: what is wrong with it."""
    from tracker.store.consent import Told

    if line.lstrip().startswith("{"):
        fields = json.loads(line)
        who = fields.get("person") or fields.get("address")
        decision, at, own = (fields.get(name) for name in COLUMNS[1:])
    else:
        who, decision, at, own = [*next(csv.reader([line])), None, None, None, None][:4]
    if decision not in ("allow", "deny"):
        raise ValueError("the decision is neither allow nor deny")
    return Told(
        person=_person(str(who or ""), persons),
        decision=decision,
        at=_moment(at) if at else now,
        source=_source(str(own)) if own else source,
    )


def _person(who: str, persons: "Persons") -> bytes:
    """An address, or the hash that `export` has for it."""
    from tracker.contract.address import Address
    from tracker.contract.consent import PERSON_BYTES

    who = who.strip()
    if "@" in who:
        return persons.of(str(Address.parse(who)))
    person = bytes.fromhex(who)
    if len(person) != PERSON_BYTES:
        raise ValueError("there is neither an address nor a hash")
    return person


def _moment(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("the time has no zone; write it like 2026-11-03T08:15:00Z")
    return moment.astimezone(UTC)


def _source(text: str) -> str:
    """Keep a source short and on one line."""
    return "".join(character for character in text if character.isprintable())[:MAX_SOURCE]


def _row(told: "Told") -> dict[str, str]:
    return dict(zip(COLUMNS, (told.person.hex(), told.decision, _time(told.at), told.source), strict=True))


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _csv(values: Any) -> str:  # noqa: ANN401 - any texts
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
