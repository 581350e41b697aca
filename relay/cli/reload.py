"""`mailwake reload`: the running service reads its configuration again."""

from pathlib import Path

import click

from relay.cli.options import EXIT_NO, EXIT_UNUSABLE, config_option, load


@click.command()
@config_option
def reload(*, config_path: Path | None) -> None:
    """Have the running service read its configuration again; no connection is dropped.

    Says which changes are in force only after a restart. Exit code 1: nothing runs here.
    """
    config = load(config_path)  # a broken file is said here, and the service is not asked
    from relay.reloading import Reloaded
    from tracker.runtime import control
    from tracker.runtime.control import Refusal, Status

    asked: set[int] = set()
    answers: list[Reloaded | Refusal | None] = []
    for path in control.sockets(config.run_directory):
        status = control.ask(path, b'{"command": "status"}', Status, timeout_s=control.TIMEOUT_S)
        if not isinstance(status, Status) or (status.supervisor or status.pid) in asked:
            continue  # one worker has all of them reload
        asked.add(status.supervisor or status.pid)
        answers.append(control.ask(path, b'{"command": "reload"}', Reloaded))
    if not answers:
        click.echo("mailwake: nothing runs with this configuration", err=True)
        raise SystemExit(EXIT_NO)
    problems: list[str] = []
    restart: list[str] = []
    for answer in answers:
        match answer:
            case Reloaded():
                problems += answer.problems
                restart += answer.restart
            case Refusal(error=error):
                problems.append(error)
            case None:
                problems.append("a process did not answer")
    for problem in dict.fromkeys(problems):
        click.echo(f"mailwake: {problem}", err=True)
    if problems:
        raise SystemExit(EXIT_UNUSABLE)
    click.echo("The configuration is in force.")
    if restart:
        click.echo("After a restart only: " + ", ".join(dict.fromkeys(restart)))
