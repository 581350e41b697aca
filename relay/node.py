"""The workers of a node: the same parts in several processes, on the same sockets, each with a slot of its own.

Owns what they have in common and who speaks for them: sockets, keys, the folder of their metrics, the configuration
that a worker is started with, the one line when all of them serve.
"""

import os
from collections.abc import Sequence

import msgspec
import structlog

from relay import app, appconfig, roomoptions
from relay.app import Ready
from relay.appconfig import Config
from relay.reloading import taken_up
from tracker.runtime import inherited, memory, serve, sharedmetrics
from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.control import Status
from tracker.runtime.seat import Seat
from tracker.runtime.workers import Workers

_log = structlog.get_logger()


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's one line: how it serves, or what stands in its way, each as key, what is wrong, remedy."""

    status: Status | None = None
    problems: list[tuple[str, str, str]] = []


def run(config: Config, parts: Sequence[str], count: int, ready: Ready) -> int:
    """Run `count` workers until a signal, and return the exit code; `ready` is called once all of them serve.

    The environment has the folder for metrics by now (`sharedmetrics.prepare`). ConfigError, KeysError: something
    stands in the way of the start, and nothing is left running.
    """
    roomoptions.check_shares(config, count)
    app.prepare(config, parts)
    node = _Node(config, parts, count, ready)
    try:
        return node.run()
    finally:
        node.close()


class _Node:
    def __init__(self, config: Config, parts: Sequence[str], count: int, ready: Ready) -> None:
        self._config = self._opened = config
        self._count = count
        self._ready = ready
        self._bound = serve.bind(app.listens(config, parts), inherited.take(os.environ))
        self._problems: list[Problem] = []
        self._workers = Workers(
            count,
            self._work,
            on_lines=self._hear,
            on_hangup=self._reload,
            on_stop=self.close,
            on_death=sharedmetrics.forget,
        )

    def run(self) -> int:
        self._keys = app.load_secrets(self._config, may_create=True)
        memory.spare_what_stays()
        code = self._workers.run()
        if self._problems:
            raise ConfigError(None, self._problems)
        return code

    def close(self) -> None:
        """Close the sockets: connections that nobody will take are refused from now on."""
        serve.close(self._bound)

    def _work(self, seat: Seat) -> int:
        """Be a worker, in its own process."""
        report = seat.report or (lambda _: None)

        def ready(status: Status) -> None:
            report(msgspec.json.encode(_Report(status=status)))

        try:
            return app.run_process(self._config, self._keys, self._bound, seat, ready)
        except ConfigError as error:
            problems = [(problem.key, problem.wrong, problem.remedy) for problem in error.problems]
            _log.error("worker_cannot_start", problems=[str(problem) for problem in error.problems])
            report(msgspec.json.encode(_Report(problems=problems)))
            return serve.EXIT_UNUSABLE

    def _hear(self, lines: list[bytes]) -> bool:
        """Say that all serve, in one line for all; or note what stands in the way."""
        reports = [msgspec.json.decode(line, type=_Report) for line in lines]
        for report in reports:
            for key, wrong, remedy in report.problems:
                problem = Problem(key=key, wrong=wrong, remedy=remedy)
                if problem not in self._problems:
                    self._problems.append(problem)
        statuses = [report.status for report in reports if report.status is not None]
        if self._problems:
            return False
        first = min(statuses, key=lambda status: status.slot)
        queue = sum(status.queue for status in statuses)
        ours = msgspec.structs.replace(first, pid=os.getpid(), queue=queue, supervisor=None, workers=self._workers.pids)
        _log.info("workers_serve", workers=self._count)
        self._ready(ours)
        return True

    def _reload(self) -> bool:
        """Read the file again, for workers that are started later; what is wrong with it, no worker hears of."""
        try:
            config = appconfig.load(self._config.source.path, os.environ)
            roomoptions.check_shares(config, self._count)
        except ConfigError as error:
            _log.error("reload_refused", problems=[str(problem) for problem in error.problems])
            return False
        self._config = taken_up(self._opened, config)
        return True
