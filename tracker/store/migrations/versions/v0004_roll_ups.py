"""Roll-ups and corrected verdicts.

Filled by the database itself, table by table, so a large storage takes time and no memory. Devices of old hits are not
known; which tags, values and destinations have names of their own goes by when their mail was accepted.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

# ruff: noqa: S608 - all that is put into the statements stands here

revision = "0004"
down_revision = "0003"

_STATISTICS = (
    "sent", "delivered", "bounced", "opens", "human_opens", "unique_opens", "human_unique_opens", "clicks",
    "human_clicks", "unique_clicks", "human_unique_clicks", "open_base", "open_share", "click_base", "click_share",
)  # fmt: skip
_LINK_STATISTICS = ("clicks", "human_clicks", "unique_clicks", "human_unique_clicks")


_QUARTER = 900_000
_DAY = 86_400_000
_DELIVERED = "c.delivered_ms IS NOT NULL"
_COUNT_COPIES = f"""
    count(c.suffix), count(c.delivered_ms), count(c.bounced_ms), coalesce(sum(c.opens), 0),
    coalesce(sum(c.human_opens), 0), coalesce(sum(c.opens > 0), 0), coalesce(sum(c.human_opens > 0), 0),
    coalesce(sum(c.clicks), 0), coalesce(sum(c.human_clicks), 0), coalesce(sum(c.clicks > 0), 0),
    coalesce(sum(c.human_clicks > 0), 0), coalesce(sum({_DELIVERED} AND c.tracks_opens), 0),
    coalesce(sum({_DELIVERED} AND c.tracks_opens AND c.human_opens > 0), 0),
    coalesce(sum({_DELIVERED} AND c.tracks_clicks), 0),
    coalesce(sum({_DELIVERED} AND c.tracks_clicks AND c.human_clicks > 0), 0)
"""
_ADD_COUNTS = ", ".join(f"sum(n.{name})" for name in _STATISTICS)
_COUNT_CLICKS = "sum(clicks), sum(human_clicks), sum(clicks > 0), sum(human_clicks > 0)"
_SET = "coalesce({}.configuration_set, '')"
_FIRST = "(SELECT min(at_ms) FROM event WHERE message = copy.message AND suffix = copy.suffix AND {})"
_EVENT_KEY = """coalesce(configuration_set, '') AS configuration_set, coalesce(from_domain, '') AS from_domain, type,
    coalesce(agent_class, '') AS agent_class,"""
_TIMES = "CASE WHEN hit IS NULL THEN 1 ELSE coalesce(json_extract(CAST(hit AS TEXT), '$.count'), 1) END"
_COUNTRY = "coalesce(json_extract(CAST(hit AS TEXT), '$.country'), '')"

_FILL = (
    f"""UPDATE copy SET opened_ms = {_FIRST.format("type = 'open'")}, clicked_ms = {_FIRST.format("type = 'click'")},
    human_opened_ms = {_FIRST.format("type = 'open' AND agent_class = 'human'")},
    human_clicked_ms = {_FIRST.format("type = 'click' AND agent_class = 'human'")} WHERE opens > 0 OR clicks > 0""",
    f"""INSERT INTO message_count SELECT m.message, {_COUNT_COPIES} FROM message m LEFT JOIN copy c USING (message)
    GROUP BY m.message""",
    f"INSERT INTO link_count SELECT message, link_index, {_COUNT_CLICKS} FROM copy_link GROUP BY message, link_index",
    f"""INSERT INTO roll_up_mail SELECT {_QUARTER}, m.accepted_ms / {_QUARTER} * {_QUARTER}, {_SET.format("m")},
    m.from_domain, {_ADD_COUNTS} FROM message m JOIN message_count n USING (message) GROUP BY 2, 3, 4""",
    f"""INSERT INTO roll_up_mail SELECT {_DAY}, n.start_ms / {_DAY} * {_DAY}, n.configuration_set, n.from_domain,
    {_ADD_COUNTS} FROM roll_up_mail n GROUP BY 2, 3, 4""",
    # A hit that stands for several is the first of its kind once, and then is not.
    f"""CREATE TEMP TABLE happened AS SELECT at_ms / {_QUARTER} * {_QUARTER} AS start_ms, {_EVENT_KEY}
    sum(coalesce(first, 0)) AS firsts, sum({_TIMES} - coalesce(first, 0)) AS others
    FROM event GROUP BY 1, 2, 3, 4, 5""",
    *(
        f"""INSERT INTO roll_up_event SELECT {span}, start_ms / {span} * {span}, configuration_set, from_domain, type,
        agent_class, {first}, sum({column}) FROM happened WHERE {column} > 0 GROUP BY 2, 3, 4, 5, 6"""
        for span in (_QUARTER, _DAY)
        for first, column in ((1, "firsts"), (0, "others"))
    ),
    "DROP TABLE happened",
    f"""INSERT INTO roll_up_hit SELECT at_ms / {_DAY} * {_DAY}, 'country', {_COUNTRY}, coalesce(configuration_set, ''),
    type, coalesce(agent_class, ''), sum({_TIMES}) FROM event WHERE hit IS NOT NULL GROUP BY 1, 3, 4, 5, 6""",
    """INSERT INTO roll_up_hit SELECT day_ms, 'device', '', configuration_set, type, agent_class, sum(count)
    FROM roll_up_hit GROUP BY 1, 4, 5, 6""",
    f"""CREATE TEMP TABLE tagged AS SELECT DISTINCT m.message, m.accepted_ms / {_DAY} * {_DAY} AS day_ms, m.accepted_ms,
    json_extract(t.value, '$[0]') AS tag, json_extract(t.value, '$[1]') AS value
    FROM message m, json_each(CAST(m.facts AS TEXT), '$.facts.tags') t""",
    """INSERT INTO roll_up_value SELECT day_ms, 'tag', tag FROM (SELECT day_ms, tag, row_number()
    OVER (PARTITION BY day_ms ORDER BY min(accepted_ms), tag) AS place FROM tagged GROUP BY day_ms, tag)
    WHERE place <= 200""",
    """INSERT INTO roll_up_value SELECT day_ms, 'tag:' || tag, value FROM (SELECT day_ms, tag, value, row_number()
    OVER (PARTITION BY day_ms, tag ORDER BY min(accepted_ms), value) AS place FROM tagged GROUP BY day_ms, tag, value)
    WHERE place <= 200 AND (day_ms, tag) IN (SELECT day_ms, value FROM roll_up_value WHERE kind = 'tag')""",
    f"""INSERT INTO roll_up_tag SELECT t.day_ms, coalesce(named.value, 'other'), coalesce(own.value, 'other'),
    {_ADD_COUNTS} FROM tagged t JOIN message_count n USING (message)
    LEFT JOIN roll_up_value named ON (named.day_ms, named.kind, named.value) = (t.day_ms, 'tag', t.tag)
    LEFT JOIN roll_up_value own ON (own.day_ms, own.kind, own.value) = (t.day_ms, 'tag:' || t.tag, t.value)
    GROUP BY 1, 2, 3""",
    "DROP TABLE tagged",
    f"""CREATE TEMP TABLE followed AS SELECT m.accepted_ms / {_DAY} * {_DAY} AS day_ms, m.accepted_ms,
    {_SET.format("m")} AS name, l.url, coalesce(sum(k.clicks), 0) AS clicks, coalesce(sum(k.human_clicks), 0)
    AS human_clicks FROM link l JOIN message m USING (message) LEFT JOIN copy_link k
    ON (k.message, k.link_index) = (l.message, l.link_index) GROUP BY l.message, l.url, k.suffix""",
    """INSERT INTO roll_up_value SELECT day_ms, 'link:' || name, url FROM (SELECT day_ms, name, url, sum(clicks)
    AS clicks, row_number() OVER (PARTITION BY day_ms, name ORDER BY sum(clicks) = 0, min(accepted_ms), url) AS place
    FROM followed GROUP BY day_ms, name, url) WHERE place <= CASE WHEN clicks > 0 THEN 1000 ELSE 200 END""",
    f"""INSERT INTO roll_up_link SELECT f.day_ms, f.name, coalesce(own.value, 'other'), {_COUNT_CLICKS} FROM followed f
    LEFT JOIN roll_up_value own ON (own.day_ms, own.kind, own.value) = (f.day_ms, 'link:' || f.name, f.url)
    WHERE own.value IS NOT NULL OR f.clicks > 0 GROUP BY 1, 2, 3""",
    "DROP TABLE followed",
)


def upgrade() -> None:
    """Make them, and fill them from what is there."""
    for name in ("opened_ms", "human_opened_ms", "clicked_ms", "human_clicked_ms"):
        op.add_column("copy", sa.Column(name, sa.BigInteger()))
    message = sa.Column("message", sa.Text(), sa.ForeignKey("message.message", ondelete="CASCADE"), primary_key=True)
    _table("message_count", [message], _STATISTICS)
    message = sa.Column("message", sa.Text(), sa.ForeignKey("message.message", ondelete="CASCADE"), primary_key=True)
    _table("link_count", [message, _number("link_index", sa.Integer())], _LINK_STATISTICS)
    times, mail = [_number("span_ms"), _number("start_ms")], ("configuration_set", "from_domain")
    kind = [*map(_text, (*mail, "type", "agent_class")), sa.Column("first", sa.Boolean(), primary_key=True)]
    _table("roll_up_event", [*times, *kind], ("count",))
    _table("roll_up_mail", [_number("span_ms"), _number("start_ms"), *map(_text, mail)], _STATISTICS)
    _table("roll_up_tag", [_number("day_ms"), *map(_text, ("tag", "value"))], _STATISTICS)
    _table("roll_up_link", [_number("day_ms"), *map(_text, ("configuration_set", "url"))], _LINK_STATISTICS)
    hit = ("trait", "value", "configuration_set", "type", "agent_class")
    _table("roll_up_hit", [_number("day_ms"), *map(_text, hit)], ("count",))
    _table("roll_up_value", [_number("day_ms"), *map(_text, ("kind", "value"))], ())
    for statement in _FILL:
        op.execute(statement)
    op.drop_table("link")


def _table(name: str, key: list[sa.Column[Any]], counts: tuple[str, ...]) -> None:
    columns = [sa.Column(count, sa.BigInteger(), nullable=False) for count in counts]
    op.create_table(name, *key, *columns, sqlite_with_rowid=False)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _number(name: str, kind: sa.types.TypeEngine[int] | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.BigInteger(), primary_key=True)
