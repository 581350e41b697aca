"""nginx, HAProxy and Caddy in front of the tracking host, each as the document shows it, each for real."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.proxies import HOST, PROXIES, VISITOR, Proxy, running, tracking_host
from tests.integration.serving import Server
from tests.unit.tokens import link, pixel
from tracker.contract import urls
from tracker.contract.token import TokenPayload

# What clients do to links; %zz is no escape, and stands where all three pass it.
ODD = "/l/..%2F//a/../b=3D%41.)%C3%A9;x,'y~?u=%2f//../%zz&v=a+b"


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One tracking host for all of them."""
    with tracking_host(tmp_path_factory.mktemp("tracker")) as server:
        yield server


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tracker: Server) -> Iterator[Proxy]:
    """A proxy that runs."""
    with running(request.param, tmp_path_factory.mktemp(request.param), tracker) as made:
        yield made


def _path(proxy: Proxy, payload: TokenPayload) -> str:
    keys = proxy.keys()
    return urls.make("", payload.purpose, keys.seal(payload, keys.minting(datetime.now(UTC))))


def _link(proxy: Proxy, url: str) -> str:
    return _path(proxy, link(url, day=datetime.now(UTC).date()))


def test_the_visitor_is_recorded_and_a_forged_address_is_not(proxy: Proxy) -> None:
    """The proxy is trusted; what the visitor writes itself never is."""
    for number, forged in enumerate(("", "203.0.113.9", "127.0.0.1, 127.0.0.1")):
        url = f"https://shop.example/{proxy.name}/{number}"
        fields = {"X_Forwarded_For": forged} if forged else {}
        status, headers, _ = proxy.ask(_link(proxy, url), **fields)

        assert (status, headers["location"]) == (302, url)
        assert proxy.click_on(url).hit.address == VISITOR


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/a//b/../c?x=%2F&y=%2f%C3%A9&redirect=http://127.0.0.1:8080/#f",
        "http://mailwake/x",  # the name of the upstream in the configuration: proxy_redirect would rewrite it
        "https://shop.example/" + "a" * 2900,
        "https://shop.example/" + "é" * 1440,  # percent-encoded, 8,640 characters
    ],
    ids=["odd", "upstream", "long", "longer"],
)
def test_a_location_arrives_byte_for_byte(proxy: Proxy, url: str) -> None:
    """Also with the longest token there can be, and the longest URL that comes out of one."""
    path = _link(proxy, url)
    status, headers, _ = proxy.ask(path)

    assert len(path) < 4200
    assert (status, headers["location"]) == (302, url.replace("é", "%C3%A9"))
    assert headers["referrer-policy"] == "no-referrer"


def test_a_path_is_passed_as_it_came(proxy: Proxy) -> None:
    """Nothing is decoded, joined or resolved on the way."""
    status, _, _ = proxy.ask(ODD)

    assert status == 404
    assert f"GET {ODD} HTTP/1.".encode() in proxy.tap.heard()


def test_what_clients_append_to_a_link_is_still_ignored(proxy: Proxy) -> None:
    """A stray bracket, an escaped equals sign, a query."""
    for appended in (")", ">", "=3D", "%3D", "?utm_source=x&a=//"):
        url = "https://shop.example/appended"
        status, headers, _ = proxy.ask(_link(proxy, url) + appended)
        assert (status, headers["location"]) == (302, url), appended


def test_head_has_no_body_and_records_nothing(proxy: Proxy) -> None:
    """It is passed as a HEAD, and not made a GET of."""
    path = _path(proxy, pixel(day=datetime.now(UTC).date()))
    status, headers, body = proxy.ask(path, "HEAD")
    assert (status, headers["content-length"], body) == (200, "43", b"")
    assert f"HEAD {path} HTTP/1.".encode() in proxy.tap.heard()

    status, headers, body = proxy.ask(path)
    assert (status, len(body)) == (200, 43)
    assert headers["cache-control"] == "no-store, no-cache, must-revalidate, private"


def test_a_connection_is_kept(proxy: Proxy) -> None:
    """By the visitor, over redirects, errors and pixels."""
    targets = {
        _link(proxy, "https://shop.example/kept"): 302,
        "/l/nonsense": 404,
        _path(proxy, pixel(day=datetime.now(UTC).date())): 200,
        "/healthz": 200,
    }
    with proxy.dial() as connection:
        connection.connect()
        socket_ = connection.sock
        for target, status in targets.items():
            connection.request("GET", target)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert connection.sock is socket_


def test_the_answer_to_a_challenge_passes(proxy: Proxy) -> None:
    """A tracking domain is verified through the proxy."""
    status, _, body = proxy.ask("/.well-known/mailwake?challenge=0123456789abcdef")

    assert status == 200
    assert len(body) > 20


def test_caddy_gets_certificates_for_our_hosts_alone(tracker: Server, tmp_path: Path) -> None:
    """A stranger's name that points here costs nothing."""
    with running("caddyfile", tmp_path, tracker) as proxy:
        with proxy.dial(host="stranger.example") as connection, pytest.raises(ssl.SSLError):
            connection.connect()
        assert b"?domain=stranger.example " in proxy.tap.heard()

        assert proxy.ask("/healthz")[0] == 200


def test_a_proxy_is_told_which_hosts_are_ours(tracker: Server) -> None:
    """That of `public_url`, in any case; no other, and no list of hosts."""

    def ask(query: str) -> int:
        return tracker.get("tracker", f"/.well-known/mailwake{query}")[0]

    assert ask(f"?domain={HOST}") == ask(f"?domain={HOST.upper()}") == 200
    others = ("?domain=shop.example", f"?domain={HOST}.", "?domain=", f"?domain={HOST}&domain=x", "")
    assert {ask(query) for query in others} == {404}
