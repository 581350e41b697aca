"""`mailwake explain FILE`: what would be tracked of a message, what not, and why; asked and printed.

What is said is `explanation.py`'s, how it looks `explanationprint.py`'s. The witness runs in a process with limits,
since the file may be hostile.
"""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.options import EXIT_NO, config_option, json_option, load
from relay.cli.sample import prepare_file, sample_mint, settings_in_force

if TYPE_CHECKING:
    from relay.appconfig import Config
    from relay.cli.explanation import ExplainedWitness, Explanation
    from relay.testimony import Question


@click.command()
@config_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@click.option("--set", "set_name", metavar="NAME", help="The configuration set, whatever the message says.")
@json_option
def explain(*, config_path: Path | None, file: Path, set_name: str | None, as_json: bool) -> None:
    """Show every part and link of FILE: tracked, or not and why. Exit code 1: the witness does not agree."""
    from relay.cli import explanationprint

    explained = _explain(load(config_path), file, set_name)
    if as_json:
        click.echo(json.dumps(asdict(explained)))
    else:
        explanationprint.show(explained)
    if explained.witness is not None and explained.witness.outcome != "agrees":
        raise SystemExit(EXIT_NO)


def _explain(config: "Config", file: Path, set_name: str | None) -> "Explanation":
    from relay.cli import explanation

    settings = settings_in_force(config)
    sample = prepare_file(config, file, recipient=None, set_name=set_name)
    question = explanation.question_about(sample, sample_mint(config, settings, sample))
    witness = None if question is None else _ask(question)
    return explanation.explained(sample, settings, question, witness)


def _ask(question: "Question") -> "ExplainedWitness":
    from relay.cli.explanation import ExplainedWitness
    from relay.verification.child import ask_once
    from relay.verification.verdict import Agreed, Disagreed, Unverified

    match asyncio.run(ask_once(question)):
        case Agreed():
            return ExplainedWitness(outcome="agrees")
        case Disagreed(disagreements=found):
            texts = [f"{one.kind.value}{f' of part {one.section}' * bool(one.section)}: {one.detail}" for one in found]
            return ExplainedWitness(outcome="disagrees", disagreements=tuple(texts))
        case Unverified(why=why):
            return ExplainedWitness(outcome="unverified", why=why.sentence)
