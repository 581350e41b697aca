"""What counts the changes of settings that live in the storage."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make its table, empty: what is there already is read at the first look in any case."""
    op.create_table(
        "revision",
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
