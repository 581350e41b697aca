"""NATS JetStream: one message an event, on `mailwake.events.open`, `.click`, `.delivery_delay` and so on.

A message is the record, with the event's id as its header `Nats-Msg-Id`: a server drops a second one of that id that
comes within the stream's duplicate window. An event is handed over when the stream has acknowledged it, and not before.

Theory: many events are under way at a time, in their order; what counts as handed over is what is acknowledged without
a gap, and all behind the first gap is sent again. A connection that is lost is not mended in the background, where
nobody sees it: it is dropped, the outcome says so, and the next write makes a new one.

Limits: after a failure in the middle of a page the stream may have later events before the one that failed. A
duplicate that comes after the window is stored again; `mailwake.eventId` is how a reader tells. The acknowledgements
are read here, for the library's own `publish_async` never tells of one that is a refusal.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from tracker.contract.events import EventType
from tracker.contract.settings import EventDestination
from tracker.publish import natscreds
from tracker.publish.natscreds import CredentialsError
from tracker.publish.outcome import Dead, Delivered, Outcome, TryAgain
from tracker.store.publishing import LogEntry

SUBJECT: Final = "mailwake.events"
IN_FLIGHT: Final = 128  # enough to hide the way to the server and its fsync; few enough to be sent again
CONNECT_S: Final = 10.0
ACK_S: Final = 10.0  # a server that syncs each message to a busy disk takes a while; one that is gone answers never
CLOSE_S: Final = 0.5  # what is under way is sent again in any case
# Of a stream that is made here. Records hold addresses, so they end as those of the storage do by default.
KEEP: Final = timedelta(days=60)
# Longer than the longest pause between two tries, so that what was stored and not acknowledged is recognised; the
# server holds the ids of this time in memory.
DUPLICATE_WINDOW: Final = timedelta(minutes=10)

_HEADER_ROOM: Final = 256  # of a message's largest size: the header with the id, and the stream's name
_TOO_LARGE: Final = 10054  # JetStream: "message size exceeds maximum allowed", of the stream's max_msg_size
_MAX_REASON: Final = 200
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")
_Condition = Callable[[], bool]


class NatsWriter:
    """Publishes to a stream, which is made where there is none; connects at the first event."""

    def __init__(self, destination: EventDestination, *, ack_s: float = ACK_S) -> None:
        """Take the destination's `servers`, `stream` and `credentials`; nothing is opened yet."""
        self._servers = list(destination.servers)
        self._stream = destination.stream
        self._credentials = destination.credentials
        self._ack_s = ack_s
        self._link: _Link | None = None

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        """Publish the entries in their order, and wait until the stream has them."""
        link: _Link | None = None
        try:
            link = await self._linked()
            link.begin()
            await link.publish(entries, self._ack_s)
            outcome = link.outcome(len(entries))
            if isinstance(outcome, TryAgain):
                await self.close()  # so that the stream is looked at again
            return outcome
        except Exception as error:  # noqa: BLE001 - the library raises what its parts raise, down to a broken key file
            await self.close()
            return TryAgain(reason=_describe(error), delivered=link.done if link is not None else 0)

    async def tidy(self, now: datetime) -> None:
        """Do nothing: the stream has limits of its own."""

    async def close(self) -> None:
        """Close the connection; the next write makes another."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _linked(self) -> "_Link":
        """Return a connection that lives, whose stream takes our events. Raises what the library raises."""
        if self._link is not None and self._link.client.is_connected:
            return self._link
        await self.close()
        self._link = _Link(self._stream)
        await self._link.open(self._servers, self._credentials)
        return self._link


class _StreamError(Exception):
    """Server or stream cannot be used as they are; the message says what to do."""


class _PubAck(msgspec.Struct, frozen=True):
    """What a stream answers to a message: its own name, or an error."""

    class Error(msgspec.Struct, frozen=True):
        code: int = 0
        err_code: int = 0
        description: str = ""

    stream: str = ""
    error: Error | None = None


class _Link:
    """One connection, from its first byte to its loss, and the page that is under way on it."""

    def __init__(self, stream: str) -> None:
        self.client = Client()
        self.done = 0  # entries of the page that are acknowledged without a gap
        self._stream = stream
        self._trouble: Exception | None = None
        self._inbox = ""
        self._page = 0
        self._acked: set[int] = set()
        self._refused: dict[int, _PubAck.Error] = {}
        self._too_large: int | None = None  # the entry that the server would end the connection for
        self._news = asyncio.Event()

    async def open(self, servers: Sequence[str], credentials: Path | None) -> None:
        """Connect to any of the servers, and see to the stream."""
        tls = await asyncio.to_thread(ssl.create_default_context)
        ours = await asyncio.to_thread(natscreds.read, credentials) if credentials is not None else None
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.client.connect(
                    servers=list(servers),
                    name="mailwake",
                    user_jwt_cb=(lambda: bytearray(ours.jwt.encode())) if ours is not None else None,
                    signature_cb=ours.sign if ours is not None else None,
                    tls=tls,
                    dont_randomize=True,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=self._note,
                    closed_cb=self._wake,
                )
                self._check_tls(tls)
                await self._prepare_stream()
                self._inbox = self.client.new_inbox()
                await self.client.subscribe(f"{self._inbox}.*", cb=self._take)
        except nats.errors.NoServersError as error:
            raise self._trouble or error from error
        except TimeoutError as error:
            raise self._trouble or TimeoutError(f"no answer in {CONNECT_S:.0f} s") from error

    def _check_tls(self, tls: ssl.SSLContext) -> None:
        """Refuse a `tls://` server that did not offer TLS: the library would go on in clear."""
        url = self.client.connected_url
        if url is not None and url.scheme == "tls" and not tls.session_stats()["connect_good"]:
            raise _StreamError(f"{url.hostname} speaks no TLS: write nats:// for a server that needs none")

    async def _prepare_stream(self) -> None:
        """Make the stream if it is missing; refuse one that would not get our events or not acknowledge them."""
        manager = self.client.jsm()
        try:
            config = (await manager.stream_info(self._stream)).config
        except NotFoundError:
            config = (await manager.add_stream(_config(self._stream))).config
        missing = [
            subject
            for subject in (f"{SUBJECT}.{kind.value}" for kind in EventType)
            if not any(captures(pattern, subject) for pattern in config.subjects or ())
        ]
        if missing:
            raise _StreamError(f"the stream {self._stream} does not capture {missing[0]}: add {SUBJECT}.> to it")
        if config.no_ack:
            raise _StreamError(f"the stream {self._stream} acknowledges nothing: remove its no_ack")

    def begin(self) -> None:
        """Begin a page; an acknowledgement that comes late for another one is told by its number."""
        self._page += 1
        self._acked, self._refused, self._too_large = set(), {}, None
        self.done = 0

    async def publish(self, entries: Sequence[LogEntry], ack_s: float) -> None:
        """Send until one is refused, and wait for what was sent. TimeoutError, or what the library raises."""
        headers = {"Nats-Expected-Stream": self._stream}
        sent = 0
        for entry in entries:
            await self._wait(lambda sent=sent: sent - self._answered < IN_FLIGHT, ack_s)  # type: ignore[misc]
            if self._refused:
                break
            payload = entry.body.encode()
            if len(payload) + _HEADER_ROOM > self.client.max_payload:
                self._too_large = sent
                break
            await self.client.publish(
                f"{SUBJECT}.{entry.type}",
                payload,
                reply=f"{self._inbox}.{self._page}-{sent}",
                headers={"Nats-Msg-Id": entry.event_id, **headers},
            )
            sent += 1
        await self._wait(lambda: self._answered == sent, ack_s)

    def outcome(self, count: int) -> Outcome:
        """Say what came of the page."""
        if self.done == count:
            return Delivered()
        if self.done == self._too_large:
            reason = f"the event is larger than the {self.client.max_payload} bytes that the server takes"
            return Dead(reason=reason, delivered=self.done)
        error = self._refused[self.done]
        if error.err_code == _TOO_LARGE:
            return Dead(reason="the event is larger than the stream's max_msg_size", delivered=self.done)
        return TryAgain(reason=_words(error.description), delivered=self.done)

    async def close(self) -> None:
        with suppress(Exception):  # it is given up in any case
            async with asyncio.timeout(CLOSE_S):
                await self.client.close()

    @property
    def _answered(self) -> int:
        return len(self._acked) + len(self._refused)

    async def _wait(self, is_met: _Condition, limit_s: float) -> None:
        """Wait for acknowledgements, as long as they come. TimeoutError: none came in time, or none can come."""
        while not is_met():
            if not self.client.is_connected:
                raise self._trouble or nats.errors.ConnectionClosedError()
            self._news.clear()
            try:
                async with asyncio.timeout(limit_s):
                    await self._news.wait()
            except TimeoutError:
                raise self._trouble or TimeoutError(f"no acknowledgement in {limit_s:.0f} s") from None

    async def _take(self, message: Msg) -> None:
        """Note an acknowledgement. One that cannot be read is none."""
        page, _, number = message.subject.rpartition(".")[2].partition("-")
        if page != str(self._page) or not number.isdigit():
            return
        index = int(number)
        if message.headers and message.headers.get("Status") == "503":
            ack = _PubAck(error=_PubAck.Error(code=503, description=f"there is no stream {self._stream} any more"))
        else:
            ack = msgspec.json.decode(message.data, type=_PubAck)
        if ack.error is not None:
            self._refused[index] = ack.error
        else:
            self._acked.add(index)
            while self.done in self._acked:
                self.done += 1
        self._news.set()

    async def _note(self, error: Exception) -> None:
        self._trouble = error
        self._news.set()

    async def _wake(self) -> None:
        self._news.set()


def captures(pattern: str, subject: str) -> bool:
    """Say whether a stream's subject takes all messages of ours: `mailwake.>` and `*.events.open` take `….open`."""
    wanted, parts = pattern.split("."), subject.split(".")
    for index, one in enumerate(wanted):
        if one == ">":
            return len(parts) > index
        if index >= len(parts) or one not in ("*", parts[index]):
            return False
    return len(wanted) == len(parts)


def _config(stream: str) -> StreamConfig:
    return StreamConfig(
        name=stream,
        description="Events of Mailwake",
        subjects=[f"{SUBJECT}.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_age=KEEP.total_seconds(),
        duplicate_window=DUPLICATE_WINDOW.total_seconds(),
    )


def _describe(error: Exception) -> str:
    match error:
        case _StreamError() | CredentialsError():
            return _words(str(error))
        case ServiceUnavailableError(description=None):
            return "the server has no JetStream, or this user may not use it"
        case APIError(description=str(description)) if description:
            return _words(description)
        case OSError(strerror=str(strerror)) if strerror:
            return _words(strerror)
        case _:
            return _words(str(error).removeprefix("nats: ") or type(error).__name__)


def _words(text: str) -> str:
    """Make a few words of what a server said: printable, short, without a password that stands in an address."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return _USER_INFO.sub("//", printable)[:_MAX_REASON]
