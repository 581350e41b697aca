"""Worker processes: made, replaced when they die, stopped together. The process that does so serves nothing itself.

Theory:
    The supervisor binds the sockets, loads the code, and forks; so a worker is there in milliseconds, shares the memory
    of the code, and a connection that comes while one is replaced waits in a socket that is still open. It has no
    event loop, no thread and no lock, and so nothing that a fork could copy in the middle of something. What it waits
    for are signals (through a pipe, as `signal.set_wakeup_fd` has it) and the lines of its workers.
    A worker that cannot start stops the whole start, with its words. One that dies later is replaced at once, and ever
    more slowly if it goes on dying young.
    Each worker holds the reading end of a pipe that nobody writes to: when the supervisor is gone, however that came,
    it reads the end of the file and drains.
    Signals are blocked around a fork: one that came before the child has let go of its parent's pipe would be written
    into it. Those that `serve` has handlers for stay blocked until it has put them in place; none is lost so.

Limits: a worker that hangs, alive, is not noticed here: `/healthz` is for that.
"""

import gc
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog
from prometheus_client import Counter

from tracker.runtime import serve
from tracker.runtime.seat import Counts, Seat, Share
from tracker.runtime.serve import EXIT_DONE, EXIT_FAILED, EXIT_UNUSABLE

STOP_LIMIT_S: Final = 15.0  # a drain takes 12 at most; what takes longer hangs
_ECHO_S: Final = 0.5
_YOUNG_S: Final = 60.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_LINE_BYTES: Final = 1 << 16

DIED: Final = Counter("mailwake_workers_died", "Workers that ended when they should not have.")

_log = structlog.get_logger()


@dataclass(slots=True)
class _Worker:
    index: int
    pid: int
    reports: int
    """The reading end of its pipe."""
    started_s: float
    line: bytes = b""


class Workers:
    """The workers of one supervisor: `run` until a signal. One for a process.

    `work` runs in each worker and returns its exit code; it reports one line when it serves, or why it does not.
    `on_lines` is called when all have reported, and returns whether to go on; `on_hangup` at SIGHUP, and returns
    whether the workers are to hear of it; `on_stop` before the workers are stopped; `on_death` with a pid.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Seat], int],
        *,
        on_lines: Callable[[list[bytes]], bool],
        on_hangup: Callable[[], bool],
        on_stop: Callable[[], None],
        on_death: Callable[[int], None],
    ) -> None:
        """Take what is run and who is told; nothing is started yet."""
        self._count = count
        self._work = work
        self._on_lines = on_lines
        self._on_hangup = on_hangup
        self._on_stop = on_stop
        self._on_death = on_death
        self._counts = Counts(count)
        self._workers: dict[int, _Worker] = {}
        self._lines: dict[int, bytes] = {}
        self._pauses: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._selector = selectors.DefaultSelector()
        self._lifeline, self._own_end = os.pipe()
        self._serves = False
        self._hung_up = False
        self._stopping_s: float | None = None
        self._code = EXIT_DONE

    @property
    def pids(self) -> list[int]:
        """The processes that are there now, by their number."""
        return [worker.pid for _, worker in sorted(self._workers.items())]

    def run(self) -> int:
        """Start the workers and look after them; return the exit code: 0 where all of them ended with it."""
        if threading.active_count() > 1:
            raise RuntimeError("a thread is there that a fork would not copy")
        with self._signals():
            gc.collect()
            gc.freeze()  # what is loaded by now stays shared: the collector would write into every object of it
            for index in range(self._count):
                self._start(index)
            while self._workers or (self._due and self._stopping_s is None):
                for key, _ in self._selector.select(self._patience_s()):
                    key.data()
                self._look_at_the_clock()
        return self._code

    # --- signals ------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        woken, wakes = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wakes, False)
        before = {number: signal.signal(number, _nothing) for number in _SIGNALS}
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._heard(os.read(woken, _LINE_BYTES)))
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            for descriptor in (woken, wakes, self._lifeline, self._own_end):
                os.close(descriptor)

    def _heard(self, numbers: bytes) -> None:
        for number in map(signal.Signals, dict.fromkeys(numbers)):
            if number is signal.SIGCHLD:
                self._bury()
            elif number is signal.SIGHUP:
                self._hung_up = True
            else:
                self._stop(number.name)
        self._hang_up()

    def _hang_up(self) -> None:
        """Pass a SIGHUP on; one that came in the start waits until all serve."""
        if self._hung_up and self._serves and self._stopping_s is None:
            self._hung_up = False
            if self._on_hangup():
                self._tell(signal.SIGHUP)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def _stop(self, reason: str) -> None:
        now_s = time.monotonic()
        if self._stopping_s is None:
            _log.info("workers_stopping", reason=reason, workers=len(self._workers))
            self._stopping_s = now_s
            self._on_stop()
        elif now_s - self._stopping_s <= _ECHO_S:
            return  # a terminal signals the whole group, and so do some supervisors
        self._tell(signal.SIGTERM)

    # --- the life of a worker -----------------------------------------------------------------------------

    def _start(self, index: int) -> None:
        reports, reporting = os.pipe()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self._become(index, reports, reporting, mask)
        except OSError:
            os.close(reports)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(reporting)
        os.set_blocking(reports, False)
        self._workers[index] = worker = _Worker(index, pid, reports, time.monotonic())
        self._selector.register(reports, selectors.EVENT_READ, lambda: self._listen(worker))

    def _become(self, index: int, reports: int, reporting: int, mask: set[int | signal.Signals]) -> NoReturn:
        """Be the worker, in the child: nothing of the supervisor but its sockets is used from here on."""
        code = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for descriptor in (self._own_end, reports, *(worker.reports for worker in self._workers.values())):
                if descriptor >= 0:
                    os.close(descriptor)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask | serve.SIGNALS)

            unreported = [reporting]

            def report(line: bytes) -> None:
                if unreported:  # once: the number of a descriptor that is closed soon belongs to another file
                    with suppress(BrokenPipeError), os.fdopen(unreported.pop(), "wb") as pipe:
                        pipe.write(line)

            counts = self._counts.of_process(index)
            share = Share(index, self._count)
            code = self._work(Seat(share=share, counts=counts, report=report, lifeline=self._lifeline))
        except BaseException as error:  # noqa: BLE001 - the end of a process: whatever it was must not run our caller
            _log.critical("worker_failed", worker=index, exc_info=error)
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(code)

    def _listen(self, worker: _Worker) -> None:
        """Read what a worker reports, to its end."""
        with suppress(BlockingIOError):
            while worker.reports >= 0:
                piece = os.read(worker.reports, _LINE_BYTES)
                worker.line += piece
                if not piece:
                    self._selector.unregister(worker.reports)
                    os.close(worker.reports)
                    worker.reports = -1
                    self._reported(worker)

    def _reported(self, worker: _Worker) -> None:
        if not worker.line or self._serves or self._stopping_s is not None:
            return
        self._lines[worker.index] = worker.line
        if len(self._lines) == self._count:
            self._serves = self._on_lines([line for _, line in sorted(self._lines.items())])
            if not self._serves:
                self._give_up("a worker cannot start")
            self._hang_up()

    def _bury(self) -> None:
        """Take note of the workers that have ended. One signal may stand for several of them."""
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                del self._workers[worker.index]
                self._listen(worker)
                self._counts.forget(worker.index)
                self._on_death(pid)
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        if self._stopping_s is not None:
            if code:
                _log.error("worker_ended_badly", worker=worker.index, pid=worker.pid, exit_code=code)
                self._code = self._code or EXIT_FAILED
            return
        if not self._serves:
            if code != EXIT_UNUSABLE or not worker.line:  # else it has said why, and the others may have more to say
                self._give_up("a worker died in the start")
            return
        DIED.inc()
        now_s = time.monotonic()
        is_young = now_s - worker.started_s < _YOUNG_S
        pause_s = self._pauses.get(worker.index, 0.0) if is_young else 0.0
        self._pauses[worker.index] = min(max(pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._due[worker.index] = now_s + pause_s
        _log.error("worker_died", worker=worker.index, pid=worker.pid, exit_code=code, again_in_s=pause_s)

    def _give_up(self, reason: str) -> None:
        self._code = EXIT_FAILED
        self._stop(reason)

    # --- time ---------------------------------------------------------------------------------------------

    def _patience_s(self) -> float | None:
        due_s = list(self._due.values()) if self._stopping_s is None else [self._stopping_s + STOP_LIMIT_S]
        return max(0.0, min(due_s) - time.monotonic()) if due_s else None

    def _look_at_the_clock(self) -> None:
        now_s = time.monotonic()
        if self._stopping_s is not None:
            if now_s - self._stopping_s >= STOP_LIMIT_S and self._workers:
                _log.error("workers_killed", workers=len(self._workers), after_s=STOP_LIMIT_S)
                self._tell(signal.SIGKILL)
                self._stopping_s = now_s
            return
        for index, due_s in list(self._due.items()):
            if due_s <= now_s:
                self._due[index] = now_s + _LONGEST_PAUSE_S
                try:
                    self._start(index)
                except OSError as error:  # no more processes, or no memory for one
                    _log.error("worker_not_started", worker=index, error=error.strerror)
                    continue
                del self._due[index]
                _log.info("worker_replaced", worker=index, pid=self._workers[index].pid)


def _nothing(_number: int, _frame: object) -> None:
    """Be a handler: only then is a signal written to the pipe."""
