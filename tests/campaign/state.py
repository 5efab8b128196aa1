"""The small world that processes are killed in: a lake and a warehouse that can be put back to saved states.

Three days of flights and weather; two are published by a release each, the third is brought in step by step
(``tests/campaign/stages.py``) and the state saved before each step. Iceberg's metadata hold absolute paths, so the
folder stays where it is and its content comes and goes. Files that are never changed once they are written are linked.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import penstock
from common.errors import UnknownName
from common.settings import Settings
from lake.lake import checksum_of
from lake.paths import TableId
from lake.quarantine import quarantined
from lake.schema import PARTITION_COLUMN
from lake.sql import identifier
from penstock.maintenance import retain, sweep_lake
from penstock.pipeline import Pipeline
from penstock.run import run
from tests.campaign.stages import ACTS, DAY, STATES, Stage

FIRST, SECOND = ("2013-02-10", "2013-02-11"), ("2013-02-11", "2013-02-12")
KEYS = {
    "raw.flightops__flights": ("time_hour", "carrier", "flight"),
    "raw.stations__weather": ("origin", "time_hour"),
    "refined.flights": ("flight_id",),
    "refined.weather": ("station_code", "observed_at"),
    "fct_flights": ("flight_id",),
    "fct_weather_hourly": ("station_code", "observed_at"),
}
"""Columns that name a row, by table."""

_UNCHANGED = (".parquet", ".avro", ".metadata.json")

Look = Mapping[str, str]
"""What a reader saw: checksum by part; a release's tables are one part, for they are read from one file."""


def settings_of(home: Path, connections: Mapping[str, str], sources: Path) -> Settings:
    """Settings of every process of the world. Two releases are kept, so that a publish removes one."""
    return Settings.load(
        {}, home=home, connections=connections, sources=sources, keep_releases=2, sweep_grace_h=0.0, memory_limit_mb=256
    )


def declare(pipeline: Pipeline, tables: tuple[TableId, ...]) -> None:
    """Tell the lake the columns of tables that are there."""
    if any(table.namespace == "raw" for table in tables):
        pipeline.declare_raw()
    for table in tables:
        if table.namespace == "refined":
            refined = pipeline.refined(table.name)
            pipeline.lake.ensure(table, refined.columns, partition_by=PARTITION_COLUMN if refined.partitioned else None)


def look(settings: Settings, tables: tuple[TableId, ...]) -> Look:
    """What a reader sees who comes now: of these tables of the lake, or of the release if there are none."""
    if not tables:
        return {"release": _release(settings)}
    pipeline = Pipeline(settings)
    declare(pipeline, tables)
    seen = {}
    for table in tables:
        for key in sorted({file.key for file in pipeline.lake.live(table)}):
            seen[f"{table} {key}"] = pipeline.lake.checksum(table, [key])
    return seen


def _release(settings: Settings) -> str:
    try:
        connection = penstock.connect(settings=settings)
    except UnknownName:
        return "none"
    with connection:
        names = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
        ).fetchall()
        return " ".join(f"{name}={checksum_of(connection, identifier(name))}" for (name,) in names)


def rows_of(settings: Settings, tables: tuple[TableId, ...]) -> dict[str, Counter[tuple[Any, str]]]:
    """Every row there is, as (table, key) -> how often and with which values it occurs."""
    found = {}
    if tables:
        pipeline = Pipeline(settings)
        declare(pipeline, tables)
        with pipeline.lake.connect() as connection:
            for table in tables:
                found[str(table)] = _counted(connection, pipeline.lake.relation(table), KEYS[str(table)])
        return found
    with penstock.connect(settings=settings) as connection:
        for name in ("fct_flights", "fct_weather_hourly"):
            found[name] = _counted(connection, identifier(name), KEYS[name])
    return found


def _counted(connection: Any, relation: str, key: tuple[str, ...]) -> Counter[tuple[Any, str]]:
    named = f"concat_ws('|', {', '.join(f'CAST({identifier(name)} AS VARCHAR)' for name in key)})"
    rows = connection.execute(f"SELECT {named}, CAST(hash(r) AS VARCHAR) FROM {relation} AS r").fetchall()
    return Counter((row[0], row[1]) for row in rows)


@dataclass(frozen=True)
class Difference:
    """How the rows of some tables differ from what they should be, by key."""

    expected: int
    lost: int
    duplicated: int
    wrong: int

    @classmethod
    def between(
        cls, wanted: Mapping[str, Counter[tuple[Any, str]]], found: Mapping[str, Counter[tuple[Any, str]]]
    ) -> Difference:
        """Count them."""
        expected = lost = duplicated = wrong = 0
        for table, rows in wanted.items():
            there = found.get(table, Counter())
            keys, keys_there = Counter(key for key, _ in rows.elements()), Counter(key for key, _ in there.elements())
            expected += rows.total()
            lost += (keys - keys_there).total()
            duplicated += (keys_there - keys).total()
            wrong += sum(1 for key, values in there if key in keys and (key, values) not in rows)
        return cls(expected, lost, duplicated, wrong)


@dataclass
class World:
    """Saved states of one state folder, and what is seen in each of them.

    Attributes:
        settings: of everybody in it.
        saved: folder of the saved states.
    """

    settings: Settings
    saved: Path
    _looks: dict[tuple[str, tuple[TableId, ...]], Look] = field(default_factory=dict)
    _rows: dict[tuple[str, tuple[TableId, ...]], dict[str, Counter[tuple[Any, str]]]] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, connections: Mapping[str, str], *, upto: str = STATES[-1]) -> World:
        """Make the states from nothing, up to one of them; with releases if that one comes behind a build."""
        sources = folder / "sources"
        shutil.copytree(Path(penstock.__file__).parent.parent / "ingestion" / "sources", sources)
        spec = sources / "flightops.yml"
        # So that even a small table is read in several chunks.
        spec.write_text(spec.read_text().replace("  - name: flights\n", "  - name: flights\n    chunk_rows: 1000\n"))
        world = cls(settings_of(folder / "state", connections, sources), folder / "saved")
        released = STATES.index(upto) > STATES.index("refined")
        for first, end in (FIRST, SECOND) if released else ((FIRST[0], SECOND[1]),):
            run(world.pipeline(), first, end, build=released)
        world.save(STATES[0])
        steps = ("ingest flights", "ingest weather", "refine", "build", "publish")
        for step, state in zip(steps[: STATES.index(upto)], STATES[1:], strict=False):
            ACTS[step](world.pipeline())
            world.save(state)
        return world

    @cached_property
    def home(self) -> Path:
        """The state folder."""
        return self.settings.home

    def pipeline(self) -> Pipeline:
        """What a process that starts now has."""
        return Pipeline(self.settings)

    def save(self, name: str) -> None:
        """Save the state under a name."""
        _mirror(self.home, self.saved / name)

    def restore(self, name: str) -> None:
        """Make the state what it was when it was saved under that name."""
        _mirror(self.saved / name, self.home)

    def expected(self, stage: Stage, state: str) -> Look:
        """What a reader of a stage sees in a saved state."""
        at = (state, stage.tables)
        if at not in self._looks:
            self.restore(state)
            self._looks[at] = look(self.settings, stage.tables)
        return self._looks[at]

    def expected_rows(self, stage: Stage, state: str) -> dict[str, Counter[tuple[Any, str]]]:
        """The rows of a stage's tables in a saved state."""
        at = (state, stage.tables)
        if at not in self._rows:
            self.restore(state)
            self._rows[at] = rows_of(self.settings, stage.tables)
        return self._rows[at]

    def waiting(self) -> int:
        """Rows of the day's weather that wait in quarantine."""
        pipeline = self.pipeline()
        pipeline.declare_raw()
        return quarantined(pipeline.lake, TableId("raw", "stations__weather"), DAY).num_rows

    def sweep(self) -> int:
        """Tidy up as maintenance does, without its grace; bytes on disk that nothing needs and that are still there."""
        pipeline = self.pipeline()
        retain(pipeline)
        sweep_lake(pipeline, grace_h=0.0)
        return sum(path.lstat().st_size for path in self.left_over())

    def left_over(self) -> list[Path]:
        """Files that no snapshot, release or process has a use for, found by looking at the disk and not by asking."""
        pipeline = self.pipeline()
        named = set()
        spaces = ("raw", "refined", "quarantine", "ops")
        for table in [table for space in spaces for table in pipeline.lake.tables(space)]:
            loaded = pipeline.lake.load(table)
            for snapshot in loaded.snapshots():
                for manifest in snapshot.manifests(loaded.io):
                    entries = manifest.fetch_manifest_entry(loaded.io, discard_deleted=False)
                    named |= {entry.data_file.file_path.removeprefix("file://") for entry in entries}
        lake = [path for path in Path(self.settings.lake_uri).rglob("*.parquet") if str(path) not in named]
        warehouse = self.settings.warehouse
        # A sealed candidate waits for its publish, and is the result of a build; any other is what a dead one has left.
        sealed = max(warehouse.glob("candidates/*/manifest.json"), default=None)
        candidates = [
            path for path in warehouse.glob("candidates/**/*") if not sealed or sealed.parent not in path.parents
        ]
        candidates += [*warehouse.glob(".current.*"), *warehouse.glob("*.held")]
        hidden = [*(warehouse / "releases").glob(".*/**/*"), *self.home.glob("extracts/**/*.json")]
        scratch = [path for path in self.home.glob("tmp/**/*") if "dbt" not in str(path.relative_to(self.home))]
        return [path for path in (*lake, *candidates, *hidden, *scratch) if path.is_file() or path.is_symlink()]


def _mirror(source: Path, target: Path) -> None:
    """Make one folder as the other; files that are never changed are the same file in both."""
    target.mkdir(parents=True, exist_ok=True)
    wanted = {entry.name: entry for entry in os.scandir(source)}
    for there in list(os.scandir(target)):
        if (mine := wanted.get(there.name)) is not None and _is_kept(mine, there):
            continue
        if there.is_dir(follow_symlinks=False):
            _writable(Path(there.path))
            shutil.rmtree(there.path)
        else:
            Path(there.path).unlink()
    for name, entry in wanted.items():
        copy = target / name
        if entry.is_symlink():
            copy.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            _mirror(Path(entry.path), copy)
        elif _is_unchanged(entry.path):
            if not copy.exists():
                os.link(entry.path, copy)
        else:
            shutil.copy2(entry.path, copy)


def _is_kept(mine: os.DirEntry[str], there: os.DirEntry[str]) -> bool:
    if mine.is_symlink() or there.is_symlink() or mine.is_dir() != there.is_dir():
        return False
    return there.is_dir() or (_is_unchanged(there.path) and mine.inode() == there.inode())


def _is_unchanged(path: str) -> bool:
    return path.endswith(_UNCHANGED) or (path.endswith("warehouse.duckdb") and "/releases/" in path)


def _writable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
