"""The upstream: what each reply in each phase comes to, and which connections are used again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.core.attempt import (
    Accepted,
    Attempt,
    Deferred,
    Phase,
    Rejected,
    Remake,
    Transaction,
    Unknown,
    UpstreamReply,
)
from relay.smtp.pool import Pool
from relay.smtp.upstreams import Security, SmtpTarget, UpstreamOptions
from tests.integration.smtp_script import DROP, Script
from tests.unit.spooling import MESSAGE, make_entry

PHASES = {
    "greeting": Phase.GREETING,
    "ehlo": Phase.EHLO,
    "auth": Phase.AUTH,
    "mail": Phase.MAIL,
    "rcpt": Phase.RCPT,
    "data": Phase.DATA,
    "dot": Phase.FINAL_DOT,
}


def transaction(
    *recipients: str,
    data: bytes = MESSAGE,
    reverse_path: str = "shop@shop.example",
    body_8bit: bool = False,
    smtputf8: bool = False,
    remake: Remake | None = None,
) -> Transaction:
    """One transaction, by default to `ana@a.example`."""
    entry = make_entry(1, *recipients)
    return Transaction(
        reverse_path=reverse_path,
        recipients=entry.recipients,
        copies=tuple(facts.copy for facts in entry.accepted.copies),
        data=(data[:20], memoryview(data)[20:]),
        body_8bit=body_8bit,
        smtputf8=smtputf8,
        remake=remake,
    )


def options(server: Script, **changes: object) -> UpstreamOptions:
    """The settings for a scripted server."""
    values: dict[str, object] = {
        "name": "default",
        "target": SmtpTarget(server.host, server.port, Security.WHEN_OFFERED),
        "hostname": "relay.example.com",
    }
    return UpstreamOptions(**values | changes)  # type: ignore[arg-type]


@asynccontextmanager
async def pooled(server: Script, **changes: object) -> AsyncIterator[Pool]:
    """A pool to a scripted server."""
    settings = options(server, **changes)
    assert isinstance(settings.target, SmtpTarget)
    pool = Pool(settings, settings.target)
    try:
        yield pool
    finally:
        await pool.close()


async def send(server: Script, sent: Transaction, **changes: object) -> list[Attempt]:
    """Send one transaction."""
    async with pooled(server, **changes) as pool, asyncio.timeout(10):
        return await pool.send(sent)


async def test_a_message_arrives_as_it_is_and_the_reply_is_kept() -> None:
    """Dot-stuffed on the wire, the whole reply with its enhanced code, the size told (RFC 1870)."""
    async with Script() as server:
        attempts = await send(server, transaction())

    (envelope, body) = server.messages[0]
    assert attempts == [Accepted(reply=UpstreamReply(250, "2.0.0 queued as 1"))]
    assert envelope == [f"MAIL FROM:<shop@shop.example> SIZE={len(MESSAGE)}", "RCPT TO:<ana@a.example>"]
    assert body == MESSAGE.replace(b"\r\n.A", b"\r\n..A") + b".\r\n"
    assert server.commands[0][0] == "EHLO relay.example.com"


async def test_a_large_message_arrives_whole() -> None:
    """Blocks, flow control, and every byte but CR and LF."""
    line = bytes(byte for byte in range(256) if byte not in b"\r\n") + b"\r\n."
    data = line * 10_000 + b"\r\n"
    async with Script() as server:
        attempts = await send(server, transaction(data=data, body_8bit=True))

    assert isinstance(attempts[0], Accepted)
    assert server.messages[0][1] == data.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    assert "BODY=8BITMIME" in server.messages[0][0][0]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_connection_lost_in_each_phase(phase: str) -> None:
    """Before MAIL is answered it is the upstream; then the copy is tried again; after the dot nobody knows."""
    async with Script(replies={phase: DROP}) as server:
        attempts = await send(server, transaction(), username="u", password="p")

    if phase == "dot":
        assert attempts == [Unknown(detail="the connection was lost")]
        return
    attempt = attempts[0]
    assert isinstance(attempt, Deferred)
    assert attempt.phase is PHASES[phase]
    assert attempt.of_upstream is (phase not in ("rcpt", "data"))


@pytest.mark.parametrize("phase", ["ehlo", "mail", "rcpt", "data"])
@pytest.mark.parametrize("garbage", ["hello", "999 what", "2", "25x ok", "250" + "-x" * 20_000, "\udcff\udcfe"])
async def test_garbage_counts_as_4xx_and_ends_the_connection(phase: str, garbage: str) -> None:
    """A reply that is none never passes for success."""
    async with Script(replies={phase: garbage}) as server:
        attempts = await send(server, transaction(), connect_timeout_s=1.0, command_timeout_s=1.0)

    attempt = attempts[0]
    assert isinstance(attempt, Deferred)
    assert attempt.reply is None
    assert not server.messages


@pytest.mark.parametrize("garbage", ["ok, got it", "999 what", "125 go on"])
async def test_garbage_after_the_dot_is_unknown(garbage: str) -> None:
    """The upstream may have it: a retry is a risk that is counted."""
    async with Script(replies={"dot": garbage}) as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Unknown)


async def test_silence_after_the_dot_is_unknown() -> None:
    """RFC 5321 §4.5.3.2.6; ten minutes by default."""
    async with Script(replies={"dot": "wait"}) as server:
        attempts = await send(server, transaction(), dot_timeout_s=0.05)

    assert attempts == [Unknown(detail="no answer in time")]


async def test_a_reply_before_the_dot_ends_the_data() -> None:
    """A server that refuses a message half-way must not get its rest as commands, and is not waited for."""
    async with Script(replies={"early": "552 5.3.4 too big"}, extensions=()) as server:
        attempts = await send(server, transaction(data=MESSAGE * 200_000))

    assert attempts == [Rejected(reply=UpstreamReply(552, "5.3.4 too big"), phase=Phase.DATA)]


async def test_recipients_of_one_transaction_have_outcomes_of_their_own() -> None:
    """One refused, one put off, two delivered."""
    replies = {"rcpt:b@x.example": "550 5.1.1 no", "rcpt:c@x.example": "452 4.5.3 too many"}
    async with Script(replies=replies) as server:
        attempts = await send(server, transaction("a@x.example", "b@x.example", "c@x.example", "d@x.example"))

    assert [type(attempt) for attempt in attempts] == [Accepted, Rejected, Deferred, Accepted]
    assert len(server.messages) == 1


async def test_421_to_one_recipient_ends_the_transaction_of_all() -> None:
    """RFC 5321 §3.8: the server is closing; what it had said of the others before counts for nothing."""
    async with Script(replies={"rcpt:b@x.example": "421 4.3.2 closing"}) as server, pooled(server) as pool:
        attempts = await pool.send(transaction("a@x.example", "b@x.example", "c@x.example"))
        server.replies.clear()
        after = await pool.send(transaction())

    assert all(isinstance(attempt, Deferred) and attempt.of_upstream for attempt in attempts)
    assert [envelope[1] for envelope, _ in server.messages] == ["RCPT TO:<ana@a.example>"]
    assert isinstance(after[0], Accepted)
    assert len(server.commands) == 2


async def test_a_refused_sender_is_refused_for_all() -> None:
    """MAIL 5xx: message-wide."""
    async with Script(replies={"mail": "550 5.7.1 not you"}) as server:
        attempts = await send(server, transaction("a@x.example", "b@x.example"))

    assert attempts == [Rejected(reply=UpstreamReply(550, "5.7.1 not you"), phase=Phase.MAIL)] * 2


async def test_the_null_sender_and_utf_8_addresses() -> None:
    """`<>` as it is; SMTPUTF8 is asked for where an address needs it."""
    async with Script() as server:
        await send(server, transaction(reverse_path=""))
        await send(server, transaction("jörg@x.example"))

    assert server.messages[0][0][0].startswith("MAIL FROM:<> ")
    assert server.messages[1][0][0].endswith(" SMTPUTF8")
    assert server.messages[1][0][1] == "RCPT TO:<jörg@x.example>"


@pytest.mark.parametrize(
    "sent, code", [(transaction(smtputf8=True), "5.6.7"), (transaction(body_8bit=True), "5.6.3")], ids=["utf8", "8bit"]
)
async def test_what_the_upstream_cannot_take_is_refused_without_asking(sent: Transaction, code: str) -> None:
    """RFC 6531 §3.1, RFC 6152 §3: it must not be sent; the connection is still good."""
    async with Script(extensions=("SIZE",)) as server, pooled(server) as pool:
        attempts = await pool.send(sent)
        after = await pool.send(transaction())

    assert isinstance(attempts[0], Rejected)
    assert attempts[0].reply.text.startswith(code)
    assert attempts[0].ours
    assert isinstance(after[0], Accepted)
    assert len(server.commands) == 1


async def test_an_old_server_without_ehlo_is_greeted_with_helo() -> None:
    """RFC 5321 §3.2."""
    async with Script(replies={"ehlo": "502 5.5.1 what"}) as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Accepted)


@pytest.mark.parametrize("ending", ["250 2.0.0 ok", "550 5.6.0 no", "451 4.3.0 later"])
async def test_a_connection_that_ended_cleanly_is_used_again(ending: str) -> None:
    """Refusals are answers, too."""
    async with Script(replies={"dot": ending}) as server, pooled(server) as pool:
        for _ in range(3):
            await pool.send(transaction())

        assert len(server.commands) == 1


async def test_after_refused_recipients_the_transaction_is_reset() -> None:
    """Else the next MAIL would be a 503."""
    async with Script(replies={"rcpt": "550 5.1.1 no"}) as server, pooled(server) as pool:
        await pool.send(transaction())
        await pool.send(transaction())

        assert [command.partition(" ")[0] for command in server.commands[0]] == ["EHLO", *["MAIL", "RCPT", "RSET"] * 2]


async def test_a_connection_that_was_cut_is_never_used_again() -> None:
    """It would answer one reply late for ever."""
    async with Script(replies={"rcpt": "wait"}, once=True) as server, pooled(server) as pool:
        cut = asyncio.create_task(pool.send(transaction("a@x.example")))
        await server.waiting.wait()
        cut.cancel()
        await asyncio.wait([cut])
        server.hold.set()
        attempts = await pool.send(transaction("b@x.example"))

    assert isinstance(attempts[0], Accepted)
    assert len(server.commands) == 2
    assert [envelope[1] for envelope, _ in server.messages] == ["RCPT TO:<b@x.example>"]


@pytest.mark.parametrize("how", ["reset", "421"])
async def test_a_stale_connection_costs_the_next_message_nothing(how: str) -> None:
    """The upstream restarts or closes what is idle; the message goes out on a new connection at once."""
    async with Script() as server, pooled(server) as pool:
        await pool.send(transaction())
        if how == "reset":
            server.hang_up()
        else:
            server.replies["mail"] = "421 4.4.2 idle too long"
            server.once = True
        attempts = await pool.send(transaction())

    assert isinstance(attempts[0], Accepted)
    assert len(server.commands) == 2


async def test_a_new_connection_that_fails_is_not_tried_again() -> None:
    """Only what waited here may be stale."""
    async with Script(replies={"mail": "421 4.3.2 no"}) as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Deferred)
    assert attempts[0].of_upstream
    assert len(server.commands) == 1


async def test_limits_of_connections_and_of_messages_on_one() -> None:
    """At most two at once, and three messages each."""
    async with Script() as server:
        async with pooled(server, max_connections=2, max_messages_per_connection=3) as pool:
            await asyncio.gather(*(pool.send(transaction()) for _ in range(12)))

        assert len(server.messages) == 12
        assert len(server.commands) == 4
        assert server.most_open == 2


async def test_a_connection_that_says_goodbye_still_counts() -> None:
    """An upstream that takes one connection would refuse the next with 421, and mail would wait for a probe."""
    limits = {"max_connections": 1, "max_messages_per_connection": 1}
    async with Script(replies={"quit": "wait"}, once=True) as server, pooled(server, **limits) as pool:
        await pool.send(transaction())
        second = asyncio.create_task(pool.send(transaction()))
        await server.waiting.wait()
        assert not (await asyncio.wait([second], timeout=0.2))[0]
        server.hold.set()
        (attempt,) = await second

        assert isinstance(attempt, Accepted)
        assert len(server.commands) == 2
        assert server.most_open == 1


def test_the_time_limits_are_those_of_the_standard() -> None:
    """RFC 5321 §4.5.3.2: an upstream that is slow behind the dot has taken the mail, mostly."""
    limits = UpstreamOptions(name="x", target=SmtpTarget("x.example", 25, Security.STARTTLS), hostname="y.example")

    assert (limits.command_timeout_s, limits.block_timeout_s, limits.dot_timeout_s) == (300, 180, 600)
    assert limits.idle_s == 30


async def test_an_idle_connection_says_goodbye() -> None:
    """30 seconds by default."""
    async with Script() as server, pooled(server, idle_s=0.01) as pool, asyncio.timeout(10):
        await pool.send(transaction())
        while server.commands[0][-1] != "QUIT":  # noqa: ASYNC110 - said by the peer
            await asyncio.sleep(0.005)


async def test_a_refused_connection_is_a_condition_of_the_upstream() -> None:
    """Nobody listens."""
    async with Script() as server:
        pass
    attempts = await send(server, transaction("a@x.example", "b@x.example"))

    assert all(isinstance(attempt, Deferred) and attempt.of_upstream for attempt in attempts)
    assert len(attempts) == 2
