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
    "CREATE EXTENSION vector SCHEMA {s}",
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
    TypeCase(
        "vector(3)",
        "string",
        ("[0.1,-0,3e-38]",),
        ddl="{s}.vector(3)",
        note="extension pgvector; so do other extensions' types",
    ),
    # -- domains are read as what they are made of
    TypeCase("domain over numeric(12,2)", "decimal(12,2)", ("0.01", "1.5"), ("NaN",), _NOT_A_NUMBER, ddl="{s}.cents"),
    TypeCase("domain over a domain", "decimal(12,2)", ("999999.99",), ddl="{s}.price"),
    TypeCase("domain over char(4)", "string", ("ab",), ddl="{s}.code"),
    TypeCase("domain over timestamptz", "timestamptz", ("2013-01-01 00:00:00+00",), ddl="{s}.moment"),
    TypeCase("domain over enum", "string", ("happy",), ddl="{s}.feeling"),
    TypeCase("domain over integer[]", "string", ("[5:6]={1,NULL}",), ddl="{s}.numbers"),
)
"""What is kept under the default ``policy: exact``."""

_NO_INT32 = "v cannot be cast to int32"
_NO_INT64 = "v cannot be cast to int64"
_NO_FLOAT32 = "v cannot be cast to float32"
_NO_FLOAT64 = "v cannot be cast to float64"
_NO_DECIMAL = "v cannot be cast to decimal(6,2)"
_NO_DATE = "v cannot be cast to date"
_NO_TIMESTAMP = "v cannot be cast to timestamp"
_NO_INSTANT = "v cannot be cast to timestamptz"
_NO_CLOCK = "v cannot be cast to time"
_ENDLESS = ("infinity", "-infinity")
_NO_DAYS = (
    "2013-02-29",
    "1900-02-29",
    "2013-04-31",
    "2013-13-01",
    "0000-01-01",
    "13-01-2013",
    "",
    "infinity",
    " 2013-01-01",
)

CASTS = (
    # -- to integers
    TypeCase(
        "bigint", "int32", ("-2147483648", "2147483647"), ("2147483648", "-2147483649"), _NO_INT32, printed="v::int4"
    ),
    TypeCase(
        "numeric",
        "int64",
        ("0.5", "1.5", "-2.5", "9223372036854775807.4", "-9223372036854775808.4"),
        ("9223372036854775807.5", "-9223372036854775808.5", "NaN", "Infinity", "1" + "0" * 100),
        _NO_INT64,
        printed="v::int8",
        note="rounded, halves away from 0",
    ),
    TypeCase(
        "double precision",
        "int64",
        ("0.5", "1.5", "-2.5", "9007199254740993", "9223372036854774784", "-9223372036854775808"),
        ("9223372036854775807", "-9223372036854777856", "NaN", "Infinity", "-Infinity", "1e300"),
        _NO_INT64,
        printed="v::int8",
        note="rounded, halves to the even number",
    ),
    TypeCase(
        "double precision",
        "int32",
        ("2147483647.4", "-2147483648.5", "-0"),
        ("2147483647.5", "-2147483648.6", "NaN"),
        _NO_INT32,
        printed="v::int4",
    ),
    TypeCase(
        "real", "int32", ("2147483520", "-2147483648", "2.5"), ("2147483648", "NaN"), _NO_INT32, printed="v::int4"
    ),
    TypeCase("money", "int64", ("1.49", "1.50", "-92233720368547758.08"), printed="v::numeric::int8"),
    TypeCase("oid", "int32", ("2147483647",), ("2147483648",), _NO_INT32),
    TypeCase("boolean", "int32", ("true", "false"), printed="v::int4"),
    TypeCase(
        "text",
        "int64",
        ("12", " +12\t", "-0", "0009", "-9223372036854775808", "9223372036854775807"),
        (
            "12x",
            "1.5",
            "1e3",
            "",
            " ",
            "--1",
            "9223372036854775808",
            "9" * 90,
            "9" * 200_000,
            "\u0661\u0662",
            "0x1F",
            "1_000",
            "NULL",
        ),
        _NO_INT64,
        printed="v::int8",
    ),
    TypeCase("character(4)", "int32", ("12", " 7"), ("x",), _NO_INT32, printed="v::text::int4"),
    # -- to floats
    TypeCase("bigint", "float64", _INT64, printed="v::float8", note="beyond 2^53 to the nearest float"),
    TypeCase("bigint", "float32", _INT64, printed="v::float4"),
    TypeCase(
        "numeric",
        "float64",
        ("0.1", "-0.0", "1e308", "1e-320", "NaN", "Infinity", "-Infinity", "0." + "3" * 60),
        ("1e309", "-1e309", "1e-400"),
        _NO_FLOAT64,
        printed="v::float8",
        note="to the nearest float",
    ),
    TypeCase("numeric(12,2)", "float64", ("0.10", "-9999999999.99", "NaN"), printed="v::float8"),
    TypeCase("numeric", "float32", ("0.1", "16777217", "NaN"), ("1e39", "1e-46"), _NO_FLOAT32, printed="v::float4"),
    TypeCase(
        "double precision",
        "float32",
        ("0.1", "-0", "NaN", "-Infinity", "1.4e-45", "3.4028234663852886e38"),
        ("1e39", "-1e39", "1e-46", "5e-324"),
        _NO_FLOAT32,
        printed="v::float4",
    ),
    TypeCase(
        "text",
        "float64",
        ("1.5", ".5", "5.", " -1E3 ", "nan", "-Infinity", "inf", "1e308", "4.9e-320"),
        ("1e309", "1e-400", "1e99999", "1,5", "", "e5", ".", "0x1p3", "infinite"),
        _NO_FLOAT64,
        printed="v::float8",
    ),
    # -- to decimals
    TypeCase(
        "numeric(12,4)",
        "decimal(6,2)",
        ("1.005", "-1.005", "9999.9949", "0"),
        ("9999.995", "-10000", "NaN"),
        _NO_DECIMAL,
        printed="v::numeric(6,2)",
        note="rounded, halves away from 0",
    ),
    TypeCase(
        "double precision",
        "decimal(6,2)",
        ("0.1", "2.675", "-9999.99", "1e-300"),
        ("NaN", "Infinity", "-Infinity", "9999.995", "1e300"),
        _NO_DECIMAL,
        printed="v::numeric(6,2)",
        note="by 15 digits, as PostgreSQL casts a float",
    ),
    TypeCase(
        "numeric",
        "decimal(6,2)",
        ("1.005", "0." + "9" * 90),
        ("1e4", "NaN", "-Infinity"),
        _NO_DECIMAL,
        printed="v::numeric(6,2)",
    ),
    TypeCase("bigint", "decimal(6,2)", ("9999", "-9999"), ("10000",), _NO_DECIMAL, printed="v::numeric(6,2)"),
    TypeCase(
        "money",
        "decimal(6,0)",
        ("1.50", "-2.49"),
        ("1000000",),
        "v cannot be cast to decimal(6,0)",
        printed="v::numeric(6,0)",
    ),
    TypeCase(
        "text",
        "decimal(6,2)",
        ("1.005", " 12 ", "1e3", ".5", "-0"),
        ("12x", "", "NaN", "1e4", "1e9999", "1,000.00"),
        _NO_DECIMAL,
        printed="v::numeric(6,2)",
    ),
    # -- to bool
    TypeCase("integer", "bool", ("0", "1", "-7"), printed="v::bool"),
    TypeCase("bigint", "bool", ("0", "9223372036854775807"), printed="v <> 0"),
    TypeCase(
        "text",
        "bool",
        ("t", " TRUE ", "y", "on", "1", "0", "No", "of", "fals"),
        ("2", "", "o", "ja"),
        "v cannot be cast to bool",
        printed="v::bool",
    ),
    # -- to days and times
    TypeCase(
        "timestamp", "date", ("2013-01-01 23:59:59.999999", "0044-03-15 00:00 BC"), nulls=_ENDLESS, printed="v::date"
    ),
    TypeCase(
        "timestamptz",
        "date",
        ("2013-01-01 23:59:59-05", "294276-12-31 23:59:59+00"),
        nulls=_ENDLESS,
        printed="v::date",
        note="the day in UTC",
    ),
    TypeCase("date", "date", ("2013-01-01",), nulls=_ENDLESS),
    TypeCase(
        "text",
        "date",
        ("2013-01-31", "2012-02-29", "2000-02-29", "9999-12-31", "0001-01-01"),
        _NO_DAYS,
        _NO_DATE,
        printed="v::date",
    ),
    TypeCase("timestamp", "timestamp", ("2013-01-01 00:00:00",), _LATE_WALL[:2], _NO_TIMESTAMP, nulls=_ENDLESS),
    TypeCase(
        "date",
        "timestamp",
        ("2013-01-01", "4714-11-24 BC", "294247-01-10"),
        ("294247-01-11", "5874897-12-31"),
        _NO_TIMESTAMP,
        nulls=_ENDLESS,
        printed="v::timestamp",
    ),
    TypeCase("date", "timestamptz", ("2013-01-01",), nulls=_ENDLESS, printed="v::timestamptz", note="midnight in UTC"),
    TypeCase(
        "timestamptz",
        "timestamp",
        ("2013-01-01 00:00:00-05",),
        ("294276-12-31 00:00:00+00",),
        _NO_TIMESTAMP,
        nulls=_ENDLESS,
        printed="v::timestamp",
        note="the clock of UTC",
    ),
    TypeCase(
        "timestamp",
        "timestamptz",
        ("2013-01-01 00:00:00",),
        ("294276-12-31 00:00:00",),
        _NO_INSTANT,
        nulls=_ENDLESS,
        printed="v::timestamptz",
        note="read as UTC",
    ),
    TypeCase(
        "text",
        "timestamp",
        ("2013-01-31 23:59:59.999999", "2013-01-31T23:59", "2013-01-31"),
        (*_NO_DAYS, "2013-01-01 24:00", "2013-01-01 23:59:60", "2013-01-01 10:00+05", "2013-01-01 10:00:00.1234567"),
        _NO_TIMESTAMP,
        printed="v::timestamp",
    ),
    TypeCase(
        "text",
        "timestamptz",
        (
            "2013-01-31T23:59:59.5Z",
            "2013-01-31 23:59+05:30",
            "2013-01-31 23:59-1559",
            "2013-01-31 23:59",
            "0001-01-01 00:00+15",
        ),
        (*_NO_DAYS, "2013-01-31 23:59+16", "2013-01-31 23:59 CET"),
        _NO_INSTANT,
        printed="v::timestamptz",
        note="without a zone read as UTC",
    ),
    TypeCase(
        "timetz",
        "time",
        ("12:34:56.789+05:30",),
        ("24:00:00+00",),
        _NO_CLOCK,
        printed="v::time",
        note="its offset goes",
    ),
    TypeCase("timestamp", "time", ("2013-01-01 23:59:59.999999",), ("infinity",), _NO_CLOCK, printed="v::time"),
    TypeCase(
        "interval",
        "time",
        ("25:00:00", "-1 hour", "1 month 02:03:04"),
        ("infinity",),
        _NO_CLOCK,
        printed="v::time",
        note="what goes beyond a day",
    ),
    TypeCase(
        "text",
        "time",
        ("23:59:59.999999", "00:00"),
        ("24:00", "23:59:59.9999999", "1:00", "12:00 PM"),
        _NO_CLOCK,
        printed="v::time",
    ),
    # -- to text
    TypeCase("bigint", "string", _INT64),
    TypeCase("double precision", "string", _DOUBLE),
    TypeCase("boolean", "string", ("true", "false"), printed="v::text"),
    TypeCase("bytea", "string", ("\\x00ff", "\\x")),
    TypeCase("timestamptz", "string", ("infinity", "294276-12-31 23:59:59.999999+00", "0044-03-15 00:00:00+00 BC")),
    TypeCase("time", "string", ("24:00:00",)),
    TypeCase("regclass", "string", ("pg_catalog.pg_class",), note="as the session's search path prints it"),
    # -- domains and enums
    TypeCase("domain over numeric(12,2)", "int32", ("1.5",), ("NaN",), _NO_INT32, ddl="{s}.cents", printed="v::int4"),
    TypeCase("enum", "int32", (), ("happy",), _NO_INT32, ddl="{s}.mood"),
)
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
