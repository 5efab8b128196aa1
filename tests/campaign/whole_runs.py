"""Fault 1: ``kill -9`` at every named point and at random, SIGTERM, Ctrl-C, and two runs at once.

A run over three days of which two are published is killed while it brings in the third - the one whose weather has a
row for the quarantine. Then: readers have the old version or the new one of everything, the ledger balances, and the
same command without a fault ends as if nothing had happened. Not of the default suite: ``make faults`` runs it by name.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import penstock
from common.errors import UnknownName
from lake.lake import checksum_of
from lake.paths import TableId
from lake.quarantine import quarantined
from lake.schema import PARTITION_COLUMN
from lake.sql import identifier
from penstock import ledger
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.run import run
from penstock.status import lake_tables
from tests.command_line import CommandLine
from tests.forked import Process
from warehouse.releases import Releases

START, MISSING, AFTER, END = "2013-02-11", "2013-02-12", "2013-02-13", "2013-02-14"
COMMAND = ("run", "--from", START, "--to", END)
WEATHER = TableId("raw", "stations__weather")

Figures = Callable[..., None]
Contents = dict[tuple[str, str], str]
"""Checksum by table and partition key; of warehouse tables by name and ``""``."""


@dataclass(frozen=True)
class World:
    """A state folder that can be put back to saved states, and what it holds in them.

    Iceberg's metadata hold absolute paths, so the folder itself stays where it is and its content comes and goes.
    """

    command: CommandLine
    saved: Path
    old: Contents
    new: Contents

    def restore(self, name: str) -> None:
        """Make the state folder what it was when it was saved under this name."""
        shutil.rmtree(self.command.home, ignore_errors=True)
        shutil.copytree(self.saved / name, self.command.home, symlinks=True)

    def save(self, name: str) -> None:
        """Save the state folder under a name."""
        shutil.copytree(self.command.home, self.saved / name, symlinks=True)


def contents(pipeline: Pipeline) -> Contents:
    """What every reader of the lake and of the current release can see."""
    return lake_contents(pipeline) | warehouse_contents(pipeline)


def lake_contents(pipeline: Pipeline) -> Contents:
    """Checksum of the live rows of each partition of each table."""
    pipeline.declare_raw()
    found = {}
    for table in lake_tables(pipeline):
        if table.namespace == "refined":
            refined = pipeline.refined(table.name)
            pipeline.lake.ensure(table, refined.columns, partition_by=PARTITION_COLUMN if refined.partitioned else None)
        for key in sorted({file.key for file in pipeline.lake.live(table)}):
            found[str(table), key] = pipeline.lake.checksum(table, [key])
    return found


def warehouse_contents(pipeline: Pipeline) -> Contents:
    """Checksum of each table of the release that a reader gets now, computed from its rows; empty without a release."""
    try:
        connection = penstock.connect(settings=pipeline.settings)
    except UnknownName:
        return {}
    with connection:
        tables = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
        ).fetchall()
        return {(name, ""): checksum_of(connection, identifier(name)) for (name,) in tables}


@pytest.fixture(scope="module")
def world(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Saved states: ``published`` (two of three days), ``refined`` (the third not yet built), ``unreleased``."""
    base = tmp_path_factory.mktemp("kill")
    command = CommandLine(base / "state", services.connections)
    made = World(command, base / "saved", {}, {})

    def fresh() -> Pipeline:
        return Pipeline(command.settings())

    run(fresh(), START, MISSING, build=False)
    run(fresh(), AFTER, END)
    old = contents(fresh())
    made.save("published")
    run(fresh(), MISSING, AFTER, build=False)
    made.save("refined")
    shutil.rmtree(command.settings().warehouse)
    made.save("unreleased")
    shutil.rmtree(command.home)
    run(fresh(), START, END)
    return replace(made, old=old, new=contents(fresh()))


def assert_old_or_new(world: World) -> Contents:
    """Nothing is half visible: each partition and the release as a whole are as before or as they shall be."""
    pipeline = Pipeline(world.command.settings())
    seen = lake_contents(pipeline)
    for part, checksum in seen.items():
        assert checksum in {world.old.get(part), world.new.get(part)}, part
    assert world.old.keys() & _lake(world.old) <= seen.keys(), "what was published is still there"
    release = warehouse_contents(pipeline)
    assert release in ({}, _warehouse(world.old), _warehouse(world.new))
    assert ledger.problems(ledger.entries(pipeline)) == []
    waiting = quarantined(pipeline.lake, WEATHER).num_rows
    assert waiting == ((str(WEATHER), MISSING) in seen), "a rejected row is there with its batch, not before"
    return seen | release


def assert_as_undisturbed(world: World, releases: int) -> None:
    """The end state is that of a run that nothing happened to, and nothing of the other run is left to see."""
    pipeline = Pipeline(world.command.settings())
    assert contents(pipeline) == world.new
    assert ledger.problems(ledger.entries(pipeline)) == []
    assert quarantined(pipeline.lake, WEATHER).num_rows == 1
    warehouse = pipeline.settings.warehouse
    listed = Releases(warehouse).all()
    assert [release.current for release in listed] == [False] * (releases - 1) + [True]
    assert {path.name for path in (warehouse / "releases").iterdir()} == {release.id for release in listed}
    assert list((warehouse / "candidates").iterdir()) == []
    assert not list(warehouse.glob(".current.*"))


def orphans(world: World) -> list[Path]:
    """Data files on disk that no reader is ever told of; it is checked that no snapshot names them."""
    pipeline = Pipeline(world.command.settings())
    named = set()
    for table in [t for space in ("raw", "refined", "quarantine", "ops") for t in pipeline.lake.tables(space)]:
        loaded = pipeline.lake.load(table)
        for snapshot in loaded.snapshots():
            for manifest in snapshot.manifests(loaded.io):
                entries = manifest.fetch_manifest_entry(loaded.io, discard_deleted=False)
                named |= {entry.data_file.file_path.removeprefix("file://") for entry in entries}
    on_disk = {str(path) for path in Path(pipeline.settings.lake_uri).rglob("*.parquet")}
    assert named <= on_disk, "a file that a snapshot names is never deleted"
    return [Path(path) for path in sorted(on_disk - named)]


def _lake(all_contents: Contents) -> set[tuple[str, str]]:
    return {part for part in all_contents if part[1]}


def _warehouse(all_contents: Contents) -> Contents:
    return {part: checksum for part, checksum in all_contents.items() if not part[1]}


def recover(world: World, releases: int, figures: Figures, **trial: object) -> None:
    """Run the same command again without a fault, check the end state, and tell the trial."""
    left = orphans(world)
    orphan_bytes = sum(path.stat().st_size for path in left)
    began = time.monotonic()
    report = run(Pipeline(world.command.settings()), START, END)
    seconds = time.monotonic() - began
    assert report.exit_code == 0
    assert_as_undisturbed(world, releases)
    assert set(orphans(world)) <= set(left), "the rerun leaves nothing of its own"
    figures(**trial, recovery_s=round(seconds, 2), bytes_to_sweep=orphan_bytes)


# -- kill -9 at some points of a whole run; fault_01.py does it at all of them, step by step -------------------------

TRIALS = [
    # Of the published state: planes, airlines, airports, then three days of flights, then one day of weather are read.
    ("published", "ingest.extract.before_read", 7),
    ("published", "ingest.extract.after_chunk", 6),
    # Commits: flights, quarantine of weather, weather, refined flights, refined weather.
    ("published", "lake.publish.before_commit", 1),
    ("published", "lake.publish.before_commit", 5),
    ("published", "lake.publish.after_commit", 2),
    ("published", "refine.write.after_write", 2),
    ("published", "lake.ops.before_commit", 1),  # by the build
    # Of the refined state only the build is missing.
    ("refined", "warehouse.build.after_models", 1),
    ("refined", "warehouse.publish.before_swap", 1),
    ("refined", "warehouse.publish.after_swap", 1),
    # And of the last one there is no release yet.
    ("unreleased", "warehouse.publish.before_swap", 1),
]


@pytest.mark.parametrize(("state", "point", "occurrence"), TRIALS)
def test_a_run_killed_at_a_point_leaves_old_or_new_and_its_rerun_ends_as_if_undisturbed(
    world: World, figures: Figures, state: str, point: str, occurrence: int
) -> None:
    world.restore(state)
    killed = replace(world.command, extra={"PENSTOCK_FAULT_POINT": f"{point}:{occurrence}"})
    answer = killed.run(*COMMAND)
    assert answer.code == -signal.SIGKILL, f"{point} was reached fewer than {occurrence} times: {answer.err}"
    seen = assert_old_or_new(world)
    swapped = point == "warehouse.publish.after_swap"
    before = {} if state == "unreleased" else _warehouse(world.old)
    expected = _warehouse(world.new) if swapped else before
    assert _warehouse(seen) == expected
    recover(world, 1 if state == "unreleased" else 2, figures, stage="run", point=point, n=occurrence, action="kill")


def test_a_point_that_is_reached_fewer_times_than_armed_for_does_not_kill(world: World) -> None:
    world.restore("published")
    armed = replace(world.command, extra={"PENSTOCK_FAULT_POINT": "ingest.extract.before_read:8"})
    assert armed.run(*COMMAND, "--no-build").code == 0, "the numbers of the trials above are the last ones there are"


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_any_time_leaves_old_or_new_and_its_rerun_ends_as_if_undisturbed(
    world: World, figures: Figures, seed: int
) -> None:
    world.restore("published")
    process = world.command.start(*COMMAND)
    process.stderr.readline()  # its first progress: the imports are done
    time.sleep(random.Random(seed).uniform(0.0, 6.0))
    process.kill()
    process.communicate()
    assert_old_or_new(world)
    recover(world, 2, figures, stage="run", point="any time", action="kill", seed=seed)


# -- being asked to stop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "after", "wait_s"),
    [
        (signal.SIGTERM, "ingest flightops", 0.0),
        (signal.SIGINT, "ingest stations", 0.0),
        (signal.SIGINT, "refine", 1.0),
    ],
    ids=["while ingesting", "while ingesting objects", "while models run"],
)
def test_a_run_that_is_asked_to_stop_tidies_up_and_exits_with_130(
    world: World, figures: Figures, number: signal.Signals, after: str, wait_s: float
) -> None:
    world.restore("published")
    process = world.command.start(*COMMAND)
    total = next(line for line in process.stderr if line.startswith(after))
    while after == "refine" and not _is_last(total):
        total = next(process.stderr)
    time.sleep(wait_s)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert [line for line in err.splitlines() if line.startswith("penstock: ")] == [
        "penstock: interrupted; what was published stays, run the command again to go on"
    ]
    assert "Traceback" not in err
    assert_old_or_new(world)
    assert orphans(world) == [], "who may tidy up does"
    candidates = world.command.settings().warehouse / "candidates"
    assert list(candidates.iterdir()) == []
    temporary = world.command.home / "tmp"
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("dbt")] == []
    recover(world, 2, figures, stage="run", point=after, action=number.name)


def _is_last(line: str) -> bool:
    """Whether a progress line such as ``refine: 9 of 9  weather`` is its stage's last."""
    words = line.split()
    return words[1] == words[3]


# -- two at once ---------------------------------------------------------------------------------------------------


@pytest.fixture
def together(world: World) -> Iterator[Callable[[int], list[tuple[int, str]]]]:
    """Starts the same run several times at once; answers exit codes and errors."""
    started: list[Process] = []

    def start(runs: int) -> list[tuple[int, str]]:
        started.extend(world.command.start(*COMMAND) for _ in range(runs))
        return [(process.wait(), err) for process in started for _, err in [process.communicate(timeout=300)]]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_two_runs_of_the_same_days_at_once_from_nothing_publish_each_interval_once(
    world: World, together: Callable[[int], list[tuple[int, str]]]
) -> None:
    shutil.rmtree(world.command.home)
    answers = together(2)
    assert [code for code, _ in answers] == [0, 0], "\n".join(err for _, err in answers)
    pipeline = Pipeline(world.command.settings())
    releases = Releases(pipeline.settings.warehouse).all()
    assert len(releases) in {1, 2}
    assert_as_undisturbed(world, len(releases))
    for table in lake_tables(pipeline):
        attempts = [file.key for file in pipeline.lake.live(table)]
        assert len(attempts) == len(set(attempts)), "one batch per interval"
    assert orphans(world) == []
