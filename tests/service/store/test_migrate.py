from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from archsmith.errors import StoreError
from archsmith.service.store.store import Store
from archsmith.service.store.tables import metadata


def test_models_and_migrations_agree(store: Store) -> None:
    with store.database.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_expected_indexes_are_present(store: Store) -> None:
    with store.database.read() as conn:
        inspector = inspect(conn)
        indexes = {index["name"] for table in inspector.get_table_names() for index in inspector.get_indexes(table)}
        keys = {
            table: tuple(inspector.get_pk_constraint(table)["constrained_columns"])
            for table in ("trial", "front_member")
        }
    declared = {index.name for table in metadata.tables.values() for index in table.indexes}
    assert declared <= indexes
    assert keys == {"trial": ("search_id", "number"), "front_member": ("search_id", "view", "number")}


def test_opening_twice_changes_nothing(store: Store, database_url: str) -> None:
    with Store.open(database_url, store.files.folder) as again:
        assert again.searches() == []


def test_schema_of_a_newer_archsmith_is_refused(store: Store, database_url: str) -> None:
    with store.database.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="Upgrade archsmith"):
        Store.open(database_url, store.files.folder)


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "sqlite://"])
def test_url_that_is_no_store_is_refused(url: str, tmp_path) -> None:
    with pytest.raises(StoreError):
        Store(url, tmp_path)
