"""The cases that test_postgresql_types.py proves on a real PostgreSQL, and that docs/types.md shows."""

from __future__ import annotations

from tests.integration.ingestion.types.table import Refusal, TypeCase

SETUP = (
    "CREATE TYPE {s}.mood AS ENUM ('happy', 'so''so', 'q\"x, \\')",
    "CREATE TYPE {s}.spot AS (x numeric, label text, at timestamptz)",
    "CREATE DOMAIN {s}.cents AS numeric(12,2) CHECK (VALUE >= 0)",
    "CREATE DOMAIN {s}.price AS {s}.cents CHECK (VALUE < 1000000)",
    "CREATE DOMAIN {s}.code AS char(4)",
    "CREATE DOMAIN {s}.moment AS timestamptz",
    "CREATE DOMAIN {s}.feeling AS {s}.mood",
    "CREATE DOMAIN {s}.numbers AS integer[]",
    "CREATE EXTENSION IF NOT EXISTS vector",
)
"""Types of the test's own; run in order, ``{s}`` being its schema."""

_INFINITE = "v is infinite or out of range"
_NOT_A_NUMBER = "v is NaN or infinite"
_NO_TIME = "v is 24:00:00, which is no time of a day"

_INT16 = ("-32768", "-1", "0", "32767")
_INT32 = ("-2147483648", "0", "2147483647")
_INT64 = ("-9223372036854775808", "0", "9007199254740993", "9223372036854775807")
_REAL = ("0", "-0", "1.5", "-3.4028235e38", "1e-45", "1.17549435e-38", "16777217", "NaN", "Infinity", "-Infinity")
_DOUBLE = (
    *("0", "-0", "0.1", "5e-324", "-2.2250738585072009e-308", "2.2250738585072014e-308", "1.7976931348623157e308"),
    *("9007199254740993", "1e22", "NaN", "Infinity", "-Infinity"),
)
_TEXT = (
    *("", " ", "ü 日本 😀", "e\u0301", 'it\'s "q"; -- $$ \\ \\N', "a\nb\r\n\tc", "NULL", "null", "\u0001\u007f\ufeff"),
    *("\u202ereversed", "x" * 100_000),
)
_DATES = ("4714-11-24 BC", "0044-03-15 BC", "0001-01-01", "1582-10-10", "2012-02-29", "9999-12-31", "5874897-12-31")
_WALL = (
    *("4714-11-24 00:00:00 BC", "0001-12-31 23:59:59.999999 BC", "0001-01-01 00:00:00", "1969-12-31 23:59:59.999999"),
    *("9999-12-31 23:59:59.999999", "294247-01-10 04:00:54.775806"),
)
_LATE_WALL = ("294247-01-10 04:00:54.775807", "294276-12-31 23:59:59.999999", "infinity", "-infinity")
_WIDE = ("9" * 28 + "." + "9" * 10, "-" + "9" * 28 + "." + "9" * 10, "-0.0000000001", "0")
_LONG = ("1" + "0" * 130, "-0." + "0" * 90 + "1", "1.500", "0.00", "NaN")

CASES = (
    # -- numbers
    TypeCase("smallint", "int32", _INT16),
    TypeCase("smallint", "int64", _INT16),
    TypeCase("integer", "int32", _INT32),
    TypeCase("integer", "int64", _INT32),
    TypeCase("integer", "decimal(12,2)", _INT32),
    TypeCase("bigint", "int64", _INT64),
    TypeCase("bigint", "decimal(19,0)", _INT64),
    TypeCase("real", "float32", _REAL, note="NaN, infinity and -0.0 are values of a float"),
    TypeCase("real", "float64", _REAL, printed="v::float8"),
    TypeCase("double precision", "float64", _DOUBLE, note="NaN, infinity and -0.0 are values of a float"),
    TypeCase("numeric(5,0)", "decimal(5,0)", ("-99999", "0", "99999"), ("NaN",), _NOT_A_NUMBER),
    TypeCase("numeric(12,2)", "decimal(12,2)", ("-9999999999.99", "0.01", "1.50", "0"), ("NaN",), _NOT_A_NUMBER),
    TypeCase("numeric(5,2)", "decimal(10,4)", ("1.5", "-999.99"), ("NaN",), _NOT_A_NUMBER),
    TypeCase("numeric(38,10)", "decimal(38,10)", _WIDE, ("NaN",), _NOT_A_NUMBER),
    TypeCase("numeric(3,5)", "decimal(5,5)", ("0.00999", "-0.00999", "0.00001"), ("NaN",), _NOT_A_NUMBER),
    TypeCase("numeric(5,-2)", "decimal(7,0)", ("9999900", "-1234567", "49"), ("NaN",), _NOT_A_NUMBER),
    TypeCase(
        "numeric(50,10)",
        "decimal(38,10)",
        _WIDE,
        ("1" + "0" * 28, "-" + "9" * 40, "NaN"),
        "v does not fit decimal(38,10)",
    ),
    TypeCase("numeric(50,10)", "string", ("9" * 40 + ".0123456789", "-0.5", "NaN")),
    TypeCase(
        "numeric",
        "decimal(12,2)",
        ("9999999999.99", "-9999999999.99", "1.500", "0.0000", "7"),
        ("0.001", "10000000000", "1" + "0" * 130, "-0.005", "NaN", "Infinity", "-Infinity"),
        "v does not fit decimal(12,2)",
        note="unconstrained: each value is looked at",
    ),
    TypeCase("numeric", "string", (*_LONG, "Infinity", "-Infinity"), note="unconstrained: as text"),
    TypeCase(
        "money",
        "decimal(19,2)",
        ("-92233720368547758.08", "0.01", "92233720368547758.07"),
        printed="v::numeric",
        note="as the database's `lc_monetary` reads it",
    ),
    TypeCase(
        "money",
        "decimal(6,1)",
        ("1.50", "-99999.90"),
        ("1.55", "100000.00"),
        "v does not fit decimal(6,1)",
        printed="v::numeric",
    ),
    TypeCase("money", "string", ("-92233720368547758.08", "1234.50"), note="with currency sign, as printed"),
    # -- texts
    TypeCase("boolean", "bool", ("true", "false")),
    TypeCase("text", "string", _TEXT),
    TypeCase("character varying(20)", "string", ("  padded  ", "", "ü" * 20)),
    TypeCase("character(6)", "string", ("ab", "  ", "ü", "abcdef"), note="blank-padded, as printed"),
    TypeCase("bpchar", "string", ("ab  ", "", "x"), note="no length: trailing blanks stay"),
    TypeCase('"char"', "string", ("x", "", "\\")),
    TypeCase("name", "string", ("a Name", "x" * 63)),
    TypeCase("bytea", "binary", ("\\x", "\\x00", "\\x0027ff5c6e", "\\x" + "ff" * 5000)),
    TypeCase("enum", "string", ("happy", "so'so", 'q"x, \\'), ddl="{s}.mood"),
    TypeCase("uuid", "string", ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "00000000-0000-0000-0000-000000000000")),
    TypeCase("json", "string", ('{"b": 1,  "a": [1.50, null], "b": 2}', "1e400", '"\\u00e9"'), note="blanks stay"),
    TypeCase("jsonb", "string", ('{"b": 1,  "a": [1.50]}', "null", "123456789012345678901234567890.10")),
    TypeCase("jsonpath", "string", ("$.a[*] ? (@ > 1)",)),
    TypeCase("inet", "string", ("10.0.0.1", "10.0.0.1/8", "::1", "::ffff:1.2.3.4/120")),
    TypeCase("cidr", "string", ("10.0.0.0/8", "2001:db8::/32")),
    TypeCase("macaddr", "string", ("08:00:2b:01:02:03",)),
    TypeCase("macaddr8", "string", ("08:00:2b:01:02:03:04:05",)),
    TypeCase("bit(3)", "string", ("101", "000"), ddl="bit(3)"),
    TypeCase("bit varying", "string", ("", "1", "0" * 200)),
    TypeCase("tsvector", "string", ("'a':1A 'it''s':2", "")),
    TypeCase("tsquery", "string", ("'fat' & ('rat' | !'cat')", "'a' <2> 'b':*A")),
    TypeCase("pg_lsn", "string", ("16/B374D848", "FFFFFFFF/FFFFFFFF")),
    TypeCase("oid", "int64", ("0", "4294967295")),
    TypeCase("xid", "int64", ("0", "4294967295")),
    TypeCase("xid8", "decimal(20,0)", ("0", "18446744073709551615")),
    TypeCase("tid", "string", ("(4294967295,65535)",)),
    TypeCase("regclass", "int64", ("pg_catalog.pg_class", "-"), printed="v::oid", note="the object's number"),
    # -- times
    TypeCase("date", "date", _DATES, ("infinity", "-infinity"), _INFINITE),
    TypeCase("time", "time", ("00:00", "23:59:59.999999"), ("24:00:00",), _NO_TIME),
    TypeCase("time with time zone", "string", ("00:00:00+15:59", "24:00:00-15:59", "12:34:56.789+05:30")),
    TypeCase("timestamp", "timestamp", _WALL, _LATE_WALL, _INFINITE),
    TypeCase(
        "timestamp with time zone",
        "timestamptz",
        (*(f"{value}+00" if "BC" not in value else value for value in _WALL), "2013-03-10 02:30:00 America/New_York"),
        tuple(f"{value}+00" if "inf" not in value else value for value in _LATE_WALL),
        _INFINITE,
        printed="v",
    ),
    TypeCase(
        "interval",
        "string",
        ("1 year -2 days 3.5s", "-00:00:00.000001", "-178000000 years", "1 month -1 day +25:00:00", "0"),
        note="months, days and time apart, as printed",
    ),
    # -- composed of others
    TypeCase("integer[]", "string", ("{}", "{1,NULL,-3}", "[0:1]={7,8}", "{{1,2},{3,4}}", "[-1:0][2:3]={{1,2},{3,4}}")),
    TypeCase("numeric[]", "string", ("{NaN,1.50,NULL,Infinity}",)),
    TypeCase("text[]", "string", ('{"NULL",NULL,"","a,b","q\\"x","{}"}', '{{"a\\\\b"},{" c "}}')),
    TypeCase("timestamptz[]", "string", ('{infinity,"2013-03-10 02:30:00+00","0044-03-15 00:00:00+00 BC"}',)),
    TypeCase("bytea[]", "string", ('{"\\\\x00ff",NULL}',)),
    TypeCase("double precision[]", "string", ("{NaN,-0,0.1,5e-324,Infinity}",)),
    TypeCase("array of enum", "string", ("{happy,so'so}",), ddl="{s}.mood[]"),
    TypeCase("composite", "string", ('(NaN,"a ""b"", c",infinity)', "(,,)", '(1.50,"",)'), ddl="{s}.spot"),
    TypeCase("array of composite", "string", ('{"(1.50,a,)",NULL}',), ddl="{s}.spot[]"),
    TypeCase("int4range", "string", ("empty", "[1,5)", "(,)", "[3,)")),
    TypeCase("numrange", "string", ("[1.50,2.500]", "(NaN,)", "[-Infinity,Infinity)")),
    TypeCase("tstzrange", "string", ('["2013-03-10 02:30:00+00",infinity)', "[-infinity,)")),
    TypeCase("daterange", "string", ("[2013-01-01,infinity]",)),
    TypeCase("int8multirange", "string", ("{}", "{[1,3),[5,9223372036854775807)}")),
    TypeCase("point", "string", ("(0.1,-0)", "(NaN,Infinity)")),
    TypeCase("line", "string", ("{1,-1,0.30000000000000004}",)),
    TypeCase("lseg", "string", ("[(0,0),(1.1,5e-324)]",)),
    TypeCase("box", "string", ("(2,2),(0.1,0)",)),
    TypeCase("path", "string", ("[(0,0),(1,1)]", "((0,0),(1,1),(0.1,2))")),
    TypeCase("polygon", "string", ("((0,0),(1,1),(0.1,2))",)),
    TypeCase("circle", "string", ("<(0.1,0.2),3>",)),
    TypeCase("vector(3)", "string", ("[0.1,-0,3e-38]",), note="extension pgvector; so do other extensions' types"),
    # -- domains are read as what they are made of
    TypeCase("domain over numeric(12,2)", "decimal(12,2)", ("0.01", "1.5"), ("NaN",), _NOT_A_NUMBER, ddl="{s}.cents"),
    TypeCase("domain over a domain", "decimal(12,2)", ("999999.99",), ddl="{s}.price"),
    TypeCase("domain over char(4)", "string", ("ab",), ddl="{s}.code"),
    TypeCase("domain over timestamptz", "timestamptz", ("2013-01-01 00:00:00+00",), ddl="{s}.moment"),
    TypeCase("domain over enum", "string", ("happy",), ddl="{s}.feeling"),
    TypeCase("domain over integer[]", "string", ("[5:6]={1,NULL}",), ddl="{s}.numbers"),
)  # fmt: skip
"""What is kept under the default ``policy: exact``."""

CASTS: tuple[TypeCase, ...] = ()
"""What ``policy: cast`` makes of values; the database's own cast is the truth."""

REFUSED = (
    Refusal("bigint", "int32"),
    Refusal("bigint", "decimal(18,0)"),
    Refusal("integer", "string"),
    Refusal("numeric(12,3)", "decimal(12,2)"),
    Refusal("numeric(13,2)", "decimal(12,2)"),
    Refusal("double precision", "float32"),
    Refusal("double precision", "decimal(38,10)"),
    Refusal("text", "int32"),
    Refusal("text", "bool"),
    Refusal("timestamp", "timestamptz"),
    Refusal("timestamptz", "timestamp"),
    Refusal("timestamptz", "date"),
    Refusal("date", "timestamp"),
    Refusal("timetz", "time"),
    Refusal("boolean", "int32"),
    Refusal("boolean", "string"),
    Refusal("bytea", "string"),
    Refusal("regclass", "string"),
    Refusal("interval", "time"),
    Refusal("integer[]", "int32"),
    Refusal("xid8", "int64"),
    Refusal("domain over numeric(12,2)", "decimal(10,2)", ddl="{s}.cents"),
)
"""What no value of the column could be promised to fit."""
