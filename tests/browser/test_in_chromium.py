"""What a person sees and does: mail is rendered, its pixel fetched, its link followed, the page of the console read."""

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.senders import RECIPIENTS, send_until_accepted
from tests.acceptance.service import Service, body_of, by_type, links_of, wait_until

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class _Shop(http.server.BaseHTTPRequestHandler):
    """The author's own site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"<p>The shop's page {self.path}</p>".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def _shop() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/lamp?id=7&ref=mail"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.mark.timeout(120)
def test_a_browser_opens_clicks_and_reads_the_page(
    installed_mailwake: Path, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Chromium renders a delivered copy (its pixel is an open), follows its link to the shop, and shows the console."""
    chromium = require_tool("chromium")

    def dom(url: str) -> str:
        profile = tmp_path / "profile"
        done = subprocess.run(
            [chromium, *_FLAGS, f"--user-data-dir={profile}", "--dump-dom", url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    with _shop() as url, Service(installed_mailwake, tmp_path) as service:
        assert send_until_accepted(service, "chromium", threading.Event(), link=url)
        copies = wait_until(service.delivered, lambda found: len(found) == len(RECIPIENTS), 30, service.log)
        html = body_of(copies[0], "text/html")
        (link,) = links_of(html)
        page = tmp_path / "mail.html"
        page.write_text(html.replace("http://127.0.0.1:8080", service.local("http://x")))

        assert "Lamp" in dom(page.as_uri())
        assert "The shop's page /lamp?id=7&amp;ref=mail" in dom(service.local(link))
        events = service.wait_for_events(lambda events: by_type(events, "Open") and by_type(events, "Click"))
        console = dom("http://{}:{}/".format(*service.addresses["console"]))

    (opened,), (clicked,) = by_type(events, "Open"), by_type(events, "Click")
    assert "Chrome" in opened["open"]["userAgent"]
    assert clicked["click"]["link"] == url
    assert opened["mailwake"]["recipient"] == clicked["mailwake"]["recipient"]
    assert "Where it listens" in console
    assert "127.0.0.1" in console
