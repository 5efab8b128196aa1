"""Laws of formats: CSV in any encoding, JSON lines, Parquet, packed or plain - exact, or set apart with its place."""

from __future__ import annotations

import base64
import gzip
import io
import json
import resource
import uuid
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ObjectCorrupt, SourceSchemaError
from tests.integration.ingestion.folders import FolderSource, waiting


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path)


def zipped(members: dict[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def zstd(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return packed.getvalue().to_pybytes()


def parquet(table: pa.Table, **options: Any) -> bytes:
    packed = io.BytesIO()
    pq.write_table(table, packed, **options)
    return packed.getvalue()


# -- packing ----------------------------------------------------------------------------------------------------------

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:]),
    "zstd": lambda content: zstd(content[:9]) + zstd(content[9:]),
    "zip": lambda content: zipped({"d/x.csv": content, "readme.txt": "not a table"}),
}


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_every_format_of_text_is_read_however_it_is_packed(source: FolderSource, compression: str, form: str) -> None:
    text = {"csv": "a,b\n1,x\n2,\n", "tsv": "a\tb\n1\tx\n2\t\n", "jsonl": '{"a":"1","b":"x"}\n{"a":"2","b":null}\n'}
    source.put(PACKED[compression](text[form].encode()))
    options = {"members": "*.csv"} if compression == "zip" else {}
    staged = source.stage(source.spec(format=form, compression=compression, **options))
    first = 1 if form == "jsonl" else 2
    name = source.key() + ("!/d/x.csv" if compression == "zip" else "")
    assert source.rows(staged, "a", "b", "object_key", "object_line") == [
        ("1", "x", name, first),
        ("2", None, name, first + 1),
    ]
    assert (staged.rows_in, staged.early_rejects.num_rows) == (2, 0)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "zip"])
def test_a_packed_object_that_is_cut_or_changed_anywhere_is_refused_whole(
    source: FolderSource, compression: str
) -> None:
    content = b"a,b\n" + b"".join(b"%d,row %d\n" % (n, n * n) for n in range(200))
    whole = PACKED[compression](content)
    spec = source.spec(compression=compression, **({"members": "*.csv"} if compression == "zip" else {}))
    for length in [0, 1, 10, len(whole) // 2, len(whole) - 1]:
        source.put(whole[:length])
        with pytest.raises(ObjectCorrupt, match=f"truncated {compression}|not valid {compression}|is damaged"):
            source.stage(spec)
    assert source.left_behind() == []


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16", None), ("utf-16-le", b""), ("utf-16-be", b"")]
    + [(name, b"") for name in ("windows-1252", "iso-8859-15", "gb18030")],
)
def test_a_declared_encoding_is_read_strictly_and_its_mark_is_no_data(
    source: FolderSource, encoding: str, mark: bytes | None
) -> None:
    text = 'a,b\n1,é€\n2,"x\ny"\n'
    source.put((mark or b"") + text.encode({"windows-1252": "cp1252"}.get(encoding, encoding)))
    staged = source.stage(source.spec(encoding=encoding))
    assert source.rows(staged) == [("1", "é€"), ("2", "x\ny")]


@pytest.mark.parametrize(
    ("encoding", "bad", "shown"),
    [
        ("utf-8", b"\xe9", "\\xe9"),
        ("utf-8", b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ("windows-1252", b"\x81", "\\x81"),
        ("utf-16-le", b"\x00\xd8", "\\x00\\xd8"),
        ("utf-16", b"\x3d\xd8", "\\x3d\\xd8"),
        ("gb18030", b"\xff", "\\xff"),
    ],
)
def test_a_byte_that_is_no_character_costs_its_record_and_says_where_it_stands(
    source: FolderSource, encoding: str, bad: bytes, shown: str
) -> None:
    codec = {"windows-1252": "cp1252", "utf-16": "utf-16-le"}.get(encoding, encoding)
    mark = b"\xff\xfe" if encoding == "utf-16" else b""
    before = mark + "a,b\n1,x\n".encode(codec)
    source.put(before + "2,q".encode(codec) + bad + "z\n3,y\n".encode(codec))
    staged = source.stage(source.spec(encoding=encoding))
    assert source.rows(staged, "a", "b", "object_line") == [("1", "x", 2), ("3", "y", 4)]
    [(reason, place, row)] = waiting(staged)
    assert reason.endswith(f"at byte {len('2,q'.encode(codec))} of the record")
    line = "2,q".encode(codec) + bad + "z".encode(codec)
    assert (place, row["csv"]) == (f"line 3 byte {len(before)}", f"2,q{shown}z")
    assert base64.b64decode(row["base64"]) == line, "what waits is what came, byte for byte"


def test_sixteen_bits_without_a_mark_are_not_guessed(source: FolderSource) -> None:
    source.put("a,b\n1,x\n".encode("utf-16-le"))
    with pytest.raises(ObjectCorrupt, match="does not begin with a byte order mark"):
        source.stage(source.spec(encoding="utf-16"))


def test_without_a_header_columns_come_in_the_order_of_the_spec_from_line_one(source: FolderSource) -> None:
    source.put("x,1\ny,2,3\nz,3\n")
    staged = source.stage(source.spec("b: string, a: int32", header=False))
    assert source.rows(staged, "a", "b", "object_line") == [(1, "x", 1), (3, "z", 3)]
    assert waiting(staged) == [("3 values, the header has 2", "line 2 byte 4", {"csv": "y,2,3"})]


def test_another_quote_or_none_is_taken_literally(source: FolderSource) -> None:
    source.put("a,b\n'1','x,''y'''\n2,\"z\n")
    assert source.rows(source.stage(source.spec(quote="'"))) == [("1", "x,'y'"), ("2", '"z')]
    source.put('a\tb\n"1\tx"y\n2\t"\n')
    assert source.rows(source.stage(source.spec(format="tsv", quote=""))) == [('"1', 'x"y'), ("2", '"')]


# -- JSON lines -------------------------------------------------------------------------------------------------------

COLUMNS = "a: int64, b: string, d: decimal(38,20), f: float64, k: bool, t: timestamptz"


def test_json_values_keep_every_digit_and_nested_ones_their_text(source: FolderSource) -> None:
    source.put(
        '{"a":9223372036854775807,"b":{"x":[1.000000000000000000001, null],"y":"\\ud800"},'
        '"d":123456789012345678.12345678901234567890,"f":1e-7,"k":true,"t":"2013-01-01T00:00:00Z"}\n'
        "\n"
        '{"d":"-1.25","b":12.50}\r\n'
        '{"d":15e-1,"b":[ 1, "]" ], "a":-5}'
    )
    staged = source.stage(source.spec(COLUMNS, format="jsonl"))
    nested = '{"x":[1.000000000000000000001, null],"y":"\\ud800"}'
    day = datetime(2013, 1, 1, tzinfo=UTC)
    big = Decimal("123456789012345678.12345678901234567890")
    assert source.rows(staged, "a", "b", "d", "f", "k", "t", "object_line") == [
        (2**63 - 1, nested, big, 1e-7, True, day, 1),
        (None, "12.50", Decimal("-1.25"), None, None, None, 3),
        (-5, '[ 1, "]" ]', Decimal("1.5"), None, None, None, 4),
    ]
    assert waiting(staged) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a":"12"}', "a is a string, declared int64"),
        (b'{"a":true,"k":1}', "a is true or false, declared int64; k is a number, declared bool"),
        (b'{"a":[1],"f":{"x":1}}', "a is an array, declared int64; f is an object, declared float64"),
        (b'{"t":1357000000}', "t is a number, declared timestamptz"),
        (b'{"b":"x\\u0000"}', "b holds a NUL character"),
        (b'{"b":"\\udc00"}', "b holds half of a surrogate pair"),
        (b'{"a":1,"a":2}', "key 'a' stands twice"),
        (b'{"a":1', "not JSON: Expecting ',' delimiter at character 7"),
        (b'{"a":1} {"a":2}', "not JSON: Extra data at character 9"),
        (b"[1]", "not a JSON object"),
        (b'{"a":NaN}', "NaN is no JSON"),
        (b'{"b":"\xff"}', "not UTF-8 at byte 6 of the record"),
        (b'{"b":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_json_line_that_is_no_record_waits_with_its_place(source: FolderSource, line: bytes, reason: str) -> None:
    source.put(b'{"a":1}\n' + line + b'\n{"a":3}\n')
    staged = source.stage(source.spec(COLUMNS, format="jsonl"))
    assert source.rows(staged, "a", "object_line") == [(1, 1), (3, 3)]
    assert [(found, place) for found, place, _ in waiting(staged)] == [(reason, "line 2 byte 8")]
    row = waiting(staged)[0][2]
    assert row["json"] == line.decode("utf-8", "backslashreplace")
    assert base64.b64decode(row.get("base64", base64.b64encode(line))) == line
    assert staged.rows_in == 3


@pytest.mark.parametrize("text", ["1.5", "1.0", "1e3", "9223372036854775808", "-0.5"])
def test_a_number_that_is_no_integer_as_written_waits(source: FolderSource, text: str) -> None:
    source.put(f'{{"a":{text}}}\n{{"a":7}}\n')
    staged = source.stage(source.spec("a: int64", format="jsonl"))
    assert source.rows(staged, "a") == [(7,)]
    assert waiting(staged) == [("a is not a valid int64", "line 1", {"a": text})]


def test_keys_the_spec_does_not_name_are_told_and_absent_ones_are_null(source: FolderSource) -> None:
    source.put('{"a":"1","new":2}\n{"a":"2"}\n')
    staged = source.stage(source.spec(format="jsonl"))
    assert source.rows(staged) == [("1", None), ("2", None)]
    assert staged.warnings == (
        "schema drift, added: columns that the spec does not name are not read: new",
        "columns that no record of an object has are null: b",
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON), max_size=8), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_comes_through_as_the_text_it_was(
    source: FolderSource, records: list[dict[str, Any]], spaced: bool
) -> None:
    def text(value: Any) -> str:
        if isinstance(value, Decimal):
            return format(value, "f") if value.is_finite() else "0"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} :{text(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + (" , " if spaced else ",").join(map(text, value)) + "]"
        return json.dumps(value)

    source.put("".join(text(record) + "\n" for record in records))
    staged = source.stage(source.spec("a: string, b: string", format="jsonl"))

    def wanted(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else text(value)

    expected = [(wanted(record.get("a")), wanted(record.get("b"))) for record in records]
    good = [pair for pair in expected if not any(value and "\0" in value for value in pair)]
    assert source.rows(staged) == good
    assert staged.rows_in == len(records)
    source.lake.discard(staged)


# -- Parquet ----------------------------------------------------------------------------------------------------------

EXACT: dict[str, tuple[pa.Array[Any], str, list[Any]]] = {
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), "decimal(20,0)", [Decimal(2**64 - 1), None]),
    "uint32": (pa.array([2**32 - 1], pa.uint32()), "int64", [2**32 - 1]),
    "int8": (pa.array([-128], pa.int8()), "int32", [-128]),
    "decimal": (pa.array([Decimal("1" * 38)], pa.decimal128(38, 0)), "decimal(38,0)", [Decimal("1" * 38)]),
    "scale": (pa.array([Decimal("1.50")], pa.decimal128(5, 2)), "decimal(10,4)", [Decimal("1.5")]),
    "ns": (pa.array([1_000], pa.timestamp("ns")), "timestamp", [datetime(1970, 1, 1, microsecond=1)]),  # noqa: DTZ001
    "ms": (pa.array([1], pa.timestamp("ms")), "timestamp", [datetime(1970, 1, 1, microsecond=1000)]),  # noqa: DTZ001
    "zone": (
        pa.array([0], pa.timestamp("us", "America/New_York")),
        "timestamptz",
        [datetime(1970, 1, 1, tzinfo=UTC)],
    ),
    "time": (pa.array([1_000], pa.time64("ns")), "time", [time(0, 0, 0, 1)]),
    "date": (pa.array([date(9999, 12, 31)]), "date", [date(9999, 12, 31)]),
    "dictionary": (pa.array(["x", None, "x"]).dictionary_encode(), "string", ["x", None, "x"]),
    "binary": (pa.array([b"\xff\0"]), "binary", [b"\xff\0"]),
    "half": (pa.array([1.5], pa.float16()), "float32", [1.5]),
    "nested": (pa.array([[{"x": 2**53 + 1}], None]), "string", [f'[{{"x":{2**53 + 1}}}]', None]),
    "map": (pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())), "string", ['{"k":"v"}']),
    "uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=7).bytes], pa.binary(16))),
        "string",
        [str(uuid.UUID(int=7))],
    ),
    "nothing": (pa.nulls(1), "int64", [None]),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_parquet_type_arrives_exactly(source: FolderSource, name: str) -> None:
    array, word, values = EXACT[name]
    source.put(parquet(pa.table({"a": array})))
    staged = source.stage(source.spec(f"a: {word}", format="parquet"))
    found = [value.astimezone(UTC) if word == "timestamptz" else value for (value,) in source.rows(staged, "a")]
    assert [repr(value) for value in found] == [repr(value) for value in values] or found == values
    assert waiting(staged) == []


@pytest.mark.parametrize(
    ("array", "word", "reason", "options"),
    [
        (pa.array([7, 2**63], pa.uint64()), "int64", "a is not a valid int64", {}),
        (pa.array([1000, 1001], pa.timestamp("ns")), "timestamp", "a is not a valid timestamp", {}),
        (
            pa.array([1000, 2001], pa.timestamp("ns", "UTC")),
            "timestamptz",
            "a is not a valid timestamptz: 1 ns beyond the microsecond",
            {},
        ),
        (pa.array([0, 999], pa.time64("ns")), "time", "a is not a valid time: 999 ns beyond the microsecond", {}),
        (
            pa.array([1000, 2**62], pa.timestamp("ns")),
            "timestamptz",
            f"a is not a valid timestamptz: {2**62 % 1000} ns beyond the microsecond",
            {"use_deprecated_int96_timestamps": True},
        ),
    ],
)
def test_a_parquet_value_that_does_not_fit_waits_with_its_row(
    source: FolderSource, array: pa.Array[Any], word: str, reason: str, options: dict[str, Any]
) -> None:
    source.put(parquet(pa.table({"a": array}), **options))
    staged = source.stage(source.spec(f"a: {word}", format="parquet"))
    assert source.rows(staged, "object_line") == [(1,)]
    assert [(found, place) for found, place, _ in waiting(staged)] == [(reason, "line 2")]
    assert staged.rows_in == 2


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (pa.array([1], pa.int64()), "int32"),
        (pa.array([1], pa.uint32()), "int32"),
        (pa.array([1.5]), "float32"),
        (pa.array([1], pa.int32()), "string"),
        (pa.array(["1"]), "int32"),
        (pa.array([b"x"]), "string"),
        (pa.array([Decimal("1" * 45)], pa.decimal256(50, 0)), "decimal(38,0)"),
        (pa.array([Decimal("1.5")], pa.decimal128(5, 2)), "decimal(5,1)"),
        (pa.array([0], pa.timestamp("us")), "timestamptz"),
        (pa.array([0], pa.timestamp("us", "UTC")), "timestamp"),
        (pa.array([[Decimal("1.5")]]), "string"),
        (pa.array([0], pa.timestamp("us")), "date"),
    ],
)
def test_a_parquet_type_that_cannot_be_kept_is_refused_by_name(
    source: FolderSource, array: pa.Array[Any], word: str
) -> None:
    source.put(parquet(pa.table({"a": array})))
    with pytest.raises(SourceSchemaError, match=f"expected a: a is .*, declared {word.partition('(')[0]}"):
        source.stage(source.spec(f"a: {word}", format="parquet"))
    assert source.left_behind() == []


def test_parquet_columns_are_told_apart_by_case_and_their_order_is_free(source: FolderSource) -> None:
    source.put(parquet(pa.table({"A": ["upper"], "b": ["x"], "a": ["lower"]})))
    staged = source.stage(source.spec(format="parquet"))
    assert source.rows(staged) == [("lower", "x")]
    assert staged.warnings == ("schema drift, added: columns that the spec does not name are not read: A",)
    source.put(parquet(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])))
    with pytest.raises(SourceSchemaError, match="wrong columns: a, a"):
        source.stage(source.spec(format="parquet"))


def test_a_parquet_file_that_is_cut_damaged_or_no_text_is_refused(source: FolderSource) -> None:
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\x02\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    whole = parquet(pa.table({"a": [str(n) for n in range(5000)], "b": ["x"] * 5000}))
    for content in (
        b"",
        whole[:-9],
        whole[: len(whole) // 2],
        b"PAR1" + bytes(100) + b"PAR1",
        parquet(pa.table({"a": text, "b": text})),
    ):
        source.put(content)
        with pytest.raises(ObjectCorrupt, match="Parquet"):
            source.stage(source.spec(format="parquet"))
    assert source.left_behind() == []


def test_a_large_parquet_object_is_streamed(source: FolderSource) -> None:
    rows = 2_000_000
    table = pa.table({"a": pa.array(range(rows), pa.int64()), "b": pa.array(range(rows), pa.int64())})
    source.put(parquet(table, row_group_size=100_000))
    del table
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    staged = source.stage(source.spec("a: int64, b: int64", format="parquet"))
    assert staged.rows_staged == rows
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250_000
