"""An upstream that answers as no server should: the right class, nothing forged, and the next message goes out."""

import threading

import pytest

from relay.core.attempt import Accepted, Deferred, Phase, Rejected, Unknown
from relay.core.downgrade import to_seven_bit
from relay.spool import transitions
from tests.integration.smtp_script import Script
from tests.integration.test_upstream import pooled, send, transaction
from tests.unit.spooling import MESSAGE

_MANY = "\r\n".join(f"550-5.1.1 line {number}" for number in range(39)) + "\r\n550 5.1.1 the last"
_LONG = "550 5.1.1 " + "x" * 9000
_BYTES = "550 5.1.1 \udcff\udcfe caf\u00e9 \x1b[31m \x00 no"


@pytest.mark.parametrize("reply", [_MANY, _LONG, _BYTES], ids=["40-lines", "9-KB", "not-ascii"])
@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
async def test_a_strange_refusal_is_a_refusal(phase: str, reply: str) -> None:
    """Its class is its first digit; what is kept of its text is short, one line, and ASCII."""
    async with Script(replies={phase: reply}, once=True) as server, pooled(server) as pool:
        attempts = await pool.send(transaction())
        after = await pool.send(transaction())

    (attempt,) = attempts
    assert isinstance(attempt, Rejected)
    assert attempt.reply.code == 550
    assert attempt.reply.text.startswith("5.1.1")
    assert attempt.reply.text.isascii()
    assert attempt.reply.text.isprintable()
    assert len(attempt.reply.text) <= 400
    assert isinstance(after[0], Accepted)


async def test_mail_taken_with_a_long_reply_is_taken() -> None:
    """Were it unknown, it would be sent again for days."""
    async with Script(replies={"dot": "250 2.0.0 " + "thanks " * 1500}) as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Accepted)


async def test_a_reply_beyond_all_measure_after_the_dot_is_unknown() -> None:
    """32 KiB: nothing of it is kept, not even its class."""
    async with Script(replies={"dot": "250-" + "\r\n250-".join(["x" * 4000] * 20) + "\r\n250 ok"}) as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Unknown)


@pytest.mark.parametrize("second", ["550 5.7.1 forged", "250 2.0.0 forged", "garbage", "25"])
@pytest.mark.parametrize("phase", ["greeting", "ehlo", "mail", "rcpt", "data"])
async def test_two_replies_at_once_are_never_a_reply_out_of_step(phase: str, second: str) -> None:
    """The second would be read as the answer to the next command: the connection ends, and the mail waits."""
    first = {"greeting": "220 hi", "ehlo": "250-x\r\n250 SIZE", "data": "354 go on"}.get(phase, "250 ok")
    async with Script(replies={phase: f"{first}\r\n{second}"}, once=True) as server, pooled(server) as pool:
        attempts = await pool.send(transaction("a@x.example"))
        after = await pool.send(transaction("b@x.example"))

    assert transitions.name_of(attempts[0]) == "upstream"
    assert isinstance(after[0], Accepted)
    assert after[0].reply.text.startswith("2.0.0 queued")
    assert len(server.commands) == 2


async def test_a_second_reply_to_the_dot_changes_nothing() -> None:
    """What had been answered stands; the next message goes out on another connection."""
    reply = "250 2.0.0 taken\r\n550 5.1.1 forged"
    async with Script(replies={"dot": reply}, once=True) as server, pooled(server) as pool:
        attempts = await pool.send(transaction("a@x.example"))
        after = await pool.send(transaction("b@x.example"))

    assert [transitions.name_of(attempt) for attempt in (*attempts, *after)] == ["accepted", "accepted"]
    assert "forged" not in str(after)
    assert len(server.messages) == 2


async def test_8_bit_content_is_encoded_again_where_8bitmime_is_not_offered() -> None:
    """RFC 6152 §3: asked for in 7 bits, and sent so without BODY."""
    data = MESSAGE.replace(b"A line", "Ein Täxt".encode())
    sent = transaction(data=data, body_8bit=True, remake=lambda **form: (to_seven_bit(data) or b"",))
    async with Script(extensions=("SIZE",)) as server:
        attempts = await send(server, sent)

    assert isinstance(attempts[0], Accepted)
    envelope, body = server.messages[0]
    assert "BODY" not in envelope[0]
    assert body.isascii()
    assert b"Ein T=C3=A4xt" in body


@pytest.mark.parametrize("octets, is_apart", [(300_000, True), (1_000, False)])
async def test_a_large_message_is_encoded_again_in_a_thread(octets: int, is_apart: bool) -> None:
    """Else nobody would be answered meanwhile."""
    threads = []

    def remake(*, seven_bit: bool, original: bool) -> tuple[bytes, ...]:
        threads.append(threading.current_thread())
        return (MESSAGE,)

    async with Script(extensions=("SIZE",)) as server:
        await send(server, transaction(data=MESSAGE + b"x" * octets, body_8bit=True, remake=remake))

    assert [thread is not threading.main_thread() for thread in threads] == [is_apart]


@pytest.mark.parametrize("size, code", [(len(MESSAGE) + 50, 250), (len(MESSAGE) - 1, 552)])
async def test_a_copy_larger_than_size_is_sent_as_its_author_wrote_it(size: int, code: int) -> None:
    """Its tracking is what made it too large; where even that does not fit, it is refused unasked (RFC 1870 §6.1)."""
    large = MESSAGE + b"x" * 100 + b"\r\n"
    sent = transaction(data=large, remake=lambda *, seven_bit, original: (MESSAGE,) if original else None)
    async with Script(extensions=(f"SIZE {size}",)) as server:
        attempts = await send(server, sent)

    (attempt,) = attempts
    assert isinstance(attempt, Accepted | Rejected)
    assert attempt.reply.code == code
    assert len(server.messages) == (code == 250)
    if isinstance(attempt, Rejected):
        assert attempt.reply.text.startswith("5.3.4")
        assert attempt.phase is Phase.MAIL


@pytest.mark.parametrize("said", ["SIZE", "SIZE 0", "SIZE none", "SIZE -5", "SIZE " + "9" * 400])
async def test_a_size_that_is_no_limit_limits_nothing(said: str) -> None:
    """RFC 1870 §4: zero, or no number."""
    async with Script(extensions=(said,)) as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Accepted)


async def test_what_is_offered_is_read_anew_from_each_connection() -> None:
    """A server that was replaced by one that takes less."""
    async with Script() as server, pooled(server) as pool:
        before = await pool.send(transaction(body_8bit=True))
        server.extensions = ("SIZE",)
        server.hang_up()
        after = await pool.send(transaction(body_8bit=True))

    assert isinstance(before[0], Accepted)
    assert isinstance(after[0], Rejected)


async def test_a_throttling_reply_leaves_the_connection_and_the_copy_well() -> None:
    """It is a condition of the upstream, and the next message goes out on the same connection."""
    reply = "454 4.7.0 Throttling failure: Maximum sending rate exceeded."
    async with Script(replies={"dot": reply}, once=True) as server, pooled(server, provider="ses") as pool:
        attempts = await pool.send(transaction())
        after = await pool.send(transaction())

    assert isinstance(attempts[0], Deferred)
    assert attempts[0].throttled
    assert isinstance(after[0], Accepted)
    assert len(server.commands) == 1
