"""`mailwake explain FILE`: what would be tracked of a message, what not, and why."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.options import EXIT_NO, config_option, json_option, load, printable
from relay.cli.sample import prepare_file, settings_in_force

if TYPE_CHECKING:
    from relay.appconfig import Config
    from relay.core.copies import CopyMint
    from relay.core.prepare import Prepared
    from tracker.contract.ids import MessageId
    from tracker.contract.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPart:
    """A part: `outcome` is `edited`, `nothing to change`, or the code of why it was left."""

    section: str
    type: str
    encoding: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedLink:
    """A link: `outcome` is `tracked`, or the code of why it was left."""

    section: str
    url: str
    text: str
    outcome: str
    index: int | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All of it. `reason` is the code of why the whole message is left alone; `witness` lists disagreements."""

    configuration_set: str | None
    because: str
    reason: str | None
    pixel: bool
    size_bytes: int
    growth_bytes: int
    parts: tuple[ExplainedPart, ...]
    links: tuple[ExplainedLink, ...]
    witness: tuple[str, ...]


@click.command()
@config_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@click.option("--set", "set_name", metavar="NAME", help="The configuration set, whatever the message says.")
@json_option
def explain(*, config_path: Path | None, file: Path, set_name: str | None, as_json: bool) -> None:
    """Show every part and link of FILE: tracked, or not and why. Exit code 1: the witness found a fault."""
    explained = _explain(load(config_path), file, set_name)
    if as_json:
        click.echo(json.dumps(asdict(explained)))
    else:
        _print(explained)
    if explained.witness:
        raise SystemExit(EXIT_NO)


def _explain(config: "Config", file: Path, set_name: str | None) -> Explanation:
    from relay import witness
    from relay.core.policy import Track
    from relay.core.render import render

    settings = settings_in_force(config)
    message, prepared = prepare_file(config, file, recipient=None, set_name=set_name)
    plan, decision = prepared.plan, prepared.decision
    rewritten, disagreements = prepared.message, list[str]()
    if plan is not None:
        mint = _mint(config, settings, message)
        rewritten = b"".join(render(plan, mint))
        disagreements = witness.check(plan.message, rewritten, plan, mint)
    reason = decision.reason if plan is None else plan.reason or decision.reason
    return Explanation(
        configuration_set=decision.configuration_set.name if isinstance(decision, Track) else None,
        because=_because(prepared, settings),
        reason=None if reason is None else reason.value,
        pixel=plan is not None and plan.pixel,
        size_bytes=len(prepared.message),
        growth_bytes=len(rewritten) - len(prepared.message),
        parts=_parts(prepared),
        links=_links(prepared),
        witness=tuple(disagreements),
    )


def _mint(config: "Config", settings: "Settings", message: "MessageId") -> "CopyMint":
    """Make sample links: they redirect, and are never recorded. Without a keys file, under a key of the moment."""
    import os
    from datetime import UTC, datetime

    from relay.core.copies import CopyMint
    from tracker.contract.ids import COPY_SUFFIX_BYTES, CopyId
    from tracker.contract.token import SECRET_BYTES, TokenKey, TokenKeys, day_of
    from tracker.runtime import secrets

    now = datetime.now(UTC)
    if config.keys.file.exists():
        keys = secrets.load(config.keys.file).tokens
    else:
        keys = TokenKeys([TokenKey(key_id=1, secret=os.urandom(SECRET_BYTES), mint_from=now)])
    return CopyMint(
        keys=keys,
        key_id=keys.minting(now),
        base_url=settings.base_url,
        copy=CopyId(message, os.urandom(COPY_SUFFIX_BYTES)),
        day=day_of(now),
        sample=True,
    )


def _because(prepared: "Prepared", settings: "Settings") -> str:
    """Say why this set: the steps of `Settings.choose_set`, in words."""
    from relay.core.policy import Untouched

    decision = prepared.decision
    named = prepared.controls.configuration_set
    if isinstance(decision, Untouched):
        return "tracking is not enabled" if not settings.enabled else "no set applies"
    if named is not None and named in settings.sets:
        return "the message names it"
    entry = settings.sender_domain_of(decision.from_domain) if settings.scope != "account" else None
    if entry is not None:
        return f"it is the set of sender domain {entry.domain}"
    return "it is the account's set"


def _parts(prepared: "Prepared") -> tuple[ExplainedPart, ...]:
    from relay.core import mime
    from relay.core.reasons import SkipReason

    root = mime.scan(prepared.message)
    plan = prepared.plan
    if isinstance(root, SkipReason) or plan is None:
        return ()
    edited = {edit.section for edit in plan.parts}
    left = {skip.section: skip.reason.value for skip in plan.skips if skip.url is None}
    whole = plan.reason.value if plan.reason is not None else "nothing to change"
    return tuple(
        ExplainedPart(
            section=part.section,
            type=part.type,
            encoding=part.encoding,
            outcome="edited" if part.section in edited else _outcome(part.section, left) or whole,
        )
        for part in root.walk()
        if not part.is_multipart
    )


def _outcome(section: str, left: dict[str, str]) -> str | None:
    """Return why a part was left: its own reason, else that of the part it stands in (a signed one, say)."""
    while section and section not in left:
        section = section.rpartition(".")[0]
    return left.get(section)


def _links(prepared: "Prepared") -> tuple[ExplainedLink, ...]:
    plan = prepared.plan
    if plan is None:
        return ()
    tracked = [
        ExplainedLink(
            section=link.section,
            url=link.url,
            text=link.text,
            outcome="tracked",
            index=link.index,
            redacted=link.redact,
        )
        for link in plan.links
    ]
    left = [
        ExplainedLink(section=skip.section, url=skip.url, text=skip.text, outcome=skip.reason.value)
        for skip in plan.skips
        if skip.url is not None
    ]
    return tuple(tracked + left)


def _print(explained: Explanation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=True)

    def table(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        if not console.is_terminal:
            for row in rows:
                click.echo("\t".join((title, *map(printable, row))))
        elif rows:
            drawn = Table(*headings, title=title, title_justify="left")
            for row in rows:
                drawn.add_row(*(Text(printable(cell)) for cell in row))
            Console().print(drawn)

    click.echo(f"configuration set: {explained.configuration_set or 'none'}, because {explained.because}")
    if explained.reason is not None:
        click.echo(f"left untouched:    {explained.reason}")
    table(
        "part",
        ("section", "type", "encoding", "outcome"),
        [(part.section, part.type, part.encoding, part.outcome) for part in explained.parts],
    )
    table(
        "link",
        ("section", "outcome", "url", "text"),
        [
            (link.section, link.outcome + (", redacted" if link.redacted else ""), link.url, link.text)
            for link in explained.links
        ],
    )
    click.echo(f"pixel:             {'yes' if explained.pixel else 'no'}")
    click.echo(f"growth:            {explained.growth_bytes} bytes, from {explained.size_bytes}")
    for line in explained.witness:
        click.echo(f"WITNESS:           {printable(line)}")
    if not explained.witness and explained.reason is None:
        click.echo("witness:           agrees")
