"""Roll-ups and corrected verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_STATISTICS = (
    "sent", "delivered", "bounced", "opens", "human_opens", "unique_opens", "human_unique_opens", "clicks",
    "human_clicks", "unique_clicks", "human_unique_clicks", "open_base", "open_share", "click_base", "click_share",
)  # fmt: skip
_LINK_STATISTICS = ("clicks", "human_clicks", "unique_clicks", "human_unique_clicks")


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
    op.drop_table("link")


def _table(name: str, key: list[sa.Column], counts: tuple[str, ...]) -> None:
    columns = [sa.Column(count, sa.BigInteger(), nullable=False) for count in counts]
    op.create_table(name, *key, *columns, sqlite_with_rowid=False)


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), primary_key=True)


def _number(name: str, kind: sa.types.TypeEngine | None = None) -> sa.Column:
    return sa.Column(name, kind or sa.BigInteger(), primary_key=True)
