"""The column checksums of ``checksums.py`` as MySQL and MariaDB compute them beside their own data.

Each value becomes the canonical text that DuckDB makes of it in the lake. For floats that is the number that their 64
bits are; these systems cannot show bits, so they are computed: powers of two multiply exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

from ingestion.databases.checksums import Days
from ingestion.spec import TableSpec


def mysql_query(table: TableSpec, relation: str, values: Mapping[str, str], *, days: Days | None = None) -> str:
    """One row: ``total``, then for each column the count of values and the sum of their hashes.

    Args:
        table: the table.
        relation: its quoted name.
        values: SQL of each column's value, by its name in the lake.
        days: one row for each day, which stands before the others.
    """
    terms = [_term(values[column.name], column.type, n) for n, column in enumerate(table.columns)]
    select = ", ".join(["COUNT(*) AS total", *terms])
    return days.of(select, relation) if days else f"SELECT {select} FROM {relation}"


def _term(column: str, kind: str, position: int) -> str:
    epoch_us = f"CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {column}) AS CHAR)"
    whole = f"CAST(CAST({column} + 0 AS SIGNED) AS CHAR)"
    text = {
        "bool": f"IF({column} + 0, 'true', 'false')",
        "int32": whole,
        "int64": whole,
        "timestamptz": epoch_us,
        "timestamp": epoch_us,
        "date": f"CAST(DATEDIFF({column}, '1970-01-01') AS CHAR)",
        "time": f"CAST(TIME_TO_SEC({column}) DIV 1 * 1000000 + MICROSECOND({column}) AS CHAR)",
        "float32": _bits(column),
        "float64": _bits(column),
        "binary": f"LOWER(HEX({column}))",
    }.get(kind, f"CAST({column} AS CHAR)")
    if kind.startswith("decimal"):  # with the declared number of decimals, as the lake writes it
        text = _pointed(f"CAST(CAST({column} + 0 AS {kind}) AS CHAR)")
    null = f"IF({column} IS NULL, NULL, {text})"
    hashed = f"CAST(CONV(SUBSTR(MD5({null}), 1, 8), 16, 10) AS UNSIGNED)"
    return f"COUNT({column}) AS values_{position}, CAST(SUM({hashed}) AS CHAR) AS sum_{position}"


def _pointed(text: str) -> str:
    """``0.5`` as ``.5``, see ``checksums.py``."""
    return (
        f"CASE WHEN {text} LIKE '0.%' THEN SUBSTR({text}, 2) "
        f"WHEN {text} LIKE '-0.%' THEN CONCAT('-', SUBSTR({text}, 3)) ELSE {text} END"
    )


def _bits(column: str) -> str:
    """The 64 bits of a double as a signed number, as text.

    Its exponent is taken from the logarithm, which may be wrong by one: then the mantissa is out of its range and is
    moved by one bit. The power is split in two because 2 ** 1074 is no double.
    """
    size = f"ABS({column} + 0e0)"
    exponent = f"GREATEST(FLOOR(LOG2({size})), -1022)"
    mantissa = f"({size} * POW(2, (52 - {exponent}) DIV 2) * POW(2, 52 - {exponent} - (52 - {exponent}) DIV 2))"
    hidden = "4503599627370496"  # 2 ** 52
    unsigned = (
        f"CASE WHEN {size} = 0 THEN 0 "
        f"WHEN {exponent} = -1022 AND {mantissa} < {hidden} THEN CAST({mantissa} AS SIGNED) "
        f"WHEN {mantissa} < {hidden} "
        f"THEN CAST({exponent} + 1022 AS SIGNED) * {hidden} + CAST({mantissa} * 2 AS SIGNED) - {hidden} "
        f"WHEN {mantissa} >= 2 * {hidden} "
        f"THEN CAST({exponent} + 1024 AS SIGNED) * {hidden} + CAST({mantissa} / 2 AS SIGNED) - {hidden} "
        f"ELSE CAST({exponent} + 1023 AS SIGNED) * {hidden} + CAST({mantissa} AS SIGNED) - {hidden} END"
    )
    negative = f"({column} < 0 OR CAST({column} AS CHAR) LIKE '-%')"
    return f"CAST(IF({negative}, -9223372036854775807 - 1 + ({unsigned}), {unsigned}) AS CHAR)"
