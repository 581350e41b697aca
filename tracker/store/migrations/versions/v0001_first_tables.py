"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them in an empty storage."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "message",
        sa.Column("message", sa.Text(), primary_key=True),
        sa.Column("accepted_ms", sa.BigInteger(), nullable=False, index=True),
        sa.Column("configuration_set", sa.Text()),
        sa.Column("from_domain", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "copy",
        sa.Column("message", sa.Text(), sa.ForeignKey("message.message", ondelete="CASCADE"), primary_key=True),
        sa.Column("suffix", sa.Text(), primary_key=True),
        sa.Column("recipient", sa.Text(), nullable=False, index=True),
        sa.Column("tracks_opens", sa.Boolean(), nullable=False),
        sa.Column("tracks_clicks", sa.Boolean(), nullable=False),
        sa.Column("delivered_ms", sa.BigInteger()),
        sa.Column("bounced_ms", sa.BigInteger()),
        sa.Column("delays", sa.Integer(), nullable=False),
        sa.Column("opens", sa.Integer(), nullable=False),
        sa.Column("human_opens", sa.Integer(), nullable=False),
        sa.Column("clicks", sa.Integer(), nullable=False),
        sa.Column("human_clicks", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "link",
        sa.Column("message", sa.Text(), sa.ForeignKey("message.message", ondelete="CASCADE"), primary_key=True),
        sa.Column("link_index", sa.Integer(), primary_key=True),
        sa.Column("url", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "copy_link",
        sa.Column("message", sa.Text(), primary_key=True),
        sa.Column("suffix", sa.Text(), primary_key=True),
        sa.Column("link_index", sa.Integer(), primary_key=True),
        sa.Column("clicks", sa.Integer(), nullable=False),
        sa.Column("human_clicks", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["message", "suffix"], ["copy.message", "copy.suffix"], ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("seq", number, primary_key=True),
        sa.Column("event_id", sa.Text(), nullable=False, unique=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, index=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("configuration_set", sa.Text()),
        sa.Column("from_domain", sa.Text()),
        sa.Column("first", sa.Boolean()),
        sa.Column("agent_class", sa.Text()),
        sa.Column("link_index", sa.Integer()),
        sa.Column("hit", sa.LargeBinary()),
        sa.Column("body", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_copy", "event", ["message", "suffix", "at_ms"])
    op.create_table(
        "probe",
        sa.Column("event_id", sa.Text(), primary_key=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("link_index", sa.Integer()),
    )
    op.create_index("ix_probe_copy", "probe", ["message", "suffix", "at_ms"])
    op.create_table(
        "pending",
        sa.Column("event_id", sa.Text(), primary_key=True),
        sa.Column("message", sa.Text(), nullable=False, index=True),
        sa.Column("since_ms", sa.BigInteger(), nullable=False, index=True),
        sa.Column("record", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "cursor",
        sa.Column("slot", sa.Text(), primary_key=True),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "destination_cursor",
        sa.Column("destination", sa.Text(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "aside",
        sa.Column("id", number, primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
