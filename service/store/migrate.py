"""Bring a database to the current schema: Alembic, run by the program itself, one process at a time."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import text

from ...errors import StoreError
from .database import Database

__all__ = ["alembic_config", "upgrade"]

_LOCK_KEY = 0x617263687369  # any constant; two processes that open one PostgreSQL database take turns by it


def alembic_config() -> Config:
    """Alembic's configuration without an ini file; the connection travels in `attributes`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def upgrade(database: Database) -> None:
    """Migrate in one transaction; a schema from a newer archsmith is refused."""
    config = alembic_config()
    if database.is_sqlite and database.url.database:
        folder = Path(database.url.database).resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {folder} of the database cannot be created ({error.strerror}); name a writable place."
            ) from error
    with database.write() as conn:
        if not database.is_sqlite:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config.attributes["connection"] = conn
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            head = ScriptDirectory.from_config(config).get_current_head()
            raise StoreError(
                f"{database.place} has a schema this archsmith does not know (it knows up to {head}): {error}. "
                "Upgrade archsmith, or open another database."
            ) from error
