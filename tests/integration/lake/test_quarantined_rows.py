"""Laws of a quarantined row: every value comes back exactly, from quarantine and from both kinds of files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from lake.batches import StagedBatch
from lake.lake import Lake, checksum_of
from lake.paths import WHOLE, TableId, new_attempt
from lake.publish import identify, publish
from lake.quarantine import quarantined
from lake.schema import Column
from lake.sql import identifier
from penstock.repair_rows import Candidate, read_file, texts_of, typed_rows, write_file
from tests.integration.lake.lakes import NOW, verdict

TABLE = TableId("raw", "odd__values")
VALUES = {
    "bool": ["true", "false"],
    "int32": ["-2147483648", "2147483647"],
    "int64": ["-9223372036854775808", "9223372036854775807"],
    "float32": ["'-0.0'", "'nan'", "'inf'", "'-inf'", "1e-45", "3.4028235e38", "0.1"],
    "float64": ["'-0.0'", "'nan'", "'inf'", "'-inf'", "5e-324", "1.7976931348623157e308", "0.1", "1e22"],
    "decimal(38,10)": ["'-0.5000000000'", "'1234567890123456789012345678.0123456789'"],
    "decimal(5,0)": ["'-99999'"],
    "string": [
        "''",
        "'null'",
        "chr(0) || 'behind NUL'",
        r"'\N'",
        r"'\x00 is text'",
        "'quote \" comma , line' || chr(13) || chr(10) || 'end'",
        '\'[[1,null],["a",{"b":[]}]]\'',
        "chr(8232) || chr(128512) || chr(65279)",
        "'1.0'",
    ],
    "binary": ["'\\x00\\xFF\\xFE'::BLOB", "''::BLOB", "'AP8='::BLOB"],
    "date": ["'0044-03-15 (BC)'", "'0001-01-01'", "'99999-12-31'", "'infinity'", "'-infinity'"],
    "time": ["'00:00:00'", "'23:59:59.999999'", "'24:00:00'"],
    "timestamp": ["make_timestamp(-70000000000000001)", "'290000-01-01 00:00:00'", "'infinity'"],
    "timestamptz": [
        "make_timestamptz(-70000000000000001)",
        "make_timestamptz(9100000000000000000)",
        "'-infinity'",
        "'2013-11-03 05:30:00.000001+00'",
    ],
}
COLUMNS = tuple(Column(f"c{n}", kind) for n, kind in enumerate(VALUES))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with one table of every type."""
    made = Lake(Settings.load({}, home=tmp_path / "state"), clock=lambda: NOW)
    made.ensure(TABLE, COLUMNS, partition_by=None)
    return made


def reject(lake: Lake, query: str) -> list[dict[str, Any]]:
    """Publish rows of which all but the first, one of nulls, are rejected; what quarantine has."""
    attempt = new_attempt()
    location = lake.staging_location(TABLE, WHOLE, attempt)
    nulls = "SELECT " + ", ".join(f"NULL AS {column.name}" for column in COLUMNS)
    with lake.connect() as connection:
        rows = lake.write(connection, f"{nulls} UNION ALL ({query})", TABLE, location)
    staged = StagedBatch(TABLE, WHOLE, attempt, (location,), rows_in=rows, rows_staged=rows, code="code")
    judged = verdict(rows, range(1, rows))
    receipt = publish(lake, staged, judged, identity=identify(lake, staged), stage="ingest", run_id="run")
    assert receipt.quarantined == rows - 1
    return quarantined(lake, TABLE).to_pylist()


def checksum(lake: Lake, query: str, rows: list[dict[str, Any]], values: dict[str, dict[str, str | None]]) -> bool:
    """Whether typed texts are the very rows of a query, bit by bit."""
    with lake.connect() as connection:
        candidates = [Candidate(row, values[row["row_id"]], edited=False) for row in rows]
        assert typed_rows(connection, COLUMNS, (), candidates, belongs="NULL") == {}
        casts = ", ".join(f"CAST({c.name} AS {c.duckdb}) AS {c.name}" for c in COLUMNS)
        connection.execute(f"CREATE TEMP TABLE came AS SELECT {casts} FROM ({query})")
        bits = ", ".join(
            f"CASE WHEN isnan({c.name}) THEN NULL ELSE {c.name}::BIT END, isnan({c.name})"
            if c.type.startswith("float")
            else identifier(c.name)
            for c in COLUMNS
        )
        came, back = (f"(SELECT row({bits}) FROM {name})" for name in ("came", "repaired"))
        return checksum_of(connection, came) == checksum_of(connection, back)


def every_value() -> str:
    """A query of as many rows as the longest list has, each column cycling through its own values."""
    most = max(map(len, VALUES.values()))
    rows = [
        ", ".join(f"{found[n % len(found)]} AS c{at}" for at, found in enumerate(VALUES.values())) for n in range(most)
    ]
    casts = ", ".join(f"CAST({c.name} AS {c.duckdb}) AS {c.name}" for c in COLUMNS)
    return " UNION ALL ".join(f"(SELECT {casts} FROM (SELECT {row}))" for row in rows)


@pytest.mark.parametrize("name", ["bad.jsonl", "bad.csv"])
def test_every_value_of_every_type_comes_back_exactly_from_quarantine_and_from_its_file(
    lake: Lake, tmp_path: Path, name: str
) -> None:
    query = every_value()
    rows = reject(lake, query)
    assert {row["form"] for row in rows} == {"typed"}
    assert checksum(lake, query, rows, {row["row_id"]: texts_of(row, COLUMNS) for row in rows})
    path = tmp_path / name
    assert write_file(path, rows, COLUMNS) == len(rows)
    assert read_file(path, COLUMNS) == {row["row_id"]: texts_of(row, COLUMNS) for row in rows}


def test_a_cell_of_ten_megabytes_is_kept_byte_for_byte(lake: Lake, tmp_path: Path) -> None:
    text = "repeat('é' || chr(0) || '\"', 2500000)"
    blob = "repeat('\\x00\\xFF', 2500000)::BLOB"
    kinds = list(VALUES)
    given = {kinds.index("string"): text, kinds.index("binary"): blob}
    query = "SELECT " + ", ".join(f"{given.get(n, 'NULL')} AS c{n}" for n in range(len(COLUMNS)))
    rows = reject(lake, query)
    for name in ("bad.jsonl", "bad.csv"):
        write_file(tmp_path / name, rows, COLUMNS)
        assert checksum(lake, query, rows, read_file(tmp_path / name, COLUMNS))


def test_equal_rows_have_ids_of_their_own_that_do_not_change(lake: Lake) -> None:
    query = "SELECT " + ", ".join(f"{'7' if n == 1 else 'NULL'} AS c{n}" for n in range(len(COLUMNS)))
    first = [row["row_id"] for row in reject(lake, f"{query} UNION ALL {query}")]
    assert first[1] == f"{first[0]}-2"
    lake.clock = lambda: NOW.replace(year=2027)
    with_another = query.replace("7 AS c1", "8 AS c1")
    again = {row["row_id"] for row in reject(lake, f"{with_another} UNION ALL {query} UNION ALL {query}")}
    assert set(first) < again


def test_bytes_that_are_no_text_are_kept_beside_what_people_read() -> None:
    from ingestion.objects.encodings import Transcoder

    record = b'1,"caf\xe9 \\xe9"'
    text = Transcoder("utf-8", "object")
    assert text.shown(record) == '1,"caf\\xe9 \\xe9"', "for people two different things look the same"
    assert text.kept_bytes(record) == record
    assert text.kept_bytes("café".encode()) is None
    other = Transcoder("shift_jis", "object")
    came = "テスト".encode("shift_jis") + b"\xff,\x81"
    assert other.kept_bytes(b"".join(other.utf8(iter([came])))) == came
    assert json.loads(json.dumps({"csv": "x", "base64": base64.b64encode(came).decode()}))["base64"]
