"""The witness's process, seen from its parent: started when it is needed, asked one question at a time, ended for sure.

Owns the wall clock and what a death means. The limits of CPU and memory the process sets itself before it reads
anything (`limits.py`).

Theory: nothing runs between fork and exec, so that threads of the parent cannot leave a lock behind. All files but the
pipes are closed; the environment is empty but for where modules are, since passwords may stand in it; a session of its
own keeps the terminal's Ctrl-C away; the death of the parent ends it (a signal of the kernel, the end of its input).
"""

import asyncio
import os
import signal
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from relay.testimony import Question
from relay.verification import limits, wire
from relay.verification.verdict import Agreed, Disagreed, Unverified, Verdict, Why
from relay.verification.wire import Answer

_MODULE: Final = "relay.verification"
_ROOT: Final = Path(__file__).resolve().parents[2]
_FAREWELL_S: Final = 0.5
"""For the process to end by itself: one that is dying must be asked for its exit code, not killed on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    process: Process
    stdin: StreamWriter
    stdout: StreamReader


class Child:
    """The process, or the lack of one; `close` must be called at the end."""

    def __init__(self, *, is_background: bool = True, wall_s: float = limits.WALL_S) -> None:
        """Start nothing yet; in the background it only gets what nobody else wants of the processors."""
        self._arguments = [wire.BACKGROUND] if is_background else []
        self._wall_s = wall_s
        self._running: _Running | None = None

    @property
    def pid(self) -> int | None:
        """Return the id of the process while there is one."""
        return None if self._running is None else self._running.process.pid

    async def ask(self, question: Question) -> Verdict:
        """Ask, and start the process first where there is none; a process that fails is ended, the next one is new."""
        try:
            async with asyncio.timeout(self._wall_s):
                answer = await self._exchange(question)
        except TimeoutError:
            await self.close()
            return Unverified(why=Why.DEADLINE)
        except (OSError, EOFError, msgspec.MsgspecError):
            code = await self.close()
            return Unverified(why=Why.CPU if code == -signal.SIGXCPU else Why.DIED)
        if answer.failure is not None:
            await self.close()
            return Unverified(why=Why(answer.failure))
        return Disagreed(disagreements=answer.disagreements) if answer.disagreements else Agreed()

    async def close(self) -> int | None:
        """End the process, if there is one, and return its exit code."""
        running, self._running = self._running, None
        if running is None:
            return None
        running.stdin.close()
        try:
            async with asyncio.timeout(_FAREWELL_S):
                return await running.process.wait()
        except TimeoutError:
            running.process.kill()
        return await running.process.wait()

    async def _exchange(self, question: Question) -> Answer:
        if self._running is None:
            self._running = await _start(self._arguments)
        stdin, stdout = self._running.stdin, self._running.stdout
        stdin.write(wire.encode(question))
        await stdin.drain()
        (size,) = wire.LENGTH.unpack(await stdout.readexactly(wire.LENGTH.size))
        if size > wire.MAX_ANSWER_BYTES:
            raise EOFError
        return wire.decode_answer(await stdout.readexactly(size))


async def ask_once(question: Question) -> Verdict:
    """Ask about one message, with a process for it alone, and a person who waits."""
    child = Child(is_background=False)
    try:
        return await child.ask(question)
    finally:
        await child.close()


async def _start(arguments: Sequence[str]) -> _Running:
    modules = dict.fromkeys([str(_ROOT), *filter(None, sys.path)])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the working directory is no place for modules
        "-m",
        _MODULE,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,  # a traceback may hold mail
        env={"PYTHONPATH": os.pathsep.join(modules)},
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("pipes were asked for")
    return _Running(process=process, stdin=process.stdin, stdout=process.stdout)
