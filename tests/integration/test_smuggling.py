"""SMTP smuggling, in and out: one message stays one message, and what leaves holds no line end but CRLF.

In: whatever another server may take for the end of a message is content here, or the message is refused, however TCP
cuts it. Out: whatever was accepted, the upstream sees lines that end in CRLF, with their dots doubled, and one end.
"""

import asyncio
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.attempt import CopyForm
from relay.core.lineends import Mode
from relay.core.prepare import Site
from relay.pipeline import Pipeline, Ports
from relay.smtp.dotstuffing import wire_blocks
from relay.spool.entry import SpoolEntry
from relay.spool.files import Spool
from tests.integration.smtp_in import Inbox, Service, Wire, dialing, serving
from tests.unit.submissions import NOW
from tests.unit.submissions import settings as make_settings
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet
from tracker.contract.token import TokenKey, TokenKeys

SECOND = b"MAIL FROM:<eve@bank.example>\r\nRCPT TO:<bo@home.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nEvil\r\n.\r\n"
LOOK_ALIKES = [
    before + b"." + behind
    for before, behind in itertools.product(
        [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\r\n\0", b"\0\r\n", b"\r\n\t"],
        [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n", b" \r\n"],
    )
    if (before[-2:], behind) != (b"\r\n", b"\r\n")
]


async def _send_in_two(service: Service, wire: Wire, raw: bytes, cut: int) -> None:
    """Send in two segments: the second leaves when the first was read."""
    (session,) = service.listener._sessions
    before = session._received_bytes
    wire.send(raw[:cut])
    async with asyncio.timeout(5):
        while session._received_bytes < before + cut:  # noqa: ASYNC110 - the session has no event for it
            await asyncio.sleep(0)
    wire.send(raw[cut:])


@pytest.mark.parametrize("look_alike", LOOK_ALIKES)
async def test_a_look_alike_of_the_end_is_one_message_wherever_it_is_cut(look_alike: bytes) -> None:
    """Every known inbound sequence, and its relatives with NUL and doubled CR; no cut gives two messages."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        for cut in range(1, len(look_alike) + 2):
            await wire.open_data()
            await _send_in_two(service, wire, b"x" + look_alike + SECOND, cut)
            reply = await wire.reply()
            assert reply.startswith("250 2.0.0 Ok: queued"), (cut, reply)
            assert len(inbox.mail) == cut
            assert (await wire.ask("NOOP")).startswith("250 ")

    assert {str(mail.envelope.reverse_path) for mail in inbox.mail} == {"ana@shop.example"}
    assert all(b"smuggled" in mail.message for mail in inbox.mail)


async def test_the_true_end_is_found_wherever_it_is_cut() -> None:
    """The five octets of the end in two segments, each way."""
    inbox = Inbox()
    raw = b"x\r\n..\r\n.\r\n"

    async with serving(inbox) as service, dialing(service.port) as wire:
        for cut in range(len(raw)):
            await wire.open_data()
            await _send_in_two(service, wire, raw, cut)
            assert (await wire.reply()).startswith("250 ")

    assert [mail.message for mail in inbox.mail] == [b"x\r\n.\r\n"] * len(raw)


_HEADERS = st.sampled_from(
    [
        b"",
        b"Subject: x\r\n\r\n",
        b"Content-Type: text/html\r\n\r\n",
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        b"Content-Type: text/html; charset=utf-16le\r\nContent-Transfer-Encoding: base64\r\n\r\n//4K",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n",
    ]
)
_BODIES = st.lists(
    st.sampled_from(
        [
            b"\r\n", b"\n", b"\r", b".", b"..", b"a", b" ", b"\0", b"=", b"=0A.=0D", b"=0D=0A.=0D=0A", b"\xff",
            b"<a href='https://shop.example/'>x</a>", b"https://shop.example/a", b"\r\n--b\r\n", b"x" * 990,
            b"Cg0uDQo=", b"MAIL FROM:<eve@bank.example>",
        ]
    ),
    max_size=25,
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize("mode", ["normalize", "reject"])
@given(head=_HEADERS, body=_BODIES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_was_accepted_smuggles_a_message_out(tmp_path: Path, mode: Mode, head: bytes, body: bytes) -> None:
    """Through listener, pipeline, spool file, copy and dots: CRLF alone, dots doubled, one end."""
    replies: list[str] = []
    wires = asyncio.run(_what_leaves(tmp_path / "slot", mode, head + body, replies))

    assert replies[0][:3] in {"250", "550"}
    assert len(wires) == (replies[0][:3] == "250")
    for wire in wires:
        *lines, last = wire.split(b"\r\n")
        assert last == b""
        assert not any(set(line) & set(b"\r\n\0") for line in lines)
        assert [line for line in lines if line.startswith(b".") and not line.startswith(b"..")] == [b"."]
        assert lines[-1] == b"."


async def _what_leaves(slot: Path, mode: Mode, message: bytes, said: list[str]) -> list[bytes]:
    """Send a message as a correct client does; return what an upstream would read behind its 354."""
    spool = Spool(slot)
    spool.open()
    entries: list[SpoolEntry] = []
    counter = itertools.count(1)
    keys = TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=NOW)])

    async def take_out(_: MessageId) -> None:
        raise AssertionError("nothing is late here")

    pipeline = Pipeline(
        Site(hostname="relay.example.com", instance="relay1", bare_line_ends=mode),
        Ports(
            settings=lambda: make_settings(ConfigurationSet(name="default")),
            keys=lambda: keys,
            put=spool.put,
            take_out=take_out,
            queue=entries.append,
            clock=lambda: NOW,
            entropy=lambda size: next(counter).to_bytes(size, "big"),
        ),
    )
    inbox = Inbox(answer=pipeline.accept)
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(stuffed + b"\r\n.\r\n")
        said.append(await wire.reply())
    wires = []
    for entry in entries:
        spooled = await spool.read(entry.id)
        copy = pipeline.copy_of(spooled.entry, spooled.message, 0, CopyForm(upstream="default"))
        assert copy is not None
        wires.append(b"".join(block for block, _ in wire_blocks(copy, 64)))
        await spool.remove(entry.id)
    spool.close()
    return wires
