"""Passwords of logins: one cost for all, remembered when right; and who guesses, waits."""

import asyncio
import threading

import pytest

from relay.config.credential import CredentialSection
from relay.core import reply as replies
from relay.smtp import guessing
from relay.smtp.auth import Claim, Gate
from relay.smtp.guessing import Guesses
from relay.smtp.passwords import AT_A_TIME, HASHED, MAX_REMEMBERED, REMEMBERED_S, Passwords, hash_password
from tracker.contract.credentials import Credential, CredentialBook, Permission

HASH = hash_password(b"secret")
NEWS = Credential(name="news", password_hash=HASH, permission=Permission(sender_domains=("shop.example",)))
BOOK = CredentialBook(declared={"news": NEWS}, stored={})


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _hashed() -> float:
    return float(HASHED._value.get())


async def test_an_unknown_name_costs_what_a_wrong_password_costs() -> None:
    """Same reply, same work: nobody learns who has a login (RFC 4954 §6 has one reply for both)."""
    gate = Gate(lambda: BOOK, Passwords(_Clock()))
    before = _hashed()

    for claim in (
        Claim(name=b"news", password=b"wrong"),
        Claim(name=b"nobody", password=b"secret"),
        Claim(name=b"\xff", password=b"secret"),
        Claim(name=b"news ", password=b"secret"),
        Claim(name=b"NEWS", password=b"secret"),
    ):
        assert await gate.admit(claim) is replies.WRONG_LOGIN

    assert _hashed() - before == 5


async def test_a_right_password_is_hashed_once_in_ten_minutes() -> None:
    """A program that logs in for each message costs one hash; a wrong one costs a hash every time."""
    clock = _Clock()
    passwords = Passwords(clock)
    before = _hashed()

    assert all([await passwords.fits(HASH, b"secret") for _ in range(5)])
    assert _hashed() - before == 1
    assert not await passwords.fits(HASH, b"wrong")
    assert not await passwords.fits(HASH, b"wrong")
    assert _hashed() - before == 3
    clock.now_s = REMEMBERED_S
    assert await passwords.fits(HASH, b"secret")
    assert _hashed() - before == 4


def test_a_hash_costs_19_mib_and_two_passes() -> None:
    """OWASP's parameters, in the text that is stored; the library's defaults cost ten times as much a login."""
    assert HASH.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_passwords_are_hashed_two_at_a_time_and_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """19 MiB each: a hundred clients that log in at once must not take two gigabytes, nor hold up everybody's mail."""
    loop, both_began = asyncio.get_running_loop(), asyncio.Event()
    release, running, free = threading.Event(), threading.Semaphore(AT_A_TIME), []

    def hashed(*_: object) -> bool:
        free.append(running.acquire(blocking=False))
        if len(free) == AT_A_TIME:
            loop.call_soon_threadsafe(both_began.set)
        assert release.wait(10)
        running.release()
        return False

    monkeypatch.setattr("relay.smtp.passwords._verify", hashed)
    passwords = Passwords(_Clock())
    logins = [asyncio.ensure_future(passwords.fits(HASH, b"%d" % number)) for number in range(6)]
    await asyncio.wait_for(both_began.wait(), 10)
    release.set()  # the loop came here while two of them were being looked at

    assert await asyncio.gather(*logins) == [False] * 6
    assert free == [True] * 6
    assert AT_A_TIME == 2


async def test_a_changed_hash_is_not_remembered() -> None:
    """Whoever gets a new password cannot come in with the old one."""
    passwords = Passwords(_Clock())
    assert await passwords.fits(HASH, b"secret")

    assert not await passwords.fits(hash_password(b"other"), b"secret")


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a process does not grow with its logins."""
    monkeypatch.setattr("relay.smtp.passwords._verify", lambda *_: True)
    passwords = Passwords(_Clock())
    for number in range(MAX_REMEMBERED + 10):
        assert await passwords.fits(HASH, b"%d" % number)

    assert len(passwords._fitting) == MAX_REMEMBERED


async def test_a_name_that_the_storage_may_have_is_not_refused_for_good() -> None:
    """While the storage could not be read, a client must not give its password up: 454, never 535."""
    gate = Gate(lambda: CredentialBook(declared={"news": NEWS}, stored=None), Passwords(_Clock()))

    assert await gate.admit(Claim(name=b"other", password=b"x")) is replies.LOGINS_UNKNOWN
    assert await gate.admit(Claim(name=b"news", password=b"x")) is replies.WRONG_LOGIN
    assert await gate.admit(Claim(name=b"news", password=b"secret")) is NEWS


async def test_a_session_ends_with_its_login() -> None:
    """A login that was removed, or has another password, does not go on over a connection that is open."""
    books = [BOOK]
    gate = Gate(lambda: books[-1], Passwords(_Clock()))
    wider = Credential(name="news", password_hash=HASH, permission=Permission(sender_domains=("a.example",)))

    assert gate.renewed(NEWS) is NEWS
    books.append(CredentialBook(declared={"news": wider}, stored={}))
    assert gate.renewed(NEWS) is wider
    books.append(CredentialBook(declared={}, stored={}))
    assert gate.renewed(NEWS) is None


def test_the_configuration_takes_the_hashes_that_are_made() -> None:
    """A hash of another cost would tell who has a login by the time of the answer."""
    CredentialSection.model_validate({"password_hash": HASH, "sender_domains": ["shop.example"]})
    for other in (HASH.replace("m=19456", "m=65536"), HASH.replace("argon2id", "argon2i"), "secret", HASH[:-1]):
        with pytest.raises(ValueError, match="no hash of this version"):
            CredentialSection.model_validate({"password_hash": other, "sender_domains": ["shop.example"]})


def test_guesses_wait_longer_and_longer_and_are_then_blocked() -> None:
    """Three typing errors are free; the tenth failure blocks for a quarter of an hour."""
    clock = _Clock()
    guesses = Guesses(limit=10, block_s=900.0, monotonic_s=clock)

    assert [guesses.add("192.0.2.1") for _ in range(9)] == [0, 0, 0, 1, 2, 4, 8, 16, 32]
    assert not guesses.is_blocked("192.0.2.1")
    guesses.add("192.0.2.1")
    assert guesses.is_blocked("192.0.2.1")
    assert not guesses.is_blocked("192.0.2.2")
    clock.now_s = 899.0
    assert guesses.is_blocked("192.0.2.1")
    clock.now_s = 900.0
    assert not guesses.is_blocked("192.0.2.1")
    assert guesses.add("192.0.2.1") == 0


def test_the_delay_of_a_guess_has_an_end() -> None:
    """Peers of allow_networks are never blocked: a program with a wrong password must not wait for days."""
    guesses = Guesses(limit=10, block_s=900.0, monotonic_s=_Clock())

    assert max(guesses.add("192.0.2.1") for _ in range(2000)) == 64.0


def test_guesses_of_a_network_of_ipv6_are_counted_together() -> None:
    """One client has a whole /64 of addresses."""
    guesses = Guesses(limit=2, block_s=900.0, monotonic_s=_Clock())
    guesses.add("2001:db8::1")
    guesses.add("2001:db8::2")

    assert guesses.is_blocked("2001:db8::3")
    assert not guesses.is_blocked("2001:db8:0:1::1")


def test_the_memory_of_guesses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing from many addresses forgets the oldest."""
    monkeypatch.setattr(guessing, "MAX_ADDRESSES", 3)
    guesses = Guesses(limit=1, block_s=900.0, monotonic_s=_Clock())
    for last in range(5):
        guesses.add(f"192.0.2.{last}")

    assert [guesses.is_blocked(f"192.0.2.{last}") for last in range(5)] == [False, False, True, True, True]
