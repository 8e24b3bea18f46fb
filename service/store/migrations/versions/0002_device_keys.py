"""Keys of devices are bound to one device each; those made before are bound to none, and open nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("api_key", sa.Column("device", sa.String(length=128), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("api_key", "device")
