"""The plain recount that every roll-up is compared with: the log and the rows of copies, counted plainly."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from tests.integration.storage import Node
from tracker.contract.events import Click, EventType, JournalRecord, Open, Probe
from tracker.core.classify import judge
from tracker.core.statistics import NAMES, CopyCounts, Statistics, count
from tracker.store.times import to_ms

DAY_MS = 86_400_000
QUARTER_MS = 900_000
_Hit = TypeVar("_Hit", Open, Click)


def folded(record: _Hit, times: int, country: str = "") -> _Hit:
    """Make a hit that stands for several, from a country."""
    return msgspec.structs.replace(record, hit=msgspec.structs.replace(record.hit, count=times, country=country))


def events(node: Node, span_ms: int) -> Mapping[tuple[Any, ...], int]:
    """Count the log by the keys of `roll_up_event`."""
    counts: Counter[tuple[Any, ...]] = Counter()
    query = "SELECT at_ms, configuration_set, from_domain, type, agent_class, first, hit FROM event"
    for at_ms, name, domain, kind, agent, first, hit in node.rows(query):
        times = json.loads(hit)["count"] if hit else 1
        key = (at_ms // span_ms * span_ms, name or "", domain or "", kind, agent or "")
        counts[*key, 1] += bool(first)
        counts[*key, 0] += times - bool(first)
    return +counts


def counted_events(node: Node, span_ms: int) -> Mapping[tuple[Any, ...], int]:
    """Read `roll_up_event`, in the same shape."""
    return _nonzero(node.rows("SELECT * FROM roll_up_event WHERE span_ms = ?", span_ms), 1)


def countries(node: Node) -> Mapping[tuple[Any, ...], int]:
    """Count the hits of the log by the keys of `roll_up_hit` of countries."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for at_ms, name, kind, agent, hit in node.rows(
        "SELECT at_ms, configuration_set, type, agent_class, hit FROM event WHERE hit IS NOT NULL"
    ):
        found = json.loads(hit)
        counts[at_ms // DAY_MS * DAY_MS, "country", found["country"], name or "", kind, agent] += found["count"]
    return counts


def counted_countries(node: Node) -> Mapping[tuple[Any, ...], int]:
    """Read `roll_up_hit`, in the same shape."""
    return _nonzero(node.rows("SELECT * FROM roll_up_hit WHERE trait = 'country'"))


def mail(node: Node, *columns: str, span_ms: int = 0) -> Mapping[tuple[Any, ...], Statistics]:
    """Count the copies by what `tracker.core.statistics.count` says, by columns of their message."""
    heaps: dict[tuple[Any, ...], list[CopyCounts]] = defaultdict(list)
    names = "".join(f"coalesce({column}, ''), " for column in columns)
    query = (
        f"SELECT accepted_ms, {names} delivered_ms IS NOT NULL,"
        " bounced_ms IS NOT NULL, tracks_opens, tracks_clicks, opens, human_opens, clicks, human_clicks"
        " FROM copy JOIN message USING (message)"
    )
    for accepted_ms, *rest in node.rows(query):
        key, counts = tuple(rest[: len(columns)]), rest[len(columns) :]
        start = (accepted_ms // span_ms * span_ms,) if span_ms else ()
        heaps[*start, *key].append(CopyCounts(**dict(zip(CopyCounts.__slots__, counts, strict=True))))
    return {key: count(copies) for key, copies in heaps.items()}


def counted_mail(node: Node, table: str, keys: int, where: str = "true") -> Mapping[tuple[Any, ...], Statistics]:
    """Read a roll-up of mail whose rows are keys, then counts."""
    rows = node.rows(f"SELECT * FROM {table} WHERE {where}")
    return {
        row[len(row) - len(NAMES) - keys : -len(NAMES)]: Statistics(**dict(zip(NAMES, row[-len(NAMES) :], strict=True)))
        for row in rows
    }


def verdicts(node: Node, records: Iterable[JournalRecord]) -> Mapping[str, str]:
    """Judge every hit of a known message with all records in hand, by event id."""
    unique = {str(one.event): one for one in records if isinstance(one, Open | Click | Probe)}
    delivered = dict(node.rows("SELECT message || '-' || suffix, delivered_ms FROM copy"))
    found: dict[str, str] = {}
    for name, hit in unique.items():
        copy = str(hit.copy)
        if isinstance(hit, Probe) or copy not in delivered:
            continue
        at_ms = to_ms(hit.hit.at)
        beside = [one for one in unique.values() if one.copy == hit.copy]
        near = {one.link_index for one in beside if isinstance(one, Click) and abs(to_ms(one.hit.at) - at_ms) <= 30_000}
        verdict = judge(
            EventType.CLICK if isinstance(hit, Click) else EventType.OPEN,
            hit.hit.signals,
            since_delivery_s=None if delivered[copy] is None else (at_ms - delivered[copy]) / 1000,
            probed=any(isinstance(one, Probe) and abs(to_ms(one.hit.at) - at_ms) <= 10_000 for one in beside),
            links_around=len(near) if isinstance(hit, Click) else 1,
        )
        found[name] = verdict.agent_class.value
    return found


def first_times(node: Node) -> Mapping[tuple[str, str], tuple[int | None, ...]]:
    """Find the first open, human open, click and human click of each copy in the log."""
    found: dict[tuple[str, str], tuple[int | None, ...]] = {}
    hits = node.rows("SELECT message, suffix, type, at_ms, agent_class FROM event WHERE hit IS NOT NULL")
    for key in node.rows("SELECT message, suffix FROM copy"):
        mine = [row for row in hits if row[:2] == key]
        found[key[0], key[1]] = tuple(
            min((at_ms for *_, type_, at_ms, agent in mine if type_ == kind and agent in classes), default=None)
            for kind in ("open", "click")
            for classes in (("human", "probable", "machine", "privacy_proxy"), ("human",))
        )
    return found


def counted_first_times(node: Node) -> Mapping[tuple[str, str], tuple[int | None, ...]]:
    """Read them from the rows of copies."""
    columns = "opened_ms, human_opened_ms, clicked_ms, human_clicked_ms"
    return {(row[0], row[1]): row[2:] for row in node.rows(f"SELECT message, suffix, {columns} FROM copy")}


def destinations(node: Node) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
    """Count the clicks by day of acceptance, set and destination; a copy counts once, whichever links it took."""
    heaps: dict[tuple[Any, ...], Counter[tuple[Any, ...]]] = defaultdict(Counter)
    for message, accepted_ms, name, facts in node.rows(
        "SELECT message, accepted_ms, configuration_set, facts FROM message"
    ):
        urls = {link["index"]: link["url"] for link in json.loads(facts)["facts"]["links"]}
        for url in urls.values():
            heaps[accepted_ms // DAY_MS * DAY_MS, name or "", url].update(())
        for suffix, index, clicks, human in node.rows(
            "SELECT suffix, link_index, clicks, human_clicks FROM copy_link WHERE message = ?", message
        ):
            heap = heaps[accepted_ms // DAY_MS * DAY_MS, name or "", urls[index]]
            heap[message, suffix, "all"] += clicks
            heap[message, suffix, "human"] += human
    return {
        key: (
            *(sum(times for copy, times in heap.items() if copy[2] == who) for who in ("all", "human")),
            *(sum(times > 0 for copy, times in heap.items() if copy[2] == who) for who in ("all", "human")),
        )
        for key, heap in heaps.items()
    }


def counted_destinations(node: Node) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
    """Read `roll_up_link`, in the same shape."""
    return {row[:3]: row[3:] for row in node.rows("SELECT * FROM roll_up_link")}


def agrees(node: Node) -> None:
    """Compare every roll-up with its recount."""
    for span_ms in (QUARTER_MS, DAY_MS):
        assert counted_events(node, span_ms) == events(node, span_ms)
        found = counted_mail(node, "roll_up_mail", 3, f"span_ms = {span_ms}")
        assert found == mail(node, "configuration_set", "from_domain", span_ms=span_ms)
    assert counted_mail(node, "message_count", 1) == mail(node, "message")
    assert counted_countries(node) == countries(node)
    assert counted_destinations(node) == destinations(node)
    assert counted_first_times(node) == first_times(node)


def _nonzero(rows: Iterable[tuple[Any, ...]], skipped: int = 0) -> Mapping[tuple[Any, ...], int]:
    return {row[skipped:-1]: row[-1] for row in rows if row[-1]}
