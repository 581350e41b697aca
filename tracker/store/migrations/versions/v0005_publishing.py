"""What becomes of events on their way to destinations."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Change nothing yet."""
