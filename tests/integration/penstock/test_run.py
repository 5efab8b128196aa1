"""Laws of a run: real PostgreSQL and S3 in, a published release out, every row accounted for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest
from pydantic import SecretStr

import penstock
from benchmarks.ledger_check import stray_files
from common.errors import DataRejected, IntervalError, UnknownName
from common.settings import Settings, process_environment
from lake.ops import OPS_TABLES
from lake.paths import TableId
from lake.quarantine import quarantined
from lake.views import lake_views
from penstock import ledger
from penstock.doors import current_release, publish_to_bi
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.psql import run_psql
from penstock.run import RunReport, run
from penstock.status import lake_tables, noticed
from warehouse.lease import lease
from warehouse.releases import Releases

START, END = "2013-02-11", "2013-02-14"  # holds the one absurd wind speed, on the 12th


@pytest.fixture(scope="module")
def finished(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, RunReport]:
    """A run of three days."""
    home = tmp_path_factory.mktemp("run") / "state"
    pipeline = Pipeline(Settings.load({}, home=home, connections=services.connections))
    return pipeline, run(pipeline, START, END)


def checksums(pipeline: Pipeline) -> dict[str, str]:
    """Checksums of every lake table and every warehouse table: what two runs must agree on."""
    pipeline.declare_raw()
    found = {}
    for table in lake_tables(pipeline):
        if table.namespace == "refined":
            refined = pipeline.refined(table.name)
            pipeline.lake.ensure(table, refined.columns, partition_by="ds" if refined.partitioned else None)
        found[str(table)] = pipeline.lake.checksum(table)
    current = Releases(pipeline.settings.warehouse).current()
    assert current is not None
    return found | {table["name"]: table["checksum"] for table in current.manifest["tables"]}


def test_every_row_of_every_stage_is_accounted_for(finished: tuple[Pipeline, RunReport]) -> None:
    pipeline, report = finished
    entries = ledger.entries(pipeline)
    assert ledger.problems(entries) == []
    assert {(e.stage, e.table) for e in entries} == {
        *(("ingest", f"raw.flightops__{name}") for name in ("flights", "planes", "airlines", "airports")),
        ("ingest", "raw.stations__weather"),
        *(("refine", f"refined.{name}") for name in ("flights", "weather", "planes", "airlines", "airports")),
        ("warehouse", "fct_flights"),
        ("warehouse", "fct_weather_hourly"),
    }
    flights = [e for e in entries if e.table == "raw.flightops__flights"]
    assert [e.key for e in flights] == ["2013-02-11", "2013-02-12", "2013-02-13"]
    assert report.exit_code == 0


def test_raw_tables_equal_the_database_row_for_row_and_column_for_column(finished: tuple[Pipeline, RunReport]) -> None:
    pipeline, _ = finished
    lines = {line["table"]: line for line in ledger.verify(pipeline)}
    for name in ("planes", "airlines", "airports"):
        line = lines[f"raw.flightops__{name}"]
        assert line["source_rows"] == line["ledger_rows"]
        assert line["columns_compared"] == line["columns"] > 0
        assert line["columns_that_differ"] == []


def test_the_absurd_wind_speed_waits_in_quarantine_and_nothing_else_does(finished: tuple[Pipeline, RunReport]) -> None:
    pipeline, _ = finished
    rows = {str(t): quarantined(pipeline.lake, t).to_pylist() for t in lake_tables(pipeline)}
    assert {table for table, found in rows.items() if found} == {"raw.stations__weather"}
    (row,) = rows["raw.stations__weather"]
    assert row["partition_key"] == "2013-02-12"
    assert '"wind_speed":1048.36' in row["row"]
    assert "wind_speed" in row["rules"]
    assert row["run_id"] == pipeline.run_id


def test_cancelled_flights_are_legal_and_reach_the_warehouse(finished: tuple[Pipeline, RunReport]) -> None:
    pipeline, _ = finished
    with penstock.connect(settings=pipeline.settings) as warehouse:
        counted = warehouse.execute("select count(*), count_if(is_cancelled) from fct_flights").fetchone()
    raw = pipeline.lake.receipts(TableId("raw", "flightops__flights"))
    assert counted is not None
    assert counted[0] == sum(receipt.rows_in for receipt in raw)
    assert counted[1] > 0


def test_unknown_tail_numbers_are_shown_as_a_warning_with_their_number(finished: tuple[Pipeline, RunReport]) -> None:
    pipeline, _ = finished
    lines = [line for line in noticed(pipeline) if line["rule"] == "tail_number_is_in_planes"]
    assert [line["severity"] for line in lines] == ["warning"]
    assert 0 < lines[0]["rows"] < lines[0]["rows_checked"]


def test_a_release_tells_what_was_judged_and_where_its_rows_went(finished: tuple[Pipeline, RunReport]) -> None:
    pipeline, report = finished
    with penstock.connect(settings=pipeline.settings) as warehouse:
        batches = warehouse.execute(
            "select stage, count(*), sum(rows_in - published - quarantined - rejected - deduplicated) "
            "from ops.ledger group by all order by all"
        ).fetchall()
        (row,) = warehouse.execute(
            "select partition_key, rows_unexpected, outcome from ops.gate_results "
            "where rule = 'wind_speed_is_plausible' and table_name = 'raw.stations__weather' and not passed"
        ).fetchall()
        columns = warehouse.execute("select comment from duckdb_columns() where schema_name = 'ops'").fetchall()
    assert batches == [("ingest", 9, 0), ("refine", 9, 0)], "its own verdict is in the next one"
    assert row == ("2013-02-12", 1, "published")
    assert len(columns) == sum(len(ops.columns) - len(ops.withheld) for ops in OPS_TABLES)
    assert all(comment for (comment,) in columns)
    with lake_views(pipeline.lake, query := "select distinct release_id from ops.gate_results") as lake:
        assert set(lake.execute(query).fetchall()) == {(None,), (report.release,)}


def test_the_same_days_again_change_nothing_and_need_no_release(
    services: EmbeddedServices, finished: tuple[Pipeline, RunReport]
) -> None:
    pipeline, first = finished
    before, snapshots = checksums(pipeline), _snapshots(pipeline)
    again = run(Pipeline(Settings.load({}, home=pipeline.settings.home, connections=services.connections)), START, END)
    assert {receipt.state for receipt in again.receipts} == {"unchanged"}
    assert again.release is None
    assert first.release is not None
    assert (checksums(pipeline), _snapshots(pipeline)) == (before, snapshots)


def test_no_file_that_is_not_live_lies_where_a_reader_would_find_it(finished: tuple[Pipeline, RunReport]) -> None:
    assert stray_files(finished[0]) == []


def test_more_days_are_built_into_the_next_release_as_if_built_at_once(
    services: EmbeddedServices, tmp_path: Path, finished: tuple[Pipeline, RunReport]
) -> None:
    grown = Pipeline(Settings.load({}, home=tmp_path / "grown", connections=services.connections))
    run(grown, "2013-02-12", "2013-02-13")
    run(grown, "2013-02-13", END)
    run(grown, START, "2013-02-12")
    assert Releases(grown.settings.warehouse).current().manifest["full_refresh"] is False  # type: ignore[union-attr]
    assert checksums(grown) == checksums(finished[0])


def test_a_reader_loops_through_publishes_without_ever_failing_or_mixing(
    services: EmbeddedServices, tmp_path: Path
) -> None:
    settings = Settings.load({}, home=tmp_path / "loop", connections=services.connections)
    run(Pipeline(settings), "2013-03-01", "2013-03-02")
    environment = process_environment(PENSTOCK_HOME=str(settings.home))
    reader = subprocess.Popen([sys.executable, "-c", _READER], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        for day in ("2013-03-02", "2013-03-03"):
            run(Pipeline(settings), day, date.fromisoformat(day).replace(day=int(day[-2:]) + 1).isoformat())
        Releases(settings.warehouse).rollback()
    finally:
        (settings.home / "stop").touch()
        output, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0
    seen = {tuple(line.split()) for line in output.splitlines()}
    legal = {
        (release.id, *(str(_rows(release.manifest, name)) for name in ("fct_flights", "mart_daily_route_performance")))
        for release in Releases(settings.warehouse).all()
    }
    assert len(legal) == 3
    assert seen <= legal
    assert len(seen) >= 2


_READER = """
import pathlib, penstock
from common.settings import Settings
settings = Settings.load()
while not (settings.home / "stop").exists():
    with penstock.connect(settings=settings) as c:
        flights = c.execute("select count(*) from fct_flights").fetchone()[0]
        route_days = c.execute("select count(*) from mart_daily_route_performance").fetchone()[0]
        path = c.execute("select path from duckdb_databases() where database_name = 'warehouse'").fetchone()[0]
    print(pathlib.Path(path).parent.name, flights, route_days, flush=True)
"""


_DELETE_ONE = b"delete from flights where ctid = (select min(ctid) from flights where day = 2);"

_INSERT_LATE = b"""
insert into flights (
    year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier,
    flight, tailnum, origin, dest, air_time, distance, hour, minute, time_hour, updated_at)
select year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier,
    9999, tailnum, origin, dest, air_time, distance, hour, minute, time_hour, updated_at
from flights
where day in (1, 3) and ctid in (select min(ctid) from flights where carrier = 'UA' group by day);
"""


def test_a_changed_source_row_replaces_its_interval_and_only_that(new_home: Callable[[], Path]) -> None:
    home = new_home()
    from penstock import demo_data
    from penstock.psql import run_psql

    with EmbeddedServices.start(home) as own:
        demo_data.seed(own, first_day=date(2013, 4, 1), last_day=date(2013, 4, 3))
        settings = Settings.load({}, home=home)
        run(Pipeline(settings), "2013-04-01", "2013-04-04")
        run_psql(own.postgres_url, [_DELETE_ONE])
        again = run(Pipeline(settings), "2013-04-01", "2013-04-04")
    changed = [(r.table, r.key) for r in again.receipts if r.state == "published"]
    assert changed == [("raw.flightops__flights", "2013-04-02"), ("refined.flights", "2013-04-02")]
    assert again.release is not None
    assert ledger.problems(ledger.entries(Pipeline(settings))) == []


def test_a_late_row_inside_the_window_is_taken_in_by_the_next_days_run(new_home: Callable[[], Path]) -> None:
    home = new_home()
    from penstock import demo_data
    from penstock.psql import run_psql

    with EmbeddedServices.start(home) as own:
        demo_data.seed(own, first_day=date(2013, 4, 1), last_day=date(2013, 4, 4))
        settings = Settings.load({}, home=home)
        run(Pipeline(settings), "2013-04-01", "2013-04-04", build=False)
        run_psql(own.postgres_url, [_INSERT_LATE])
        report = run(Pipeline(settings), "2013-04-04", "2013-04-05", build=False)
    published = {(r.table, r.key) for r in report.receipts if r.state == "published"}
    assert ("raw.flightops__flights", "2013-04-03") in published, "two days late at most: inside the window"
    assert ("refined.flights", "2013-04-03") in published
    assert ("raw.flightops__flights", "2013-04-01") not in published, "outside the window: for a backfill to take"


def test_the_day_the_source_does_not_have_is_outside_coverage_and_no_failure(pipeline: Pipeline) -> None:
    receipt = pipeline.ingest("stations", "weather", "2013-12-31")
    assert receipt.state == "outside coverage"
    assert not pipeline.lake.exists(TableId("raw", "stations__weather"))


@pytest.mark.parametrize(
    ("source", "table", "error"),
    [("nowhere", "flights", UnknownName), ("flightops", "nothing", UnknownName)],
)
def test_unknown_names_are_refused_with_those_there_are(
    pipeline: Pipeline, source: str, table: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="use one of"):
        pipeline.ingest(source, table, "2013-01-01")


def test_an_interval_that_is_not_over_is_refused_before_anything_is_read(pipeline: Pipeline) -> None:
    with pytest.raises(IntervalError, match="not over yet"):
        run(pipeline, "2013-01-01", "2999-01-01")
    assert not Path(pipeline.settings.lake_uri).exists()


def test_a_refused_interval_does_not_keep_the_others_from_being_published(
    services: EmbeddedServices, tmp_path: Path
) -> None:
    # 2014-02-01 has no flights and no weather: its batches are refused, the real day goes on.
    pipeline = Pipeline(Settings.load({}, home=tmp_path / "state", connections=services.connections))
    report = run(pipeline, "2013-12-29", "2014-01-02", sources=["flightops"], build=False)
    assert [type(error) for error in report.refusals] != []
    assert all(isinstance(error, DataRejected) for error in report.refusals)
    assert {error.interval for error in report.refusals} == {"2014-01-01"}
    assert report.exit_code == 1
    days = [receipt.key for receipt in pipeline.lake.receipts(TableId("refined", "flights"))]
    assert days == ["2013-12-29", "2013-12-30", "2013-12-31"]


def test_rollback_answers_from_the_release_before_and_the_next_build_starts_from_it(
    services: EmbeddedServices, tmp_path: Path
) -> None:
    pipeline = Pipeline(Settings.load({}, home=tmp_path / "state", connections=services.connections))
    run(pipeline, "2013-05-01", "2013-05-02")
    run(pipeline, "2013-05-02", "2013-05-03")
    releases = Releases(pipeline.settings.warehouse)
    first, second = releases.all()
    assert releases.rollback().id == first.id
    with penstock.connect(settings=pipeline.settings) as warehouse:
        assert warehouse.execute("select count(distinct scheduled_on) from fct_flights").fetchone() == (1,)
    rebuilt = pipeline.build_and_publish()
    assert rebuilt is not None
    assert {t["name"]: t["checksum"] for t in rebuilt.manifest["tables"]} == {
        t["name"]: t["checksum"] for t in second.manifest["tables"]
    }


def test_a_release_can_be_read_and_neither_written_nor_left(finished: tuple[Pipeline, RunReport]) -> None:
    with penstock.connect(settings=finished[0].settings) as warehouse:
        for statement in (
            "create table x (a int)",
            "attach '/tmp/other.duckdb'",
            "select * from read_csv('/etc/passwd')",
            "set enable_external_access = true",
            "copy fct_flights to '/tmp/out.csv'",
        ):
            with pytest.raises(duckdb.Error):
                warehouse.execute(statement)


def _snapshots(pipeline: Pipeline) -> dict[str, int | None]:
    return {str(table): pipeline.lake.snapshot_id(table) for table in lake_tables(pipeline)}


def _rows(manifest: object, name: str) -> int:
    assert isinstance(manifest, dict)
    return next(int(table["rows"]) for table in manifest["tables"] if table["name"] == name)


def test_the_import_of_the_command_line_costs_little() -> None:
    used = time.process_time()
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "penstock", "--help"], capture_output=True, text=True, check=True
    )
    assert time.process_time() - used < 5
    heavy = {"polars", "duckdb", "pyarrow", "pyiceberg", "great_expectations", "dbt", "pydantic", "boto3", "airflow"}
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in answer.stderr.splitlines()}
    assert loaded & heavy == set()


def test_the_curated_tables_reach_the_bi_database_with_the_keys_and_words_of_their_contracts(
    finished: tuple[Pipeline, RunReport], services: EmbeddedServices
) -> None:
    pipeline, report = finished
    settings = pipeline.settings.model_copy(
        update={"connections": {"bi": SecretStr(services.bi_connections["bi"])}, "bi_schema": "test_run"}
    )
    with lease(settings.warehouse) as held:
        done = publish_to_bi(settings, current_release(settings), held)
    assert done is not None
    assert (done.release, done.carried, done.notices) == (report.release, (), ())
    asked = """
        select c.relname, (select count(*) from pg_index where indrelid = c.oid and indisprimary),
            obj_description(c.oid) ~ 'Grain: one row per ', array_agg(col_description(c.oid, a.attnum)) @> array[null]
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'test_run'::regnamespace and c.relkind in ('r', 'p') and c.relname not like '\\_%'
        group by c.oid, c.relname order by 1;
    """
    url = services.bi_connections["bi_reader"]
    found = run_psql(url, [asked.encode()])
    assert [row[0] for row in found] == sorted(done.written)
    assert {tuple(row[2:]) for row in found} == {("t", "f")}
    assert {row[0] for row in found if row[1] == "1"} >= {"dim_carriers", "fct_flights", "mart_daily_route_performance"}
    with penstock.connect(settings=settings) as warehouse:
        for table, query in (
            ("fct_flights", "select count(*), sum(departure_delay_min), count(distinct flight_id)"),
            ("mart_daily_route_performance", "select count(*), sum(avg_arrival_delay_min), max(scheduled_on)"),
        ):
            [row] = run_psql(url, [f"{query} from test_run.{table};".encode()])
            assert row == [str(value) for value in warehouse.execute(f"{query} from {table}").fetchall()[0]]
