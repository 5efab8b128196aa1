"""Laws of bad input that is the user's own: specs, suites, days and names.

Every case goes through the real command line over a lake and a warehouse that hold a day already. Those of suites run
in the test's own process, so that Great Expectations is loaded once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.settings import Settings
from tests.command_line import CommandLine
from tests.door import SameProcess
from tests.refusals import CANARY, REJECTED, USAGE, assert_refused, closed_port, connected, nothing_changes

DONE, NEXT, AFTER = "2013-02-12", "2013-02-13", "2013-02-14"


# -- specs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "old", "new", "said"),
    [
        ("flightops", "owner: data", "colour: red\nowner: data", "colour: unknown key"),
        ("flightops", "    mode: incremental", "    mode: incremental\n    retries: 3", "retries: unknown key"),
        ("stations", "{name: origin,", "{name: origin, typ: x,", "typ: unknown key"),
        ("flightops", "primary_key: [tailnum]", "primary_key: [tail]", "primary_key names 'tail'"),
        ("flightops", "type: timestamptz", "type: instant", "instant"),
        ("stations", "kind: objects", "kind: [", "not valid YAML"),
    ],
)
def test_a_spec_that_is_not_valid_is_refused_with_file_and_line(
    with_spec: Callable[[str, str, str], CommandLine],
    source: str,
    old: str,
    new: str,
    said: str,
) -> None:
    command = with_spec(source, old, new)
    with nothing_changes(command):
        answer = command.run("run", "--from", NEXT, "--to", AFTER)
    assert_refused(command, answer, USAGE, "SpecError", f"{source}.yml:", said)


def test_a_folder_without_specs_is_refused(published: CommandLine, tmp_path: Path) -> None:
    command = replace(published, extra={"PENSTOCK_SOURCES": str(tmp_path)})
    with nothing_changes(command):
        answer = command.run("run", "--from", NEXT, "--to", AFTER)
    assert_refused(command, answer, USAGE, "SpecError", str(tmp_path))


def test_a_table_without_a_suite_is_refused_because_nobody_judged_it(
    published: CommandLine, tmp_path: Path, figures: Callable[..., None]
) -> None:
    folder = tmp_path / "suites"
    shutil.copytree(Settings.load({}).suites, folder)
    (folder / "raw" / "flightops__flights.yml").unlink()
    command = replace(published, extra={"PENSTOCK_SUITES": str(folder)})
    with nothing_changes(command, figures):
        answer = command.run("ingest", "flightops", "--table", "flights", "--day", NEXT)
    assert_refused(command, answer, REJECTED, "GateCrashed", "source=flightops", "flights", NEXT)


def test_a_suite_that_is_not_valid_is_refused_with_file_and_line(published: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    shutil.copytree(Settings.load({}).suites, folder)
    suite = folder / "raw" / "flightops__flights.yml"
    suite.write_text(suite.read_text().replace("severity: critical", "severity: fatal", 1))
    command = replace(published, extra={"PENSTOCK_SUITES": str(folder)})
    with nothing_changes(command):
        answer = command.run("ingest", "flightops", "--table", "flights", "--day", NEXT)
    assert_refused(command, answer, USAGE, "SpecError", "flightops__flights.yml:", "source=flightops", NEXT)


# -- days ----------------------------------------------------------------------------------------------------------

FUTURE = "2999-01-01"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "--from", NEXT, "--to", FUTURE), ("source=flightops", "table=flights", "interval=2998-12-31")),
        (("run", "--from", NEXT, "--to", FUTURE, "--source", "stations"), ("source=stations", "table=weather")),
        (("ingest", "flightops", "--day", FUTURE), ("source=flightops", "table=", f"interval={FUTURE}")),
        (("ingest", "flightops", "--table", "planes", "--day", FUTURE), ("table=planes", f"interval={FUTURE}")),
        (("ingest", "stations", "--day", FUTURE), ("source=stations", "table=weather", f"interval={FUTURE}")),
    ],
)
def test_an_interval_in_the_future_is_refused_before_the_source_is_asked(
    published: CommandLine, arguments: tuple[str, ...], named: tuple[str, ...]
) -> None:
    nobody_home = f"postgresql://reader:{CANARY}@127.0.0.1:{closed_port()}/flightops"
    command = connected(connected(published, "flightops", nobody_home), "stations", f"s3://k:{CANARY}@x")
    with nothing_changes(command):
        answer = command.run(*arguments)
    assert_refused(command, answer, USAGE, "IntervalError", "not over yet", *named)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--from", "2013-02-30", "--to", AFTER), "2013-02-30"),
        (("run", "--from", NEXT, "--to", "14.02.2013"), "14.02.2013"),
        (("run", "--from", "", "--to", AFTER), "''"),
        (("run", "--from", AFTER, "--to", NEXT), "holds no day"),
        (("ingest", "flightops", "--day", "yesterday"), "yesterday"),
        (("ingest", "flightops", "--day", "../../etc"), "../../etc"),
        (("refine", "--day", "2013-13-01"), "2013-13-01"),
    ],
)
def test_a_day_that_is_none_and_days_in_the_wrong_order_are_refused(
    published: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    with nothing_changes(published):
        answer = published.run(*arguments)
    assert_refused(published, answer, USAGE, "IntervalError", said)


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--from", NEXT, "--to", AFTER, "--source", "shop"), ("'shop'", "flightops, stations")),
        (("ingest", "shop", "--day", NEXT), ("'shop'", "flightops, stations")),
        (("ingest", "flightops", "--table", "gates", "--day", NEXT), ("source=flightops", "'gates'", "planes")),
        (("refine", "--table", "gates", "--day", DONE), ("'gates'", "flights")),
        (("refine", "--table", "flights", "--day", "2013-05-01"), ("2013-05-01", "refined.flights", "ingest")),
        (("refine", "--day", "2013-05-01"), ("2013-05-01", "refined.flights", "ingest")),
        (("quarantine", "show", "raw.nowhere"), ("raw.nowhere", "raw.stations__weather")),
        (("quarantine", "show", "nowhere"), ("namespace.name",)),
        (("query", "select 1", "--release", "r000099"), ("'r000099'", "r000001")),
        (("rollback", "r000099"), ("'r000099'", "r000001")),
        (("rollback",), ("no earlier release",)),
        (("publish", "r000099"), ("no finished candidate r000099", "penstock build")),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(
    published: CommandLine, arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    with nothing_changes(published):
        answer = published.run(*arguments)
    assert_refused(published, answer, USAGE, "UnknownName", *said)


@pytest.mark.parametrize(
    ("variable", "value"), [("THREADS", "0"), ("MEMORY_LIMIT_MB", "a lot"), ("CONFIG", "/no/such/penstock.toml")]
)
def test_a_setting_that_makes_no_sense_is_refused(published: CommandLine, variable: str, value: str) -> None:
    command = replace(published, extra={f"PENSTOCK_{variable}": value})
    with nothing_changes(published):
        answer = command.run("status")
    assert_refused(published, answer, USAGE, "SettingsError", variable.lower() if variable != "CONFIG" else value)


# -- suites --------------------------------------------------------------------------------------------------------

FLIGHTS = "raw.flightops__flights"
INGEST = ("ingest", "flightops", "--table", "flights", "--day", NEXT)


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    """A copy of the bundled suites inside a folder that git and patch can work in."""
    folder = tmp_path / "suites"
    shutil.copytree(Settings.load({}).suites, folder)
    return folder


@pytest.fixture
def command(published: CommandLine, suites: Path) -> CommandLine:
    return SameProcess(published.home, published.connections, {"PENSTOCK_SUITES": str(suites)})


def test_the_effective_suite_says_of_each_rule_where_it_comes_from(command: CommandLine, suites: Path) -> None:
    shown = json.loads(command.run("suite", "show", FLIGHTS, "--json").out)
    places = {rule["id"]: (rule["origin"], rule["place"]) for rule in shown["rules"]}
    lines = (suites / "raw" / "flightops__flights.yml").read_text().splitlines()
    origin, place = places["batch_has_rows"]
    assert (origin, lines[int(place.rsplit(":", 1)[1]) - 1].strip()) == ("file", "- id: batch_has_rows")
    spec = (Settings.load({}).sources / "flightops.yml").read_text().splitlines()
    for rule, said in {
        "derived_origin_is_accepted": "name: origin",
        "derived_time_hour_carrier_flight_is_unique": "primary_key:",
    }.items():
        origin, place = places[rule]
        assert origin == "derived"
        assert said in spec[int(place.rsplit(":", 1)[1]) - 1]
    table = command.run("suite", "show", "warehouse.fct_flights").out
    assert "derived_carrier_code_in_" in table.replace("\n", "")
    assert "none stated: at most 100 rows" in table
    assert_refused(command, command.run("suite", "show", "raw.nowhere"), USAGE, "UnknownName", FLIGHTS)


@pytest.mark.parametrize("table", [FLIGHTS, "refined.weather", "warehouse.dim_planes", "raw.flightops__airlines"])
def test_a_suggestion_is_a_diff_that_git_and_patch_apply_and_that_validates(
    command: CommandLine, suites: Path, table: str
) -> None:
    namespace, _, name = table.partition(".")
    file = suites / namespace / f"{name}.yml"
    if name == "flightops__airlines":
        file.unlink()  # a table that nobody has written a suite for yet
    before = file.read_text() if file.exists() else None
    answer = command.run("suite", "suggest", table)
    assert answer.code == 0, answer.err
    assert (file.read_text() if file.exists() else None) == before
    diff = suites.parent / "suggested.diff"
    diff.write_text(answer.out)
    for tool in (["git", "apply", "--check", str(diff)], ["patch", "-p1", "--dry-run", "-i", str(diff)]):
        assert subprocess.run(tool, cwd=suites.parent, capture_output=True, check=False).returncode == 0, answer.out
    subprocess.run(["git", "apply", str(diff)], cwd=suites.parent, check=True)
    patched = file.read_text()
    file.write_text(before) if before is not None else file.unlink()
    assert command.run("suite", "suggest", table, "--write").code == 0
    assert file.read_text() == patched
    assert command.run("validate").code == 0
    again = command.run("suite", "suggest", table)
    assert (again.code, again.out) == (0, "")
    assert "nothing that the suite does not ask already" in again.err


def test_a_refused_batch_is_published_with_a_name_and_a_reason_and_both_are_kept(
    command: CommandLine, suites: Path, tmp_path: Path
) -> None:
    shutil.copytree(command.home, tmp_path / "state")
    command = replace(command, home=tmp_path / "state")
    file = suites / "raw" / "flightops__flights.yml"
    text = file.read_text().replace("max_rejected_rows: 100, max_rejected_share: 0.05", "max_rejected_rows: 0")
    file.write_text(
        text.replace("kwargs: {column: distance, min_value: 1", "kwargs: {column: distance, min_value: 200")
    )
    with nothing_changes(command):
        refused = command.run(*INGEST)
        assert_refused(command, refused, REJECTED, "GateRefused", "max_rejected_rows = 0", "--accept-refusal")
        for half in (("--accept-refusal", "because"), ("--by", "Ada"), ("--accept-refusal", " ", "--by", "Ada")):
            assert_refused(command, command.run(*INGEST, *half), USAGE, "UsageError", "--by")
        whole = command.run("ingest", "flightops", "--day", NEXT, "--accept-refusal", "because", "--by", "Ada")
        assert_refused(command, whole, USAGE, "UsageError", "one --table")
    bypass = ("--accept-refusal", "short hops are right", "--by", "Ada")
    [receipt] = json.loads(command.run(*INGEST, *bypass, "--json").out)
    verdict = receipt["verdict"]
    assert verdict["accepted"] == {"by": "Ada", "reason": "short hops are right"}
    assert not verdict["passed"]
    assert receipt["quarantined"] == verdict["rows_rejected"] > 0
    assert receipt["rows_in"] == receipt["published"] + receipt["quarantined"]
    waiting = json.loads(command.run("quarantine", "show", FLIGHTS, "--day", NEXT, "--json").out)
    assert {row["rules"] for row in waiting} == {"distance_is_plausible"}
    kept = json.loads((command.home / "lake" / verdict["validation"]).read_text())
    assert kept["suite_name"] == "raw/flightops__flights"
    # The same work again finds its receipt: the refusal is not raised a second time.
    assert command.run(*INGEST).code == 0


def test_what_a_gate_could_not_judge_is_refused_whoever_answers_for_it(
    command: CommandLine, suites: Path, figures: Callable[..., None]
) -> None:
    file = suites / "raw" / "flightops__flights.yml"
    file.write_text(file.read_text().replace("column: distance", "column: distances", 1))
    with nothing_changes(command, figures):
        answer = command.run(*INGEST, "--accept-refusal", "because", "--by", "Ada")
    assert_refused(command, answer, REJECTED, "GateRefused", "distance_is_plausible", f"{file}:", "distances")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("expect_column_values_to_be_between", "expect_column_values_to_be_betwixt"), "betwixt"),
        (("min_value: 10, max_value: 1200", "least: 10"), "air_time_is_plausible"),
        (("from {batch} where air_time", "from flights where air_time"), "ground_speed_is_plausible"),
        (("distance * 60.0 / air_time", "error('boom')"), "ground_speed_is_plausible"),
    ],
)
def test_a_rule_that_cannot_be_judged_publishes_nothing_and_is_named_with_file_and_line(
    command: CommandLine, suites: Path, change: tuple[str, str], said: str, figures: Callable[..., None]
) -> None:
    file = suites / "raw" / "flightops__flights.yml"
    assert change[0] in file.read_text()
    file.write_text(file.read_text().replace(*change, 1))
    with nothing_changes(command, figures):
        answer = command.run(*INGEST)
    kind = "GateRefused" if "boom" in change[1] else "GateCrashed"
    assert_refused(command, answer, REJECTED, kind, said, f"{file}:")


def test_a_gate_that_takes_too_long_publishes_nothing(
    command: CommandLine, suites: Path, figures: Callable[..., None]
) -> None:
    file = suites / "raw" / "flightops__flights.yml"
    slow = "distance * 60.0 / air_time not between 100 and 650"
    endless = "(select count(*) from range(100000) r, range(100000) s where hash(r.range, s.range, distance) = 1) > 0"
    assert slow in file.read_text()
    file.write_text(file.read_text().replace(slow, endless, 1))
    hurried = replace(command, extra={**command.extra, "PENSTOCK_GATE_TIMEOUT_S": "4"})
    with nothing_changes(hurried, figures):
        answer = hurried.run(*INGEST)
    assert_refused(hurried, answer, REJECTED, "GateCrashed", "longer than 4 s", "ground_speed_is_plausible", f"{file}:")


def test_a_suite_without_rules_publishes_nothing(
    command: CommandLine, suites: Path, figures: Callable[..., None]
) -> None:
    file = suites / "raw" / "flightops__flights.yml"
    file.write_text("suite: raw/flightops__flights\nexpectations: []\n")
    with nothing_changes(command, figures):
        answer = command.run(*INGEST)
    assert_refused(command, answer, REJECTED, "GateCrashed", "no expectations", str(file))
