"""How an explanation is printed: tables on a terminal, lines with tabs in a pipe. All of the mail in it is hostile."""

from typing import TYPE_CHECKING, Final

import click

from relay.cli.explanation import ExplainedLink, ExplainedPart, Explanation, kilobytes
from relay.cli.options import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFERENCE: Final = "docs/reference/why-not-tracked.md"
_MAX_DRAWN: Final = 160
"""Characters of a URL in a table; in a pipe and in JSON it is whole."""
_LABEL_WIDTH: Final = 19
_ENCODING_WIDTH: Final = len("quoted-printable")


def show(explained: Explanation) -> None:
    """Print all of it."""
    from rich.console import Console

    _say("configuration set", f"{explained.configuration_set or 'none'}, because {explained.because}")
    if explained.reason is not None:
        _say("left untouched", explained.reason)
    if Console().is_terminal:
        _draw(explained)
    else:
        _list(explained)
    tracked = sum(link.index is not None for link in explained.links)
    _say("links", f"{tracked} of {len(explained.links)} tracked")
    _say("pixel", "yes" if explained.pixel else "no")
    growth = explained.growth
    _say("size", f"{explained.size_bytes:,} bytes")
    _say(
        "growth",
        f"{growth.total_bytes:+,} bytes: control fields {growth.fields_out_bytes:+,}, "
        f"our fields {growth.fields_in_bytes:+,}, links and pixel {growth.edits_bytes:+,}",
    )
    for warning in explained.warnings:
        _say("WARNING", warning)
    _say_witness(explained)


def _say_witness(explained: Explanation) -> None:
    witness = explained.witness
    if witness is None:
        _say("witness", "not asked: the message passes as it is")
    elif witness.outcome == "agrees":
        _say("witness", "agrees")
    elif witness.why is not None:
        _say("WITNESS", f"unverified: {witness.why}")
    for text in () if witness is None else witness.disagreements:
        _say("WITNESS", text)


def _say(label: str, text: str) -> None:
    click.echo(f"{label}:".ljust(_LABEL_WIDTH) + printable(text))


def _list(explained: Explanation) -> None:
    """Print a row a line, each with what it is first."""
    for part in explained.parts:
        sizes = (part.size_bytes, part.growth_bytes, part.decoded_bytes, part.decoded_after_bytes)
        _line("part", part.section, part.type, part.encoding, part.charset or "", part.outcome, *map(str, sizes))
    for link in explained.links:
        index = "" if link.index is None else str(link.index)
        place = (str(link.position), index, link.part, link.section)
        _line("link", *place, _outcome(link), link.url, link.text, _tags(link))
    for code, sentence in explained.codes.items():
        _line("code", code, sentence)


def _line(*cells: str) -> None:
    click.echo("\t".join(map(printable, cells)))


def _draw(explained: Explanation) -> None:
    from rich.console import Console

    console = Console()
    if explained.parts:
        console.print(_parts_table(explained.parts))
    if explained.links:
        console.print(_links_table(explained.links))
    if explained.codes:
        console.print(_codes_table(explained))
        click.echo(f"What to do about each: {_REFERENCE}\n")


def _parts_table(parts: tuple[ExplainedPart, ...]) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, min_width in (("part", 4), ("type", 9), ("encoding", _ENCODING_WIDTH), ("outcome", 7)):
        table.add_column(heading, overflow="fold", min_width=min_width)
    for heading in ("as sent", "decoded"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in parts:
        encoding = f"{part.encoding} {part.charset or ''}".strip()
        cells = (part.section, part.type, encoding, part.outcome)
        sent = _grown(part.size_bytes, part.growth_bytes)
        decoded = _grown(part.decoded_bytes, part.decoded_after_bytes - part.decoded_bytes)
        table.add_row(*(Text(printable(cell)) for cell in cells), sent, decoded)
    return table


def _links_table(links: tuple[ExplainedLink, ...]) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("position", justify="right")
    table.add_column("index", justify="right")
    table.add_column("part", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    table.add_column("URL, text and tags", overflow="fold", ratio=1)
    for link in links:
        url = link.url if len(link.url) <= _MAX_DRAWN else link.url[:_MAX_DRAWN] + "…"
        shown = Text(printable(url))
        if link.text:
            shown.append(f"\n“{printable(link.text)}”", style="dim")
        if link.tags:
            shown.append(f"\n{printable(_tags(link))}", style="dim")
        outcome = Text(_outcome(link), style="" if link.index is not None else "yellow")
        index = "-" if link.index is None else str(link.index)
        table.add_row(str(link.position), index, f"{link.part} {link.section}", outcome, shown)
    return table


def _codes_table(explained: Explanation) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for code, sentence in explained.codes.items():
        table.add_row(Text(code, style="yellow"), Text(sentence))
    return table


def _outcome(link: ExplainedLink) -> str:
    return link.outcome + (", redacted" if link.redacted else "")


def _tags(link: ExplainedLink) -> str:
    return "; ".join(f"{name}:{value}" for name, value in link.tags.items())


def _grown(size_bytes: int, growth_bytes: int) -> str:
    if not growth_bytes:
        return kilobytes(size_bytes)
    sign = "+" if growth_bytes > 0 else "-"
    return f"{kilobytes(size_bytes)} {sign}{kilobytes(abs(growth_bytes))}"
