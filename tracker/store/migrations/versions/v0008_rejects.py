"""Reject events by their place in the log: they have no copy that they could be found by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Index them alone: they are few, and an index of all types would cost each hit."""
    op.create_index("ix_event_reject", "event", ["seq"], sqlite_where=sa.text("type = 'reject'"))
