"""What becomes of events on their way to destinations: how each destination fares, and what it did not take."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make their tables, empty: a destination without a row has not failed yet."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "destination_state",
        sa.Column("destination", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("since_ms", sa.BigInteger()),
        sa.Column("next_try_ms", sa.BigInteger()),
        sa.Column("last_error", sa.Text()),
        sa.Column("last_success_ms", sa.BigInteger()),
        sa.Column("disabled_ms", sa.BigInteger()),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dead_letter",
        sa.Column("id", number, primary_key=True),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False, index=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, index=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("replay_ms", sa.BigInteger()),
        sa.Column("body", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dead_letter_destination", "dead_letter", ["destination", "replay_ms", "id"])
    op.create_index("ix_dead_letter_copy", "dead_letter", ["message", "suffix"])
