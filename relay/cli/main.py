"""The command `mailwake`: its subcommands, and how errors become exit codes.

Exit codes: 0 done, 1 the answer is no (a check failed, nothing was found), 2 unusable arguments or configuration.
"""

from typing import Any

import click

from relay.cli.blocks import blocks
from relay.cli.check import check
from relay.cli.config import config
from relay.cli.consent import consent
from relay.cli.credentials import credentials
from relay.cli.demo import demo
from relay.cli.destinations import destinations
from relay.cli.events import events
from relay.cli.explain import explain
from relay.cli.init import init
from relay.cli.keys import keys
from relay.cli.mail import decode, rewrite, send
from relay.cli.options import EXIT_UNUSABLE
from relay.cli.personal import export, forget
from relay.cli.purge import purge
from relay.cli.queue import queue
from relay.cli.reload import reload
from relay.cli.serve import serve
from relay.cli.stats import stats


class _Commands(click.Group):
    """Turns the errors of an unusable set-up into one clear text and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        from tracker.contract.errors import KeysError
        from tracker.runtime.configfile import ConfigError

        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"mailwake: {error}", err=True)
        except KeysError as error:
            click.echo(f"mailwake: keys.file: {error}", err=True)
        raise SystemExit(EXIT_UNUSABLE)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="mailwake", prog_name="mailwake")
def main() -> None:
    """Relay mail with tracked links, and record who opens and clicks."""


_COMMANDS = (
    serve, demo, init, check, reload, config, rewrite, explain, decode, send, events, stats, queue, credentials,
    keys, blocks, destinations, consent, export, forget, purge,
)  # fmt: skip
for _command in _COMMANDS:
    main.add_command(_command)
