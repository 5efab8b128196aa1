"""Laws of drift in JSON lines and Parquet: a policy does there what it does elsewhere, row by row."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from common.errors import SourceSchemaError
from ingestion.objects.reader import ObjectReader
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from tests.integration.ingestion.folders import FolderSource, waiting

Row = dict[str, Any]
ROWS: list[Row] = [
    {"id": 1, "note": "a", "amount": Decimal("1.25"), "qty": 10},
    {"id": 2, "note": "b", "amount": Decimal("2.50"), "qty": 20},
    {"id": 3, "note": None, "amount": None, "qty": None},
]
DECLARED = [("id", "int32"), ("note", "string"), ("amount", "decimal(10,2)"), ("qty", "int32")]
TYPES = {"id": pa.int32(), "note": pa.string(), "amount": pa.decimal128(10, 2), "qty": pa.int32()}


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    """An empty folder."""
    return FolderSource(tmp_path)


def spec(form: str, on_drift: dict[str, str], columns: Sequence[tuple[str, str]] = DECLARED) -> SourceSpec:
    """One table, of which ``id`` is the key."""
    listed = [{"name": name, "type": kind, "nullable": name != "id"} for name, kind in columns]
    table = {
        "name": "orders",
        "mode": "append",
        "primary_key": ["id"],
        "objects": {"path": "{part}/{key}.dat", "format": form},
        "on_drift": on_drift,
        "columns": listed,
    }
    return SourceSpec.model_validate(
        {"source": "shop", "kind": "objects", "connection": "shop", "owner": "me@example.org", "tables": [table]}
    )


def put(source: FolderSource, form: str, rows: Sequence[Row], *, part: str = "p", **types: pa.DataType) -> None:
    """An object of these rows; the columns are those of the first one, in its order."""
    if form == "jsonl":
        text = "".join(
            json.dumps({k: v for k, v in row.items() if v is not None}, default=float) + "\n" for row in rows
        )
        source.put(text, part=part)
        return
    known = {**TYPES, "extra": pa.int64(), "notes": pa.string(), **types}
    table = pa.table({name: pa.array([row[name] for row in rows], known[name]) for name in rows[0]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    source.put(sink.getvalue(), part=part)


def stored(source: FolderSource, staged: StagedBatch) -> list[Row]:
    """Rows of the staged file, under the lake's names."""
    names = [c.name for c in source.lake.columns(staged.table)[0] if c.name not in {"ds", "object_key", "object_line"}]
    return [dict(zip(names, row, strict=True)) for row in source.rows(staged, *names)]


def without(name: str) -> list[Row]:
    return [{k: v for k, v in row.items() if k != name} for row in ROWS]


def renamed() -> list[Row]:
    return [{{"note": "notes"}.get(k, k): v for k, v in row.items()} for row in ROWS]


def outcomes(staged: StagedBatch) -> list[tuple[str, str, str]]:
    return [(found["kind"], found["column"], found["outcome"]) for found in staged.drift]


EXTRA = [{**row, "extra": 7 if row["id"] == 2 else None} for row in ROWS]
BOTH = pytest.mark.parametrize("form", ["jsonl", "parquet"])


@BOTH
def test_an_added_column_is_taken_in_from_the_object_that_has_it(source: FolderSource, form: str) -> None:
    put(source, form, EXTRA)
    put(source, form, [{**ROWS[0], "id": 9}], part="q")
    staged = source.stage(spec(form, {"added": "evolve"}))
    value: Any = "7" if form == "jsonl" else 7  # JSON's new columns are text
    expected = [{**row, "extra": value if row["id"] == 2 else None} for row in EXTRA]
    assert stored(source, staged) == [*expected, {**ROWS[0], "id": 9, "extra": None}]
    assert outcomes(staged) == [("added", "extra", "evolved")]
    assert staged.early_rejects.num_rows == 0


@BOTH
def test_rows_with_a_value_in_an_added_column_wait_whole(source: FolderSource, form: str) -> None:
    put(source, form, EXTRA)
    staged = source.stage(spec(form, {"added": "quarantine"}))
    assert stored(source, staged) == [ROWS[0], ROWS[2]]
    [(reason, place, row)] = waiting(staged)
    assert (reason, place) == ("schema drift: extra is not in the spec", "line 2")
    assert {k: None if v is None else str(v).rstrip("0") for k, v in row.items()} == {
        "id": "2", "note": "b", "amount": "2.5", "qty": "2", "extra": "7",
    }  # fmt: skip


@BOTH
@pytest.mark.parametrize(
    ("on_drift", "rows", "says"),
    [
        ({"added": "reject"}, EXTRA, "column extra .* is not in the spec"),
        ({"dropped": "reject"}, without("note"), "column note is not in the source"),
        ({"renamed": "reject"}, renamed(), "note is gone and notes may be its new name"),
        ({"dropped": "evolve"}, without("id"), "column id is not in the source, and it may not be null"),
    ],
)
def test_drift_is_refused_as_the_spec_says(
    source: FolderSource, form: str, on_drift: dict[str, str], rows: list[Row], says: str
) -> None:
    put(source, form, rows)
    with pytest.raises(SourceSchemaError, match=says):
        source.stage(spec(form, on_drift))
    assert source.left_behind() == []


@BOTH
def test_a_dropped_column_is_null_and_a_renamed_one_is_read_under_its_new_name(source: FolderSource, form: str) -> None:
    put(source, form, without("qty"))
    put(source, form, renamed(), part="q")
    staged = source.stage(spec(form, {"dropped": "evolve", "renamed": "evolve"}))
    assert stored(source, staged) == [*({**row, "qty": None} for row in ROWS), *ROWS]
    assert outcomes(staged) == [("dropped", "qty", "evolved"), ("renamed", "note", "evolved")]


def test_a_key_that_no_record_has_is_null_where_the_spec_says_nothing(source: FolderSource) -> None:
    put(source, "jsonl", without("qty"))
    staged = source.stage(spec("jsonl", {"renamed": "evolve"}))
    assert stored(source, staged) == [{**row, "qty": None} for row in ROWS]
    assert staged.drift == ()
    assert staged.warnings == ("columns that no record of an object has are null: qty",)


WIDE = [*ROWS, {"id": 4, "note": "d", "amount": Decimal("4"), "qty": 5_000_000_000}]


def test_a_wider_parquet_type_is_followed_for_all_objects_of_the_batch(source: FolderSource) -> None:
    put(source, "parquet", WIDE, qty=pa.int64(), amount=pa.decimal128(12, 2))
    put(source, "parquet", [{**ROWS[0], "id": 9}], part="q")
    staged = source.stage(spec("parquet", {"widened": "evolve"}))
    assert stored(source, staged) == [*WIDE, {**ROWS[0], "id": 9}]
    assert outcomes(staged) == [("widened", "amount", "evolved"), ("widened", "qty", "evolved")]
    assert [c.type for c in source.lake.columns(staged.table)[0][1:5]] == ["int32", "string", "decimal(12,2)", "int64"]


@pytest.mark.parametrize(
    ("declared", "kind", "fits", "beyond"),
    [
        ("int32", pa.int64(), [0, -(2**31), 2**31 - 1], [2**31, -(2**63)]),
        ("int64", pa.decimal128(20, 1), [Decimal("7.0")], [Decimal("7.5"), Decimal("9223372036854775808.0")]),
        ("float32", pa.float64(), [0.5, float("inf"), 16777216.0], [0.1, 1e300, 16777217.0]),
        ("decimal(5,2)", pa.decimal128(10, 3), [Decimal("999.990")], [Decimal("999.991"), Decimal("1000.000")]),
    ],
)
def test_values_of_a_wider_parquet_type_that_do_not_fit_wait(
    source: FolderSource, declared: str, kind: pa.DataType, fits: list[Any], beyond: list[Any]
) -> None:
    rows = [{"id": n, "v": v} for n, v in enumerate([None, *fits, *beyond])]
    put(source, "parquet", rows, v=kind)
    staged = source.stage(spec("parquet", {"widened": "quarantine"}, [("id", "int32"), ("v", declared)]))
    assert stored(source, staged) == rows[: len(fits) + 1]
    assert {reason for reason, _, _ in waiting(staged)} == {f"schema drift: v does not fit {declared}"}
    assert len(waiting(staged)) == len(beyond)


def test_another_parquet_type_is_refused_or_its_rows_wait_and_a_narrower_one_is_recorded(source: FolderSource) -> None:
    rows = [{**row, "qty": None if row["qty"] is None else "many"} for row in ROWS]
    put(source, "parquet", rows, qty=pa.string(), amount=pa.decimal128(6, 2))
    with pytest.raises(SourceSchemaError, match="qty is string, declared int32: another type"):
        source.stage(spec("parquet", {}))
    staged = source.stage(spec("parquet", {"narrowed": "quarantine"}))
    assert stored(source, staged) == [ROWS[2]]
    assert [reason for reason, _, _ in waiting(staged)] == ["schema drift: qty is string, declared int32"] * 2
    assert outcomes(staged) == [("narrowed", "amount", "nothing to do"), ("narrowed", "qty", "quarantined")]


@pytest.mark.parametrize("policy", ["evolve", "reject", "quarantine"])
def test_nulls_of_a_parquet_column_declared_without_are_taken_by_policy(source: FolderSource, policy: str) -> None:
    put(source, "parquet", [*ROWS, {**ROWS[0], "id": None}])
    if policy == "reject":
        with pytest.raises(SourceSchemaError, match="id holds 1 nulls"):
            source.stage(spec("parquet", {"nullability": policy}))
        return
    staged = source.stage(spec("parquet", {"nullability": policy}))
    waits = [("schema drift: id is null, declared 'nullable: false'", "line 4")] if policy == "quarantine" else []
    assert [(reason, place) for reason, place, _ in waiting(staged)] == waits
    assert len(stored(source, staged)) == 4 - len(waits)


@BOTH
def test_the_newest_object_is_compared_without_a_run(source: FolderSource, form: str) -> None:
    put(source, form, EXTRA)
    declared = spec(form, {})
    with ObjectReader(declared, SecretStr(source.url), source.lake) as reader:
        assert [(found.kind, found.column) for found in reader.drift(declared.tables[0])] == [("added", "extra")]


def test_a_column_that_two_objects_have_in_unlike_types_refuses_the_batch(source: FolderSource) -> None:
    put(source, "parquet", EXTRA)
    put(source, "parquet", EXTRA, part="q", extra=pa.float32())
    with pytest.raises(SourceSchemaError, match="column extra is float32 here and int64 in another object"):
        source.stage(spec("parquet", {"added": "evolve"}))
