"""What webhooks rely on in aiohttp's client, and what its defaults would do: seam S25."""

import gzip
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.integration.endpoint import receiving, status

Wanted = tuple[Any, ...]


class _Resolver(AbstractResolver):
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0),
        ]

    async def close(self) -> None:
        pass


def _sockets(made: list[str]) -> Callable[[Wanted], socket.socket]:
    def make(wanted: Wanted) -> socket.socket:
        made.append(wanted[4][0])
        return socket.socket(wanted[0], wanted[1], wanted[2])

    return make


async def test_a_resolver_is_not_asked_for_a_host_that_is_an_address() -> None:
    """S25: a resolver alone guards nothing; every connection asks for its socket, though."""
    resolver, made = _Resolver(), list[str]()
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, socket_factory=_sockets(made))
    async with receiving() as endpoint, aiohttp.ClientSession(connector=connector) as session:
        for host in ("127.0.0.1", "receiver.example"):
            async with session.post(f"http://{host}:{endpoint.port}/"):
                pass

    assert resolver.asked == ["receiver.example"]
    assert made == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    "settings, taken", [({}, b"boom" * 1000), ({"auto_decompress": False}, gzip.compress(b"boom" * 1000, mtime=0))]
)
async def test_answers_are_decompressed_unless_told_not_to(settings: dict[str, bool], taken: bytes) -> None:
    """S25: what a few bytes become is the receiver's choice by default."""
    answer = status(200, "Content-Encoding: gzip", body=gzip.compress(b"boom" * 1000, mtime=0))
    async with (
        receiving(answer) as endpoint,
        aiohttp.ClientSession(**settings) as session,  # type: ignore[arg-type]
        session.post(endpoint.url) as response,
    ):
        assert await response.read() == taken


async def test_redirects_are_followed_unless_told_not_to() -> None:
    """S25: a POST of 307 is made again, wherever it leads."""
    async with (
        receiving() as elsewhere,
        receiving(status(307, f"Location: {elsewhere.url}")) as endpoint,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(endpoint.url) as response:
            assert response.status == 204
        async with session.post(endpoint.url, allow_redirects=False) as response:
            assert response.status == 307

    assert len(elsewhere.requests) == 1
