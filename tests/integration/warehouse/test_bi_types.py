"""Laws of types: what PostgreSQL is given is what the release holds, to the last digit; or it is refused by name."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg  # noqa: TID251 - a client as users have it
import pytest

from common.errors import SourceRefused, SpecError
from tests.integration.warehouse.bench import Bench

UTC = timezone.utc  # noqa: UP017 - as psycopg spells it
CASES: dict[str, tuple[str, list[tuple[str, Any]]]] = {
    "BOOLEAN": ("boolean", [("true", True), ("false", False)]),
    "TINYINT": ("smallint", [("-128", -128), ("127", 127)]),
    "UTINYINT": ("smallint", [("255", 255)]),
    "SMALLINT": ("smallint", [("-32768", -32768)]),
    "USMALLINT": ("integer", [("65535", 65535)]),
    "INTEGER": ("integer", [("-2147483648", -(2**31))]),
    "UINTEGER": ("bigint", [("4294967295", 2**32 - 1)]),
    "BIGINT": ("bigint", [("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1)]),
    "UBIGINT": ("numeric(20,0)", [("18446744073709551615", Decimal(2**64 - 1))]),
    "HUGEINT": ("numeric(39,0)", [(str(-(2**127)), Decimal(-(2**127))), (str(2**127 - 1), Decimal(2**127 - 1))]),
    "UHUGEINT": ("numeric(39,0)", [(str(2**128 - 1), Decimal(2**128 - 1))]),
    "DECIMAL(9,2)": ("numeric(9,2)", [("-1234567.80", Decimal("-1234567.80"))]),
    "DECIMAL(38,38)": ("numeric(38,38)", [("'0." + "9" * 38 + "'", Decimal("0." + "9" * 38))]),
    "DECIMAL(38,0)": ("numeric(38,0)", [("'" + "9" * 38 + "'", Decimal("9" * 38))]),
    "FLOAT": ("real", [("0.1", 0.1), ("3.4028235e38", 3.4028235e38)]),
    "DOUBLE": (
        "double precision",
        [
            ("0.1", 0.1),
            ("1.7976931348623157e308", 1.7976931348623157e308),
            ("5e-324", 5e-324),
            ("'-0.0'", -0.0),
            ("'infinity'", math.inf),
            ("0.30000000000000004", 0.30000000000000004),
        ],
    ),
    "VARCHAR": (
        "text",
        [
            ("''", ""),
            ("'NULL'", "NULL"),
            (r"'\N'", r"\N"),
            (r"'\.'", r"\."),
            ("chr(10) || '\\.' || chr(10) || 'drop table x;' || chr(13) || chr(9)", "\n\\.\ndrop table x;\r\t"),
            ("'\"quoted\", it''s ü 🚀 \\t \\\\ '", '"quoted", it\'s ü 🚀 \\t \\\\ '),
        ],
    ),
    "UUID": ("uuid", [("'00000000-0000-0000-0000-0000000000ff'", UUID(int=255))]),
    "DATE": ("date", [("'0001-01-01'", date(1, 1, 1)), ("'9999-12-31'", date(9999, 12, 31))]),
    "TIME": ("time without time zone", [("'23:59:59.999999'", time(23, 59, 59, 999999))]),
    "TIME WITH TIME ZONE": (
        "time with time zone",
        [("'01:02:03.4+05:30'", time(1, 2, 3, 400000, timezone(timedelta(hours=5.5))))],
    ),
    "TIMESTAMP": (
        "timestamp without time zone",
        [("'2013-03-10 02:30:00.000001'", datetime(2013, 3, 10, 2, 30, 0, 1))],  # noqa: DTZ001
    ),
    "TIMESTAMP_S": ("timestamp without time zone", [("'2013-03-10 02:30:00'", datetime(2013, 3, 10, 2, 30))]),  # noqa: DTZ001
    "TIMESTAMP_MS": (
        "timestamp without time zone",
        [("'2013-03-10 02:30:00.123'", datetime(2013, 3, 10, 2, 30, 0, 123000))],  # noqa: DTZ001
    ),
    "TIMESTAMP WITH TIME ZONE": (
        "timestamp with time zone",
        [
            ("'2013-11-03 01:00:00-04'", datetime(2013, 11, 3, 5, tzinfo=UTC)),
            ("'2013-11-03 01:00:00-05'", datetime(2013, 11, 3, 6, tzinfo=UTC)),
        ],
    ),
    "INTERVAL": ("interval", [("INTERVAL '3 days' + INTERVAL '-4 hours'", timedelta(days=3, hours=-4))]),
    "BLOB": ("bytea", [(r"'\x00\xFF\x0A\x5C'::BLOB", b"\x00\xff\n\\"), ("''::BLOB", b"")]),
    "JSON": ("jsonb", [('\'{"b": [1, null], "a": "x\\ny"}\'', {"a": "x\ny", "b": [1, None]})]),
    "INTEGER[]": ("jsonb", [("[1, NULL, 3]", [1, None, 3]), ("[]", [])]),
    "VARCHAR[2]": ("jsonb", [("['a\\b', 'c\"']", ["a\\b", 'c"'])]),
    "STRUCT(a INTEGER, b VARCHAR[])": ("jsonb", [("{'a': 1, 'b': ['x']}", {"a": 1, "b": ["x"]})]),
    "MAP(VARCHAR, INTEGER)": ("jsonb", [("MAP {'k': 1}", {"k": 1})]),
    "ENUM('low', 'high')": ("text", [("'high'", "high")]),
}


def test_every_type_arrives_exactly_with_its_nulls_and_its_declared_counterpart(bench: Bench) -> None:
    statements = []
    for number, (kind, (_, values)) in enumerate(CASES.items()):
        rows = ", ".join(f"({i}, CAST({text} AS {kind}))" for i, (text, _) in enumerate(values))
        nothing = f"({len(values)}, CAST(NULL AS {kind}))"
        statements.append(f"CREATE TABLE t{number:02d} AS FROM (VALUES {rows}, {nothing}) v(i, v)")
    bench.publish(bench.release(*statements))
    with psycopg.connect(bench.url) as connection:
        for number, (kind, (postgres, values)) in enumerate(CASES.items()):
            declared = connection.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = to_regclass(%s) AND attname = 'v'",
                [f"marts.t{number:02d}"],
            ).fetchone()
            assert declared == (postgres,), kind
            found = [v for (v,) in connection.execute(f"SELECT v FROM marts.t{number:02d} ORDER BY i".encode())]
            expected = [value for _, value in values] + [None]
            assert list(map(repr, found)) == list(map(repr, expected)), kind


def test_times_beyond_python_arrive_as_postgresql_itself_writes_them(bench: Bench) -> None:
    bench.publish(
        bench.release(
            "CREATE TABLE t AS SELECT '0044-03-15 (BC) 01:02:03.5'::TIMESTAMP AS a, '0044-03-15 (BC)'::DATE AS b, "
            "'infinity'::TIMESTAMPTZ AS c, '-infinity'::DATE AS d, '294246-12-31 23:59:59+00'::TIMESTAMPTZ AS e, "
            "'24:00:00'::TIME AS f, INTERVAL '-10 months -3 days 4 hours' AS g, 'nan'::DOUBLE AS h, '101'::BIT AS i"
        )
    )
    query = "SELECT a::text, b::text, c::text, d::text, e::text, f::text, g::text, h::text, i::text FROM marts.t"
    with psycopg.connect(bench.url, options="-c timezone=UTC") as connection:
        assert connection.execute(query.encode()).fetchone() == (
            "0044-03-15 01:02:03.5 BC",
            "0044-03-15 BC",
            "infinity",
            "-infinity",
            "294246-12-31 23:59:59+00",
            "24:00:00",
            "-10 mons -3 days +04:00:00",
            "NaN",
            "101",
        )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("TIMESTAMP_NS", "end at microseconds"), ("UNION(a INTEGER, b VARCHAR)", "one of several types")],
)
def test_a_type_that_cannot_arrive_exactly_is_refused_by_column_before_anything_is_written(
    bench: Bench, kind: str, reason: str
) -> None:
    bench.publish(bench.numbered(1))
    with pytest.raises(SpecError, match=rf"{reason}.*table=odd\.v.*meta: {{bi: false}}"):
        bench.publish(bench.release(f"CREATE TABLE odd AS SELECT CAST(NULL AS {kind}) AS v"))
    assert bench.ask("SELECT DISTINCT number FROM marts.a") == [(1,)]
    assert bench.schemas() == ["marts"]


@pytest.mark.parametrize(
    "value", ["'a' || chr(0) || 'b'", "'290308-12-21 (BC)'::TIMESTAMP", "'[\"\\u0000\"]'::JSON"], ids=str
)
def test_a_value_that_cannot_arrive_exactly_fails_the_publishing_and_changes_nothing(bench: Bench, value: str) -> None:
    bench.publish(bench.numbered(1))
    with pytest.raises(SourceRefused) as refused:
        bench.publish(bench.release(f"CREATE TABLE odd AS SELECT 'private' AS name, {value} AS v"))
    assert "private" not in str(refused.value)
    assert bench.ask("SELECT DISTINCT number FROM marts.a") == [(1,)]
    assert bench.schemas() == ["marts"]
