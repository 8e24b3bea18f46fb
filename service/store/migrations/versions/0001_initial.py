"""The schema of 0.1: jobs and searches, trials and fronts, results and artifacts, devices, access."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'device', 'editor', 'admin')", name=op.f("ck_api_key_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("sha256", "name", "media_type", name=op.f("uq_artifact_sha256_name_media_type")),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "device",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.JSON(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("agent", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("seen", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_device")),
    )
    op.create_table(
        "idempotency",
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("route", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "route", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_created", "idempotency", ["created"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("cancel_requested_at", sa.Double(), nullable=True),
        sa.Column("cancel_mode", sa.String(length=8), nullable=True),
        sa.Column("pause_requested_at", sa.Double(), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name=op.f("ck_job_lease")),
        sa.CheckConstraint("cancel_mode IN ('drain', 'kill')", name=op.f("ck_job_cancel_mode")),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished IS NOT NULL)", name=op.f("ck_job_finished")
        ),
        sa.CheckConstraint("state <> 'paused' OR kind = 'search'", name=op.f("ck_job_paused")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_job_state")
        ),
        sa.CheckConstraint("epoch >= 0 AND attempts >= 0", name=op.f("ck_job_counts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index(
        "ix_job_active",
        "job",
        ["id"],
        unique=False,
        postgresql_where=sa.text("finished IS NULL"),
        sqlite_where=sa.text("finished IS NULL"),
    )
    op.create_index("ix_job_state_id", "job", ["state", "id"], unique=False)
    op.create_table(
        "stored_result",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=128), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "identity", name=op.f("pk_stored_result")),
    )
    op.create_table(
        "evaluation",
        sa.Column("recipe", sa.String(length=64), nullable=False),
        sa.Column("arch_key", sa.String(length=32), nullable=False),
        sa.Column("fidelity", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("recipe", "arch_key", "fidelity", "seed", name=op.f("pk_evaluation")),
    )
    op.create_table(
        "device_task",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("device", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("model", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("timing", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["id"], ["job.id"], name=op.f("fk_device_task_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_device_task_device"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_task")),
        sa.UniqueConstraint("device", "key", name=op.f("uq_device_task_device_key")),
    )
    op.create_table(
        "device_model",
        sa.Column("device", sa.String(length=128), nullable=False),
        sa.Column("space", sa.String(length=128), nullable=False),
        sa.Column("identity", sa.String(length=128), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_device_model_device"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device", "space", name=op.f("pk_device_model")),
    )
    op.create_table(
        "measurement",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("quantity", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("iqr", sa.Double(), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_measurement_device"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_measurement_device_id", "measurement", ["device", "id"], unique=False)
    op.create_table(
        "search",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("space", sa.JSON(), nullable=False),
        sa.Column("objectives", sa.JSON(), nullable=False),
        sa.Column("constraints", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("n_objectives", sa.Integer(), nullable=False),
        sa.Column("n_trials", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("front_version", sa.Integer(), nullable=False),
        sa.Column("front_size", sa.Integer(), nullable=False),
        sa.Column("hypervolume", sa.Double(), nullable=True),
        sa.Column("reference", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.CheckConstraint("n_trials >= n_failed AND n_failed >= 0", name=op.f("ck_search_counts")),
        sa.ForeignKeyConstraint(["id"], ["job.id"], name=op.f("fk_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search")),
        sa.UniqueConstraint("number", name=op.f("uq_search_number")),
    )
    op.create_index("ix_search_name_number", "search", ["name", "number"], unique=False)
    op.create_table(
        "stored_result_file",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=128), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("artifact_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_stored_result_file_artifact_id")),
        sa.ForeignKeyConstraint(
            ["kind", "identity"],
            ["stored_result.kind", "stored_result.identity"],
            name=op.f("fk_stored_result_file_kind_identity"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("kind", "identity", "path", name=op.f("pk_stored_result_file")),
    )
    op.create_index("ix_stored_result_file_artifact_id", "stored_result_file", ["artifact_id"], unique=False)
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_event_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_search_id_id", "event", ["search_id", "id"], unique=False)
    op.create_index("ix_event_search_id_kind_id", "event", ["search_id", "kind", "id"], unique=False)
    op.create_table(
        "trial_block",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_trial_block_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "first", name=op.f("pk_trial_block")),
    )
    op.create_table(
        "front_log",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("view", sa.String(length=16), nullable=False),
        sa.Column("n_trials", sa.Integer(), nullable=False),
        sa.Column("hypervolume", sa.Double(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("added", sa.JSON(), nullable=False),
        sa.Column("removed", sa.JSON(), nullable=False),
        sa.CheckConstraint("view IN ('believed', 'verified')", name=op.f("ck_front_log_view")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_front_log_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "version", name=op.f("pk_front_log")),
    )
    op.create_table(
        "search_artifact",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("trial_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("role", sa.String(length=128), nullable=False),
        sa.Column("artifact_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_search_artifact_artifact_id")),
        sa.ForeignKeyConstraint(
            ["search_id"], ["search.id"], name=op.f("fk_search_artifact_search_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", "trial_number", "role", name=op.f("pk_search_artifact")),
    )
    op.create_index("ix_search_artifact_artifact_id", "search_artifact", ["artifact_id"], unique=False)
    op.create_table(
        "search_checkpoint",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("scalars", sa.JSON(), nullable=False),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("watt_hours", sa.Double(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"], ["search.id"], name=op.f("fk_search_checkpoint_search_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", name=op.f("pk_search_checkpoint")),
    )
    op.create_table(
        "trial",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("arch_key", sa.String(length=64), nullable=False),
        sa.Column("genome", sa.LargeBinary(), nullable=False),
        sa.Column("choices", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("fidelity", sa.Double(), nullable=False),
        sa.Column("o0", sa.Double(), nullable=True),
        sa.Column("o1", sa.Double(), nullable=True),
        sa.Column("o2", sa.Double(), nullable=True),
        sa.Column("o3", sa.Double(), nullable=True),
        sa.Column("o4", sa.Double(), nullable=True),
        sa.Column("o5", sa.Double(), nullable=True),
        sa.Column("o6", sa.Double(), nullable=True),
        sa.Column("o7", sa.Double(), nullable=True),
        sa.Column("violations", sa.JSON(), nullable=False),
        sa.Column("violation", sa.Double(), nullable=True),
        sa.Column("params", sa.BigInteger(), nullable=True),
        sa.Column("macs", sa.BigInteger(), nullable=True),
        sa.Column("cost_s", sa.Double(), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('succeeded', 'infeasible', 'failed', 'pruned')", name=op.f("ck_trial_state")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_trial_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_trial")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "front_member",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("view", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arch_key", sa.String(length=64), nullable=False),
        sa.Column("o0", sa.Double(), nullable=True),
        sa.Column("o1", sa.Double(), nullable=True),
        sa.Column("o2", sa.Double(), nullable=True),
        sa.Column("o3", sa.Double(), nullable=True),
        sa.Column("o4", sa.Double(), nullable=True),
        sa.Column("o5", sa.Double(), nullable=True),
        sa.Column("o6", sa.Double(), nullable=True),
        sa.Column("o7", sa.Double(), nullable=True),
        sa.CheckConstraint("view IN ('believed', 'verified')", name=op.f("ck_front_member_view")),
        sa.ForeignKeyConstraint(
            ["search_id", "number"],
            ["trial.search_id", "trial.number"],
            name=op.f("fk_front_member_search_id_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("search_id", "view", "number", name=op.f("pk_front_member")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_front_member_search_id_number", "front_member", ["search_id", "number"], unique=False)
    op.create_table(
        "trial_metric",
        sa.Column("search_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("quantity", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("spread", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["search_id", "number"],
            ["trial.search_id", "trial.number"],
            name=op.f("fk_trial_metric_search_id_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("search_id", "number", "quantity", "device", "source", name=op.f("pk_trial_metric")),
    )
    op.execute(sa.text("INSERT INTO counter (name, value) VALUES ('search', 0)"))


def downgrade() -> None:
    """Undo."""
    tables = """
        counter api_key idempotency measurement device_model device_task device stored_result_file stored_result search_artifact artifact event
        front_log front_member trial_metric trial_block trial search_checkpoint search job
    """
    for table in tables.split():
        op.drop_table(table)
