"""Who may connect: the limits by address, which loopback is excepted from, so no real socket of a test meets them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from ipaddress import ip_network

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.core.submission import Submission
from relay.smtp.listener import Listener
from relay.smtp.memory import MessageMemory
from relay.smtp.options import ListenerOptions
from relay.smtp.session import ClientSession
from tests.integration.smtp_in import access

OPTIONS = ListenerOptions(
    hostname="relay.example",
    max_message_bytes=1000,
    max_recipients=5,
    max_connections=4,
    max_connections_per_address=2,
    allow_networks=(ip_network("192.0.2.0/24"),),
)


class _Peer(asyncio.Transport):
    """A connection of which only the other end's address is asked."""

    def __init__(self, *peername: object) -> None:
        super().__init__({"peername": peername or None})


async def _accept(_: Submission) -> Reply:
    return replies.OK


@contextmanager
def _door(options: ListenerOptions = OPTIONS, *, is_short: bool = False) -> Iterator[Listener]:
    clock = datetime(2030, 1, 1, tzinfo=UTC)
    memory = MessageMemory(hold_bytes=1, load_bytes=1, scratch=BytesIO, is_short=lambda: is_short)
    listener = Listener(options, _accept, lambda: None, access(), lambda: clock, memory=memory)
    yield listener
    for session in tuple(listener._sessions):
        listener._forget(session)


async def test_an_address_has_its_share_of_connections() -> None:
    """One stranger cannot take the places of all."""
    with _door() as listener:
        came = [listener.admit_connection(_Peer("198.51.100.1", 1)) for _ in range(3)]
        other = listener.admit_connection(_Peer("198.51.100.2", 1))

        assert [isinstance(each, ClientSession) for each in came] == [True, True, False]
        assert came[2] is replies.TOO_MANY_CONNECTIONS
        assert isinstance(other, ClientSession)


async def test_a_network_of_ipv6_has_one_share_of_connections() -> None:
    """One client has a whole /64 of addresses, and could take the places of all from them."""
    with _door() as listener:
        came = [listener.admit_connection(_Peer(f"2001:db8::{last}", 1, 0, 0)) for last in range(1, 4)]
        other = listener.admit_connection(_Peer("2001:db8:0:1::1", 1, 0, 0))

        assert [isinstance(each, ClientSession) for each in came] == [True, True, False]
        assert isinstance(other, ClientSession)
        for session in tuple(listener._sessions):
            listener._forget(session)
        assert isinstance(listener.admit_connection(_Peer("2001:db8::4", 1, 0, 0)), ClientSession)


async def test_a_process_that_is_short_of_memory_takes_no_connection() -> None:
    """421 at the door, which costs next to nothing: those who are inside get what there is."""
    with _door(is_short=True) as listener:
        assert listener.admit_connection(_Peer("198.51.100.1", 1)) is replies.NO_MEMORY_TO_CONNECT


async def test_who_leaves_makes_room() -> None:
    """The count of an address falls with each connection that ends."""
    with _door() as listener:
        first = listener.admit_connection(_Peer("198.51.100.1", 1))
        listener.admit_connection(_Peer("198.51.100.1", 2))
        assert isinstance(first, ClientSession)
        listener._forget(first)

        assert isinstance(listener.admit_connection(_Peer("198.51.100.1", 3)), ClientSession)


async def test_trusted_networks_and_loopback_are_bound_only_by_the_limit_of_all() -> None:
    """The programs of one machine come from one address; the whole is limited for them too."""
    with _door() as listener:
        trusted = [listener.admit_connection(_Peer("192.0.2.7", port)) for port in range(3)]
        loopback = [listener.admit_connection(_Peer("::1", port, 0, 0)) for port in range(2)]

        assert all(isinstance(each, ClientSession) for each in [*trusted, loopback[0]])
        assert loopback[1] is replies.TOO_MANY_CONNECTIONS


async def test_an_ipv4_client_of_an_ipv6_socket_is_known_as_such() -> None:
    """Else `::ffff:192.0.2.7` would be no member of 192.0.2.0/24; a zone is no part of an address."""
    with _door(replace(OPTIONS, allow_networks=(ip_network("fe80::/10"), ip_network("192.0.2.0/24")))) as listener:
        mapped = listener.admit_connection(_Peer("::ffff:192.0.2.7", 1, 0, 0))
        linked = listener.admit_connection(_Peer("fe80::1%eth0", 1, 0, 2))

        assert isinstance(mapped, ClientSession)
        assert isinstance(linked, ClientSession)
        assert (mapped.client_address, mapped._trusted) == ("192.0.2.7", True)
        assert (linked.client_address, linked._trusted) == ("fe80::1", True)


async def test_a_peer_that_has_gone_already_is_not_let_in() -> None:
    """The kernel then knows no address."""
    with _door() as listener:
        assert listener.admit_connection(_Peer()) is replies.SHUTTING_DOWN


async def test_new_settings_are_for_new_connections() -> None:
    """A network that is taken off the list sends nothing more after a reload; who is inside goes on."""
    with _door() as listener:
        before = listener.admit_connection(_Peer("192.0.2.7", 1))
        listener.configure(replace(OPTIONS, allow_networks=(), hostname="other.example", max_message_bytes=1))
        after = listener.admit_connection(_Peer("192.0.2.7", 2))

        assert isinstance(before, ClientSession)
        assert isinstance(after, ClientSession)
        assert (before._trusted, after._trusted) == (True, False)
        assert after._options == replace(OPTIONS, allow_networks=(), max_message_bytes=1)
