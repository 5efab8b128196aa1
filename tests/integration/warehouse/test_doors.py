"""Laws of doors: they follow every publish and rollback, a failure is told and mended, a kill leaves old or new."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from common.settings import Settings, process_environment
from penstock.doors import bring_in_step
from penstock.embedded import EmbeddedServices
from tests.door import SameProcess
from tests.integration.warehouse.bench import Bench
from warehouse.lease import lease

TRIALS = [("warehouse.bi.before_swap", 1), ("warehouse.store.before_pointer", 1)]


@pytest.fixture
def command(bench: Bench, bucket: str, tmp_path: Path) -> Iterator[SameProcess]:
    """The command line over a warehouse with both doors; three releases are published, the doors show none."""
    for number in (1, 2, 3):
        bench.numbered(number)
    extra = {
        "PENSTOCK_WAREHOUSE": str(bench.releases.warehouse),
        "PENSTOCK_BI_READERS": bench.reader,
        "PENSTOCK_RELEASES_URI": f"s3://{bucket.split('@')[1].split('?', maxsplit=1)[0]}/{tmp_path.name}",
    }
    made = SameProcess(tmp_path / "state", {"bi": bench.url, "releases": bucket}, extra)
    yield made
    from warehouse.stored import stored_releases  # the bucket is the module's: it must end empty

    stored = stored_releases(settings_of(made))
    assert stored is not None
    for name in stored._files.names("releases"):
        stored._files.remove(name)
    stored._files.remove("current.json")


def settings_of(command: SameProcess, **more: object) -> Settings:
    """The settings of the commands, for this process."""
    own = {name: value for name, value in command.extra.items() if name != "PENSTOCK_FAULT_POINT"}
    return Settings.load(own, home=command.home, connections=command.connections, **more)


def shown(bench: Bench) -> int | None:
    """The number that readers of the BI database see; None before the first publishing."""
    if "marts" not in bench.schemas():
        return None
    [(number, others)] = bench.ask("SELECT (SELECT max(number) FROM marts.a), (SELECT min(number) FROM marts.b)")
    assert number == others
    return int(number)


def test_commands_publish_tell_the_state_and_follow_a_rollback(command: SameProcess, bench: Bench) -> None:
    for door, behind in (("bi", "marts shows nothing yet"), ("store", "shows nothing yet")):
        answer = command.run(door, "status")
        assert (answer.code, behind in answer.out, "r000003 is current" in answer.out) == (1, True, True), answer
        answer = command.run(door, "publish", "--json")
        assert (answer.code, json.loads(answer.out)["release"]) == (0, "r000003"), answer
        answer = command.run(door, "status", "--json")
        found = json.loads(answer.out)
        assert (answer.code, found["release"], found["current"]) == (0, "r000003", "r000003")
    assert shown(bench) == 3
    answer = command.run("rollback", "r000002")
    assert (answer.code, answer.err) == (0, "")
    assert shown(bench) == 2
    elsewhere = SameProcess(
        command.home.with_name("elsewhere"),
        command.connections,
        {"PENSTOCK_RELEASES_URI": command.extra["PENSTOCK_RELEASES_URI"]},
    )
    answer = elsewhere.run("query", "select max(number) as n from a", "--json")
    assert json.loads(answer.out) == [{"n": 2}], answer
    # What puts itself in the place of a warehouse that is gone is refused until it is told to take over.
    (bench.releases.warehouse / "identity").unlink()
    answer = command.run("bi", "publish")
    assert (answer.code, "another warehouse" in answer.err, "--take-over" in answer.err) == (3, True, True), answer
    assert command.run("bi", "publish", "--take-over").code == 0
    for door in ("bi", "store"):
        answer = SameProcess(command.home, {}, {"PENSTOCK_WAREHOUSE": str(bench.releases.warehouse)}).run(
            door, "publish"
        )
        assert (answer.code, answer.errors[0].split(":")[1]) == (2, " SettingsError"), answer


@pytest.mark.parametrize(("point", "occurrence"), TRIALS)
def test_a_publishing_killed_at_a_point_leaves_the_old_release_and_the_next_one_ends_as_if_undisturbed(
    command: SameProcess, bench: Bench, point: str, occurrence: int
) -> None:
    door = point.split(".")[1]
    assert command.run("rollback", "r000001").code == 0
    bench.releases.rollback("r000003")
    environment = process_environment(
        **{f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in command.connections.items()},
        **{**command.extra, "PENSTOCK_HOME": str(command.home), "PENSTOCK_FAULT_POINT": f"{point}:{occurrence}"},
    )
    killed = subprocess.run([sys.executable, "-m", "penstock", door, "publish"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert shown(bench) == 1
    assert json.loads(command.run("store", "status", "--json").out)["release"] == "r000001"
    assert command.run(door, "publish").code == 0
    assert json.loads(command.run(door, "status", "--json").out)["release"] == "r000003"
    assert bench.schemas() == ["marts"]
    assert shown(bench) == (3 if door == "bi" else 1)


def test_a_door_that_fails_is_told_with_its_remedy_and_the_other_one_and_the_release_stay(
    command: SameProcess, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(command)
    away = settings.model_copy(update={"connections": {**settings.connections, "bi": settings.connections["releases"]}})
    current = bench.releases.current()
    assert current is not None
    with lease(settings.warehouse) as held, caplog.at_level(logging.WARNING):
        bring_in_step(away, current, held)
    [told] = [record.getMessage() for record in caplog.records if record.name == "penstock.doors"]
    assert told.startswith("The BI database does not show release r000003, which is published: ")
    assert told.endswith("Then run 'penstock bi publish'.")
    assert json.loads(command.run("store", "status", "--json").out)["release"] == "r000003"


# -- the file door -----------------------------------------------------------------------------------------------------

SAFE = {"access_mode": "READ_ONLY", "enable_external_access": False, "lock_configuration": True}


@pytest.mark.parametrize("resolve", [lambda path: path.resolve(), lambda path: path], ids=["real path", "the link"])
def test_tools_that_open_the_file_read_one_release_and_meet_no_lock(
    bench: Bench, resolve: Callable[[Path], Path]
) -> None:
    bench.numbered(1)
    door = bench.releases.warehouse / "current" / "warehouse.duckdb"
    with closing(duckdb.connect(str(resolve(door)), read_only=True, config={"enable_external_access": False})) as first:
        bench.numbered(2)
        bench.releases.retain(1)
        assert first.execute("SELECT max(number) FROM a").fetchone() == (1,)
    with closing(duckdb.connect(str(door.resolve()), read_only=True)) as second:
        assert second.execute("SELECT max(number) FROM a").fetchone() == (2,)


def test_sqlalchemy_without_a_pool_follows_the_releases_and_can_neither_write_nor_look_elsewhere(bench: Bench) -> None:
    bench.numbered(1)
    door = bench.releases.warehouse / "current" / "warehouse.duckdb"

    def connect() -> object:
        import duckdb_engine

        return duckdb_engine.Dialect.connect(
            duckdb_engine.Dialect(), database=str(door.resolve()), read_only=True, config=dict(SAFE)
        )

    engine = sa.create_engine("duckdb://", creator=connect, poolclass=NullPool)
    for number in (1, 2):
        if number == 2:
            bench.numbered(2)
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT max(number) FROM a")).scalar() == number
            for statement in ("CREATE TABLE mine (a INT)", "FROM read_text('/etc/hostname')", "SET threads = 1"):
                with pytest.raises(sa.exc.DBAPIError):
                    connection.execute(sa.text(statement))
    engine.dispose()


def test_the_demo_has_a_bi_database_whose_reader_may_only_select(services: EmbeddedServices) -> None:
    assert set(services.bi_connections) == {"bi", "bi_reader"}
    assert "penstock_reader:" in services.bi_connections["bi_reader"]
