"""Laws of reading objects from a real S3: every line becomes exactly its row, or waits with the reason."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestion.spec import Objects
from tests.integration.ingestion import csv_oracle
from tests.integration.ingestion.conftest import BucketSource, rejects

MAX_RECORD_BYTES = Objects(path="{key}").max_record_bytes

# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_all_objects_of_a_day_become_one_batch_with_the_place_of_every_row(bucket: BucketSource, packed: bool) -> None:
    keys = [
        bucket.put("a,b\n1,x\n2,NA\n", part="p1", packed=packed),
        bucket.put('b,a\n"q, ""r""",3\n', part="p2", packed=packed),
    ]
    bucket.put("a,b\n9,other day\n", day="2013-01-02", packed=packed)
    staged = bucket.stage(bucket.spec(compression="gzip" if packed else "none"))
    assert bucket.rows(staged, "ds", "a", "b", "object_key", "object_line") == [
        (date(2013, 1, 1), "1", "x", keys[0], 2),
        (date(2013, 1, 1), "2", None, keys[0], 3),
        (date(2013, 1, 1), "3", 'q, "r"', keys[1], 2),
    ]
    assert (staged.rows_in, staged.rows_staged, rejects(staged), staged.warnings) == (3, 3, [], ())
    assert [key for key, _, _ in staged.source_state["objects"]] == keys
    assert bucket.left_behind() == []


def test_a_gzip_of_several_members_is_read_to_its_end(bucket: BucketSource) -> None:
    members = [gzip.compress(f"{n},row {n}\n".encode()) for n in range(3000)]
    bucket.put(gzip.compress(b"a,b\n") + b"".join(members))
    staged = bucket.stage(bucket.spec(compression="gzip"))
    assert bucket.rows(staged) == [(str(n), f"row {n}") for n in range(3000)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_are_no_data(bucket: BucketSource, end: str, last: bool, mark: str) -> None:
    text = mark + end.join(["a,b", "1,x", '"2","y z"', "NA,ü"]) + (end if last else "")
    bucket.put(text)
    staged = bucket.stage()
    assert bucket.rows(staged, "a", "b", "object_line") == [("1", "x", 2), ("2", "y z", 3), (None, "ü", 4)]


def test_quoted_line_ends_are_data_and_the_line_is_where_the_record_begins(bucket: BucketSource) -> None:
    bucket.put('a,b\n1,"x\ny\r\nz"\n\n2,t\n3\n4,"u\nv"\n')
    staged = bucket.stage()
    assert bucket.rows(staged, "a", "b", "object_line") == [("1", "x\ny\r\nz", 2), ("2", "t", 6), ("4", "u\nv", 8)]
    assert rejects(staged) == [("csv_record", "1 values, the header has 2", f"{bucket.key()} line 7 byte 20")]


def test_null_tokens_are_null_and_everything_else_is_text(bucket: BucketSource) -> None:
    bucket.put('a,b\n1,NA\n2,\n3,-\n4,"NA"\n5, NA\n6,na\n')
    assert bucket.rows(bucket.stage()) == [("1", None), ("2", ""), ("3", "-"), ("4", None), ("5", " NA"), ("6", "na")]
    spec = bucket.spec(nulls='["", "-"]')
    assert [b for _, b in bucket.rows(bucket.stage(spec))] == ["NA", None, None, "NA", " NA", "na"]
    assert [b for _, b in bucket.rows(bucket.stage(bucket.spec(nulls="[]")))] == ["NA", "", "-", "NA", " NA", "na"]


@pytest.mark.parametrize("delimiter", [";", "|", "\\t", "^"])
def test_another_delimiter_is_taken_literally(bucket: BucketSource, delimiter: str) -> None:
    character = "\t" if delimiter == "\\t" else delimiter
    bucket.put(f'a{character}b\n1{character}x,y\n2{character}"p{character}q"\n')
    spec = bucket.spec(more=f'      delimiter: "{delimiter}"\n')
    assert bucket.rows(bucket.stage(spec)) == [("1", "x,y"), ("2", f"p{character}q")]


def test_columns_with_the_names_of_inner_workings_are_read_like_any_other(bucket: BucketSource) -> None:
    bucket.put("problem,line,nth,records,c0,select\n1,2,3,4,5,6\n")
    names = ["c0", "line", "nth", "problem", "records", "select"]
    staged = bucket.stage(bucket.spec(", ".join(f"{name}: int32" for name in names)))
    assert bucket.rows(staged, *names) == [(5, 2, 3, 1, 4, 6)]


def test_keys_with_odd_characters_are_read_and_named(bucket: BucketSource) -> None:
    parts = ["a b", "ü+%41&=", 'it\'s "q"', "c:d,e;f", "x#y?z", "[1]*"]
    keys = sorted(bucket.put(f"a,b\n1,{n}\n", part=part) for n, part in enumerate(parts))
    staged = bucket.stage()
    assert [key for (key,) in bucket.rows(staged, "object_key")] == keys
    assert sorted(b for _, b in bucket.rows(staged)) == [str(n) for n in range(len(parts))]


def test_a_listing_of_more_than_a_thousand_objects_is_read_to_its_end(bucket: BucketSource) -> None:
    for number in range(1010):
        bucket.client.put_object(Bucket=bucket.location.bucket, Key=f"{bucket.prefix}/a{number}/x.txt", Body=b"")
    bucket.put("a,b\n1,x\n", part="z")
    assert bucket.rows(bucket.stage()) == [("1", "x")]


def test_an_object_of_a_header_alone_is_an_empty_batch_of_rows(bucket: BucketSource) -> None:
    bucket.put("a,b\n")
    staged = bucket.stage()
    assert (bucket.rows(staged), staged.rows_in) == ([], 0)


# -- values -----------------------------------------------------------------------------------------------------------

TYPES: dict[str, tuple[list[str], list[object]]] = {
    "int32": (["0", "-2147483648", " +7 "], [0, -2147483648, 7]),
    "int64": (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
    "decimal(5,2)": (
        ["-999.99", "1.5", ".5", "7", "1.500"],
        [Decimal(text) for text in ("-999.99", "1.50", "0.50", "7.00", "1.50")],
    ),
    "float64": (["1.5", "-0.0", "1e300", "5.", "0e5", "inf"], [1.5, -0.0, 1e300, 5.0, 0.0, float("inf")]),
    "bool": (["true", "false", "T"], [True, False, True]),
    "date": (["2012-02-29", "0001-01-01", "9999-12-31"], [date(2012, 2, 29), date(1, 1, 1), date(9999, 12, 31)]),
    "time": (["23:59:59.999999", "00:00"], [time(23, 59, 59, 999999), time(0, 0)]),
    "timestamp": (
        ["2013-01-31 23:59:00.5", "2013-01-31"],
        [datetime.fromisoformat("2013-01-31 23:59:00.5"), datetime.fromisoformat("2013-01-31")],
    ),
    "timestamptz": (
        ["2013-01-31T23:59:00Z", "2013-02-01 01:59:00+02", "2013-01-31 23:59"],
        [datetime(2013, 1, 31, 23, 59, tzinfo=UTC)] * 3,
    ),
}
BAD = {
    "int32": ["1.5", "2147483648", "1e3", "0x1F", "1_000", "", "NaN", "-"],
    "int64": ["9223372036854775808", "1.0"],
    "decimal(5,2)": ["1.239", "1000", "1e2", "NaN", ".", "1,5"],
    "float64": ["1e400", "1e-400", "1,5", "1_0", "x", "0x1F", "--1"],
    "bool": ["2", "maybe", "on"],
    "date": [
        "2013-02-30",
        "2013-2-3",
        "2013-02-03 10:00",
        "infinity",
        "0000-00-00",
        "0000-01-01",
        "today",
        "10000-01-01",
    ],
    "time": ["24:00:00", "9:00", "10:00:00.1234567", "10:00:00+02"],
    "timestamp": [
        "2013-01-31 24:00:00",
        "2013-01-31T10:00:00Z",
        "2013-01-31 10:00+02",
        "2013-01-31 10:00:00.1234567",
        "epoch",
    ],
    "timestamptz": [
        "2013-13-01T00:00:00Z",
        "2013-01-31T25:00Z",
        "2013-01-31 10:00:60Z",
        "infinity",
        "2013-01-31T10:00 XYZ",
    ],
}


@pytest.mark.parametrize("kind", TYPES)
def test_text_becomes_the_exact_value_or_is_set_apart_with_its_line(bucket: BucketSource, kind: str) -> None:
    good, values = TYPES[kind]
    bad = BAD[kind]
    lines = [f'k{n},"{text}"' for n, text in enumerate(good + bad)]
    bucket.put("\n".join(["a,b", *lines, "null,NA"]))
    staged = bucket.stage(bucket.spec(f"a: string, b: {kind}"))
    found = [b for (b,) in bucket.rows(staged, "b")]
    if kind == "timestamptz":
        found = [b and b.astimezone(UTC) for b in found]
    assert [repr(b) for b in found] == [repr(value) for value in [*values, None]]
    first = 2 + len(good)
    assert rejects(staged) == [
        ("exact_value", f"b is not a valid {kind}", f"{bucket.key()} line {first + n}") for n in range(len(bad))
    ]
    waiting = [json.loads(str(row)) for row in staged.early_rejects.column("row").to_pylist()]
    assert waiting == [{"a": f"k{len(good) + n}", "b": text} for n, text in enumerate(bad)]
    assert staged.rows_in == len(good) + 1 + len(bad)


def test_a_row_with_two_bad_values_is_one_reject_with_both_reasons(bucket: BucketSource) -> None:
    bucket.put("a,b\nx,y\n1,2\n")
    staged = bucket.stage(bucket.spec("a: int32, b: date"))
    reason = "a is not a valid int32; b is not a valid date"
    assert rejects(staged)[0] == ("exact_value", reason, f"{bucket.key()} line 2")
    assert staged.rows_in == 2


# -- lines that are no records ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"3", "1 values, the header has 2"),
        (b"3,x,y", "3 values, the header has 2"),
        (b'3,"x"y', "text behind a closing quote"),
        (b"3,\xff\xfe", "not UTF-8 at byte 2 of the record"),
        (b"3,\xed\xa0\x80", "not UTF-8 at byte 2 of the record"),  # a lone surrogate
        (b"3,x\0y", "holds a NUL character"),
        (b"3,x\ry", "a line end inside a line"),
    ],
)
def test_a_broken_line_waits_with_its_number_and_its_neighbours_are_read(
    bucket: BucketSource, line: bytes, reason: str
) -> None:
    bucket.put(b"a,b\n1,x\n" + line + b'\n4,"y"\n')
    staged = bucket.stage()
    assert bucket.rows(staged, "a", "b", "object_line") == [("1", "x", 2), ("4", "y", 4)]
    assert rejects(staged) == [("csv_record", reason, f"{bucket.key()} line 3 byte 8")]
    row = str(staged.early_rejects.column("row")[0])
    told = json.loads(row)
    assert told["csv"] == line.decode("utf-8", "backslashreplace")
    is_text = line.decode("utf-8", "ignore").encode() == line
    assert told.get("base64") == (None if is_text else base64.b64encode(line).decode())
    assert "\ufffd" not in row


def test_a_quote_that_is_never_closed_costs_the_lines_behind_it_and_no_other(bucket: BucketSource) -> None:
    bucket.put('a,b\n1,x\n2,"y\n3,z\n4,w\n')
    staged = bucket.stage()
    assert bucket.rows(staged) == [("1", "x")]
    reason = "a quote opened in the record of line 3 is never closed"
    places = [(3, 8), (4, 13), (5, 17)]
    assert rejects(staged) == [("csv_record", reason, f"{bucket.key()} line {line} byte {at}") for line, at in places]


def test_text_of_a_quoted_value_never_becomes_a_row_of_its_own(bucket: BucketSource) -> None:
    bucket.put(b'a,b\n1,"x\n\xff\n2,3\n"\n4,"p\n5,6\nq"r\n7,s\n')
    staged = bucket.stage()
    assert bucket.rows(staged) == [("7", "s")]
    assert [position.split(" ", 1)[1] for _, _, position in rejects(staged)] == ["line 2 byte 4", "line 6 byte 17"]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_value_of_ten_megabytes_is_read_and_one_over_the_limit_is_set_apart(bucket: BucketSource, quote: str) -> None:
    long, too_long = "y" * 10_000_000, "z" * (MAX_RECORD_BYTES + 1)
    bucket.put(f"a,b\n1,{quote}{long}{quote}\n2,x\n", day="2013-01-01")
    assert bucket.rows(bucket.stage(), "a", "b") == [("1", long), ("2", "x")]
    bucket.put(f"a,b\n1,{quote}{too_long}{quote}\n2,x\n", day="2013-01-02")
    staged = bucket.stage(day="2013-01-02")
    assert bucket.rows(staged) == [("2", "x")]
    [(rule, reason, position)] = rejects(staged)
    size = len(too_long) + len(f"1,{quote}{quote}\n")
    assert (rule, reason) == ("csv_record", f"{size} bytes, more than {MAX_RECORD_BYTES}")
    assert position.endswith("line 2 byte 4")


def offset_of(data: bytes, line: int) -> int:
    """The byte where a line begins."""
    return sum(len(each) for each in data.split(b"\n")[: line - 1]) + line - 1


TOKENS = [
    b"1",
    b"x",
    b",",
    b",",
    b'"',
    b'""',
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"\xff",
    "é".encode(),
    b"\0",
    b" ",
    b"\x1f",
]
LINES = [
    b"1,x\n",
    b'"2","y,z"\n',
    b'3,"p\nq"\n',
    b"4\n",
    b"\n",
    b'5,"\n',
    b'6,"a"b\n',
    b"7,x\r\n",
    b"8,\xff\n",
    b'9,"""r"\n',
]


@given(
    st.one_of(
        st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join),
        st.lists(st.sampled_from(LINES), max_size=12).map(b"".join),
        st.lists(st.sampled_from([LINES[0], LINES[1], LINES[9]]), max_size=12).map(b"".join),
    )
)
@example(b'1,x\n2,"y\n3,z\n')
@example(b"1,x\r\n2,y\n")
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_line_of_any_object_is_a_row_or_a_reject_exactly_as_the_oracle_says(
    bucket: BucketSource, content: bytes
) -> None:
    data = b"a,b\n" + content
    bucket.put(data)
    staged = bucket.stage(bucket.spec(nulls="[]"))
    expected = csv_oracle.read(data, 2)
    assert bucket.rows(staged, "object_line", "a", "b") == [(line, *fields) for line, fields in expected.records]
    places = [position.rsplit(" ", 4) for _, _, position in rejects(staged)]
    lines = [int(place[2]) for place in places]
    assert lines == expected.broken
    assert [int(place[4]) for place in places] == [offset_of(data, line) for line in lines]
    assert staged.rows_in == len(expected.records) + len(expected.broken) == staged.rows_staged + len(lines)
    bucket.lake.discard(staged)
    assert bucket.left_behind() == []
