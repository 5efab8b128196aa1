"""Which keys the lake holds and the source no longer has, and the other way round - without pulling the keys.

::

    source: md5(key) -> bucket -> rows, sum of hashes  ─┐
                                                        ├─ equal? then nothing travels
    lake:   the same, by DuckDB                        ─┘  else the key digests of that bucket only

Both sides hash the same canonical text of a key. A bucket that differs in a single key differs in its rows or, but for
one chance in 2^60, in its sum. What lies in intervals that were not loaded yet is left out on both sides: rows of the
source from there on are no deletions' business, and a key that has moved there is not gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from common.intervals import Interval
from ingestion.databases.dialect import Session
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec
from lake.schema import DELETED_COLUMN
from lake.sql import identifier, literal

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BUCKET = 1_000
"""What one deleted row makes travel, about; a bucket costs 30 bytes when nothing differs."""

MOST_BUCKETS = 1 << 16


@dataclass(frozen=True)
class KeyComparison:
    """What a comparison found.

    Attributes:
        vanished: rows of the lake whose key the source no longer has: ``path`` of the file and ``row_number`` in it.
        missing: day -> rows of the source whose key the lake does not have; under ``whole`` for a table without days.
        rows_compared: rows of the lake that live.
        buckets, buckets_pulled: into how many the keys were divided, and how many of those differed.
    """

    vanished: pa.Table
    missing: Mapping[str, int]
    rows_compared: int
    buckets: int
    buckets_pulled: int


class KeyDialect(Protocol):
    """The SQL that one database system needs for it. Texts are compared byte by byte as UTF-8."""

    def relation(self, table: TableSpec) -> str:
        """The table's quoted name."""
        ...

    def digest(self, table: TableSpec) -> str:
        """MD5 of a row's key in hexadecimal: see :func:`lake_digest`."""
        ...

    def number(self, hexadecimal: str) -> str:
        """The integer that up to 15 hexadecimal digits mean."""
        ...

    def before(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> str:
        """SQL that is true for rows before an interval's end."""
        ...

    def day(self, spec: SourceSpec, table: TableSpec) -> str:
        """The day in which a row lies on the source's clock, as text ``YYYY-MM-DD``."""
        ...


def compare_keys(
    session: Session, dialect: KeyDialect, spec: SourceSpec, table: TableSpec, relation: str, newest: Interval | None
) -> KeyComparison:
    """Compare the keys of a source table with those of live rows of the lake.

    Args:
        session: with the source; its DuckDB reads the lake as well.
        dialect: the source's SQL.
        spec: the source.
        table: the table.
        relation: the lake's rows with ``filename`` and ``file_row_number``.
        newest: the newest interval that was loaded; None for a table that is loaded as a whole.
    """
    connection = session.connection
    old = dialect.before(spec, table, newest) if newest else "true"
    live = f"(SELECT {lake_digest(table)} AS d, filename, file_row_number FROM {relation} WHERE {_lives(table)})"
    connection.execute("CREATE OR REPLACE TEMP TABLE recent (d VARCHAR)")
    if newest:
        recent = f"SELECT {dialect.digest(table)} AS d FROM {dialect.relation(table)} WHERE NOT ({old})"
        connection.execute(f"INSERT INTO recent SELECT d FROM {session.relation(recent)}")
    compared = f"(SELECT live.* FROM {live} AS live ANTI JOIN recent USING (d))"
    rows = int((connection.execute(f"SELECT count(*) FROM {relation} WHERE {_lives(table)}").fetchone() or (0,))[0])
    buckets = min(MOST_BUCKETS, 1 << max(4, (rows // ROWS_PER_BUCKET).bit_length()))
    keyed = f"(SELECT {dialect.digest(table)} AS d FROM {dialect.relation(table)} WHERE {old}) AS keyed"
    theirs = session.relation(
        f"SELECT b, count(*) AS n, CAST(sum(h) AS DECIMAL(38,0)) AS s FROM (SELECT {dialect.number('substr(d, 1, 8)')} "
        f"% {buckets} AS b, {dialect.number('substr(d, 9, 15)')} AS h FROM {keyed}) AS hashed GROUP BY b"
    )
    ours = (
        f"SELECT {_number('substr(d, 1, 8)')} % {buckets} AS b, count(*) AS n, "
        f"CAST(sum({_number('substr(d, 9, 15)')}) AS DECIMAL(38,0)) AS s FROM {compared} GROUP BY b"
    )
    found = connection.execute(
        f"SELECT coalesce(theirs.b, ours.b) FROM {theirs} AS theirs FULL JOIN ({ours}) AS ours ON theirs.b = ours.b "
        "WHERE theirs.n IS DISTINCT FROM ours.n OR theirs.s IS DISTINCT FROM ours.s"
    ).fetchall()
    differ = [int(row[0]) for row in found]
    _pull(session, dialect, spec, table, old, differ, buckets)
    chosen = f"(SELECT * FROM {compared} WHERE {_in_buckets(_number, differ, buckets)})"
    vanished = connection.execute(
        f"SELECT filename AS path, file_row_number AS row_number FROM {chosen} AS ours ANTI JOIN pulled USING (d)"
    ).to_arrow_table()
    missing = connection.execute(
        f"SELECT day, count(*) FROM pulled ANTI JOIN {chosen} AS ours USING (d) GROUP BY day ORDER BY day"
    ).fetchall()
    return KeyComparison(vanished, dict(missing), rows, buckets, len(differ))


def _pull(
    session: Session,
    dialect: KeyDialect,
    spec: SourceSpec,
    table: TableSpec,
    old: str,
    differ: Sequence[int],
    buckets: int,
) -> None:
    """Make ``pulled``: the digests of the source's keys in some buckets, and the day of each."""
    session.connection.execute("CREATE OR REPLACE TEMP TABLE pulled (d VARCHAR, day VARCHAR)")
    if not differ:
        return
    day = dialect.day(spec, table) if table.interval_column else "'whole'"
    keyed = f"(SELECT {dialect.digest(table)} AS d, {day} AS day FROM {dialect.relation(table)} WHERE {old}) AS keyed"
    some = f" WHERE {_in_buckets(dialect.number, differ, buckets)}" if len(differ) * 2 < buckets else ""
    session.connection.execute(
        f"INSERT INTO pulled SELECT d, day FROM {session.relation(f'SELECT d, day FROM {keyed}{some}')} "
        f"WHERE {_in_buckets(_number, differ, buckets)}"
    )


def _in_buckets(number: Callable[[str], str], differ: Sequence[int], buckets: int) -> str:
    """SQL that is true for a digest ``d`` in one of these buckets."""
    numbers = ", ".join(str(bucket) for bucket in differ) or "-1"
    return f"{number('substr(d, 1, 8)')} % {buckets} IN ({numbers})"


def rows_by_day(session: Session, dialect: KeyDialect, spec: SourceSpec, table: TableSpec) -> dict[str, int]:
    """Rows of a source table by the day in which they lie, also of days that are still to come."""
    query = f"SELECT {dialect.day(spec, table)} AS day, count(*) AS n FROM {dialect.relation(table)} GROUP BY 1"
    return {str(day): int(rows) for day, rows in session.rows(query)}


def lake_digest(table: TableSpec) -> str:
    """SQL of DuckDB for the MD5 of a row's key: of its one column's text, or of all columns' MD5 in a row."""
    texts = [f"md5({_text(table.column(name))})" for name in table.primary_key]
    return texts[0] if len(texts) == 1 else f"md5(concat({', '.join(texts)}))"


def _text(column: ColumnSpec) -> str:
    """The canonical text of a key's column; every :class:`KeyDialect` writes the same."""
    name = identifier(column.name)
    if column.type.startswith("decimal"):  # without its point: a product may have more digits than a decimal holds
        return f"replace({name}::VARCHAR, '.', '')::DECIMAL(38,0)::VARCHAR"
    if column.type == "date":
        return _moment(name, "%m%d")
    if column.type in {"timestamp", "timestamptz"}:
        return _moment(f"{name} AT TIME ZONE 'UTC'" if column.type == "timestamptz" else name, "%m%d%H%M%S%f")
    return f"{name}::VARCHAR"


def _moment(value: str, behind_the_year: str) -> str:
    """The year in at least four digits, which ``strftime`` does not give for all years, and its era at the end."""
    year = f"year({value})"
    return (
        f"format('{{:04d}}{{}}{{}}', CASE WHEN {year} > 0 THEN {year} ELSE 1 - {year} END, "
        f"strftime({value}, {literal(behind_the_year)}), CASE WHEN {year} > 0 THEN 'AD' ELSE 'BC' END)"
    )


def _number(hexadecimal: str) -> str:
    return f"('0x' || {hexadecimal})::BIGINT"


def _lives(table: TableSpec) -> str:
    return f"{identifier(DELETED_COLUMN)} IS NULL" if table.keeps_deleted else "true"
