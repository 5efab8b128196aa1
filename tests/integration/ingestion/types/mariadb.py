"""The cases that test_mariadb_types.py proves on a real MariaDB, and that docs/types.md shows.

A value is written as a text literal, unless it is an expression: ``x'00ff'``, ``b'101'``, a call.
"""

from __future__ import annotations

from tests.integration.ingestion.types.table import Refusal, TypeCase

_NO_DAY = "v is no day of the calendar"
_NO_TIME = "v is no time of a day"
_NO_BOOL = "v is neither 0 nor 1"

_TEXT = (
    *("", " ", "ü 日本 😀", "e\u0301", 'it\'s "q"; -- $$ \\ \\N `b`', "a\nb\r\n\tc", "NULL", "trailing  ", "\ufeff"),
    "\u0001\u007f",
)
_DOUBLE = (
    *("0", "-0e0", "0.1", "-0.1", "1", "3", "8", "0.125", "1e22", "1e23", "9007199254740993", "4.9e-324"),
    *("-2.2250738585072009e-308", "2.2250738585072014e-308", "1.7976931348623157e308", "123456.789"),
)
_WIDE = ("9" * 28 + "." + "9" * 10, "-" + "9" * 28 + "." + "9" * 10, "-0.0000000001", "0")
_HUGE = ("9" * 35 + "." + "9" * 30, "-" + "9" * 35 + "." + "9" * 30, "0." + "0" * 29 + "1")
_DATES = ("0001-01-01", "1000-01-01", "1582-10-10", "2012-02-29", "9999-12-31")
_NO_DATES = ("0000-00-00", "2020-00-10", "2020-10-00", "2021-02-30", "0000-01-01")
_WALL = ("0001-01-01 00:00:00", "1969-12-31 23:59:59.999999", "2013-03-10 02:30:00", "9999-12-31 23:59:59.999999")
_NO_WALL = ("0000-00-00 00:00:00", "2020-00-10 12:00:00", "2021-02-30 00:00:00.000001", "0000-01-01 00:00:00")
_LONG_TIMES = ("838:59:59.999999", "-838:59:59.999999", "24:00:00", "-00:00:00.000001")

CASES = (
    # -- whole numbers
    TypeCase("tinyint(4)", "int32", ("-128", "0", "127")),
    TypeCase("tinyint(3) unsigned", "int32", ("0", "255")),
    TypeCase("tinyint(1)", "bool", ("0", "1"), ("2", "-1"), _NO_BOOL, printed="IF(v + 0, 'true', 'false')"),
    TypeCase("tinyint(1)", "int32", ("-128", "0", "1", "7", "127")),
    TypeCase("smallint(6)", "int32", ("-32768", "32767")),
    TypeCase("smallint(5) unsigned", "int64", ("0", "65535")),
    TypeCase("mediumint(9)", "int32", ("-8388608", "8388607")),
    TypeCase("mediumint(8) unsigned", "int32", ("0", "16777215")),
    TypeCase("int(11)", "int32", ("-2147483648", "0", "2147483647")),
    TypeCase("int(10) unsigned", "int64", ("0", "4294967295")),
    TypeCase("int(6) unsigned zerofill", "int64", ("42", "4294967295"), printed="v + 0"),
    TypeCase("int(11)", "decimal(12,2)", ("-2147483648", "7")),
    TypeCase("bigint(20)", "int64", ("-9223372036854775808", "9007199254740993", "9223372036854775807")),
    TypeCase("bigint(20) unsigned", "decimal(20,0)", ("0", "9223372036854775808", "18446744073709551615")),
    TypeCase("year(4)", "int32", ("1901", "2155", "0000"), printed="v + 0", note="the year 0000 is 0"),
    TypeCase("year(4)", "string", ("1901", "0000")),
    TypeCase("bit(1)", "bool", ("b'0'", "b'1'"), printed="IF(v + 0, 'true', 'false')"),
    TypeCase("bit(31)", "int32", ("b'0'", "b'1111111111111111111111111111111'"), printed="v + 0"),
    TypeCase("bit(63)", "int64", ("b'101'", "9223372036854775807 + 0"), printed="v + 0"),
    TypeCase("bit(64)", "decimal(20,0)", ("b'0'", "x'ffffffffffffffff'"), printed="CAST(v AS UNSIGNED)"),
    # -- decimals and floats
    TypeCase("decimal(12,2)", "decimal(12,2)", ("-9999999999.99", "0.01", "1.50", "0")),
    TypeCase("decimal(5,2) unsigned", "decimal(5,2)", ("999.99", "0.01")),
    TypeCase("decimal(20,0)", "decimal(20,0)", ("9" * 20, "-" + "9" * 20)),
    TypeCase("decimal(5,2)", "decimal(10,4)", ("-999.99", "1.5"), printed="CAST(v AS DECIMAL(10,4))"),
    TypeCase("decimal(4,4)", "decimal(4,4)", ("0.1234", "-0.5")),
    TypeCase("decimal(38,10)", "decimal(38,10)", _WIDE),
    TypeCase("decimal(38,10)", "string", _WIDE),
    TypeCase("decimal(65,30)", "string", _HUGE, note="more than 38 digits: as text"),
    TypeCase("float", "float32", ("0", "0.1", "-1.5", "3.402823e38", "1e-45", "16777216"), printed="CAST(v AS DOUBLE)"),
    TypeCase("float", "float64", ("0.1", "-1.5", "1e-45"), printed="CAST(v AS DOUBLE)"),
    TypeCase("float(7,2)", "float32", ("12345.67",), printed="CAST(v AS DOUBLE)"),
    TypeCase("double", "float64", _DOUBLE),
    # -- text
    TypeCase("char(30)", "string", ("", "ab", "ü 日本 😀"), note="without trailing spaces, as the database prints it"),
    TypeCase("varchar(100)", "string", _TEXT),
    TypeCase("longtext", "string", (*_TEXT, "x" * 300_000)),
    TypeCase("varchar(100) collate utf8mb4_bin", "string", _TEXT),
    TypeCase("", "string", _TEXT, mysql="varchar(100) collate utf8mb4_0900_ai_ci"),
    TypeCase("", "string", ("", "日本 😀 ü"), mysql="varchar(20) character set gb18030"),
    TypeCase("varchar(20) character set latin1", "string", ("", "café  ", "ÿ€")),
    TypeCase("varchar(20) character set latin1 collate latin1_bin", "string", ("café  ",)),
    TypeCase("varchar(20) character set utf16", "string", ("ü 日本 😀",)),
    TypeCase("varchar(20) character set sjis", "string", ("日本",)),
    TypeCase("varchar(20) character set ascii", "string", ("plain",)),
    TypeCase("enum('a','it''s, \"q\" unsigned','ü')", "string", ("a", 'it\'s, "q" unsigned', "ü", "")),
    TypeCase("set('x','y','ü')", "string", ("", "x,y", "ü")),
    TypeCase(
        "json",
        "string",
        ('{"a": [1, null, "ü"]}', '{"bb":1e2, "a":1,"a":2}', "null", "1.50"),
        note="MariaDB keeps the text; MySQL keeps what it means and prints that: keys once and in its own order",
    ),
    TypeCase(
        "uuid", "string", ("123e4567-e89b-12d3-a456-426655440000", "ffffffff-ffff-ffff-ffff-ffffffffffff"), mysql=None
    ),
    TypeCase("inet4", "string", ("10.0.0.1", "255.255.255.255"), mysql=None),
    TypeCase("inet6", "string", ("::", "2001:db8::ff00:42:8329"), mysql=None),
    # -- bytes
    TypeCase(
        "binary(4)", "binary", ("x'61'", "x'00ff00ff'"), printed="HEX(v)", note="padded with zeros, as it is stored"
    ),
    TypeCase("varbinary(10)", "binary", ("x''", "x'00ff'", "x'20'"), printed="HEX(v)"),
    TypeCase("longblob", "binary", ("x''", "x'fffe00'", "REPEAT(x'ff', 300000)"), printed="HEX(v)"),
    TypeCase(
        "geometry",
        "binary",
        ("ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0.1 0, 1 1e300)')"),
        printed="HEX(v)",
        note="as it is stored: the SRID in 4 bytes, then well-known binary",
    ),
    TypeCase("point", "binary", ("ST_GeomFromText('POINT(0.1 -2)')",), printed="HEX(v)"),
    TypeCase(
        "",
        "binary",
        ("ST_GeomFromText('POINT(48.1 11.5)', 4326)",),
        mysql="point srid 4326",
        printed="HEX(v)",
        note="as it is stored: longitude first, whatever the order in the text",
    ),
    TypeCase(
        "", "binary", ("ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))')",), mysql="geomcollection", printed="HEX(v)"
    ),
    # -- time
    TypeCase("date", "date", _DATES, _NO_DATES, _NO_DAY),
    TypeCase("datetime", "timestamp", ("2013-03-10 02:30:00",), ("0000-00-00 00:00:00",), _NO_DAY),
    TypeCase("datetime(6)", "timestamp", _WALL, _NO_WALL, _NO_DAY, note="a wall time: no zone is applied"),
    TypeCase("datetime(3)", "timestamp", ("2013-03-10 02:30:00.125",)),
    TypeCase(
        "timestamp(6)",
        "timestamptz",
        ("1970-01-01 00:00:01", "2013-11-03 05:30:00.000001", "2038-01-19 03:14:07.999999"),
        ("0000-00-00 00:00:00",),
        _NO_DAY,
        note="an instant: read in UTC, whatever the server's zone",
    ),
    TypeCase("time(6)", "time", ("00:00:00", "23:59:59.999999"), _LONG_TIMES, _NO_TIME),
    TypeCase("time", "time", ("00:00:00", "23:59:59"), ("24:00:00", "-00:00:01", "838:59:59"), _NO_TIME),
    TypeCase("time(6)", "string", ("00:00:00", *_LONG_TIMES), note="as text: a TIME is an interval, too"),
    # -- columns that are not stored as written
    TypeCase("int(11) invisible", "int32", ("7",)),
)

_NO_INT32 = "v cannot be cast to int32"
_NO_INT64 = "v cannot be cast to int64"
_NO_CENTS = "v cannot be cast to decimal(6,2)"
_NO_DATE = "v cannot be cast to date"
_NO_FORM = (
    "2013-02-29",
    "1900-02-29",
    "2013-13-01",
    "0000-01-01",
    "2013-00-10",
    "13-01-2013",
    "",
    " 2013-01-01",
    "2013",
)

CASTS = (
    # -- to integers
    TypeCase("bigint(20)", "int32", ("-2147483648", "2147483647"), ("2147483648", "-2147483649"), _NO_INT32),
    TypeCase("bigint(20) unsigned", "int64", ("0", "9223372036854775807"), ("9223372036854775808",), _NO_INT64),
    TypeCase("bit(64)", "int64", ("b'1'",), ("18446744073709551615 + 0",), _NO_INT64, printed="v + 0"),
    TypeCase(
        "decimal(30,2)",
        "int64",
        ("0.50", "1.50", "-2.50", "9223372036854775807.49", "-9223372036854775808.49"),
        ("9223372036854775807.50", "-9223372036854775808.50"),
        _NO_INT64,
        printed="ROUND(v)",
        note="rounded, halves away from 0",
    ),
    TypeCase(
        "double",
        "int64",
        ("0.5", "1.5", "-2.5", "9007199254740993", "9223372036854774784", "-9223372036854775808"),
        ("9223372036854775807", "-9223372036854777856", "1e300"),
        _NO_INT64,
        printed="CAST(ROUND(v) AS SIGNED)",
    ),
    TypeCase(
        "varchar(100)",
        "int32",
        ("12", " +12 ", "-0", "0009", "-2147483648"),
        ("12x", "1.5", "1e3", "", " ", "--1", "2147483648", "9" * 90, "0x1F", "12\n", "\u0661"),
        _NO_INT32,
        printed="CAST(TRIM(v) AS SIGNED)",
    ),
    # -- to floats
    TypeCase("bigint(20)", "float64", ("0", "-7", "9007199254740993"), printed="CAST(v AS DOUBLE)"),
    TypeCase("decimal(12,2)", "float64", ("0.10", "-9999999999.99"), printed="CAST(v AS DOUBLE)"),
    TypeCase(
        "double",
        "float32",
        ("0.1", "-1.5", "3.4028234663852886e38", "16777217"),
        ("1e39", "-1e39", "5e-324"),
        "v cannot be cast to float32",
        printed="CAST(CAST(v AS FLOAT) AS DOUBLE)",
        note="to the nearest float",
    ),
    TypeCase(
        "varchar(100)",
        "float64",
        ("1.5", ".5", "5.", " -1E3 ", "0e9", "1e308"),
        ("1e309", "1e-400", "1,5", "", "e5", ".", "nan", "infinity", "12x"),
        "v cannot be cast to float64",
        printed="CAST(TRIM(v) AS DOUBLE)",
    ),
    # -- to decimals
    TypeCase(
        "decimal(12,4)",
        "decimal(6,2)",
        ("1.0050", "-1.0050", "9999.9949", "0.0000"),
        ("9999.9950", "-10000.0000"),
        _NO_CENTS,
        printed="CAST(v AS DECIMAL(6,2))",
        note="rounded, halves away from 0",
    ),
    TypeCase(
        "double",
        "decimal(6,2)",
        ("0.1", "2.675", "-9999.99", "1e-300"),
        ("9999.995", "-10000", "1e300"),
        _NO_CENTS,
        printed="CAST(v AS DECIMAL(6,2))",
    ),
    TypeCase("int(11)", "decimal(6,2)", ("9999", "-9999"), ("10000",), _NO_CENTS, printed="CAST(v AS DECIMAL(6,2))"),
    TypeCase(
        "varchar(100)",
        "decimal(6,2)",
        ("1.005", " 12 ", "1e3", ".5", "-0"),
        ("12x", "", "1e4", "1e999", "9" * 90, "1,000.00"),
        _NO_CENTS,
        printed="CAST(TRIM(v) AS DECIMAL(6,2))",
    ),
    # -- to bool
    TypeCase("tinyint(1)", "bool", ("0", "1", "-7"), printed="IF(v, 'true', 'false')"),
    TypeCase("bit(8)", "bool", ("b'0'", "b'10'"), printed="IF(v + 0, 'true', 'false')"),
    # -- to days and times
    TypeCase(
        "datetime(6)", "date", ("2013-01-01 23:59:59.999999",), ("0000-00-00 00:00:00",), _NO_DAY, printed="DATE(v)"
    ),
    TypeCase("timestamp", "date", ("2013-01-01 23:59:59",), printed="DATE(v)", note="the day in UTC"),
    TypeCase("varchar(100)", "date", ("2013-01-31", "2012-02-29", "0001-01-01", "9999-12-31"), _NO_FORM, _NO_DATE),
    TypeCase("date", "timestamp", ("2013-01-01",), ("0000-00-00",), _NO_DAY, printed="CAST(v AS DATETIME)"),
    TypeCase("timestamp(6)", "timestamp", ("2013-01-01 00:00:00.5",), note="the clock of UTC"),
    TypeCase("datetime(6)", "timestamptz", ("2013-01-01 00:00:00.000001",), note="read as UTC"),
    TypeCase(
        "varchar(100)",
        "timestamp",
        ("2013-01-31 23:59:59.999999", "2013-01-31T23:59", "2013-01-31"),
        (*_NO_FORM, "2013-01-01 24:00", "2013-01-01 23:59:60", "2013-01-01 10:00+05", "2013-01-01 10:00:00.1234567"),
        "v cannot be cast to timestamp",
        printed="CAST(v AS DATETIME(6))",
    ),
    TypeCase("datetime(6)", "time", ("2013-01-01 23:59:59.999999",), printed="TIME(v)"),
    # -- to text
    TypeCase("bigint(20)", "string", ("-9223372036854775808",)),
    TypeCase("double", "string", ("0.1", "1e300")),
    TypeCase("datetime(3)", "string", ("2013-01-01 00:00:00.500", "0000-00-00 00:00:00")),
)
"""What ``policy: cast`` makes of values; the server's own cast is the truth."""

REFUSED = (
    Refusal("int(10) unsigned", "int32"),
    Refusal("bigint(20)", "int32"),
    Refusal("bigint(20) unsigned", "int64"),
    Refusal("bigint(20) unsigned", "decimal(19,0)"),
    Refusal("int(11)", "string"),
    Refusal("tinyint(4)", "bool"),
    Refusal("bit(8)", "bool"),
    Refusal("bit(32)", "int32"),
    Refusal("bit(64)", "int64"),
    Refusal("bit(8)", "binary"),
    Refusal("decimal(12,3)", "decimal(12,2)"),
    Refusal("decimal(13,2)", "decimal(12,2)"),
    Refusal("decimal(65,30)", "decimal(38,10)"),
    Refusal("decimal(5,2)", "decimal(38,33)"),
    Refusal("decimal(12,2)", "float64"),
    Refusal("double", "float32"),
    Refusal("double", "string"),
    Refusal("varchar(10)", "int32"),
    Refusal("varchar(10)", "binary"),
    Refusal("varbinary(10)", "string"),
    Refusal("geometry", "string"),
    Refusal("date", "timestamp"),
    Refusal("datetime", "date"),
    Refusal("datetime", "timestamptz"),
    Refusal("timestamp", "timestamp"),
    Refusal("time", "timestamp"),
)
