"""Laws of bad input that is the user's own: specs, suites, days and names.

Every case goes through the real command line in its own process, over a lake and a warehouse that hold a day already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.settings import Settings
from tests.command_line import CommandLine
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


def test_a_table_without_a_suite_is_refused_because_nobody_judged_it(published: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    shutil.copytree(Settings.load({}).suites, folder)
    (folder / "raw" / "flightops__flights.yml").unlink()
    command = replace(published, extra={"PENSTOCK_SUITES": str(folder)})
    with nothing_changes(command):
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
        (("publish",), ("no finished candidate", "penstock build")),
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
