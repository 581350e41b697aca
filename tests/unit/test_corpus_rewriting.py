"""Real mail through the whole of rewriting: nothing raises, nothing changes that should not, nothing is wrapped twice.

`make test` takes every message and every third body; `MAILWAKE_SOAK=1` takes all.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from relay import witness
from relay.core import lineends, plan, quoted_printable
from relay.core.lineends import LineEndFault
from tests.unit.rewriting import NOTHING, FixedMint, joined, options

_MINT = FixedMint(token_characters=180)


def _rewrite(message: bytes, name: str, counts: Counter[str]) -> None:
    """Rewrite one message, check every law, and count what happened."""
    made = plan.make(message, options())
    copy = joined(made, _MINT)
    assert witness.check(message, copy, made, _MINT) == [], name
    assert joined(made, _MINT) == copy, name
    if not made.parts:
        assert copy == message, name
    if b"ses:" not in message:
        assert joined(plan.make(message, NOTHING), _MINT) == message, name
    again = plan.make(copy, options())
    assert again.links == (), name
    counts["messages"] += 1
    counts["rewritten"] += copy != message
    counts["links wrapped"] += len(made.links)
    counts["pixels"] += made.pixel
    counts["parts witnessed"] += len(made.parts)
    if made.reason:
        counts[f"message left: {made.reason}"] += 1
    for skip in made.skips:
        counts[f"{'part' if skip.url is None else 'link'} left: {skip.reason}"] += 1


Record = Callable[[str, Mapping[str, object]], None]


def test_every_message_of_the_corpus_is_rewritten_as_promised(corpus: Path, record_soak: Record) -> None:
    """On the fixtures of a dozen mail libraries, broken ones among them."""
    counts: Counter[str] = Counter()
    for path in sorted((corpus / "eml").glob("*.eml")):
        message = lineends.settle(path.read_bytes())
        if isinstance(message, LineEndFault):
            counts[f"refused: {message}"] += 1
        else:
            _rewrite(message, path.name, counts)
    record_soak("corpus-messages", dict(sorted(counts.items())))
    assert counts["messages"] > 400
    assert counts["rewritten"] > 50


def test_every_body_of_the_corpus_is_rewritten_as_promised(
    corpus: Path, count_of: Callable[[int, int], int], record_soak: Record
) -> None:
    """Newsletters of real designers, as quoted-printable parts beside a text part and a picture."""
    counts: Counter[str] = Counter()
    for path in sorted((corpus / "html").glob("*.html"))[:: count_of(3, 1)]:
        body = lineends.settle(path.read_bytes())
        assert isinstance(body, bytes)
        _rewrite(_newsletter(body), path.name, counts)
    record_soak("corpus-bodies", dict(sorted(counts.items())))
    assert counts["links wrapped"] > 100


def _newsletter(body: bytes) -> bytes:
    text = re.sub(rb"\s+", b" ", b" ".join(re.findall(rb"https?://[^\s\"'<>]+", body)[:20]))
    lines = b"\r\n".join(text.split(b" "))
    return (
        b"Subject: news\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n"
        b"--out\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n"
        b"--in\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + lines + b"\r\n"
        b"--in\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + quoted_printable.encode(body)
        + b"\r\n--in--\r\n--out\r\nContent-Type: image/png; name=a.png\r\nContent-Disposition: attachment\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--out--\r\n"
    )
