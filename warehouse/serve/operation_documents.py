"""The documents of operations, in the HTTP API and its description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_AT = "UTC, ISO 8601."
_OPERATE = "Null, or empty, without the scope operate."
_DAY = r"^\d{4}-\d{2}-\d{2}$"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TableOfRun(_Document):
    """What a run did with one table in one stage."""

    table: str = Field(examples=["raw.flightops__flights"])
    stage: str
    batches: int
    refused: int = Field(description="Batches that a gate refused.")
    rows_in: int
    published: int
    quarantined: int
    rejected: int
    deduplicated: int
    started_at: str = Field(description=_AT)
    ended_at: str = Field(description=_AT)
    reasons: list[str] = Field(description=f"Why batches were refused. {_OPERATE}")


class FailureOfRun(_Document):
    """Something that a run could not do, and that still fails."""

    stage: str
    source: str
    table: str
    key: str
    error: str
    problem: str
    remedy: str
    failed_at: str


class Run(_Document):
    """One run that was recorded."""

    id: str = Field(examples=["run-4f1d2a9be0c1"])
    state: Literal["published", "refused", "failed"]
    started_at: str | None = Field(description=_AT)
    ended_at: str | None = Field(description=_AT)
    release_id: str | None = Field(description="Release that it built.")
    batches: int
    refused: int
    rows_in: int = Field(description="Sum of the four figures below, over all tables and stages.")
    published: int
    quarantined: int
    rejected: int
    deduplicated: int
    cpu_s: float | None = Field(description=_OPERATE)
    wall_s: float | None = Field(description=_OPERATE)
    tables: list[TableOfRun]
    failures: list[FailureOfRun] = Field(description=_OPERATE)


class Runs(_Document):
    """Runs, the newest first."""

    runs: list[Run]


class Waiting(_Document):
    """Rows of one interval that wait in quarantine for the same rules."""

    table: str = Field(examples=["raw.stations__weather"])
    interval: str = Field(examples=["2013-02-12"])
    rules: str
    rows: int


class Quarantine(_Document):
    """Rows in quarantine, counted."""

    quarantine: list[Waiting]


class QuarantinedRow(_Document):
    """One row that waits."""

    partition_key: str
    stage: str
    rules: str
    reason: str | None
    row: str = Field(description="The row as it came, JSON.")
    position: str
    batch_id: str
    attempt_id: str
    run_id: str
    quarantined_at: str | None = Field(description=_AT)
    row_id: str | None
    form: str | None
    discarded_at: str | None
    discarded_by: str | None
    discard_reason: str | None


class QuarantinedRows(_Document):
    """Rows of a table that wait."""

    table: str
    rows: list[QuarantinedRow]


class Incident(_Document):
    """One thing that is or was wrong, by root cause."""

    id: str = Field(examples=["i000012"])
    state: Literal["open", "resolved"]
    kind: str
    severity: Literal["critical", "warning", "info"]
    cause: str | None = Field(description=_OPERATE)
    subject: str | None = Field(description=_OPERATE)
    reason: str | None = Field(description=_OPERATE)
    command: str | None = Field(description=f"What to run next. {_OPERATE}")
    owner: str | None = Field(description=_OPERATE)
    part_of: str | None = Field(description=_OPERATE)
    acknowledged_by: str | None = Field(description=_OPERATE)
    acknowledged_at: str | None = Field(description=_AT)
    first_seen_at: str = Field(description=_AT)
    last_seen_at: str = Field(description=_AT)
    resolved_at: str | None = Field(description=_AT)
    occurrences: int
    intervals: list[str]
    tables: list[str] = Field(description="What it is about: a table, a source, the build.")
    affected: list[str] = Field(description="Tables and models made from that.")


class Incidents(_Document):
    """Incidents, those that are open first."""

    incidents: list[Incident]


class Wish(_Document):
    """What a backfill is to fill."""

    targets: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=1,
        max_length=100,
        description="Sources, tables of any stage, or models.",
        examples=[["raw.stations__weather"]],
    )
    start: str = Field(pattern=_DAY, description="First day.", examples=["2013-02-12"])
    end: str = Field(pattern=_DAY, description="The day after the last one.", examples=["2013-02-14"])
    mode: Literal["only-missing", "stale", "all"] = Field(default="only-missing", description="Which intervals run.")
    newest_first: bool = Field(default=False, description="Begin with the latest day.")
    parallel: int = Field(default=2, ge=1, le=64, description="Intervals of one source at once.")
    max_per_hour: int | None = Field(
        default=None, ge=1, le=100_000, description="Intervals of one source that may start within an hour."
    )
    stop_on_failure: bool = Field(default=False, description="Start nothing more once an interval failed.")


class StartWish(Wish):
    """The same, to be started."""

    unpause: bool = Field(default=False, description="Unpause the DAGs that it needs.")


class SpanPlan(_Document):
    """Neighbouring days of a source that want the same tables."""

    first: str
    last: str
    tables: list[str]


class TablePlan(_Document):
    """What is wanted of one table."""

    table: str
    keys: list[str]
    states: dict[str, int] = Field(description="How many of them are in which state now.")
    rows_expected: int | None
    work_s_expected: float | None


class Plan(_Document):
    """What a backfill will do."""

    wish: Wish
    sources: dict[str, list[SpanPlan]]
    ingest: list[TablePlan]
    refine: list[TablePlan]
    models: list[str]
    releases: int
    work_s_expected: float | None


class Started(_Document):
    """A backfill that runs."""

    id: str | None = Field(description="Null if there is nothing to do.", examples=["20261126-0805-4f1d"])
    started: bool = Field(description="False if exactly this one was running, or there is nothing to do.")
    plan: Plan | None = Field(description="Null if it was running.")


class DaysOfSource(_Document):
    """How far a source's days are."""

    done: int
    failed: int
    total: int


class Backfill(_Document):
    """A backfill that the scheduler knows."""

    id: str
    state: str = Field(description="queued, running, success, failed; or paused, cancelled.")
    wish: Wish
    started_at: str
    sources: dict[str, DaysOfSource] = Field(description=_OPERATE)
    summary: dict[str, Any] | None = Field(description=f"Its account, once it has ended. {_OPERATE}")


class Backfills(_Document):
    """Backfills, the newest first."""

    backfills: list[Backfill]
