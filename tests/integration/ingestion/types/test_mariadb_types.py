"""Laws of types of MariaDB and MySQL: a value arrives as the database prints it, or its row is set apart; none is lost.

The database itself prints each value with its own client; DuckDB prints what lies in the staged file. Every case of
``mariadb.py`` is one table; all of them are staged once, in one session.
"""

from __future__ import annotations

import json
import re
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from common.errors import SourceSchemaError
from common.intervals import day_interval
from ingestion.databases.checksums import lake_checksums
from ingestion.databases.mysql_sql import text
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from lake.paths import engine_path
from lake.sql import parquet_relation
from tests.integration.ingestion.conftest import new_lake, rejects
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.types import mariadb as cases
from tests.integration.ingestion.types.table import PAGE, Refusal, TypeCase, account, mysql_spelling, spelled
from tests.mariadb_server import READER, MariadbServer, mysqld

ENGINE = "MySQL" if mysqld() else "MariaDB"
EVERY = tuple(case for case in (*cases.CASES, *cases.CASTS) if spelled(case, ENGINE))
TABLES = {case: f"t{number}" for number, case in enumerate(EVERY)}
_EXPRESSION = re.compile(r"[xb]'[0-9a-f]*'|[A-Z][A-Za-z_]+\(.*\)|\d+ \+ 0", re.DOTALL)


@dataclass
class Staged:
    """All cases, staged in one session."""

    source: MysqlSource
    spec: SourceSpec
    batches: dict[TypeCase, StagedBatch]
    source_checksums: dict[TypeCase, dict[str, Any]]


@pytest.fixture(scope="module")
def staged(mariadb: MariadbServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    """The tables of all cases, with their values, staged; dropped at the end."""
    folder = tmp_path_factory.mktemp("types")
    name = f"types_{uuid.uuid4().hex[:12]}"
    mariadb.run(f"CREATE DATABASE {name}; GRANT SELECT ON {name}.* TO {READER}@'%';")
    source = MysqlSource(mariadb, name, new_lake(folder / "state"), folder)
    try:
        source.run(
            "".join(
                create(table, case.ddl or spelled(case, ENGINE), [*case.kept, *case.apart, None])
                for case, table in TABLES.items()
            )
        )
        spec = source.spec_of([declared(source, case) for case in TABLES])
        batches, figures = {}, {}
        with source.open(spec) as reader:
            for case, table in TABLES.items():
                batches[case] = reader.stage(spec.table(table), day_interval("2013-01-01"), code="code")
                figures[case] = reader.source_checksums(spec.table(table)) or {}
        yield Staged(source, spec, batches, figures)
    finally:
        mariadb.run(f"DROP DATABASE {name};")


def declared(source: MysqlSource, case: TypeCase) -> str:
    """The case's table in a spec."""
    described = source.table(f"id: int32; v: {case.word}", table=TABLES[case])
    return (
        described.replace("{name: v, ", "{name: v, policy: cast, why: For the test, ")
        if case in cases.CASTS
        else described
    )


def create(table: str, ddl: str, values: list[str | None]) -> str:
    """Statements of a table of numbered values."""
    rows = ", ".join(f"({n}, {_sql(value)})" for n, value in enumerate(values))
    filled = f"INSERT INTO {table} (id, v) VALUES {rows};\n" if values else ""
    null = " NULL" if ddl.startswith("timestamp") else ""
    return f"CREATE TABLE {table} (id int PRIMARY KEY, v {ddl}{null});\n{filled}"


def _sql(value: str | None) -> str:
    if value is None:
        return "NULL"
    return value if _EXPRESSION.fullmatch(value) else text(value)


def comparable(word: str, printed: str | None) -> Any:
    """A text of either engine in a form in which equal values are equal."""
    if printed is None:
        return None
    if word in {"float32", "float64"}:
        return struct.pack("<f" if word == "float32" else "<d", float(printed))
    if word in {"int32", "int64"} or word.startswith("decimal"):
        return Decimal(printed)
    if word in {"time", "timestamp", "timestamptz"}:  # the engines show trailing zeros of a second as they like
        return re.sub(r"\.?0*$", "", printed.removesuffix("+00")) if "." in printed else printed.removesuffix("+00")
    return printed


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_every_value_arrives_as_the_database_prints_it_or_is_set_apart_with_its_key(
    staged: Staged, case: TypeCase
) -> None:
    batch, source = staged.batches[case], staged.source
    shown = case.printed or "v"
    rows = source.run(
        f"SELECT id, IF(v IS NULL, 'NULL', HEX(CAST({shown} AS CHAR))) FROM {TABLES[case]} "
        f"WHERE id < {len(case.kept)} OR v IS NULL ORDER BY id"
    )
    expected = {
        int(n): comparable(case.word, None if v == "NULL" else bytes.fromhex(v).decode())
        for n, v in ((row[0], row[1] if len(row) > 1 else "") for row in rows)
    }
    assert seen(staged, case) == expected
    apart = rejects(batch)
    first = len(case.kept)
    assert sorted(apart, key=lambda found: int(re.sub(r"\D", "", found[2]))) == [
        ("exact_value", case.reason, f'key {{"id": {first + n}}}') for n in range(len(case.apart))
    ]
    told = {row["id"]: row["v"] for row in (json.loads(str(told)) for told in batch.early_rejects["row"].to_pylist())}
    assert len(told) == len(case.apart)
    assert batch.rows_in == case.values
    assert batch.rows_staged + len(apart) == batch.rows_in


def seen(staged: Staged, case: TypeCase) -> dict[int, Any]:
    """What DuckDB prints of the staged file."""
    lake, batch = staged.source.lake, staged.batches[case]
    columns, field_ids = lake.columns(batch.table)
    relation = parquet_relation([engine_path(file) for file in batch.files], columns, field_ids)
    shown = "hex(v)" if case.word == "binary" else "v::VARCHAR"
    if case.word == "float32":
        shown = "v::DOUBLE::VARCHAR"
    with lake.connect() as connection:
        rows = connection.execute(f"SELECT id, {shown} FROM {relation}").fetchall()
    return {n: comparable(case.word, value) for n, value in rows}


@pytest.mark.parametrize("case", [case for case in EVERY if not case.apart], ids=str)
def test_checksums_of_the_database_and_of_the_lake_agree(staged: Staged, case: TypeCase) -> None:
    lake, batch = staged.source.lake, staged.batches[case]
    columns, field_ids = lake.columns(batch.table)
    relation = parquet_relation([engine_path(file) for file in batch.files], columns, field_ids)
    with lake.connect() as connection:
        in_lake = lake_checksums(connection, staged.spec.table(TABLES[case]), relation)
    assert in_lake == staged.source_checksums[case]
    assert in_lake["v"][0] == len(case.kept)


def test_no_value_of_any_case_is_lost(staged: Staged) -> None:
    """The account over all cases: what went in is in the file or in quarantine, and it is what the page says."""
    kept = sum(batch.rows_staged for batch in staged.batches.values())
    apart = sum(batch.early_rejects.num_rows for batch in staged.batches.values())
    told = (
        f"{kept + apart} values in {len(EVERY)} cases: {kept} arrive as the database prints them, {apart} are set apart"
    )
    assert told in account(ENGINE, EVERY)
    assert account(ENGINE, EVERY) in PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def refusals(staged: Staged) -> dict[Refusal, str]:
    """What staging a table of each refused pair says, in one session."""
    source = staged.source
    tables = {pair: f"r{number}" for number, pair in enumerate(cases.REFUSED)}
    source.run("".join(create(table, pair.ddl or pair.source, []) for pair, table in tables.items()))
    spec = source.spec_of([source.table(f"id: int32; v: {pair.word}", table=table) for pair, table in tables.items()])
    messages = {}
    with source.open(spec) as reader:
        for pair, table in tables.items():
            with pytest.raises(SourceSchemaError, match="differs from its spec: v is ") as refused:
                reader.stage(spec.table(table), day_interval("2013-01-01"), code="code")
            messages[pair] = str(refused.value)
    return messages


@pytest.mark.parametrize("pair", cases.REFUSED, ids=str)
def test_a_type_word_that_cannot_hold_the_column_is_refused_naming_both(
    refusals: dict[Refusal, str], pair: Refusal
) -> None:
    source = mysql_spelling(pair.source) if mysqld() else pair.source
    assert f"v is {source}, declared {pair.word}" in refusals[pair]
    assert "Remedy: " in refusals[pair]
