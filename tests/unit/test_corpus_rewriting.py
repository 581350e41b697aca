"""Real mail through the whole of rewriting: nothing raises, nothing changes that should not, nothing is wrapped twice.

`make test` takes every message and a share of the bodies, chosen by their place; `MAILWAKE_SOAK=1` takes all of them,
in all encodings and charsets.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from relay.core import lineends, plan
from relay.core.lineends import LineEndFault
from tests.unit import corpus_mail, proofs
from tests.unit.rewriting import NOTHING

Record = Callable[[str, Mapping[str, object]], None]


def test_every_message_of_the_corpus_is_rewritten_as_promised(corpus: Path, record_soak: Record) -> None:
    """On the fixtures of a dozen mail libraries, broken ones among them."""
    counts: Counter[str] = Counter()
    for path in sorted((corpus / "eml").glob("*.eml")):
        counts += _proven(path.read_bytes(), path.name)
    record_soak("corpus-messages", dict(sorted(counts.items())))
    assert counts["messages"] > 400
    assert counts["rewritten"] > 50


def test_every_body_of_the_corpus_is_rewritten_as_promised(
    corpus: Path, count_of: Callable[[int, int], int], record_soak: Record
) -> None:
    """Newsletters of real designers, in four encodings and six charsets, beside a text part and a picture."""
    counts: Counter[str] = Counter()
    by_way: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, encoding, charset, message in corpus_mail.newsletters(corpus, count_of(191, 1)):
        counted = _proven(message, f"{name} in {encoding}, {charset}")
        counts += counted
        by_way[f"{encoding}, {charset}"] += counted
    shown = ("messages", "rewritten", "links wrapped", "refused: nul")
    record_soak(
        "corpus-bodies",
        {
            **dict(sorted(counts.items())),
            "by encoding and charset": {
                way: {what: counted[what] for what in shown if counted[what]} for way, counted in by_way.items()
            },
        },
    )
    assert counts["links wrapped"] > 100
    assert counts["messages"] == counts["rewritten"]
    assert len(by_way) == len(corpus_mail.ENCODINGS) * len(corpus_mail.GREETINGS)


def _proven(raw: bytes, name: str) -> Counter[str]:
    """Rewrite one message and check every law; a message that the relay refuses is counted as such."""
    message = lineends.settle(raw)
    if isinstance(message, LineEndFault):
        return Counter({f"refused: {message}": 1})
    try:
        made, copy = proofs.prove(message)
        assert plan.make(message, NOTHING).parts == ()  # none of the corpus has a mark that is taken out in any case
    except AssertionError as failure:
        failure.add_note(name)
        raise
    return proofs.count(made, is_rewritten=copy != message)
