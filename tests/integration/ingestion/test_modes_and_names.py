"""Laws of how a database table is cut into intervals, and of names that differ between source and lake."""

from __future__ import annotations

import json

import pytest

from common.errors import SpecError
from tests.integration.ingestion.conftest import DatabaseSource, rejects

INTERVAL_MODES = {
    "incremental": "cursor: {column: at}",
    "append": "cursor: {column: at}",
    "window": "window: {column: at}",
}


def declare(database: DatabaseSource, mode: str, *, kind: str = "timestamptz") -> str:
    return (
        f"  - name: sales\n    source_name: Sales Book\n    mode: {mode}\n    {INTERVAL_MODES[mode]}\n"
        f"    schema: {json.dumps(database.schema)}\n    primary_key: [id]\n    columns:\n"
        "      - {name: id, source_name: Id, type: int32, nullable: false}\n"
        f"      - {{name: at, source_name: Sold At, type: {kind}, nullable: false}}\n"
        '      - {name: amount, source_name: "Amount %", type: "decimal(6,2)"}\n'
    )


def fill(database: DatabaseSource, kind: str, *instants: str) -> None:
    database.run(f'CREATE TABLE {{s}}."Sales Book" ("Id" int PRIMARY KEY, "Sold At" {kind}, "Amount %" numeric(6,2))')
    for number, instant in enumerate(instants):
        database.run(f"INSERT INTO {{s}}.\"Sales Book\" VALUES ({number}, '{instant}', {number})")


@pytest.mark.parametrize("mode", INTERVAL_MODES)
def test_each_mode_reads_exactly_its_half_open_interval_under_the_lakes_names(
    database: DatabaseSource, mode: str
) -> None:
    fill(
        database,
        "timestamptz",
        "2013-01-01 04:59:59.999999Z",  # still the last second of New York's old year
        "2013-01-01 05:00:00Z",
        "2013-01-02 04:59:59.999999Z",
        "2013-01-02 05:00:00Z",
    )
    staged = database.stage(database.spec_of([declare(database, mode)]))
    assert staged.table.name == "shop__sales"
    assert [(number, str(amount)) for number, amount in database.rows(staged, "id", "amount")] == [
        (1, "1.00"),
        (2, "2.00"),
    ]


def test_a_wall_time_is_cut_on_the_sources_own_clock(database: DatabaseSource) -> None:
    fill(
        database,
        "timestamp",
        "2012-12-31 23:59:59",
        "2013-01-01 00:00:00",
        "2013-01-01 23:59:59",
        "2013-01-02 00:00:00",
    )
    staged = database.stage(database.spec_of([declare(database, "window", kind="timestamp")]))
    assert database.rows(staged, "id") == [(1,), (2,)]


def test_a_row_set_apart_and_the_sources_checksum_use_the_lakes_names(database: DatabaseSource) -> None:
    fill(database, "timestamptz", "2013-01-01 12:00:00Z", "2013-01-01 13:00:00Z")
    database.run('UPDATE {s}."Sales Book" SET "Amount %" = \'NaN\' WHERE "Id" = 1')
    spec = database.spec_of([declare(database, "window")])
    staged = database.stage(spec)
    assert rejects(staged) == [("exact_value", "Amount % is NaN or infinite", 'key {"id":1}')]
    assert json.loads(staged.early_rejects.column("row")[0].as_py()) == {
        "id": 1,
        "at": "2013-01-01T13:00:00+00:00",
        "amount": "NaN",
    }
    with database.open(spec) as reader:
        found = reader.source_checksums(spec.tables[0])
    assert found is not None
    assert found["amount"][0] == found["id"][0] == 2


def test_a_spec_may_not_mix_the_keys_of_different_modes(database: DatabaseSource) -> None:
    text = declare(database, "window").replace("window: {column: at}", "window: {column: at}\n    cursor: {column: at}")
    with pytest.raises(SpecError, match="mode window has no cursor"):
        database.spec_of([text])
