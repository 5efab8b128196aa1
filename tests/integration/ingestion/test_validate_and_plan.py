"""Laws of ``validate --connect`` (all problems at once) and ``plan`` (what a run then does, and nothing changed)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.command_line import stored_state
from tests.door import Door
from tests.integration.ingestion.conftest import BucketSource, DatabaseSource
from tests.integration.ingestion.shops import SUITE

READINGS = """
CREATE TABLE {s}.t (id bigint PRIMARY KEY, at timestamptz NOT NULL, name text NOT NULL);
CREATE INDEX ON {s}.t (at);
INSERT INTO {s}.t SELECT i, '2013-01-01'::timestamptz + i * interval '1 minute', repeat('x', 20)
    FROM generate_series(0, 14399) i
"""
"""Ten days of 1,440 rows."""


@pytest.fixture
def shop(database: DatabaseSource) -> Door:
    """The command line beside a table of ten days, analysed."""
    for statement in READINGS.split(";\n"):
        database.run(statement)
    database.run("ANALYZE {s}.t")
    return Door(database.folder, {"shop": database.url})


def declare(door: Door, database: DatabaseSource, more: str = "", columns: str = "") -> None:
    """A spec of the table with its suite; New York would move the days, so it is UTC."""
    columns = columns or (
        "      - {name: id, type: int64, nullable: false}\n"
        "      - {name: at, type: timestamptz, nullable: false}\n"
        "      - {name: name, type: string}\n"
    )
    door.spec.parent.mkdir(exist_ok=True)
    door.spec.write_text(
        "source: shop\nkind: postgresql\nconnection: shop\nowner: me\ntables:\n  - name: t\n"
        f'    schema: "{database.schema}"\n    mode: incremental\n    primary_key: [id]\n'
        f"    cursor: {{column: at, late_window_s: 172800}}\n{more}    columns:\n{columns}"
    )
    suite = door.folder / "suites" / "raw" / "shop__t.yml"
    suite.parent.mkdir(parents=True, exist_ok=True)
    suite.write_text(SUITE.format(table="shop__t", column="id"))


def findings(door: Door, *more: str) -> tuple[int, list[tuple[str, str, str]]]:
    """Exit code, and severity, error and problem of each finding."""
    answer = door.run("validate", "--connect", "--json", *more)
    return answer.code, [(each["severity"], each["error"], each["problem"]) for each in json.loads(answer.out)]


def test_a_spec_that_fits_its_source_has_no_findings(shop: Door, database: DatabaseSource) -> None:
    declare(shop, database)
    assert findings(shop) == (0, [])


def test_everything_that_is_wrong_is_told_at_once(shop: Door, database: DatabaseSource) -> None:
    database.run("DROP INDEX {s}.t_at_idx")
    database.run("ALTER TABLE {s}.t DROP CONSTRAINT t_pkey")
    database.run("ALTER TABLE {s}.t ALTER id DROP NOT NULL")
    database.run("ALTER TABLE {s}.t ADD extra int, ADD price numeric(10,2)")
    declare(
        shop,
        database,
        columns="      - {name: id, type: int64, nullable: false}\n"
        "      - {name: at, type: timestamptz, nullable: false}\n"
        "      - {name: gone, type: string}\n"
        "      - {name: price, type: int32}\n",
    )
    (shop.folder / "suites" / "raw" / "shop__t.yml").unlink()
    (shop.folder / "sources" / "broken.yml").write_text("source: broken\nkind: nonsense\n")
    (shop.folder / "sources" / "lost.yml").write_text(shop.spec.read_text().replace(": shop", ": lost"))
    code, found = findings(shop)
    assert code == 2, "wrong specs weigh more than specs that do not fit, and everything was reached"
    told = [f"{severity} {error} {problem}" for severity, error, problem in found]
    for expected in (
        "error SpecError",
        "error SettingsError No connection named 'lost'",
        "error SourceSchemaError Column gone is not in",
        "error SourceSchemaError Column price is numeric(10,2), declared int32",
        "warning  Column id is declared 'nullable: false' and the database allows nulls.",
        "warning  Columns that the spec does not name are not read: name, extra.",
        "warning  The key (id) is unique by no index of the database.",
        "warning  No index begins with at, so every interval reads the whole table.",
    ):
        assert [line for line in told if line.startswith(expected)], (expected, told)
    assert findings(shop, "--source", "shop")[0] == 2, "the suite is missing"


def test_a_table_that_may_not_be_read_and_one_that_is_not_there_are_errors(
    shop: Door, database: DatabaseSource
) -> None:
    declare(shop, database)
    database.admin.execute(f'REVOKE SELECT ON "{database.schema}".t FROM "{database.role}"')
    code, found = findings(shop)
    assert code == 1
    assert f"This role may not SELECT from {database.schema}.t." in [problem for _, _, problem in found]
    database.run("DROP TABLE {s}.t")
    code, [(severity, error, problem)] = findings(shop)
    assert (code, severity, error) == (1, "error", "SourceSchemaError")
    assert problem.startswith(f"The database has no table {database.schema}.t")


def test_a_source_that_does_not_answer_is_one_finding_and_exit_code_3(shop: Door, database: DatabaseSource) -> None:
    declare(shop, database)
    away = Door(shop.folder, {"shop": "postgresql://u:secret@127.0.0.1:1/x"})
    code, [(severity, error, problem)] = findings(away)
    assert (code, severity, error) == (3, "error", "SourceUnavailable")
    assert "secret" not in problem


def test_objects_with_another_header_or_none_at_all_are_found(bucket: BucketSource) -> None:
    bucket.spec("a: string, b: string")
    door = Door(bucket.folder, {"shop": bucket.url})
    door.spec.parent.mkdir()
    (bucket.folder / "shop.yml").rename(door.spec)
    suite = door.folder / "suites" / "raw" / "shop__orders.yml"
    suite.parent.mkdir(parents=True)
    suite.write_text(SUITE.format(table="shop__orders", column="a"))
    code, [(severity, _, problem)] = findings(door)
    assert (code, severity) == (0, "warning")
    assert problem.startswith("No object of s3://stations")
    bucket.put("a,c\n1,2\n")
    code, [(severity, error, problem)] = findings(door)
    assert (code, severity, error) == (1, "error", "SourceSchemaError")
    assert "has no column b (it has a, c)" in problem


def planned(door: Door, start: str, end: str) -> dict[str, Any]:
    """The plan of the only table."""
    answer = door.run("plan", "shop", "--from", start, "--to", end, "--json")
    assert answer.code == 0, answer.err
    (table,) = json.loads(answer.out)
    assert isinstance(table, dict)
    return table


def test_a_plan_expects_what_a_run_then_finds_and_changes_nothing(shop: Door, database: DatabaseSource) -> None:
    declare(shop, database)
    before = planned(shop, "2013-01-02", "2013-01-05")
    assert not (shop.folder / "state").exists(), "a lake that does not exist is not made"
    assert [each["action"] for each in before["intervals"]] == ["read"] * 3
    assert before["rows_expected"] == pytest.approx(3 * 1440, rel=0.1)
    assert 3 * 1440 * 20 < before["bytes_expected"] < 3 * 1440 * 200
    done = shop.run("run", "--source", "shop", "--from", "2013-01-02", "--to", "2013-01-05", "--no-build", "--json")
    (line,) = json.loads(done.out)["tables"]
    assert (done.code, line["rows_in"]) == (0, 3 * 1440), done.err

    settings = database_settings(shop)
    state = stored_state(settings)
    after = planned(shop, "2013-01-04", "2013-01-07")
    assert [(each["key"], each["action"], each["late"], each["rows_live"]) for each in after["intervals"]] == [
        ("2013-01-02", "read again", True, 1440),
        ("2013-01-03", "read again", True, 1440),
        ("2013-01-04", "read again", False, 1440),
        ("2013-01-05", "read", False, 0),
        ("2013-01-06", "read", False, 0),
    ]
    assert stored_state(settings) == state
    taken = shop.run("run", "--source", "shop", "--from", "2013-01-04", "--to", "2013-01-07", "--no-build", "--json")
    (line,) = json.loads(taken.out)["tables"]
    assert (line["intervals"], line["unchanged"]) == (5, 3), "the run takes exactly what the plan said"


def test_days_outside_the_statistics_are_expected_to_be_empty_and_coverage_is_kept(
    shop: Door, database: DatabaseSource
) -> None:
    declare(shop, database, more="    coverage: {from: 2013-01-01, to: 2013-02-01, why: It began then.}\n")
    found = planned(shop, "2013-01-30", "2013-02-02")
    assert [(each["action"], each["rows_expected"]) for each in found["intervals"]] == [
        ("read", 0),
        ("read", 0),
        ("outside coverage", 0),
    ]


def test_what_a_run_does_besides_is_said_by_the_plan(shop: Door, database: DatabaseSource) -> None:
    declare(shop, database)
    assert planned(shop, "2013-01-02", "2013-01-03")["also"] == []
    more = "    deletes: {policy: reconcile}\n    late: {beyond: reopen}\n    history: true\n"
    declare(shop, database, more=more)
    shop.spec.write_text(shop.spec.read_text().replace("cursor: {", "cursor: {on_update: moves, "))
    answer = shop.run("plan", "shop", "--from", "2013-01-02", "--to", "2013-01-03")
    assert answer.code == 0, answer.err
    for said in ("on_update: moves", "late: reopen", "deletes: reconcile", "history: true"):
        assert said in answer.out


def test_a_day_that_is_not_over_is_refused_by_the_plan_as_by_the_run(shop: Door, database: DatabaseSource) -> None:
    declare(shop, database)
    answer = shop.run("plan", "shop", "--from", "2999-01-01", "--to", "2999-01-02")
    assert (answer.code, "is not over yet" in answer.err) == (2, True), answer.err


def test_objects_that_did_not_change_are_known_without_being_read(bucket: BucketSource) -> None:
    bucket.put("a,b\n1,2\n", day="2013-01-01")
    bucket.put("a,b\n3,4\n", day="2013-01-02")
    bucket.spec("a: string, b: string")
    door = Door(bucket.folder, {"shop": bucket.url})
    door.spec.parent.mkdir()
    (bucket.folder / "shop.yml").rename(door.spec)
    suite = door.folder / "suites" / "raw" / "shop__orders.yml"
    suite.parent.mkdir(parents=True)
    suite.write_text(SUITE.format(table="shop__orders", column="a"))
    run = ("run", "--source", "shop", "--from", "2013-01-01", "--to", "2013-01-03", "--no-build")
    first = door.run(*run)
    assert (first.code, "No build was asked for" in first.out, "Nothing changed" in first.out) == (0, True, False)
    bucket.put("a,b\n5,6\n7,8\n", day="2013-01-02")
    found = planned(door, "2013-01-01", "2013-01-04")
    assert [(each["key"], each["action"], each["bytes_expected"]) for each in found["intervals"]] == [
        ("2013-01-01", "unchanged", 8),
        ("2013-01-02", "read again", 12),
        ("2013-01-03", "no objects", 0),
    ]


def database_settings(door: Door) -> Any:
    """The settings the door's commands have."""
    from common.settings import Settings

    return Settings.load({}, home=door.folder / "state")
