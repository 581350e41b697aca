"""A real SMTP server on loopback that does to each address what a test has planned, and keeps account of what it took.

It runs on a loop of its own in a thread, so that a test may be plain code. What it takes is told by the copy's header
`X-Mailwake-Copy`; every 250 after a dot bears an id of its own that begins with the copy's, so that an answer that is
taken for that of another command shows.
"""

import asyncio
import hashlib
import itertools
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

DROP: Final = "drop"
"""In place of a reply: the connection ends without one. At the dot the copy is taken all the same."""

NO_REASON: Final = -1
_PHASES: Final = ("mail", "rcpt", "data", "dot")

_ADDRESS: Final = re.compile(r"<([^>]*)>")
_FIELD: Final = re.compile(rb"^(X-Mailwake-Copy|X-Mailwake-Report): (\S+)\r$", re.MULTILINE)
_QUEUED: Final = "250 2.0.0 Ok: queued as"


@dataclass(slots=True)
class Fate:
    """What an address gets at a phase (`mail rcpt data dot`): this reply, so many times; -1 is for ever."""

    phase: str
    reply: str
    times: int = 1

    def is_met_at(self, phase: str) -> bool:
        """Say whether it is answered at a phase.

        One for ever also later: where a message was accepted twice, one copy may be past the phase at which the other
        has just met its last deferral.
        """
        return phase == self.phase or (self.times < 0 and _PHASES.index(phase) > _PHASES.index(self.phase))


Fates = Callable[[str], list[Fate]]
"""Gives what an address meets, one after the other: `from:news@shop.example` at MAIL, `to:ana@client.example` later."""


@dataclass(slots=True, eq=False)
class Line:
    """A connection. `life` is that of the relay that made it; `is_cut`: it ended without a QUIT, and not by us."""

    life: int
    is_cut: bool = False
    is_dropped: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was taken: with which id it was answered, None where the answer was withheld.

    `data` is kept of reports alone.
    """

    sender: str
    recipients: tuple[str, ...]
    line: Line
    answer: str | None
    data: bytes = b""


class Upstream:
    """The server, for the length of a `with`.

    `copies` has what was taken, by copy id, each time it came; `reports` the delivery reports, by the id of each.
    `faults` has what was wrong with copies, in words. `life` is raised by whoever kills the relay.
    """

    def __init__(
        self,
        fates: Fates = lambda _: [],
        *,
        inspect: Callable[[bytes], str] = lambda _: "",
        delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`inspect` says what is wrong with a copy, "" for nothing; `delay_s` is waited before each answer to a dot."""
        self._fates_of = fates
        self._inspect = inspect
        self._delay_s = delay_s
        self._fates: dict[str, list[Fate]] = {}
        self._digests: dict[str, bytes] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._is_ending = False
        self.copies: dict[str, list[Taken]] = {}
        self.reports: dict[str, list[Taken]] = {}
        self.faults: list[str] = []
        self.lines: list[Line] = []
        self.withheld = 0
        self.life = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where the relay finds it."""
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = listening.getsockname()[1]
        self._server = asyncio.run_coroutine_threadsafe(self._start(listening), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def taken(self) -> dict[str, list[Taken]]:
        """Return what was taken so far, by copy id, as it is at this moment."""
        return {copy: list(times) for copy, times in list(self.copies.items())}

    def cut_lines(self) -> int:
        """Return how many connections were cut by the other side: at a kill, all that were open."""
        return sum(line.is_cut for line in list(self.lines))

    # --- the server -----------------------------------------------------------------------------------------

    async def _start(self, listening: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._serve, sock=listening, limit=1 << 26)

    async def _end(self) -> None:
        self._is_ending = True
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(life=self.life)
        self.lines.append(line)
        self._writers.add(writer)
        has_quit = False
        try:
            has_quit = await self._talk(line, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the peer went away, or we did
        finally:
            line.is_cut = not (has_quit or line.is_dropped or self._is_ending)
            self._writers.discard(writer)
            writer.close()

    async def _talk(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer command after command; True where the peer said QUIT."""
        sender = ""
        recipients: list[str] = []

        async def say(reply: str) -> bool:
            if reply == DROP:
                line.is_dropped = True
                raise ConnectionAbortedError
            writer.write(reply.encode() + b"\r\n")
            await writer.drain()
            return reply.startswith(("2", "3"))

        await say("220 mx.client.example ESMTP")
        while command := (await reader.readline()).decode("utf-8", "replace").rstrip("\r\n"):
            match command.partition(" ")[0].upper():
                case "EHLO":
                    await say("250-mx.client.example\r\n250-SIZE 50000000\r\n250-SMTPUTF8\r\n250 8BITMIME")
                case "MAIL":
                    address = _address(command)
                    if await say(self._reply("mail", f"from:{address}", "250 2.1.0 Ok")):
                        sender, recipients = address, []
                case "RCPT":
                    address = _address(command)
                    if await say(self._reply("rcpt", f"to:{address}", "250 2.1.5 Ok")):
                        recipients.append(address)
                case "DATA":
                    if await say(self._reply("data", f"to:{recipients[0]}", "354 Go on")):
                        data = await reader.readuntil(b"\r\n.\r\n")
                        await say(await self._take(line, sender, tuple(recipients), data[:-3]))
                case "RSET":
                    await say("250 2.0.0 Ok")
                case "QUIT":
                    await say("221 2.0.0 Bye")
                    return True
                case _:
                    await say("500 5.5.2 What?")
        return False

    async def _take(self, line: Line, sender: str, recipients: tuple[str, ...], stuffed: bytes) -> str:
        reply = self._reply("dot", f"to:{recipients[0]}", _QUEUED)
        wait_s = self._delay_s()
        if reply in (_QUEUED, DROP):
            reply = self._keep(line, sender, recipients, _unstuffed(stuffed), is_answered=reply == _QUEUED)
        if wait_s:
            await asyncio.sleep(wait_s)
        return reply

    def _keep(self, line: Line, sender: str, recipients: tuple[str, ...], data: bytes, *, is_answered: bool) -> str:
        self.withheld += not is_answered
        names = {name: value.decode() for name, value in _FIELD.findall(data.partition(b"\r\n\r\n")[0] + b"\r\n")}
        report = names.get(b"X-Mailwake-Report")
        if report is not None:
            answer = f"report-{report}" if is_answered else None
            self.reports.setdefault(report, []).append(Taken(sender, recipients, line, answer, data))
            return f"{_QUEUED} {answer}" if answer else DROP
        copy = names.get(b"X-Mailwake-Copy", "none")
        fault = self._inspect(data)
        if fault:
            self.faults.append(f"{copy}: {fault}")
        digest = hashlib.sha256(data).digest()
        if self._digests.setdefault(copy, digest) != digest:
            self.faults.append(f"{copy}: two attempts differ")
        times = self.copies.setdefault(copy, [])
        answer = f"{copy}.{len(times)}" if is_answered else None
        times.append(Taken(sender, recipients, line, answer))
        return f"{_QUEUED} {answer}" if answer else DROP

    def _reply(self, phase: str, key: str, polite: str) -> str:
        fates = self._fates.get(key)
        if fates is None:
            fates = self._fates[key] = self._fates_of(key)
        if not fates or not fates[0].is_met_at(phase):
            return polite
        fate = fates[0]
        fate.times -= fate.times > 0
        if fate.times == 0:
            del fates[0]
        return fate.reply


def came_again(taken: dict[str, list[Taken]]) -> "Counter[int]":
    """Count the copies that were taken again by the kill that lay in between, its number from 0; or by `NO_REASON`.

    A copy whose answer was withheld is not counted: it has to come again.
    """
    found: Counter[int] = Counter()
    for times in taken.values():
        for earlier, later in itertools.pairwise(times):
            if earlier.answer is not None:
                life = earlier.line.life
                found[life if life != later.line.life else NO_REASON] += 1
    return found


def _address(command: str) -> str:
    found = _ADDRESS.search(command)
    assert found is not None, command
    return found[1]


def _unstuffed(data: bytes) -> bytes:
    return (b"\r\n" + data).replace(b"\r\n..", b"\r\n.")[2:]
