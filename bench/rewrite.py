"""How long rewriting takes: plan and render of a tracked copy, against parsing and serialising with BeautifulSoup.

Each HTML mail of the corpus is the body of an 8-bit message. Ours is all that a first copy costs: the MIME scan, the
plan, sealed tokens, the joined bytes. A further recipient's copy is the rendering alone. Theirs reads the HTML, sets
every link and writes the document: no MIME, no tokens, and not byte-faithful. Both in one process, in turn.

    python -m bench.rewrite [ROUNDS]
"""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from bs4 import BeautifulSoup

from bench._measure import CORPUS, in_turn, median_ratio, summary, write
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
_HEADER = (
    b"From: a@shop.example\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
)
_CLASSES = ((0, 5_000), (5_000, 10_000), (10_000, 20_000), (20_000, 40_000), (40_000, 100_000))


def _first_copy(message: bytes) -> bytes:
    return b"".join(copy_of(plans.make(message, _OPTIONS), _MINT))


def _next_copy(plan: RewritePlan) -> bytes:
    return b"".join(copy_of(plan, _MINT))


def _serialise(body: bytes) -> bytes:
    soup = BeautifulSoup(body, "html.parser", from_encoding="utf-8")
    for number, anchor in enumerate(soup.find_all("a", href=True)):
        anchor["href"] = f"https://t.example/l/{number}"
    return soup.encode("utf-8")


def _time_ms(work: Sequence[Callable[[], object]]) -> float:
    began = time.perf_counter()
    for one in work:
        one()
    return (time.perf_counter() - began) * 1000 / len(work)


def main() -> None:
    """Measure each size class and write the result."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bodies = [
        path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for path in sorted((CORPUS / "html").glob("*.html"))
    ]
    if not bodies:
        sys.exit("there is no corpus of HTML mail here; MAILWAKE_CORPUS names its folder")
    classes = []
    for least, most in _CLASSES:
        chosen = [body for body in bodies if least <= len(body) < most]
        if not chosen:
            continue
        messages = [_HEADER + body for body in chosen]
        made = [plans.make(message, _OPTIONS) for message in messages]
        figures = in_turn(
            rounds,
            {
                "first_copy": lambda messages=messages: _time_ms([partial(_first_copy, one) for one in messages]),  # type: ignore[misc]
                "next_copy": lambda made=made: _time_ms([partial(_next_copy, one) for one in made]),  # type: ignore[misc]
                "beautifulsoup": lambda chosen=chosen: _time_ms([partial(_serialise, one) for one in chosen]),  # type: ignore[misc]
            },
        )
        mean_bytes = sum(map(len, chosen)) / len(chosen)
        ms = {name: summary(values) for name, values in figures.items()}
        classes.append(
            {
                "bytes": [least, most],
                "documents": len(chosen),
                "mean_bytes": round(mean_bytes),
                "links": sum(len(plan.links) for plan in made),
                "ms": ms,
                "mb_per_s_first_copy": round(mean_bytes / 1000 / ms["first_copy"]["median"], 1),
                "times_faster_first_copy": median_ratio(figures["first_copy"], figures["beautifulsoup"]),
                "times_faster_next_copy": median_ratio(figures["next_copy"], figures["beautifulsoup"]),
            }
        )
    write("rewrite", {"rounds": rounds, "classes": classes}, ["beautifulsoup4", "cryptography"])


if __name__ == "__main__":
    main()
