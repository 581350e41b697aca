"""How long rewriting takes, against parsing and serialising with BeautifulSoup, and against copying the bytes.

Pages are HTML mails of the corpus, joined until they have about 100 KB; links that lead nowhere yet (templates) get an
address, so that all are wrapped. In one process, in turn:

- `find_and_splice`: the links of a page found, and its bytes put together with other URLs.
- `plan`: the whole plan of the page as a quoted-printable message. `first_render` and `next_render`: a copy of it, with
  sealed tokens, as one recipient after the other gets it.
- `beautifulsoup`: the page read, every link set, the document written. No MIME, no tokens, and not byte-faithful.

Single mails are measured by size as they are, as 8-bit messages. A message with an attachment of 20 MB is planned and
rendered, as the slices that go to the upstream and joined, against a copy of its bytes; memory is the most that Python
allocated meanwhile, the message itself not counted.

    python -m bench.rewrite [ROUNDS]
"""

import base64
import itertools
import random
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from bs4 import BeautifulSoup

from bench._measure import CORPUS, in_turn, median_ratio, summary, write
from relay.core import html, quoted_printable
from relay.core import plan as plans
from relay.core.copies import CopyMint, copy_of
from relay.core.linkrules import LinkRules
from relay.core.plan import RewriteOptions, RewritePlan
from tracker.contract.ids import CopyId, MessageId
from tracker.contract.token import TokenKey, TokenKeys, day_of

_NOW = datetime(2026, 11, 22, tzinfo=UTC)
_OPTIONS = RewriteOptions(
    open_tracking=True,
    html_links=True,
    text_links=True,
    max_links=250,
    rules=LinkRules(own_hosts=frozenset({"t.example"})),
)
_MINT = CopyMint(
    keys=TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=_NOW)]),
    key_id=1,
    base_url="https://t.example",
    copy=CopyId(MessageId(bytes(16)), bytes(6)),
    day=day_of(_NOW),
)
_NEXT_MINT = replace(_MINT, copy=CopyId(MessageId(bytes(16)), b"second"))
_HEADER = b"From: a@shop.example\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
_CLASSES = ((0, 5_000), (5_000, 10_000), (10_000, 20_000), (20_000, 40_000), (40_000, 100_000))
_NOWHERE = re.compile(rb"""(<a\s[^>]*?href=")(?!https?://[^"]*+")[^"]*+\"""", re.IGNORECASE)
_PAGE_BYTES = 95_000
_ATTACHMENT_BYTES = 20_000_000

Work = Sequence[Callable[[], object]]


def _encoded(body: bytes, encoding: bytes) -> bytes:
    return _HEADER + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body


def _render(plan: RewritePlan, mint: CopyMint) -> bytes:
    return b"".join(copy_of(plan, mint))


def _first_copy(message: bytes) -> bytes:
    return _render(plans.make(message, _OPTIONS), _MINT)


def _find_and_splice(body: bytes) -> bytes:
    pieces: list[bytes] = []
    position = 0
    for number, link in enumerate(html.find(body).links):
        start, end = link.value
        pieces += (body[position:start], html.quote(f"https://t.example/l/{number}"))
        position = end
    return b"".join([*pieces, body[position:]])


def _serialise(body: bytes) -> bytes:
    soup = BeautifulSoup(body, "html.parser", from_encoding="utf-8")
    for number, anchor in enumerate(soup.find_all("a", href=True)):
        anchor["href"] = f"https://t.example/l/{number}"
    return soup.encode("utf-8")


def _each(work: Callable[..., object], arguments: Iterable[object], *more: object) -> Work:
    return [partial(work, argument, *more) for argument in arguments]


def _time_ms(work: Work) -> float:
    began = time.process_time()
    for one in work:
        one()
    return (time.process_time() - began) * 1000 / len(work)


def _measured(rounds: int, contenders: dict[str, Work]) -> dict[str, list[float]]:
    return in_turn(rounds, {name: partial(_time_ms, work) for name, work in contenders.items()})


def _filled(body: bytes) -> bytes:
    numbers = itertools.count()
    return _NOWHERE.sub(
        lambda match: b'%bhttps://shop.example/offers/%d?from=mail&amp;issue=47"' % (match[1], next(numbers)), body
    )


def _pages(bodies: Iterable[bytes]) -> list[bytes]:
    pages = [b""]
    for body in bodies:
        pages[-1] += _filled(body)
        if len(pages[-1]) >= _PAGE_BYTES:
            pages.append(b"")
    return pages[:-1]


def _measure_pages(rounds: int, bodies: Iterable[bytes]) -> dict[str, object]:
    pages = _pages(bodies)
    messages = [_encoded(quoted_printable.encode(page), b"quoted-printable") for page in pages]
    made = [plans.make(message, _OPTIONS) for message in messages]
    figures = _measured(
        rounds,
        {
            "find_and_splice": _each(_find_and_splice, pages),
            "plan": _each(plans.make, messages, _OPTIONS),
            "first_render": _each(_render, made, _MINT),
            "next_render": _each(_render, made, _NEXT_MINT),
            "beautifulsoup": _each(_serialise, pages),
        },
    )
    ms = {name: summary(values) for name, values in figures.items()}
    page_mb, message_mb = sum(map(len, pages)) / len(pages) / 1e6, sum(map(len, messages)) / len(messages) / 1e6
    first = [plan + render for plan, render in zip(figures["plan"], figures["first_render"], strict=True)]
    return {
        "documents": len(pages),
        "mean_bytes": round(page_mb * 1e6),
        "links_wrapped": sum(len(plan.links) for plan in made),
        "links_found": sum(len(html.find(page).links) for page in pages),
        "ms": ms,
        "mb_per_s_find_and_splice": round(page_mb * 1000 / ms["find_and_splice"]["median"], 1),
        "mb_per_s_plan": round(message_mb * 1000 / ms["plan"]["median"], 1),
        "times_faster_find_and_splice": median_ratio(figures["find_and_splice"], figures["beautifulsoup"]),
        "times_faster_plan": median_ratio(figures["plan"], figures["beautifulsoup"]),
        "next_render_share_of_plan_and_first_render": median_ratio(first, figures["next_render"]),
    }


def _measure_class(rounds: int, least: int, most: int, bodies: Sequence[bytes]) -> dict[str, object]:
    messages = [_encoded(body, b"8bit") for body in bodies]
    made = [plans.make(message, _OPTIONS) for message in messages]
    figures = _measured(
        rounds,
        {
            "first_copy": _each(_first_copy, messages),
            "next_copy": _each(_render, made, _NEXT_MINT),
            "beautifulsoup": _each(_serialise, bodies),
        },
    )
    return {
        "bytes": [least, most],
        "documents": len(bodies),
        "mean_bytes": round(sum(map(len, bodies)) / len(bodies)),
        "links_wrapped": sum(len(plan.links) for plan in made),
        "ms": {name: summary(values) for name, values in figures.items()},
        "times_faster_first_copy": median_ratio(figures["first_copy"], figures["beautifulsoup"]),
        "times_faster_next_copy": median_ratio(figures["next_copy"], figures["beautifulsoup"]),
    }


def _measure_attachment(rounds: int, body: bytes) -> dict[str, object]:
    attachment = base64.encodebytes(random.Random(1).randbytes(_ATTACHMENT_BYTES)).replace(b"\n", b"\r\n")
    message = (
        b"From: a@shop.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\n--b1\r\n"
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + quoted_printable.encode(body)
        + b"\r\n--b1\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + attachment + b"--b1--\r\n"
    )
    figures = _measured(
        rounds,
        {
            "sliced": [partial(_slices, message)],
            "joined": [partial(_first_copy, message)],
            "copied": [lambda: bytes(memoryview(message))],
        },
    )
    return {
        "message_bytes": len(message),
        "ms": {name: summary(values) for name, values in figures.items()},
        "times_copying_sliced": median_ratio(figures["copied"], figures["sliced"]),
        "times_copying_joined": median_ratio(figures["copied"], figures["joined"]),
        "memory_share_of_its_size_sliced": _allocated_share(_slices, message),
        "memory_share_of_its_size_joined": _allocated_share(_first_copy, message),
    }


def _slices(message: bytes) -> list[bytes | memoryview]:
    return copy_of(plans.make(message, _OPTIONS), _MINT)


def _allocated_share(work: Callable[[bytes], object], message: bytes) -> float:
    tracemalloc.start()
    result = work(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return round(peak / len(message), 3)


def main() -> None:
    """Measure and write the result."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bodies = [
        path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for path in sorted((CORPUS / "html").glob("*.html"))
    ]
    if not bodies:
        sys.exit("there is no corpus of HTML mail here; MAILWAKE_CORPUS names its folder")
    of_class = {(least, most): [body for body in bodies if least <= len(body) < most] for least, most in _CLASSES}
    result = {
        "rounds": rounds,
        "pages": _measure_pages(rounds, bodies),
        "single_mails": [_measure_class(rounds, *limits, chosen) for limits, chosen in of_class.items() if chosen],
        "attachment": _measure_attachment(rounds, bodies[0]),
    }
    write("rewrite", result, ["beautifulsoup4", "cryptography"])


if __name__ == "__main__":
    main()
