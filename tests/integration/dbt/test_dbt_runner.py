"""dbt inside this process: what fails is named, what is secret stays secret, nothing is left behind."""

from __future__ import annotations

import json
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from common.errors import BuildFailed, StateCorrupt
from common.settings import Settings, process_environment
from lake.engine import open_database, prepare_statements
from lake.schema import Column
from penstock.embedded import EmbeddedServices
from tests.integration.dbt.conftest import MONDAY, TUESDAY, Build
from tests.integration.dbt.refined_lake import COLUMNS, RefinedLake, contents, flight
from transformations.dbt_runner import project_digest, run_dbt
from transformations.dbt_session import PROJECT


def test_a_failing_test_is_named_and_the_next_build_is_not_harmed(
    lake: RefinedLake, build: Callable[..., Build], tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    lake.put("flights", [flight(TUESDAY), flight(TUESDAY)], TUESDAY)
    with pytest.raises(BuildFailed) as failure:
        build(lake, database)
    message = str(failure.value)
    assert "test unique_fct_flights_flight_id (fail): Got 1 result" in message
    assert "nodes that need them were skipped" in message
    assert "dbt.log" in message
    duckdb.connect(str(database)).close()  # the file is free again
    lake.put("flights", [flight(TUESDAY)], TUESDAY)
    assert build(lake, database).result.rows["fct_flights"] == 5


def test_a_failing_model_is_named_with_the_engines_message(lake: RefinedLake, build: Callable[..., Build]) -> None:
    nullable = [Column(column.name, column.type) for column in COLUMNS["flights"]]
    lake.put("flights", [flight(TUESDAY, distance_mi=None)], TUESDAY, columns=nullable)
    with pytest.raises(BuildFailed, match=r"model fct_flights \(error\)[\s\S]*NOT NULL constraint failed.*distance_mi"):
        build(lake)


def test_a_missing_lake_file_fails_the_build_and_says_which(lake: RefinedLake, build: Callable[..., Build]) -> None:
    [path] = lake.files["flights"][MONDAY]
    Path(path).unlink()
    with pytest.raises(BuildFailed, match=Path(path).name):
        build(lake)


def test_a_database_that_is_none_is_refused(lake: RefinedLake, build: Callable[..., Build], tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    database.write_bytes(b"not a database " * 1000)
    with pytest.raises(StateCorrupt, match="Remedy: copy the last release again"):
        build(lake, database, changed_keys={"flights": [TUESDAY]})


def test_a_run_leaves_the_process_and_the_project_as_they_were(
    lake: RefinedLake, build: Callable[..., Build], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_OF_THE_HOST", "kept")
    folder, environment, project = Path.cwd(), process_environment(), _state(PROJECT)
    build(lake, docs=True)
    assert capfd.readouterr() == ("", "")
    assert Path.cwd() == folder
    assert process_environment() == environment
    assert _state(PROJECT) == project


def _state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_two_files_built_one_after_the_other_keep_their_own_contents(
    lake: RefinedLake, build: Callable[..., Build]
) -> None:
    first = build(lake)
    expected = contents(first.database)
    lake.put("flights", [], TUESDAY)
    second = build(lake)
    assert contents(first.database) == expected
    assert len(contents(second.database)["fct_flights"]) == 4
    moved = first.database.rename(first.database.with_name("moved.duckdb"))
    with duckdb.connect(str(moved)) as connection:  # writable: nobody holds it
        connection.execute("CREATE TABLE free AS SELECT 1 AS one")


def test_the_parse_cache_saves_the_parsing_and_a_damaged_one_does_no_harm(
    lake: RefinedLake, build: Callable[..., Build], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.write_bytes(b"\x00damaged")
    first = build(lake, parse_cache=cache)
    second = build(lake, parse_cache=cache)
    parsed = [json.loads((done.target / "perf_info.json").read_text())["parsed_path_count"] for done in (first, second)]
    assert parsed[0] > 20
    assert parsed[1] == 0
    assert contents(first.database) == contents(second.database)


def test_lake_files_in_object_storage_are_read_and_their_secret_is_nowhere(
    lake: RefinedLake, new_home: Callable[[], Path], tmp_path: Path, parse_cache: Path
) -> None:
    database, target = tmp_path / "warehouse.duckdb", tmp_path / "target"
    with EmbeddedServices.start(new_home()) as services:
        url = services.connections["stations"]
        settings = Settings.load({}, home=tmp_path, lake_uri="s3://stations/lake", connections={"lake": url})
        _move_to_object_storage(lake, settings)
        prepare = prepare_statements(settings)
        result = run_dbt(database, target, lake.tables(), prepare_sql=prepare, parse_cache=parse_cache, threads=1)
    assert result.rows["fct_flights"] == 5
    secret = settings.connection("lake").get_secret_value().split("@", 1)[0].rsplit(":", 1)[1]
    assert secret in " ".join(prepare)
    assert _files_holding(secret, tmp_path) == []


def test_a_storage_statement_that_fails_is_not_repeated_anywhere(
    lake: RefinedLake, build: Callable[..., Build], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = uuid.uuid4().hex
    with pytest.raises(BuildFailed) as failure:
        build(lake, prepare_sql=[f"CREATE SECRET s (TYPE s3, SECRET '{canary}', no such syntax)"])
    assert "statement 1 of 1 failed with ParserException" in str(failure.value)
    assert canary not in "".join(traceback.format_exception(failure.value))
    assert canary not in "".join(capfd.readouterr())
    assert _files_holding(canary, tmp_path) == []


def _move_to_object_storage(lake: RefinedLake, settings: Settings) -> None:
    with open_database(settings) as connection:
        for table, columns in COLUMNS.items():
            ids = ", ".join(f"{column.name}: {position}" for position, column in enumerate(columns, start=1))
            for key, [path] in lake.files[table].items():
                uri = f"{settings.lake_uri}/{table}/{key}.parquet"
                connection.execute(f"COPY (FROM '{path}') TO '{uri}' (FORMAT parquet, FIELD_IDS {{{ids}}})")
                lake.files[table][key] = [uri]


def _files_holding(secret: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_the_digest_of_the_project_is_the_same_for_the_same_files() -> None:
    assert project_digest() == project_digest()
    assert len(project_digest()) == 20
