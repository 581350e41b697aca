"""A serving process: hardened, its sockets bound once before anything starts, stopped by signals, crash-only.

Owns what is the same for every mix of parts. Which parts run, and in which order they start and drain, is the apps'.

Theory: sockets are bound and listening before the first file is touched, so that a port in use is found before anything
has begun, and connections that come during the start wait in the backlog. A background task that dies takes the process
with it: its supervisor starts a whole one, which is better than one that limps.
"""

import asyncio
import importlib
import importlib.util
import os
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog

from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.inherited import Inherited, assign
from tracker.runtime.units import ListenAddress

BACKLOG: Final = 1024
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2
SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Those that are handled here. They may be blocked until then."""
_UMASK: Final = 0o077
_ECHO_S: Final = 0.5  # who signals a process and its group (timeout, some supervisors) signals it twice

_log = structlog.get_logger()

Main = Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the first event is set; whenever the second one is, it clears it and reads its files again."""


def harden() -> None:
    """Let nobody else read what this process writes, and leave no core dump with keys and mail in it.

    It may open as many files as the system allows it, for there is one for each connection.
    """
    os.umask(_UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))


def bind(
    listens: Mapping[str, Sequence[ListenAddress]], inherited: Sequence[Inherited] = ()
) -> dict[str, list[socket.socket]]:
    """Bind every address, by part, but those that an inherited socket is bound to.

    ConfigError: it names all that cannot be bound, and none is bound then; or a socket that is none of them.
    """
    problems: list[Problem] = []
    bound: dict[str, list[socket.socket]] = {}
    there = assign(inherited, listens)
    for part, addresses in listens.items():
        bound[part] = []
        for index, address in enumerate(addresses):
            try:
                bound[part].append(there.get((part, index)) or _bind(address))
            except OSError as error:
                wrong = f"{address} cannot be listened on: {error.strerror}"
                remedy = "stop what listens there, or choose another (port 0 takes any that is free)"
                problems.append(Problem(key=f"{part}.listen", wrong=wrong, remedy=remedy))
    if problems:
        close(bound)
        raise ConfigError(None, problems)
    return bound


def close(bound: Mapping[str, Sequence[socket.socket]]) -> None:
    """Close every socket."""
    for sockets in bound.values():
        for one in sockets:
            one.close()


def addresses_of(sockets: Sequence[socket.socket]) -> list[ListenAddress]:
    """Return where sockets are bound, with the ports that the system chose."""
    return [ListenAddress(*one.getsockname()[:2]) for one in sockets]


def by_scheme(
    sockets: Sequence[socket.socket], listens: Sequence[ListenAddress]
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Split bound sockets into those of plain addresses and those of addresses with a scheme, where TLS is spoken."""
    pairs = list(zip(sockets, listens, strict=True))
    return [one for one, wanted in pairs if not wanted.scheme], [one for one, wanted in pairs if wanted.scheme]


def run(main: Main, lifeline: int | None = None) -> int:
    """Run `main` until it ends; SIGTERM and SIGINT set its first event, a second one ends the process at once.

    SIGHUP sets the second event: the configuration is to be read again. Several in a row may become one.
    The first event is also set when the descriptor `lifeline` is at its end: whoever looks after this process is gone.

    Returns the exit code: 0 when `main` returned, 1 when it or one of its tasks failed. A ConfigError goes through.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_supervise(main, lifeline))
        except ConfigError:
            raise
        except ExceptionGroup as group:
            if group.subgroup(ConfigError) is not None and group.split(ConfigError)[1] is None:
                raise ConfigError(None, _problems(group)) from group
            _log.critical("process_failed", exc_info=group)
            return EXIT_FAILED
        except Exception as error:  # noqa: BLE001 - the process is a place to catch broadly
            _log.critical("process_failed", exc_info=error)
            return EXIT_FAILED
    return EXIT_DONE


async def _supervise(main: Main, lifeline: int | None) -> None:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    stopped_at_s = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal stopped_at_s
        if not stop.is_set():
            _log.info("process_stopping", signal=number.name)
            stopped_at_s = loop.time()
            stop.set()
        elif loop.time() - stopped_at_s > _ECHO_S:
            _log.warning("stopped_at_once", signal=number.name)
            os._exit(EXIT_FAILED)

    def on_orphaned() -> None:
        if lifeline is not None:
            loop.remove_reader(lifeline)
        _log.error("supervisor_gone")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    if lifeline is not None:
        loop.add_reader(lifeline, on_orphaned)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        await main(stop, reload)
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _bind(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind((address.host, address.port))
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _problems(group: ExceptionGroup[Exception]) -> list[Problem]:
    found: list[Problem] = []
    for error in group.exceptions:
        if isinstance(error, ConfigError):
            found += error.problems
        elif isinstance(error, ExceptionGroup):
            found += _problems(error)
    return found


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop where the extra `mailwake[fast]` is installed."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory
