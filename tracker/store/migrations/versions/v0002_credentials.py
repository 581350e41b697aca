"""The logins that are made by command."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make their table, empty."""
    op.create_table(
        "credential",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("sender_domains", sa.Text(), nullable=False),
        sa.Column("configuration_sets", sa.Text(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
