"""Alembic's entry: runs on the connection it is handed, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from archsmith.service.store.tables import metadata  # pyright: ignore[reportMissingImports]  # loaded by path

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("migrations are run by archsmith itself (Store.open); there is no ini file to run them from.")
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=True,  # true of SQLite as well, where BEGIN is ours
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
