"""A small table, batches of it, and other processes that publish or read it: what the lake's tests are written with."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.settings import Settings
from common.verdict import REJECTS_SCHEMA, RuleResult, Verdict
from lake import catalog
from lake.batches import EARLY_REJECTS_SCHEMA, Receipt, StagedBatch
from lake.lake import Lake, checksum_of
from lake.paths import TableId, engine_path, new_attempt
from lake.publish import find_same, identify, publish
from lake.schema import Column
from lake.sql import literal, parquet_relation

TABLE = TableId("raw", "shop__orders")
WHOLE_TABLE = TableId("raw", "shop__customers")
COLUMNS = (
    Column("ds", "date", False, "Day."),
    Column("id", "int64", False, "Id."),
    Column("note", "string", True, "Text."),
)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

Row = tuple[int, str | None]


@dataclass
class Bench:
    """One lake and the ways the tests put batches into it."""

    settings: Settings
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.lake = self.open()

    def open(self) -> Lake:
        """Another handle on the lake, as another process would have it."""
        catalog._LIVE.clear()
        lake = Lake(self.settings, clock=lambda: NOW)
        lake.ensure(TABLE, COLUMNS, partition_by="ds")
        return lake

    def stage(
        self,
        rows: Sequence[Row],
        key: str = "2013-01-01",
        *,
        early: int = 0,
        deduplicated: int = 0,
        parts: int = 1,
        code: str = "code",
        lake: Lake | None = None,
    ) -> StagedBatch:
        """Write rows where nobody reads them, in ``parts`` files."""
        return stage_rows(lake or self.lake, rows, key, early=early, deduplicated=deduplicated, parts=parts, code=code)

    def publish(self, rows: Sequence[Row], key: str = "2013-01-01", **options: Any) -> Receipt:
        """Stage and publish; rows whose number is in ``rejected`` go to quarantine."""
        rejected = options.pop("rejected", ())
        lake = options.get("lake") or self.lake
        return publish_staged(lake, self.stage(rows, key, **options), rejected)

    def rows(self, key: str | None = None, lake: Lake | None = None) -> list[Row]:
        """The live rows, of one partition or of all."""
        lake = lake or self.lake
        with lake.connect() as connection:
            relation = lake.relation(TABLE, None if key is None else [key])
            return connection.execute(f"SELECT id, note FROM {relation} ORDER BY id, note").fetchall()

    def state(self) -> tuple[object, ...]:
        """Everything that a publish may change and a refused one must not."""
        lake = self.open()
        return (lake.snapshot_id(TABLE), lake.live_attempts(TABLE), self.rows(lake=lake), self.data_files())

    def data_files(self, table: TableId = TABLE) -> list[str]:
        """Every data file in the table's folder, live or not."""
        folder = f"{self.lake.load(table).location()}/data"
        return [path for path in self.lake.storage.list_files(folder) if path.endswith(".parquet")]

    def size_bytes(self, table: TableId = TABLE) -> int:
        """Bytes of everything in the table's folder, in bytes."""
        return sum(file.size_bytes for file in self.lake.storage.list_stored(self.lake.load(table).location()))

    def receipt_files(self) -> list[str]:
        """Every receipt of the table, live or not."""
        root = self.lake.load(TABLE).location().removesuffix(f"/{TABLE.namespace}/{TABLE.name}")
        return self.lake.storage.list_files(f"{root}/ops/receipts/{TABLE}")

    def refusal_files(self) -> list[dict[str, Any]]:
        """Every refusal of the table."""
        root = self.lake.load(TABLE).location().removesuffix(f"/{TABLE.namespace}/{TABLE.name}")
        return [self.lake.storage.read_json(path) for path in self.lake.storage.list_files(f"{root}/ops/refusals")]


def stage_rows(
    lake: Lake,
    rows: Sequence[Row],
    key: str,
    *,
    early: int = 0,
    deduplicated: int = 0,
    parts: int = 1,
    code: str = "code",
    table: TableId = TABLE,
) -> StagedBatch:
    """Write a batch as ``parts`` files, its first ``early`` rows lost before the first file."""
    attempt = new_attempt()
    locations = tuple(lake.staging_location(table, key, attempt, part) for part in range(parts))
    columns, _ = lake.columns(table)
    for part, location in enumerate(locations):
        mine = rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]
        ids, notes = [row[0] for row in mine], [row[1] for row in mine]
        frame = pa.table({"id": pa.array(ids, pa.int64()), "note": pa.array(notes, pa.string())})
        day = f"DATE {literal(key)} AS ds, " if any(column.name == "ds" for column in columns) else ""
        with lake.connect() as connection:
            connection.register("frame", frame)
            extra = ", ".join(f"NULL AS {c.name}" for c in columns if c.name not in {"ds", "id", "note"})
            lake.write(connection, f"SELECT {day}*{', ' + extra if extra else ''} FROM frame", table, location)
    rejects = [
        {"rule": "exact_value", "reason": "no number", "position": f"line {n}", "row": json.dumps({"id": f"x{n}"})}
        for n in range(early)
    ]
    return StagedBatch(
        table,
        key,
        attempt,
        locations,
        rows_in=len(rows) + early + deduplicated,
        rows_staged=len(rows),
        deduplicated=deduplicated,
        code=code,
        set_apart=pa.Table.from_pylist(rejects, schema=EARLY_REJECTS_SCHEMA),
    )


def verdict(rows: int, rejected: Iterable[int] = (), *, passed: bool = True) -> Verdict:
    """A gate's answer: rule ``positive`` rejects the rows of these numbers."""
    numbers = sorted(rejected)
    rejects = pa.Table.from_pylist([{"row_number": n, "rules": ["positive"]} for n in numbers], schema=REJECTS_SCHEMA)
    rule = RuleResult(
        "positive",
        "expect_column_values_to_be_between",
        "critical",
        True,
        not numbers,
        None,
        len(numbers),
        "An id is > 0.",
    )
    return Verdict("raw/shop__orders", passed, (rule,), rows, rejects, () if passed else ("too many rejected rows",))


def publish_staged(lake: Lake, staged: StagedBatch, rejected: Iterable[int] = (), **options: Any) -> Receipt:
    """What the pipeline does between a staged batch and its receipt."""
    identity = identify(lake, staged)
    same = find_same(lake, staged, identity)
    if same is not None:
        return same
    return publish(
        lake, staged, verdict(staged.rows_staged, rejected), identity=identity, stage="ingest", run_id="run", **options
    )


# -- other processes ---------------------------------------------------------------------------------------------------


def start(target: Any, *arguments: Any) -> BaseProcess:
    """Run a function of this module in a process of its own."""
    process = PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def finish(*processes: BaseProcess, timeout_s: float = 120) -> None:
    """Wait for processes and fail if one of them failed."""
    for process in processes:
        process.join(timeout_s)
    codes = [process.exitcode for process in processes]
    for process in processes:
        if process.is_alive():
            process.kill()
    assert codes == [0] * len(codes)


def publish_days(settings: Settings, barrier: Any, keys: Sequence[str], writer: int) -> None:
    """Publish one batch per key; the rows say who wrote them, and one row of every third batch is rejected."""
    bench = Bench(settings)
    barrier.wait(60)
    for number, key in enumerate(keys):
        rows = [(writer, f"batch {number}"), (-writer, None)]
        bench.publish(rows, key, rejected=[] if number % 3 else [1])


def publish_days_in_new_lake(settings: Settings, barrier: Any, keys: Sequence[str], writer: int) -> None:
    """Like :func:`publish_days`, but the lake is not there yet when all begin."""
    barrier.wait(60)
    bench = Bench(settings)
    for number, key in enumerate(keys):
        bench.publish([(writer, f"batch {number}"), (-writer, None)], key)


def publish_same(settings: Settings, barrier: Any, results: Any) -> None:
    """Publish a batch that others publish at the same moment, two rows of it rejected."""
    bench = Bench(settings)
    staged = bench.stage([(1, "a"), (-1, "b"), (2, "c")], early=1)
    identity = identify(bench.lake, staged)
    barrier.wait(60)
    receipt = publish(bench.lake, staged, verdict(3, [1]), identity=identity, stage="ingest", run_id="run")
    results.put(receipt.to_dict())


def read_until_told(settings: Settings, stop: Any, ready: Any, seen: Any) -> None:
    """Read one partition over and over; report each distinct answer and every failure."""
    lake = Lake(settings)
    lake.ensure(TABLE, COLUMNS, partition_by="ds")
    answers: set[str] = set()
    failures: list[str] = []
    reads = 0
    while not stop.is_set() or reads < 3:
        try:
            files = [engine_path(file.location) for file in lake.live(TABLE, "2013-01-01")]
            columns, field_ids = lake.columns(TABLE)
            with lake.connect() as connection:
                answers.add(checksum_of(connection, parquet_relation(files, columns, field_ids)))
        except Exception as error:  # noqa: BLE001 - every failure counts
            failures.append(f"{type(error).__name__}: {error}")
        reads += 1
        ready.set()
    seen.put((reads, answers, failures))


def new_lake(home: Path, connection: str, prefix: str) -> Settings:
    """Settings of an S3 lake under a prefix of the bucket that ``connection`` names."""
    return Settings.load({}, home=home, lake_uri=f"s3://stations/{prefix}", connections={"lake": connection})
