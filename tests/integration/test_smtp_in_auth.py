"""AUTH on the wire: both mechanisms, what is refused and how, and what a login may send."""

import asyncio
import time
from base64 import b64encode
from collections import Counter as Tally
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_network

import pytest

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.smtp.auth import Claim
from relay.smtp.guessing import Guesses
from relay.smtp.passwords import HASHED, hash_password
from relay.smtp.session import ClientSession
from tests.integration.smtp_in import NO_LOGINS, OPTIONS, Inbox, Wire, access, dialing, serving
from tracker.contract.credentials import Credential, CredentialBook, Permission

PASSWORD = "sëcret word"
NEWS = Credential(
    name="news",
    password_hash=hash_password(PASSWORD.encode()),
    permission=Permission(sender_domains=("shop.example",)),
)
BOOK = CredentialBook(declared={"news": NEWS}, stored={})
STRANGERS = replace(OPTIONS, allow_networks=(ip_network("10.0.0.0/8"),))


def _encoded(*parts: str) -> str:
    return b64encode("\0".join(parts).encode()).decode()


PLAIN = _encoded("", "news", PASSWORD)


async def _is_in(wire: Wire) -> bool:
    return (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("250 ")


@pytest.mark.parametrize(
    "dialogue",
    [
        [f"AUTH PLAIN {PLAIN}"],
        [f"auth plain {PLAIN}"],
        ["AUTH PLAIN", PLAIN],
        [f"AUTH PLAIN {_encoded('news', 'news', PASSWORD)}"],
        ["AUTH LOGIN", _encoded("news"), _encoded(PASSWORD)],
        ["Auth Login", _encoded("news"), _encoded(PASSWORD)],
        [f"AUTH LOGIN {_encoded('news')}", _encoded(PASSWORD)],
    ],
    ids=["plain", "lower case", "plain, asked", "acting as oneself", "login", "mixed case", "login, name at once"],
)
async def test_every_form_of_a_right_password_is_let_in(dialogue: list[str]) -> None:
    """RFC 4954 §4: with and without an initial response, the mechanism in any case."""
    async with serving(Inbox(), STRANGERS, logins=access(BOOK)) as service, dialing(service.port) as wire:
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("530 5.7.0 ")
        *challenges, last = [await wire.ask(line) for line in dialogue]

        assert all(challenge.startswith("334 ") for challenge in challenges)
        assert last == "235 2.7.0 Authentication successful"
        assert await _is_in(wire)


@pytest.mark.parametrize(
    ("dialogue", "reply"),
    [
        ([f"AUTH PLAIN {_encoded('', 'news', 'wrong')}"], "535 5.7.8"),
        ([f"AUTH PLAIN {_encoded('', 'nobody', PASSWORD)}"], "535 5.7.8"),
        ([f"AUTH PLAIN {_encoded('other', 'news', PASSWORD)}"], "535 5.7.8"),
        ([f"AUTH PLAIN {_encoded('', 'news', '')}"], "535 5.7.8"),
        (["AUTH LOGIN", _encoded("nobody"), _encoded(PASSWORD)], "535 5.7.8"),
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", _encoded("news"), "*"], "501 5.7.0"),
        (["AUTH PLAIN", "no base64!"], "501 5.5.2"),
        (["AUTH PLAIN ===="], "501 5.5.2"),
        ([f"AUTH PLAIN {PLAIN}x"], "501 5.5.2"),
        ([f"AUTH PLAIN {PLAIN[:4]}!{PLAIN[4:]}"], "501 5.5.2"),
        (["AUTH PLAIN ="], "501 5.5.2"),
        (["AUTH PLAIN", ""], "501 5.5.2"),
        ([f"AUTH PLAIN {_encoded('news', PASSWORD)}"], "501 5.5.2"),
        ([f"AUTH PLAIN {_encoded('', 'news', PASSWORD, 'x')}"], "501 5.5.2"),
        ([f"AUTH PLAIN {_encoded('', '', PASSWORD)}"], "501 5.5.2"),
        (["AUTH LOGIN", "", _encoded(PASSWORD)], "501 5.5.2"),
        (["AUTH LOGIN", _encoded("news", "x"), _encoded(PASSWORD)], "501 5.5.2"),
        (["AUTH CRAM-MD5"], "504 5.5.4"),
        (["AUTH"], "501 5.5.4"),
    ],
)
async def test_what_is_no_right_password_is_refused(dialogue: list[str], reply: str) -> None:
    """The reply says what is wrong with the form, never with the name."""
    async with serving(Inbox(), STRANGERS, logins=access(BOOK)) as service, dialing(service.port) as wire:
        *_, last = [await wire.ask(line) for line in dialogue]

        assert last.startswith(f"{reply} ")
        assert not await _is_in(wire)
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("235 ")


async def test_unknown_names_and_wrong_passwords_get_one_reply_after_one_hash() -> None:
    """Nobody learns by asking who has a login."""
    async with serving(Inbox(), STRANGERS, logins=access(BOOK)) as service, dialing(service.port) as wire:
        before = HASHED._value.get()
        wrong = await wire.ask(f"AUTH PLAIN {_encoded('', 'news', 'x')}")
        between = HASHED._value.get()
        unknown = await wire.ask(f"AUTH PLAIN {_encoded('', 'nobody', 'x')}")

        assert wrong == unknown == "535 5.7.8 Authentication credentials invalid"
        assert (between - before, HASHED._value.get() - between) == (1, 1)


async def test_long_responses_are_taken_and_endless_ones_are_not_kept() -> None:
    """RFC 4954 §4: lines of 12,288 octets, far beyond those of commands; a megabyte is read away and answered."""
    long = "x" * 9000
    credential = replace(NEWS, password_hash=hash_password(long.encode()))
    book = CredentialBook(declared={"news": credential}, stored={})
    async with serving(Inbox(), STRANGERS, logins=access(book)) as service, dialing(service.port) as wire:
        assert (await wire.ask("AUTH PLAIN " + "A" * 1_000_000)).startswith("500 5.5.2 Command line")
        assert (await wire.ask("AUTH PLAIN " + "A" * 20_000)).startswith("500 5.5.6 ")
        assert (await wire.ask("AUTH PLAIN")).startswith("334 ")
        assert (await wire.ask("A" * 1_000_000)).startswith("500 5.5.6 ")
        assert (await wire.ask("NOOP " + "A" * 3000)).startswith("500 5.5.2 ")
        assert (await wire.ask("AUTH PLAIN")).startswith("334 ")
        assert (await wire.ask(_encoded("", "news", long))).startswith("235 ")


async def test_auth_has_its_place() -> None:
    """After EHLO, before MAIL, and once."""
    async with serving(Inbox(), logins=access(BOOK)) as service, dialing(service.port, hello=False) as wire:
        await wire.reply()
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("503 5.5.1 Send EHLO")
        assert "AUTH PLAIN LOGIN" in await wire.ask("EHLO client.example")
        await wire.ask("MAIL FROM:<ana@shop.example>")
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("503 5.5.1 AUTH stands before MAIL")
        await wire.ask("RSET")
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("235 ")
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("503 5.5.1 This session is authenticated")


async def test_without_any_login_auth_is_not_offered() -> None:
    """What cannot work is not promised."""
    async with serving(Inbox(), logins=access(NO_LOGINS)) as service, dialing(service.port) as wire:
        assert "AUTH" not in await wire.ask("EHLO client.example")
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("502 5.5.1 ")


async def test_a_password_is_not_taken_in_clear_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is excepted; here it is made to look like another machine (RFC 4954 §4)."""
    made = ClientSession.__init__

    def from_elsewhere(self: ClientSession, *arguments: object, **named: object) -> None:
        made(self, *arguments, **named | {"client_address": "198.51.100.7"})  # type: ignore[arg-type]

    monkeypatch.setattr(ClientSession, "__init__", from_elsewhere)
    async with serving(Inbox(), STRANGERS, logins=access(BOOK)) as service, dialing(service.port) as wire:
        assert "AUTH" not in await wire.ask("EHLO client.example")
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("538 5.7.11 ")


async def test_an_address_that_guesses_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last failure closes the connection, and the next connection cannot even try."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay: float) -> None:
        waits.append(delay)
        await sleep(0)

    monkeypatch.setattr("relay.smtp.session.asyncio.sleep", noted)
    logins = access(BOOK, max_failures=5)
    async with serving(Inbox(), STRANGERS, logins=logins) as service:
        async with dialing(service.port) as wire:
            wrong = f"AUTH PLAIN {_encoded('', 'news', 'x')}"
            found = [(await wire.ask(wrong))[:9] for _ in range(5)]
            assert found == ["535 5.7.8"] * 4 + ["421 4.7.0"]
            assert await wire.reply() == ""
        async with dialing(service.port) as wire:
            assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("421 4.7.0 Too many failed logins")
            assert await wire.reply() == ""
    assert [delay for delay in waits if delay] == [1.0, 2.0]


async def test_a_peer_that_may_send_anyway_is_not_blocked() -> None:
    """Its neighbours come from the same address, and a login gives it nothing."""
    logins = access(BOOK, max_failures=2)
    async with serving(Inbox(), logins=logins) as service, dialing(service.port) as wire:
        for _ in range(3):
            assert (await wire.ask(f"AUTH PLAIN {_encoded('', 'news', 'x')}")).startswith("535 ")
        assert (await wire.ask(f"AUTH PLAIN {PLAIN}")).startswith("235 ")


async def test_a_login_is_held_to_its_domains_at_mail_and_told_to_acceptance() -> None:
    """Also a peer of allow_networks, once it has logged in; without, it may use any domain."""
    inbox = Inbox()
    async with serving(inbox, logins=access(BOOK)) as service, dialing(service.port) as wire:
        assert (await wire.ask("MAIL FROM:<ceo@bank.example>")).startswith("250 ")
        await wire.ask("RSET")
        await wire.ask(f"AUTH PLAIN {PLAIN}")
        assert (await wire.ask("MAIL FROM:<ceo@bank.example>")).startswith("550 5.7.1 ")
        assert (await wire.ask("MAIL FROM:<>")).startswith("250 2.1.0")
        await wire.ask("RSET")
        await wire.open_data("<ana@eu.shop.example>")
        assert (await wire.ask("From: ana@shop.example\r\n\r\nhello\r\n.")).startswith("250 ")

    session = inbox.mail[0].session
    assert (session.caller, session.permission, session.tls) == ("news", NEWS.permission, False)


async def test_a_login_that_is_removed_ends_with_the_next_mail() -> None:
    """Over a connection that stays open; the peer may log in again with another."""
    books = [BOOK]
    async with serving(Inbox(), STRANGERS, logins=access(lambda: books[-1])) as service, dialing(service.port) as wire:
        await wire.ask(f"AUTH PLAIN {PLAIN}")
        assert await _is_in(wire)
        await wire.ask("RSET")
        books.append(CredentialBook(declared={}, stored={"other": replace(NEWS, name="other")}))
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("530 5.7.0 The login of this session")
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("530 5.7.0 Authentication required")
        assert (await wire.ask(f"AUTH PLAIN {_encoded('', 'other', PASSWORD)}")).startswith("235 ")


async def test_a_login_that_is_removed_in_a_transaction_sends_nothing_more() -> None:
    """MAIL was answered before: DATA is refused, and what is left of the permission is that of this moment."""
    narrower = replace(NEWS, permission=Permission(sender_domains=("eu.shop.example",)))
    inbox, books = Inbox(), [BOOK]
    async with serving(inbox, STRANGERS, logins=access(lambda: books[-1])) as service, dialing(service.port) as wire:
        await wire.ask(f"AUTH PLAIN {PLAIN}")
        await wire.ask("MAIL FROM:<>")
        await wire.ask("RCPT TO:<bo@home.example>")
        books.append(CredentialBook(declared={"news": narrower}, stored={}))
        assert (await wire.ask("DATA")).startswith("354 ")
        assert (await wire.ask("From: ana@shop.example\r\n\r\nhello\r\n.")).startswith("250 ")
        await wire.ask("MAIL FROM:<ana@eu.shop.example>")
        await wire.ask("RCPT TO:<bo@home.example>")
        books.append(NO_LOGINS)
        assert (await wire.ask("DATA")).startswith("530 5.7.0 The login of this session")
        assert (await wire.ask("DATA")).startswith("503 5.5.1 Send MAIL first")

    assert [submission.session.permission for submission in inbox.mail] == [narrower.permission]


async def test_who_logs_in_in_time_stays_and_a_login_that_is_removed_has_the_time_again() -> None:
    """The time of a stranger is over for good with the login, and begins anew where that is taken away."""
    books = [BOOK]
    options = replace(STRANGERS, stranger_timeout_s=0.5)
    async with serving(Inbox(), options, logins=access(lambda: books[-1])) as service, dialing(service.port) as wire:
        await wire.ask(f"AUTH PLAIN {PLAIN}")
        began = time.monotonic()
        while time.monotonic() < began + 0.6:
            assert (await wire.ask("NOOP")).startswith("250 ")
            await asyncio.sleep(0.05)
        books.append(CredentialBook(declared={}, stored={"other": replace(NEWS, name="other")}))
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("530 ")
        assert (await wire.ask("NOOP")).startswith("250 ")
        assert (await wire.rest()) == [replies.TIMED_OUT.line()]


async def test_guesses_at_the_same_time_are_no_more_guesses() -> None:
    """Of twelve connections that all wait for a password to be looked at, those behind the block learn nothing."""
    logins = access(BOOK, max_failures=3)
    all_ask, is_blocked = asyncio.Barrier(12), asyncio.Event()
    admit, add = logins.gate.admit, logins.guesses.add

    async def together(claim: Claim) -> Credential | Reply:
        await all_ask.wait()
        answer = await admit(claim)
        if isinstance(answer, Credential):
            await is_blocked.wait()  # the right one is looked at last
        return answer

    def noted(address: str) -> float:
        wait_s = add(address)
        if logins.guesses.is_blocked(address):
            is_blocked.set()
        return wait_s

    logins.gate.admit, logins.guesses.add = together, noted  # type: ignore[method-assign]
    async with serving(Inbox(), STRANGERS, logins=logins) as service, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dialing(service.port)) for _ in range(12)]
        for wire in wires[1:]:
            wire.send(f"AUTH PLAIN {_encoded('', 'news', 'x')}\r\n".encode())
        right = await wires[0].ask(f"AUTH PLAIN {PLAIN}")
        found = Tally([(await wire.reply())[:9] for wire in wires[1:]])

    assert right.startswith("421 4.7.0 Too many failed logins")
    assert found["535 5.7.8"] <= 2  # fewer where the third failure was counted before the first was answered
    assert found["421 4.7.0"] == 11 - found["535 5.7.8"]


async def test_an_exchange_that_comes_octet_by_octet_ends() -> None:
    """A stranger may not hold a connection inside AUTH for longer than outside of it."""
    options = replace(STRANGERS, stranger_timeout_s=0.2)
    async with serving(Inbox(), options, logins=access(BOOK)) as service, dialing(service.port) as wire:
        assert (await wire.ask("AUTH LOGIN")).startswith("334 ")

        async def trickle() -> None:
            while True:
                wire.send(b"A")
                await asyncio.sleep(0.01)

        trickling = asyncio.ensure_future(trickle())
        found = await wire.reply()
        trickling.cancel()

    assert found.startswith("421 4.4.2 ")


async def test_an_unknown_name_takes_as_long_as_a_wrong_password() -> None:
    """Within a fifth, by the best of each in turn, in time of the processor: other programs are busy, too."""
    best = {"news": 10.0, "nobody": 20.0}
    logins = access(BOOK)
    logins.guesses = Guesses(limit=1000, block_s=0.0, monotonic_s=time.monotonic)
    options = replace(STRANGERS, max_errors=1000)
    async with serving(Inbox(), options, logins=logins) as service, dialing(service.port) as wire:
        for turn in range(100):
            for name in ("news", "nobody"):
                began = time.process_time()
                assert (await wire.ask(f"AUTH PLAIN {_encoded('', name, 'wrong')}")).startswith("535 ")
                best[name] = min(best[name], time.process_time() - began)
            if turn > 4 and best["news"] == pytest.approx(best["nobody"], rel=0.2):
                return

    raise AssertionError(best)
