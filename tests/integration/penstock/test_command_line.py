"""Laws of the command line: JSON that parses and says what the tables say, exit codes, a query that only reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.run import run
from tests.command_line import CommandLine, stored_state

DAY, NEXT, AFTER = "2013-02-12", "2013-02-13", "2013-02-14"


@pytest.fixture(scope="module")
def command(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line over a state folder with one published day."""
    made = CommandLine(tmp_path_factory.mktemp("cli") / "state", services.connections)
    run(Pipeline(made.settings()), DAY, NEXT)
    return made


def answered(command: CommandLine, *arguments: str) -> Any:
    """What a command prints with ``--json``: one JSON document and nothing else; progress goes to standard error."""
    answer = command.run(*arguments, "--json")
    assert (answer.code, answer.errors) == (0, []), answer.err
    return json.loads(answer.out)


def test_every_reporting_command_answers_with_one_json_document(command: CommandLine) -> None:
    status = answered(command, "status")
    assert {line["table"] for line in status["tables"]} >= {"raw.stations__weather", "refined.flights"}
    assert status["release"]["id"] == "r000001"
    ledger = answered(command, "ledger")
    assert ledger["problems"] == []
    assert all(line["balanced"] for line in ledger["entries"])
    assert {line["stage"] for line in ledger["totals"]} == {"ingest", "refine", "warehouse"}
    (release,) = answered(command, "releases")
    assert (release["release"], release["current"]) == ("r000001", True)
    (waiting,) = answered(command, "quarantine", "list")
    assert (waiting["table"], waiting["interval"], waiting["rows"]) == ("raw.stations__weather", DAY, 1)
    (row,) = answered(command, "quarantine", "show", "raw.stations__weather")
    assert int(json.loads(row["row"])["wind_speed"]) == 1048
    assert answered(command, "quarantine", "show", "raw.flightops__flights") == []
    (counted,) = answered(command, "query", "select count(*) as flights from fct_flights")
    assert counted["flights"] == next(line["rows"] for line in status["tables"] if line["table"] == "refined.flights")


def test_a_ledger_compared_with_sources_that_hold_more_is_no_success_and_says_where(command: CommandLine) -> None:
    answer = command.run("ledger", "--verify", "--json")
    assert (answer.code, len(answer.errors)) == (1, 1)
    report = json.loads(answer.out)
    flights = report["problems"][0]
    assert flights.startswith("raw.flightops__flights: 336776 rows in the source")
    assert len(report["problems"]) == 1, "the tables that are replaced as a whole are equal in every column"
    assert flights in answer.err


def test_one_day_stage_by_stage_is_the_same_day_as_by_one_run(
    command: CommandLine, services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory
) -> None:
    steps = CommandLine(tmp_path_factory.mktemp("steps") / "state", services.connections)
    ingested = [r for source in ("flightops", "stations") for r in answered(steps, "ingest", source, "--day", DAY)]
    refined = answered(steps, "refine", "--day", DAY)
    assert {receipt["state"] for receipt in ingested + refined} == {"published"}
    candidate = answered(steps, "build")["candidate"]
    assert answered(steps, "releases") == []
    published = answered(steps, "publish")
    assert published["release"] == candidate
    assert answered(steps, "publish") == answered(steps, "publish", candidate) == published, "again, nothing is done"
    assert answered(steps, "build") == {"candidate": None}
    whole = Pipeline(command.settings())
    tables = [(receipt["table"], receipt["key"], receipt["checksum"]) for receipt in ingested + refined]
    assert tables == [(t, k, c) for t, k, c in tables if _checksum(whole, t, k) == c]


def _checksum(pipeline: Pipeline, table: str, key: str) -> str:
    from lake.paths import TableId

    receipt = pipeline.lake.receipt(TableId.parse(table), key)
    assert receipt is not None
    return receipt.checksum


def test_a_run_that_changes_nothing_says_so_and_is_a_success(command: CommandLine) -> None:
    before = stored_state(command.settings())
    report = answered(command, "run", "--from", DAY, "--to", NEXT)
    assert report["release"] is None
    assert report["refusals"] == []
    assert {line["unchanged"] for line in report["tables"]} == {1}
    assert stored_state(command.settings()) == before
    answer = command.run("run", "--from", DAY, "--to", NEXT)
    assert answer.code == 0
    assert "Nothing changed" in answer.out


def test_rollback_and_releases_agree_on_what_is_current(
    services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory
) -> None:
    two = CommandLine(tmp_path_factory.mktemp("two") / "state", services.connections)
    for first, end in ((DAY, NEXT), (NEXT, AFTER)):
        run(Pipeline(two.settings()), first, end)
    count = ("query", "select count(distinct scheduled_on) as days from fct_flights")
    assert answered(two, *count) == [{"days": 2}]
    assert answered(two, "rollback")["release"] == "r000001"
    assert [(line["release"], line["current"]) for line in answered(two, "releases")] == [
        ("r000001", True),
        ("r000002", False),
    ]
    assert answered(two, *count) == [{"days": 1}]
    assert answered(two, *count, "--release", "r000002") == [{"days": 2}]
    again = two.run("rollback")
    assert (again.code, len(again.errors)) == (2, 1)
    assert "no earlier release" in again.err
    assert answered(two, "rollback", "r000002")["release"] == "r000002"


@pytest.mark.parametrize(
    "sql",
    [
        "delete from fct_flights",
        "select 1; select 2",
        "select 1; drop table fct_flights",
        "create table x as select 1",
        "attach 'other.duckdb'",
        "copy fct_flights to 'out.csv'",
        "set enable_external_access = true",
        "install httpfs",
        "select * from read_csv('/etc/passwd')",
        "select * from 'file.parquet'",
        "select * from no_such_table",
        "selec 1",
        "",
    ],
)
def test_what_is_not_one_select_that_runs_is_refused_and_nothing_happens(command: CommandLine, sql: str) -> None:
    before = stored_state(command.settings())
    answer = command.run("query", sql)
    assert answer.code == 2
    assert len(answer.errors) == 1, answer.err
    assert answer.errors[0].startswith("penstock: UsageError: ")
    assert "Remedy: " in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert stored_state(command.settings()) == before
    assert not (command.home.parent / "out.csv").exists()


def test_a_query_prints_no_more_than_its_limit_and_says_so(command: CommandLine) -> None:
    answer = command.run("query", "with f as (select * from fct_flights) select flight_id from f", "--limit", "3")
    assert answer.code == 0
    assert "more than 3 rows" in answer.out
    assert len(answered(command, "query", "select flight_id from fct_flights", "--limit", "3")) == 3


@pytest.mark.parametrize("arguments", [("run", "--from", DAY), ("query",), ("no-such-command",), ("status", "--nope")])
def test_a_command_line_that_does_not_parse_exits_with_2(command: CommandLine, arguments: tuple[str, ...]) -> None:
    answer = command.run(*arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_before_anything_is_published_reports_are_empty_and_a_query_says_how_to_start(
    services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fresh = CommandLine(tmp_path_factory.mktemp("fresh") / "state", services.connections)
    assert answered(fresh, "status")["release"] is None
    assert answered(fresh, "ledger")["entries"] == []
    assert answered(fresh, "releases") == []
    assert answered(fresh, "quarantine", "list") == []
    answer = fresh.run("query", "select 1")
    assert (answer.code, len(answer.errors)) == (2, 1)
    assert "Nothing has been published yet" in answer.err
