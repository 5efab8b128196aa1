"""Laws of what ``penstock init`` suggests: names, suspicions, layouts of keys, and YAML that nothing breaks out of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ingestion.objects.sniff import group_keys, sniff_csv, sniff_json, unpacked
from ingestion.objects.stores import StoredObject
from ingestion.spec import SourceSpec
from penstock.init_draft import DraftColumn, DraftSource, DraftTable, distinct, lake_name
from penstock.init_files import files_of, spec_text, suite_text, write_files
from penstock.init_personal import personal_by_name, personal_by_values

DRAFT = DraftSource(
    "shop",
    "postgresql",
    "shop",
    "UTC",
    "me@example.org",
    "A shop.",
    (DraftTable("orders", "Orders", None, "snapshot", "small", (DraftColumn("id", "Id", "int64", False),), ("id",)),),
)


@pytest.mark.parametrize(
    ("source", "lake"),
    [
        ("AlbumId", "album_id"),
        ("album_id", "album_id"),
        ("InvoiceLine", "invoice_line"),
        ("INVOICE_LINE", "invoice_line"),
        ("invoice-line", "invoice_line"),
        ("HTTPServerID", "http_server_id"),
        ("Größe in cm", "grosse_in_cm"),
        ("2nd choice", "n_2nd_choice"),
        ("ds", "source_ds"),
        ("名前", "column_7"),
        ("a" * 100, "a" * 63),
    ],
)
def test_names_of_every_style_become_one_snake_case(source: str, lake: str) -> None:
    assert lake_name(source, number=7) == lake


@given(st.lists(st.text(max_size=80), max_size=30))
def test_whatever_a_source_calls_its_columns_a_spec_can_name_them_apart(names: list[str]) -> None:
    found = distinct(lake_name(name, number=n) for n, name in enumerate(names))
    assert len(set(found)) == len(names)
    columns = tuple(DraftColumn(name, "x", "string", True) for name in found)
    if columns:
        table = replace(DRAFT.tables[0], columns=columns, primary_key=())
        spec = SourceSpec.model_validate(yaml.safe_load(spec_text(replace(DRAFT, tables=(table,)))))
        assert [column.name for column in spec.tables[0].columns] == found


@given(st.text(), st.text(min_size=1, max_size=15).filter(lambda text: all(ord(c) >= 32 for c in text)))
def test_no_text_of_a_source_becomes_a_key_of_its_spec(text: str, name: str) -> None:
    columns = (
        DraftColumn("id", name, "int64", False, description=text, personal=text, remark=text),
        DraftColumn("left", name, None, True, remark=text),
    )
    table = DraftTable("orders", name, name, "snapshot", text, columns, ("id",), key_remark=text, description=text)
    draft = replace(DRAFT, owner=text or "x", description=text, tables=(table,), left_out=((text, text),))
    try:
        loaded = yaml.safe_load(spec_text(replace(draft, remarks={"owner": text, "time_zone": text})))
    except yaml.YAMLError:
        pytest.fail("the spec is no YAML")
    assert set(loaded) == {"source", "kind", "connection", "time_zone", "schedule", "owner", "description", "tables"}
    (found,) = loaded["tables"]
    assert (found["source_name"] if name != "orders" else name, found["schema"]) == (name, name)
    (column,) = found["columns"]
    assert column.get("source_name", "id") == name
    assert column.get("description", "") == text
    assert yaml.safe_load(suite_text(draft, table))["suite"] == "raw/shop__orders"


@pytest.mark.parametrize(
    ("table", "column", "is_personal"),
    [
        ("customer", "email", True),
        ("customer", "e_mail_address", True),
        ("customer", "phone_number", True),
        ("employee", "birth_date", True),
        ("employee", "first_name", True),
        ("customers", "name", True),
        ("artist", "name", False),
        ("track", "title", False),
        ("invoice", "billing_postal_code", True),
        ("orders", "shipped_at", False),
        ("orders", "total", False),
        ("iban_checks", "result", False),
    ],
)
def test_a_name_that_says_whom_it_is_about_looks_personal(table: str, column: str, is_personal: bool) -> None:
    assert bool(personal_by_name(table, column)) is is_personal


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (["ann@example.org", "bob@example.com", None], "e-mail addresses"),
        (["+49 30 123456", "(020) 7946 0000"], "phone numbers"),
        (["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"], "bank accounts (IBAN)"),
        (["4111 1111 1111 1111", "5500-0000-0000-0004"], "payment card numbers"),
        (["2013-01-01", "2013-01-02"], ""),
        (["4111 1111 1111 1112", "5500-0000-0000-0005"], ""),
        (["DE89 3704 0044 0532 0130 01"], ""),
        (["12.50", "1300"], ""),
        (["ann@example.org", "none", "none"], ""),
        ([None, ""], ""),
        ([], ""),
    ],
)
def test_values_that_look_personal_are_counted_and_never_repeated(values: list[str | None], what: str) -> None:
    reason = personal_by_values(values)
    assert what in reason
    assert bool(reason) is bool(what)
    assert not [value for value in values if value and value in reason]


def stored(*keys: str) -> list[StoredObject]:
    """A listing."""
    return [StoredObject(key, "etag", 10, datetime(2026, 1, 1, tzinfo=UTC)) for key in keys]


def test_keys_of_one_layout_are_one_table_whose_path_matches_them_all() -> None:
    keys = [f"weather/origin={o}/date=2013-01-0{d}.csv.gz" for o in ("EWR", "JFK") for d in (1, 2)]
    keys += ["orders-2013-01-01.csv", "orders-2013-01-02.csv", "stock-2013-01-01.csv"]
    keys += ["logs/2013-01-01/a.csv", "logs/2013-01-01/b.csv", "logs/2013-01-02/a.csv"]
    strange = ["readme.txt", "2013-01-01/2013-01-02.csv", "empty/2013-01-01/"]
    groups, without = group_keys(stored(*keys, *strange))
    assert sorted((group.name, group.path, len(group.objects)) for group in groups) == [
        ("logs", "logs/{key}/{part}.csv", 3),
        ("orders", "orders-{key}.csv", 2),
        ("stock", "stock-{key}.csv", 1),
        ("weather", "weather/origin={origin}/date={key}.csv.gz", 4),
    ]
    assert without == strange


def test_types_are_those_the_reader_can_convert_to() -> None:
    text = "id;price;day;note;at;flag\n1;1.5;2013-01-01;NA;2013-01-01T10:00:00Z;true\n2;NA;2013-01-02;b;;false\n"
    found = sniff_csv([(text.encode(), True)])
    assert not isinstance(found, str)
    assert found.names == ["id", "price", "day", "note", "at", "flag"]
    assert found.types == ["int64", "float64", "date", "string", "timestamptz", "bool"]
    assert found.nullable == [False, True, False, False, True, False]
    assert found.layout == {"null_tokens": ["", "NA"], "delimiter": ";"}


def test_json_lines_are_typed_by_their_values_and_a_missing_one_is_null() -> None:
    text = '{"id": 1, "at": "2013-01-01", "x": 1, "tags": [1], "ok": true}\n{"id": 2, "at": "2013-01-02", "x": 1.5}\n'
    found = sniff_json([(text.encode(), True)])
    assert not isinstance(found, str)
    assert dict(zip(found.names, found.types, strict=True)) == {
        "id": "int64",
        "at": "date",
        "x": "float64",
        "tags": "string",
        "ok": "bool",
    }
    assert found.nullable == [False, False, False, True, True]
    assert sniff_json([(b"[1, 2]\n", True)]) == "its lines are not one JSON object each"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"1,2\n3,4\n", "does not name"),
        (b"a,a\n3,4\n", "does not name"),
        (b"\xff\xfea\x00", "not UTF-8"),
        (b"", "empty"),
    ],
)
def test_objects_that_are_no_csv_with_a_header_say_why(body: bytes, why: str) -> None:
    found = sniff_csv([(body, True)])
    assert isinstance(found, str)
    assert why in found


def test_a_sample_that_ends_in_the_middle_of_a_record_loses_only_that_record() -> None:
    import gzip

    body = gzip.compress(b"a,b\n" + b"1,2\n" * 400_000 + b"x,y\n")
    found = sniff_csv([(unpacked(body[: len(body) // 2]), False)])
    assert not isinstance(found, str)
    assert found.types == ["int64", "int64"]
    assert 1000 < found.rows < 400_000


def test_a_file_that_is_there_is_kept_unless_forced_and_then_the_change_is_shown(tmp_path: Any) -> None:
    files = files_of(DRAFT, tmp_path / "sources", tmp_path / "suites")
    written, kept, changes = write_files(files, force=False)
    assert (written, kept, changes) == (list(files), [], "")
    (spec, suite) = files
    spec.write_text("mine: true\n")
    assert write_files(files, force=False) == ([], [spec, suite], "")
    assert spec.read_text() == "mine: true\n"
    written, kept, changes = write_files(files, force=True)
    assert (written, kept) == ([spec], [suite])
    assert "-mine: true\n" in changes
    assert spec.read_text() == files[spec]
    assert [path.name for path in spec.parent.iterdir()] == [spec.name]


def test_a_suspicion_of_personal_data_is_a_word_that_a_spec_knows() -> None:
    column = DraftColumn("email", "email", "string", True, personal="its name")
    table = replace(DRAFT.tables[0], columns=(*DRAFT.tables[0].columns, column))
    loaded = SourceSpec.model_validate(yaml.safe_load(spec_text(replace(DRAFT, tables=(table,)))))
    assert [column.pii for column in loaded.tables[0].columns] == [False, "suspected"]
