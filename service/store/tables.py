"""The tables. Times are seconds since 1970 by the database's clock (float8); JSON columns hold objects or arrays.

A search is a job of kind ``search`` plus the row of `search` with the same id. Objective values are the columns
o0…o7, so that pages and fronts are read without joining or decoding.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from .records import MAX_OBJECTIVES, CancelMode, FrontView, JobState, Role, TrialState

__all__ = [
    "OBJECTIVES",
    "api_key",
    "artifact",
    "counter",
    "device",
    "device_model",
    "device_task",
    "event",
    "front_log",
    "front_member",
    "idempotency",
    "job",
    "measurement",
    "metadata",
    "search",
    "search_artifact",
    "search_checkpoint",
    "stored_result",
    "stored_result_file",
    "trial",
    "trial_block",
    "trial_metric",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OBJECTIVES = tuple(f"o{index}" for index in range(MAX_OBJECTIVES))

_Id = String(36)
_Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up INTEGER PRIMARY KEY only


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    choices = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({choices})", name=column)


job = Table(
    "job",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("worker", Text),
    Column("lease_until", Double),
    Column("cancel_requested_at", Double),
    Column("cancel_mode", String(8)),
    Column("pause_requested_at", Double),
    Column("error", JSON(none_as_null=True)),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    _one_of("state", JobState),
    _one_of("cancel_mode", CancelMode),
    CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("(state IN ('succeeded', 'failed', 'cancelled')) = (finished IS NOT NULL)", name="finished"),
    CheckConstraint("state <> 'paused' OR kind = 'search'", name="paused"),
    CheckConstraint("epoch >= 0 AND attempts >= 0", name="counts"),
)
Index("ix_job_active", job.c.id, postgresql_where=text("finished IS NULL"), sqlite_where=text("finished IS NULL"))
Index("ix_job_state_id", job.c.state, job.c.id)

search = Table(
    "search",
    metadata,
    Column("id", _Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("config", JSON, nullable=False),
    Column("space", JSON, nullable=False),
    Column("objectives", JSON, nullable=False),
    Column("constraints", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("stage", String(32)),
    Column("progress", JSON, nullable=False),
    Column("n_objectives", Integer, nullable=False),
    Column("n_trials", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False),
    Column("front_version", Integer, nullable=False),
    Column("front_size", Integer, nullable=False),
    Column("hypervolume", Double),
    Column("reference", JSON(none_as_null=True)),
    Column("report", JSON(none_as_null=True)),
    UniqueConstraint("number"),
    CheckConstraint("n_trials >= n_failed AND n_failed >= 0", name="counts"),
)
Index("ix_search_name_number", search.c.name, search.c.number)

search_checkpoint = Table(
    "search_checkpoint",
    metadata,
    Column("search_id", _Id, ForeignKey("search.id", ondelete="CASCADE"), primary_key=True),
    Column("scalars", JSON, nullable=False),
    Column("arrays", LargeBinary, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("watt_hours", Double, nullable=False),
    Column("epoch", Integer, nullable=False),
)

trial = Table(
    "trial",
    metadata,
    Column("search_id", _Id, ForeignKey("search.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("arch_key", String(64), nullable=False),
    Column("genome", LargeBinary, nullable=False),
    Column("choices", JSON(none_as_null=True)),
    Column("fidelity", Double, nullable=False),
    *(Column(name, Double) for name in OBJECTIVES),
    Column("violations", JSON, nullable=False),
    Column("violation", Double),
    Column("params", BigInteger),
    Column("macs", BigInteger),
    Column("cost_s", Double, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("error", Text),
    Column("epoch", Integer, nullable=False),
    Column("created", Double, nullable=False),
    _one_of("state", TrialState),
    sqlite_with_rowid=False,
)

trial_block = (
    Table(  # the numeric columns of a batch once more, packed: a million trials are read in a third of a second
        "trial_block",
        metadata,
        Column("search_id", _Id, ForeignKey("search.id", ondelete="CASCADE"), primary_key=True),
        Column("first", Integer, primary_key=True, autoincrement=False),
        Column("rows", LargeBinary, nullable=False),
    )
)

trial_metric = Table(
    "trial_metric",
    metadata,
    Column("search_id", _Id, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("quantity", String(64), primary_key=True),
    Column("device", String(128), primary_key=True),  # '' where the quantity belongs to no device
    Column("source", String(128), primary_key=True),
    Column("value", Double, nullable=False),
    Column("spread", Double),
    ForeignKeyConstraint(["search_id", "number"], ["trial.search_id", "trial.number"], ondelete="CASCADE"),
)

front_member = Table(
    "front_member",
    metadata,
    Column("search_id", _Id, primary_key=True),
    Column("view", String(16), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("arch_key", String(64), nullable=False),
    *(Column(name, Double) for name in OBJECTIVES),
    ForeignKeyConstraint(["search_id", "number"], ["trial.search_id", "trial.number"], ondelete="CASCADE"),
    _one_of("view", FrontView),
    sqlite_with_rowid=False,
)
Index("ix_front_member_search_id_number", front_member.c.search_id, front_member.c.number)

front_log = Table(
    "front_log",
    metadata,
    Column("search_id", _Id, ForeignKey("search.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("view", String(16), nullable=False),
    Column("n_trials", Integer, nullable=False),
    Column("hypervolume", Double),
    Column("at", Double, nullable=False),
    Column("added", JSON, nullable=False),  # last, as they are long: what is drawn is read without them
    Column("removed", JSON, nullable=False),
    _one_of("view", FrontView),
)

event = Table(
    "event",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("search_id", _Id, ForeignKey("search.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    Column("at", Double, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_event_search_id_id", event.c.search_id, event.c.id)
Index("ix_event_search_id_kind_id", event.c.search_id, event.c.kind, event.c.id)

artifact = Table(
    "artifact",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("sha256", "name", "media_type"),
)

search_artifact = Table(
    "search_artifact",
    metadata,
    Column("search_id", _Id, ForeignKey("search.id", ondelete="CASCADE"), primary_key=True),
    Column("trial_number", Integer, primary_key=True, autoincrement=False),  # -1: of the search itself
    Column("role", String(128), primary_key=True),
    Column("artifact_id", _Id, ForeignKey("artifact.id"), nullable=False),
)
Index("ix_search_artifact_artifact_id", search_artifact.c.artifact_id)

stored_result = Table(
    "stored_result",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("identity", String(128), primary_key=True),
    Column("summary", JSON, nullable=False),
    Column("created", Double, nullable=False),
)

stored_result_file = Table(
    "stored_result_file",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("identity", String(128), primary_key=True),
    Column("path", String(512), primary_key=True),
    Column("artifact_id", _Id, ForeignKey("artifact.id"), nullable=False),
    ForeignKeyConstraint(["kind", "identity"], ["stored_result.kind", "stored_result.identity"], ondelete="CASCADE"),
)
Index("ix_stored_result_file_artifact_id", stored_result_file.c.artifact_id)

evaluation = Table(
    "evaluation",
    metadata,
    Column("recipe", String(64), primary_key=True),
    Column("arch_key", String(32), primary_key=True),
    Column("fidelity", Double, primary_key=True),
    Column("seed", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
    Column("created", Double, nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("description", JSON, nullable=False),  # {} where the catalog's file describes it
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("agent", JSON(none_as_null=True)),  # what its agent told about itself last
    Column("seen", Double),  # when its agent was last heard of
)

device_task = Table(  # what a measuring job adds to its row of `job`, which holds the lease
    "device_task",
    metadata,
    Column("id", _Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String(128), ForeignKey("device.name", ondelete="CASCADE"), nullable=False),
    Column("key", String(64), nullable=False),
    Column("model", JSON(none_as_null=True)),  # packed; dropped once measured
    Column("timing", JSON, nullable=False),
    Column("result", JSON(none_as_null=True)),
    UniqueConstraint("device", "key"),
)

device_model = Table(  # the latency model that was fitted to a device's measurements last, per search space
    "device_model",
    metadata,
    Column("device", String(128), ForeignKey("device.name", ondelete="CASCADE"), primary_key=True),
    Column("space", String(128), primary_key=True),
    Column("identity", String(128), nullable=False),
    Column("created", Double, nullable=False),
)

measurement = Table(
    "measurement",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("device", String(128), ForeignKey("device.name", ondelete="CASCADE"), nullable=False),
    Column("subject", Text, nullable=False),
    Column("quantity", String(64), nullable=False),
    Column("value", Double, nullable=False),
    Column("iqr", Double, nullable=False),
    Column("source", String(128), nullable=False),
    Column("conditions", JSON, nullable=False),
    Column("created", Double, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_measurement_device_id", measurement.c.device, measurement.c.id)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", String(128), primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("created", Double, nullable=False),
)
Index("ix_idempotency_created", idempotency.c.created)

api_key = Table(
    "api_key",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created", Double, nullable=False),
    Column("revoked", Double),
    Column("device", String(128)),  # of a key of the role `device`: the one it may act for
    _one_of("role", Role),
)

counter = Table(
    "counter",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Integer, nullable=False),
)
