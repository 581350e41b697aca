"""A real SMTP server on loopback that answers what a test tells it to, at the phase it is told."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Self

EXTENSIONS = ("SIZE 10000000", "8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN")
DROP = "drop"


@dataclass
class Script:
    """`replies` by phase (`greeting ehlo auth mail rcpt data dot rset quit`, or `rcpt:ADDRESS`) replace polite ones.

    `DROP` closes the connection instead. `once`: those replies are used up by their first use.
    """

    replies: dict[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = EXTENSIONS
    once: bool = False
    tls: ssl.SSLContext | None = None
    is_implicit: bool = False
    messages: list[tuple[list[str], bytes]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    open_count: int = 0
    most_open: int = 0
    host: str = ""
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self.tls if self.is_implicit else None, limit=1 << 26
        )
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """Close every connection, as a server does that restarts."""
        for writer in self.writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reply(self, phase: str, polite: str) -> str:
        for key in (phase, phase.partition(":")[0]):
            if key in self.replies:
                return self.replies.pop(key) if self.once else self.replies[key]
        return polite

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.open_count += 1
        self.most_open = max(self.most_open, self.open_count)
        commands: list[str] = []
        self.commands.append(commands)
        envelope: list[str] = []

        async def say(phase: str, polite: str) -> str:
            text = self._reply(phase, polite)
            if text == "wait":
                self.waiting.set()
                await self.hold.wait()
                text = polite
            if text == DROP:
                raise ConnectionAbortedError
            writer.write(text.encode("utf-8", "surrogateescape") + b"\r\n")
            await writer.drain()
            return text

        try:
            await say("greeting", "220 script.example ESMTP")
            while line := await reader.readline():
                command = line.decode("utf-8", "replace").rstrip("\r\n")
                commands.append(command)
                verb, _, argument = command.partition(" ")
                match verb.upper():
                    case "EHLO":
                        lines = ("script.example", *self.extensions)
                        text = [f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines]
                        await say("ehlo", "\r\n".join(text))
                    case "HELO":
                        await say("helo", "250 script.example")
                    case "STARTTLS":
                        if (await say("starttls", "220 go on")).startswith("220") and self.tls:
                            await writer.start_tls(self.tls)
                            self.extensions = tuple(name for name in self.extensions if name != "STARTTLS")
                    case "AUTH":
                        await say("auth", "235 2.7.0 ok")
                    case "MAIL":
                        envelope = [command]
                        await say("mail", "250 2.1.0 ok")
                    case "RCPT":
                        envelope.append(command)
                        await say(f"rcpt:{argument[4:-1]}", "250 2.1.5 ok")
                    case "DATA":
                        if (await say("data", "354 go on")).startswith("354"):
                            if "early" in self.replies:
                                await reader.read(1)
                                await say("early", "")
                                return
                            body = await reader.readuntil(b"\r\n.\r\n")
                            self.messages.append((envelope, body))
                            await say("dot", f"250 2.0.0 queued as {len(self.messages)}")
                    case "RSET":
                        await say("rset", "250 2.0.0 ok")
                    case "QUIT":
                        await say("quit", "221 2.0.0 bye")
                        return
                    case _:
                        await say("other", "500 5.5.2 what")
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the peer went away, or was told to
        finally:
            self.open_count -= 1
            writer.close()
