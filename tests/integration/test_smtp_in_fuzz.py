"""Invariant: whatever is sent, every reply is well-formed, none says that we failed, and a DATA gives one message."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.integration.smtp_in import REPLY_LINE, Inbox, serving

_FRAGMENTS = st.sampled_from(
    [
        b"EHLO client.example\r\n",
        b"HELO client.example\r\n",
        b"MAIL FROM:<ana@shop.example>\r\n",
        b"mail from:<> size=9 body=8bitmime\r\n",
        b"MAIL FROM:<j\xc3\xb6@shop.example> SMTPUTF8\r\n",
        b"RCPT TO:<bo@home.example>\r\n",
        b"RCPT TO:<\xff@home.example>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\nHi",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b".",
        b"..",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"VRFY bo\r\n",
        b"HELP\r\n",
        b"QUIT\r\n",
        b"BDAT 5 LAST\r\n",
        b"x" * 3000,
    ]
)
_START = b"EHLO client.example\r\n"
_ENVELOPE = b"MAIL FROM:<ana@shop.example>\r\nRCPT TO:<bo@home.example>\r\nDATA\r\n"
_STREAMS = st.lists(st.one_of(_FRAGMENTS, _FRAGMENTS, st.binary(max_size=20)), max_size=40)


@given(
    prefix=st.sampled_from([[], [_START], [_START, _ENVELOPE]]),
    stream=_STREAMS,
    cut=st.integers(min_value=1, max_value=60),
    turns=st.sampled_from([0, 1, 20]),
)
@pytest.mark.timeout(600)
def test_any_stream_gets_well_formed_replies(prefix: list[bytes], stream: list[bytes], cut: int, turns: int) -> None:
    """RFC 5321 §4.2; sent fragment by fragment or in pieces of `cut` octets, fast or waiting for our answers."""
    inbox = Inbox()
    pieces = stream
    if turns == 1:
        joined = b"".join(stream)
        pieces = [joined[start : start + cut] for start in range(0, len(joined), cut)]

    async def scenario() -> bytes:
        async with serving(inbox) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            for piece in [*prefix, *pieces]:
                writer.write(piece)
                for _ in range(20 if piece in prefix else turns):
                    await asyncio.sleep(0)
            writer.write_eof()
            said = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return said

    with capture_logs() as faults:
        said = asyncio.run(scenario())

    lines = said.split(b"\r\n")
    assert lines.pop() == b""
    assert all(REPLY_LINE.fullmatch(line) for line in lines)
    assert faults == []
    assert not any(line[4:9] in {b"4.3.0", b"5.3.0"} for line in lines)
    assert len(inbox.mail) <= sum(line.startswith(b"354 ") for line in lines)
    assert len(inbox.mail) == sum(line.startswith(b"250 2.0.0 Ok: queued") for line in lines)
