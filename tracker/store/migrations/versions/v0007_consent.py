"""Consent, what was forgotten, and finding a person's copies in any spelling of the address."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables, empty. The index of recipients is made anew: it compares without regard to case."""
    op.create_table(
        "consent",
        sa.Column("person", sa.LargeBinary(), primary_key=True),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "silenced",
        sa.Column("message", sa.Text(), primary_key=True),
        sa.Column("suffix", sa.Text(), primary_key=True),
        sa.Column("person", sa.LargeBinary(), index=True),
        sa.Column("accepted_ms", sa.BigInteger(), nullable=False, index=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "forgotten",
        sa.Column("person", sa.LargeBinary(), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, index=True),
        sqlite_with_rowid=False,
    )
    op.drop_index("ix_copy_recipient", "copy")
    op.create_index("ix_copy_recipient", "copy", [sa.text("recipient COLLATE NOCASE")])
    op.create_index("ix_event_reject", "event", ["seq"], sqlite_where=sa.text("type = 'reject'"))
