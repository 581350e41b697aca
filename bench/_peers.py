"""The two ends of the relay bench: a load of many sessions, and a sink that counts. Plain asyncio: both are cheap.

python -m bench._peers sink            prints its port, then a line with the count whenever it is asked by a line
python -m bench._peers passthrough N   a bare aiosmtpd that passes each message to port N with aiosmtplib
"""

import asyncio
import sys

import aiosmtplib
from aiosmtpd.smtp import SMTP, Envelope, Session

DOT = b"\r\n.\r\n"


class Sink(asyncio.Protocol):
    """Answers every command with success, and counts the messages."""

    taken = 0

    def __init__(self) -> None:
        """Start outside of any message."""
        self._buffer = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Take commands a line at a time, and data up to the dot."""
        self._buffer += data
        while True:
            end = self._buffer.find(DOT if self._in_data else b"\r\n")
            if end < 0:
                if self._in_data:
                    self._buffer = self._buffer[-len(DOT) :]  # all that the end may still begin in
                return
            if self._in_data:
                self._buffer = self._buffer[end + len(DOT) :]
                self._in_data = False
                Sink.taken += 1
                self._transport.write(b"250 2.0.0 Taken\r\n")
                continue
            line, self._buffer = self._buffer[:end].upper(), self._buffer[end + 2 :]
            if line.startswith(b"EHLO"):
                self._transport.write(b"250-sink\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SIZE 99999999\r\n")
            elif line == b"DATA":
                self._in_data = True
                self._transport.write(b"354 Go ahead\r\n")
            elif line == b"QUIT":
                self._transport.write(b"221 Bye\r\n")
                self._transport.close()
                return
            else:
                self._transport.write(b"250 2.0.0 Ok\r\n")


class PassThrough:
    """The handler that everybody writes first: take, send on, answer."""

    def __init__(self, port: int) -> None:
        """Remember where to send to."""
        self._port = port

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Send the message on, by a connection of its own."""
        assert isinstance(envelope.content, bytes)
        await aiosmtplib.send(
            envelope.content,
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            hostname="127.0.0.1",
            port=self._port,
            start_tls=False,
        )
        return "250 2.0.0 Ok"


async def send(host: str, port: int, message: bytes, count: int, sessions: int) -> None:
    """Send a message `count` times over some sessions that are kept open."""
    left = iter(range(count))

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, port, limit=2**20)
        await reader.readline()
        await _command(reader, writer, b"EHLO client.example")
        for _ in left:
            await _command(reader, writer, b"MAIL FROM:<news@shop.example>")
            await _command(reader, writer, b"RCPT TO:<ana@client.example>")
            await _command(reader, writer, b"DATA")
            reply = await _command(reader, writer, message + b"\r\n.")
            if not reply.startswith(b"250"):
                raise RuntimeError(f"the server answered {reply!r}")
        await _command(reader, writer, b"QUIT")
        writer.close()

    await asyncio.gather(*(one() for _ in range(sessions)))


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
    writer.write(line + b"\r\n")
    while True:
        reply = await reader.readline()
        if reply[3:4] != b"-":
            return reply


async def _serve(kind: str, upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    if kind == "sink":
        server = await loop.create_server(Sink, "127.0.0.1", 0)
    else:
        handler = PassThrough(upstream_port)
        server = await loop.create_server(
            lambda: SMTP(handler, hostname="relay.example.com", data_size_limit=2**25), "127.0.0.1", 0
        )
    print(server.sockets[0].getsockname()[1], flush=True)
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while await asked.readline():
        print(Sink.taken, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
