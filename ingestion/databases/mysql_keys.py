"""SQL of MySQL and MariaDB for comparing keys, see ``ingestion/databases/key_sets.py``.

Texts are hashed as the bytes they have in UTF-8, so no collation has a say: ``'a'`` and ``'A'`` are two keys. A day of
a TIMESTAMP on the source's clock is not asked of ``CONVERT_TZ``, which answers null on a server whose tables of time
zones were never filled, and that is the rule rather than the exception. The offsets are in the query instead, as a tree
of comparisons with the moments at which they change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from common.intervals import Interval, local_bounds, zone
from ingestion.databases.mysql import relation_of
from ingestion.databases.mysql_sql import quoted, text
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec

_FIRST, _LAST = datetime(1969, 12, 31, tzinfo=UTC), datetime(2106, 2, 8, tzinfo=UTC)
"""Between them lies every TIMESTAMP; MariaDB's end in 2106 since 11.5."""


class MysqlKeys:
    """See :class:`ingestion.databases.key_sets.KeyDialect`."""

    def relation(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        return relation_of(table)

    def digest(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        texts = [f"MD5(CONVERT({_text(table.column(name))} USING utf8mb4))" for name in table.primary_key]
        return texts[0] if len(texts) == 1 else f"MD5(CONCAT({', '.join(texts)}))"

    def number(self, hexadecimal: str) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        return f"CAST(CONV({hexadecimal}, 16, 10) AS UNSIGNED)"

    def before(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        column = _interval_column(table)
        name = quoted(column.in_source)
        if column.type == "date":
            return f"{name} <= {text(interval.key)}"
        clock = spec.time_zone if column.type == "timestamp" else "UTC"  # the session's own clock
        return f"{name} < {text(local_bounds(interval, clock)[1])}"

    def day(self, spec: SourceSpec, table: TableSpec) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        column = _interval_column(table)
        name = quoted(column.in_source)
        if column.type != "timestamptz":
            return f"DATE_FORMAT({name}, '%Y-%m-%d')"
        starts = _offsets(spec.time_zone)
        # A zero date is no moment to which something could be added.
        return f"COALESCE(DATE_FORMAT(TIMESTAMPADD(SECOND, {_chosen(name, starts)}, {name}), '%Y-%m-%d'), '0000-00-00')"


def _interval_column(table: TableSpec) -> ColumnSpec:
    return table.column(table.interval_column or "")


def _text(column: ColumnSpec) -> str:
    name = quoted(column.in_source)
    if column.type.startswith("decimal"):
        # Without its point: a product with a power of ten may have more digits than these systems keep.
        plain = f"CAST(CAST({name} + 0 AS {column.type}) AS CHAR)"
        return f"CAST(CAST(REPLACE({plain}, '.', '') AS DECIMAL(38,0)) AS CHAR)"
    moment = f"DATE_FORMAT({name}, '%Y%m%d%H%i%s%fAD')"
    whole = f"CAST(CAST({name} + 0 AS SIGNED) AS CHAR)"
    return {
        "bool": f"IF({name} + 0, 'true', 'false')",
        "int32": whole,
        "int64": whole,
        "date": f"DATE_FORMAT({name}, '%Y%m%dAD')",
        "timestamp": moment,
        "timestamptz": moment,
    }.get(column.type, f"CAST({name} AS CHAR)")


@lru_cache(maxsize=16)
def _offsets(time_zone: str) -> Sequence[tuple[datetime, int]]:
    """The moments from which a zone's clock is apart from UTC by so many seconds."""
    clock = zone(time_zone)

    def offset_s(moment: datetime) -> int:
        return int((clock.utcoffset(moment.astimezone(clock)) or timedelta()).total_seconds())

    found = [(_FIRST, offset_s(_FIRST))]
    day = _FIRST
    while day < _LAST:
        following = day + timedelta(days=1)
        if offset_s(following) != found[-1][1]:
            before, after = day, following
            while after - before > timedelta(seconds=1):
                middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
                before, after = (before, middle) if offset_s(middle) != found[-1][1] else (middle, after)
            found.append((after, offset_s(after)))
        day = following
    return tuple(found)


def _chosen(name: str, starts: Sequence[tuple[datetime, int]]) -> str:
    """SQL of the offset in seconds that holds at a moment in UTC."""
    if len(starts) == 1:
        return str(starts[0][1])
    half = len(starts) // 2
    moment = text(starts[half][0].strftime("%Y-%m-%d %H:%M:%S"))
    return f"IF({name} < {moment}, {_chosen(name, starts[:half])}, {_chosen(name, starts[half:])})"
