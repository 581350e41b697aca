"""`mailwake serve` with a destination in JetStream, and a real server."""

import asyncio
import json
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.integration.nats_server import NatsServer, killed_at_the_end
from tests.integration.serving import CONFIG, LIMIT_S, configure, send, serving

MESSAGE = (
    b"From: Shop <news@shop.example>\r\nTo: ana@client.example\r\nSubject: lamps\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body>Lamps</body></html>\r\n"
)


def test_a_message_and_its_open_are_in_the_stream(tmp_path: Path) -> None:
    """With nothing but the destination in the file: the stream is made, and the records are those of the log."""
    with killed_at_the_end(NatsServer(tmp_path / "nats")) as nats:
        asyncio.run(nats.start())
        jsonl = 'type = "jsonl"\npath = "var/events"\n'
        config = configure(tmp_path, CONFIG.replace(jsonl, f'type = "nats"\nservers = ["{nats.url}"]\n'))
        ends_at = time.monotonic() + LIMIT_S
        with serving(config) as server:
            message = send(server.address("relay"), MESSAGE)
            while not (mails := [*(tmp_path / "var/mail/new").glob("*")]):
                assert time.monotonic() < ends_at
                time.sleep(0.02)
            pixel = re.search(r'src="(http://127[^"]+/i/[^"]+)"', mails[0].read_text().replace("=\n", ""))
            assert pixel is not None
            assert server.get("tracker", urlsplit(pixel[1]).path)[0] == 200
            while len(logged := server.run("events", "--json").stdout.splitlines()) < 3:
                assert time.monotonic() < ends_at
                time.sleep(0.02)
            while json.loads(server.run("destinations", "show", "archive", "--json").stdout)["behind"]:
                assert time.monotonic() < ends_at
                time.sleep(0.02)
            assert server.stop() == 0
        found = asyncio.run(nats.stored())

    assert {subject for subject, _, _ in found} == {f"mailwake.events.{kind}" for kind in ("send", "delivery", "open")}
    records = {event_id: json.loads(body) for _, event_id, body in found}
    assert {record["mail"]["messageId"] for record in records.values()} == {message}
    assert sorted(map(json.dumps, records.values())) == sorted(json.dumps(json.loads(line)) for line in logged)
