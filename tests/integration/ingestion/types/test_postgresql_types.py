"""Laws of PostgreSQL's types: each value arrives as the database prints it, or its row is set apart; none is lost.

Three readers must agree: the database itself (its text of each value, by another driver), DuckDB on the staged file,
and pyarrow on the same file. Every case of ``postgresql.py`` is one table; all of them are staged once, in one session.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psycopg  # noqa: TID251 - the tests own the source's tables
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import SourceSchemaError
from common.intervals import day_interval
from ingestion.databases.checksums import lake_checksums
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.paths import engine_path
from lake.schema import resolve_type
from lake.sql import identifier, literal, parquet_relation
from penstock.embedded import EmbeddedServices
from tests.integration.ingestion.conftest import DatabaseSource, new_lake, rejects
from tests.integration.ingestion.types import postgresql
from tests.integration.ingestion.types.table import PAGE, Refusal, TypeCase, parquet_type, rendered

EVERY = (*postgresql.CASES, *postgresql.CASTS)
TABLES = {case: f"t{number}" for number, case in enumerate(EVERY)}


@dataclass
class Staged:
    """All cases, staged in one session."""

    source: DatabaseSource
    spec: SourceSpec
    batches: dict[TypeCase, StagedBatch]
    source_checksums: dict[TypeCase, dict[str, Any]]
    connection: duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def staged(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    """The tables of all cases, with their values, staged; dropped at the end."""
    folder = tmp_path_factory.mktemp("types")
    url = services.connections["flightops"]
    role = urlsplit(url).username or ""
    with psycopg.connect(services.postgres_url, autocommit=True) as admin:
        source = DatabaseSource(admin, url, "test_types", role, new_lake(folder / "state"), folder)
        admin.execute(f"CREATE SCHEMA {source.schema}")
        admin.execute(f"GRANT USAGE ON SCHEMA {source.schema} TO {identifier(role)}")
        try:
            with source.lake.connect() as connection:
                yield _stage(source, connection)
        finally:
            admin.execute(f"DROP SCHEMA {source.schema} CASCADE")


def _stage(source: DatabaseSource, connection: duckdb.DuckDBPyConnection) -> Staged:
    for statement in postgresql.SETUP:
        source.admin.execute(statement.replace("{s}", source.schema))
    for case, table in TABLES.items():
        create(source, table, case.ddl_in(source.schema), [*case.kept, *case.apart, *case.nulls, None])
    source.run("SELECT 1")
    spec = source.spec_of([described(source, TABLES[case], case.word, cast=is_cast(case)) for case in EVERY])
    batches, figures = {}, {}
    with source.open(spec) as reader:
        for case, table in TABLES.items():
            batches[case] = reader.stage(spec.table(table), day_interval("2013-01-01"), code="code")
            figures[case] = reader.source_checksums(spec.table(table)) or {}
    return Staged(source, spec, batches, figures, connection)


def create(source: DatabaseSource, table: str, ddl: str, values: list[str | None]) -> None:
    """A table of numbered values, written in the database's own notation."""
    source.admin.execute(f"CREATE TABLE {source.schema}.{table} (id int PRIMARY KEY, v {ddl})")
    rows = ", ".join(f"({n}, {literal(v) if v is not None else 'NULL'})" for n, v in enumerate(values))
    source.admin.execute(f"INSERT INTO {source.schema}.{table} VALUES {rows}".encode())


def described(source: DatabaseSource, table: str, word: str, *, cast: bool = False) -> str:
    """The part of a spec that describes a table of :func:`create`."""
    policy = ", policy: cast, why: Proven here" if cast else ""
    return source.table("id: int32, v: V", table=table).replace('type: "V"', f'type: "{word}"{policy}')


def is_cast(case: TypeCase) -> bool:
    """Whether the case declares a cast."""
    return case in postgresql.CASTS


def printed(staged: Staged, case: TypeCase) -> dict[int, str | None]:
    """What the database prints, by a driver and a session that are not ours."""
    table = f"{staged.source.schema}.{TABLES[case]}"
    value = case.printed or "v"
    if case.word in {"date", "timestamp", "timestamptz"}:
        value = f"CASE WHEN isfinite({value}) THEN {value} END"
    rows = staged.source.admin.execute(
        f"SELECT id, CASE WHEN ({value}) IS DISTINCT FROM NULL THEN format('%s', {value}) END FROM {table} "
        f"WHERE id < {len(case.kept)} OR v IS NULL"
    ).fetchall()
    return dict(rows)


def comparable(word: str, text: str | None) -> Any:
    """A text of either engine in a form in which equal values are equal: NaN is itself, -0 is not 0."""
    if text is None:
        return None
    if word == "bool":
        return text[:1].lower()
    if word in {"int32", "int64"}:
        return int(text)
    if word in {"float32", "float64"}:
        number = float(text)
        return "NaN" if math.isnan(number) else struct.pack("<f" if word == "float32" else "<d", number)
    if word.startswith("decimal"):
        return Decimal(text)
    return f"{text.replace(' (BC)', '')} BC" if " (BC)" in text else text  # PostgreSQL writes it last


def seen_by_duckdb(staged: Staged, batch: StagedBatch, word: str) -> dict[int, str | None]:
    """Texts of the staged values as DuckDB prints them.

    Not so for instants: it prints the last of them (the year 294247) a millisecond late, though it holds them right.
    """
    text = {"binary": "'\\x' || lower(hex(v))", "timestamptz": "make_timestamp(epoch_us(v))::VARCHAR || '+00'"}.get(
        word, "v::VARCHAR"
    )
    return dict(staged.connection.execute(f"SELECT id, {text} FROM {relation(staged.source.lake, batch)}").fetchall())


def relation(lake: Lake, batch: StagedBatch) -> str:
    """The staged file as DuckDB reads it."""
    columns, field_ids = lake.columns(batch.table)
    return parquet_relation([engine_path(file) for file in batch.files], columns, field_ids)


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_every_value_arrives_as_the_database_prints_it_or_its_row_is_set_apart(staged: Staged, case: TypeCase) -> None:
    batch = staged.batches[case]
    expected = {number: comparable(case.word, text) for number, text in printed(staged, case).items()}
    if case.nulls:
        expected |= dict.fromkeys(range(len(case.kept) + len(case.apart), case.values - 1))
    found = {n: comparable(case.word, text) for n, text in seen_by_duckdb(staged, batch, case.word).items()}
    assert found == expected
    apart = range(len(case.kept), len(case.kept) + len(case.apart))
    assert sorted(rejects(batch), key=lambda row: len(row[2])) == [
        ("exact_value", case.reason, f'key {{"id":{number}}}') for number in apart
    ]
    assert (batch.rows_in, batch.rows_staged) == (case.values, case.values - len(case.apart))
    rows = [json.loads(row["row"]) for row in batch.early_rejects.to_pylist()]
    assert sorted(row["id"] for row in rows) == list(apart)
    assert all(row["v"] is not None for row in rows)


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_the_file_has_the_documented_types_and_pyarrow_reads_the_same_values(staged: Staged, case: TypeCase) -> None:
    batch, lake = staged.batches[case], staged.source.lake
    path = engine_path(batch.files[0])
    column = pq.ParquetFile(path).schema.column(1)
    assert documented(column) == parquet_type(case.word)
    assert (
        lake.catalog.load_table((batch.table.namespace, batch.table.name)).schema().find_field("v").field_type
        == (resolve_type(case.word)[0])
    )
    table = pq.read_table(path)
    numbers = table.column("id").to_pylist()
    values = table.column("v")
    if pa.types.is_temporal(values.type):  # Python has no year 0 and none after 9999: compare what is stored
        epoch = {"date": "date_diff('day', DATE '1970-01-01', v)"}.get(case.word, "epoch_us(v)")
        stored = values.cast(pa.int32() if case.word in {"date"} else pa.int64()).to_pylist()
    else:
        epoch, stored = "v", values.to_pylist()
    rows = dict(staged.connection.execute(f"SELECT id, {epoch} FROM {relation(lake, batch)}").fetchall())
    assert {n: repr(v) for n, v in zip(numbers, stored, strict=True)} == {n: repr(v) for n, v in rows.items()}


def documented(column: Any) -> str:
    """A Parquet column's type as the page writes it."""
    logical = json.loads(column.logical_type.to_json())
    if logical["Type"] == "Decimal":
        return f"{column.physical_type} (Decimal({logical['precision']},{logical['scale']}))"
    if logical["Type"] in {"Time", "Timestamp"}:
        zone = ", UTC" if logical["isAdjustedToUTC"] and logical["Type"] == "Timestamp" else ""
        return f"{column.physical_type} ({logical['Type']}, {logical['timeUnit'].replace('microseconds', 'us')}{zone})"
    if logical["Type"] in {"String", "Date"}:
        return f"{column.physical_type} ({logical['Type']})"
    return str(column.physical_type)


@pytest.mark.parametrize("case", [case for case in EVERY if not case.apart], ids=str)
def test_the_checksum_of_a_column_is_the_same_in_the_database_and_in_the_lake(staged: Staged, case: TypeCase) -> None:
    batch, lake = staged.batches[case], staged.source.lake
    found = lake_checksums(staged.connection, staged.spec.table(TABLES[case]), relation(lake, batch))
    assert found == staged.source_checksums[case]
    assert found["v"][0] == len(case.kept)


@pytest.mark.parametrize("pair", postgresql.REFUSED, ids=str)
def test_a_type_that_cannot_hold_the_column_is_refused_naming_both_and_the_remedy(
    staged: Staged, pair: Refusal
) -> None:
    source, table = staged.source, "refused"
    ddl = (pair.ddl or pair.source).replace("{s}", source.schema)
    source.run(f"CREATE TABLE {{s}}.{table} (id int, v {ddl})")
    try:
        spec = source.spec_of([described(source, table, pair.word)])
        said = "differs from its spec: v is "
        with source.open(spec) as reader, pytest.raises(SourceSchemaError, match=said) as refused:
            reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code")
    finally:
        source.run(f"DROP TABLE {{s}}.{table}")
    assert f"declared {pair.word}" in str(refused.value)
    assert "Remedy: " in str(refused.value)
    assert "docs/drift.md" in str(refused.value)


def test_the_page_shows_exactly_what_is_proven_here() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "python -m tests.integration.ingestion.types.table --write"


def test_no_value_of_any_case_is_lost(staged: Staged) -> None:
    """The account over all cases: what went in is in the file or in quarantine, and it is what the page says."""
    rows_in = sum(case.values for case in EVERY)
    kept = sum(batch.rows_staged for batch in staged.batches.values())
    apart = sum(batch.early_rejects.num_rows for batch in staged.batches.values())
    assert kept + apart == rows_in
    nulls = sum(len(case.nulls) for case in EVERY)
    assert f"PostgreSQL: {rows_in} values in {len(EVERY)} cases: {kept - nulls} arrive as the database prints them" in (
        Path(PAGE).read_text(encoding="utf-8")
    )
