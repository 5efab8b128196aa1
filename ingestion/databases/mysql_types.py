"""Types of MySQL and MariaDB -> type words: the SQL that makes a value exact, and the SQL that finds those without one.

DuckDB's scanner loses values silently for some types (measured): decimals beyond 38 digits become doubles, the
precision of unsigned and of whole decimals is taken for one digit less, zero dates become null, and text with a binary
collation becomes bytes that are then shown escaped. So all of these are cast on the server to what crosses exactly.

A session reads with ``time_zone = '+00:00'``, so that a TIMESTAMP is the instant in UTC; a DATETIME is a wall time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingestion.databases.dialect import DatabaseColumn
from ingestion.databases.mysql_sql import quoted

INTEGERS = {"tinyint": 3, "smallint": 5, "mediumint": 8, "int": 10, "bigint": 19}
"""Integer types and the digits of their largest value; an unsigned bigint has one more."""

TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
BYTES = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
GEOMETRIES = {
    *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
    *("geometrycollection", "geomcollection"),
}
PRINTED = {"enum", "set", "json", "uuid", "inet4", "inet6", "time", "year", "decimal"}
"""Types, besides text, whose printed form is exact."""

LOSSLESS_CHARSETS = {"utf8mb4", "utf8mb3", "utf8", "latin1", "ucs2", "utf16", "utf16le", "utf32"}
"""Every value of a column in one of these has a form in UTF-8. In others, such as ascii, a stray byte becomes '?'."""

MOST_DECIMALS = 30
"""Decimals of MySQL's own type; MariaDB has more."""

_WORDS = (
    *("bool", "int32", "int64", "float32", "float64", "date", "time", "timestamp", "timestamptz", "binary"),
    *("decimal(20,0)", "string"),
)
"""In the order in which they are tried; a decimal is tried as itself first."""

_SPELLING = re.compile(r"([a-z0-9]+)(?:\(([^)]*)\))?(.*)", re.DOTALL)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@dataclass(frozen=True)
class MysqlType:
    """A column type taken apart.

    Attributes:
        base: ``int`` of ``int(10) unsigned zerofill``.
        arguments: ``10`` of it.
        unsigned: whether it has no negative values.
        charset: the character set, where it is one that may hold what UTF-8 cannot say; else empty.
    """

    base: str
    arguments: str
    unsigned: bool
    charset: str = ""

    @property
    def bits(self) -> int:
        """Bits of a BIT type."""
        return int(self.arguments or 1)

    @property
    def scale(self) -> int:
        """Digits of a decimal behind the point; of any other type 0."""
        return int(self.arguments.partition(",")[2] or 0) if self.base == "decimal" else 0

    @property
    def digits(self) -> tuple[int, int]:
        """Digits of a whole number or decimal: before the point, and behind it."""
        if self.base == "decimal":
            return int(self.arguments.partition(",")[0] or 10) - self.scale, self.scale
        return INTEGERS[self.base] + (1 if self.base == "bigint" and self.unsigned else 0), 0


def parsed(spelling: str) -> MysqlType:
    """A type as ``information_schema`` spells it, as :meth:`MysqlDialect.columns` completes it."""
    found = _SPELLING.fullmatch(spelling)
    base, arguments, rest = (found[1], found[2] or "", found[3]) if found else (spelling, "", "")
    if base in {"enum", "set"}:  # its values may hold any character
        return MysqlType(base, "", unsigned=False)
    charset = re.search(r" character set (\w+)", rest)
    return MysqlType(base, arguments.replace(" ", ""), " unsigned" in rest, charset[1] if charset else "")


def exact_expression(column: DatabaseColumn, declared: str) -> str | None:
    """SQL that yields ``column`` exactly as the declared type; None if that is not possible."""
    name, kind = quoted(column.name), parsed(column.type)
    if declared in {"int32", "int64"}:
        return _integer(name, kind, 31 if declared == "int32" else 63)
    if declared.startswith("decimal"):
        return _decimal(name, kind, declared)
    plain = {
        "float32": {"float"},
        "float64": {"float", "double"},
        "date": {"date"},
        "timestamp": {"datetime"},
        "timestamptz": {"timestamp"},
        "binary": BYTES | GEOMETRIES,
    }
    if declared in plain:
        return name if kind.base in plain[declared] else None
    if declared == "bool":
        return f"{name} + 0" if (kind.base, kind.arguments) in {("tinyint", "1"), ("bit", "1"), ("bit", "")} else None
    if declared == "time":
        return f"CAST({name} AS CHAR)" if kind.base == "time" else None
    return f"CAST({name} AS CHAR)" if kind.base in TEXT | PRINTED else None


def suggest(column: DatabaseColumn) -> str | None:
    """The narrowest type word that holds every value of a column exactly; None if no word does."""
    kind = parsed(column.type)
    words: tuple[str, ...] = _WORDS
    if kind.base == "decimal":
        whole, behind = kind.digits
        words = (f"decimal({whole + behind},{behind})",) if whole + behind <= 38 else ("string",)
    return next((word for word in words if exact_expression(column, word) is not None), None)


def _integer(name: str, kind: MysqlType, bits: int) -> str | None:
    if kind.base == "year":
        return name
    if kind.base == "bit":
        return f"CAST({name} AS UNSIGNED)" if kind.bits <= bits else None
    if kind.base not in INTEGERS:
        return None
    width = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[kind.base]
    return name if width - (0 if kind.unsigned else 1) <= bits else None


def _decimal(name: str, kind: MysqlType, declared: str) -> str | None:
    wanted = _DECIMAL.fullmatch(declared)
    if wanted is None:
        return None
    precision, scale = int(wanted[1]), int(wanted[2])
    if scale > max(MOST_DECIMALS, kind.scale):  # the server could not print the value as the lake does
        return None
    if kind.base == "bit":
        fits = len(str(2**kind.bits - 1)) <= precision - scale
        return f"CAST(CAST({name} AS UNSIGNED) AS CHAR)" if fits else None
    if kind.base not in {"decimal", *INTEGERS}:
        return None
    whole, behind = kind.digits
    if behind > scale or whole > precision - scale:
        return None
    if kind.base == "decimal" and behind and not kind.unsigned:
        return name  # the one shape whose precision the scanner takes for what it is
    return f"CAST({name} AS CHAR)"


def unfit_condition(column: DatabaseColumn, declared: str) -> tuple[str, str] | None:
    """SQL that is true for values without an exact form (and false or null for others), and the reason.

    None if every value has one.
    """
    name, kind = quoted(column.name), parsed(column.type)
    if declared in {"date", "timestamp", "timestamptz"}:
        day = f"DAYOFMONTH({name})"
        return (
            f"(YEAR({name}) = 0 OR MONTH({name}) = 0 OR {day} = 0 "
            f"OR {day} > COALESCE(DAYOFMONTH(LAST_DAY({name})), 0))",
            f"{column.name} is no day of the calendar",
        )
    if declared == "time":
        return (
            f"({name} < '00:00:00' OR {name} >= '24:00:00')",
            f"{column.name} is no time of a day",
        )
    if declared == "bool":
        return f"{name} + 0 NOT IN (0, 1)", f"{column.name} is neither 0 nor 1"
    if kind.charset:
        back = f"CONVERT(CAST({name} AS CHAR) USING {kind.charset})"
        return f"CAST({back} AS BINARY) <> CAST({name} AS BINARY)", f"{column.name} is no text in {kind.charset}"
    return None


def as_json_value(column: DatabaseColumn) -> str:
    """SQL of a value for the JSON that tells a quarantined row: as the database prints it, bytes in hexadecimal."""
    name, kind = quoted(column.name), parsed(column.type)
    if kind.base in BYTES | GEOMETRIES:
        return f"HEX({name})"
    if kind.charset:  # with the bytes that have no form in UTF-8
        return f"HEX(CAST({name} AS BINARY))"
    if kind.base == "bit":
        return f"CAST({name} AS UNSIGNED)"
    return name if kind.base in {*INTEGERS, "decimal", "double"} else f"CAST({name} AS CHAR)"
