"""Only the months that changed: a table of the BI database that is partitioned, and what of it has to be written.

::

    release's table ─▶ periods with rows and checksum ─┬─ as before ─▶ the partition stays where it is
                                                       └─ changed   ─▶ COPY to an unseen table ─▶ attached in the swap

PostgreSQL's own partitions, since a row that is to be visible to a snapshot from before the load must be written by
``COPY ... FREEZE``: copying unchanged rows from the old table to a new one (``INSERT ... SELECT``) cannot do that, and
neither can deleting and inserting rows of a table that stays. A partition that moves keeps its rows as they are.

A period is a month, or a year where there would be too many months. Its partition's comment says what is in it, so what
is there is never known from anywhere else. A partition lies in a schema of its own, where no tool shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb

from common.errors import SpecError, StateCorrupt
from common.hashing import digest
from lake.sql import identifier, literal
from warehouse.bi_sql import Exchange, copied, full_name
from warehouse.bi_tables import BiTable, copy_lines

MOST_PERIODS = 120
"""Most partitions of a table: a statement on all of it locks each, and PostgreSQL has some 6,000 locks for all."""
_COMMENT = re.compile(r"Rows of (?P<period>[\d-]+)\. Penstock: (?P<signature>\w+)")
_NAME_BYTES = 38


@dataclass(frozen=True)
class Leaf:
    """A partition that is there.

    Attributes:
        name: of the table, in the schema of partitions.
        period: what it holds; empty if it does not say.
        signature: equal for rows and shape that need not be written again.
    """

    name: str
    period: str
    signature: str

    @classmethod
    def told(cls, name: str, comment: str) -> Leaf:
        """What a partition's comment says."""
        found = _COMMENT.fullmatch(comment)
        return cls(name, found["period"], found["signature"]) if found else cls(name, "", "")


@dataclass(frozen=True)
class Period:
    """A month or a year of a table.

    Attributes:
        name: ``2013-01`` or ``2013``.
        rows: number of its rows in the release.
        signature: see :class:`Leaf`.
    """

    name: str
    rows: int
    signature: str

    @property
    def bounds(self) -> tuple[str, str]:
        """Its first day, and the first one after it."""
        year, _, month = self.name.partition("-")
        if not month:
            return f"{year}-01-01", f"{int(year) + 1:04d}-01-01"
        after = (int(year), int(month) + 1) if month != "12" else (int(year) + 1, 1)
        return f"{self.name}-01", f"{after[0]:04d}-{after[1]:02d}-01"


@dataclass
class Sent:
    """What has gone over the wire as ``COPY`` data.

    Attributes:
        rows: number of rows.
        size_bytes: of their text.
    """

    rows: int = 0
    size_bytes: int = 0

    def counting(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces, counted. A line end within a value is escaped, so each one ends a row."""
        for piece in lines:
            self.rows += piece.count(b"\n")
            self.size_bytes += len(piece)
            yield piece


@dataclass(frozen=True)
class Write:
    """How a changed table is brought to the BI database.

    Attributes:
        table: what it will be.
        source: the DuckDB relation that gives its rows.
        leaves: partitions that are written, and their names; empty where the table is none, or loses some only.
        gone: names of partitions that go.
        in_place: whether the table there stays, and only these partitions are exchanged.
    """

    table: BiTable
    source: str
    leaves: tuple[tuple[Period, str], ...] = ()
    gone: tuple[str, ...] = ()
    in_place: bool = False

    @property
    def exchange(self) -> Exchange:
        """What the swap has to do with partitions."""
        comes = tuple((name, _bound(period)) for period, name in self.leaves)
        return Exchange(self.table.name, self.gone, comes, in_place=self.in_place)

    def expected(self, schema: str) -> dict[str, int]:
        """Rows by full name of each table that is written to a schema."""
        if self.in_place or self.leaves:
            return {full_name(schema, name): period.rows for period, name in self.leaves}
        return {full_name(schema, self.table.name): self.table.rows}

    def make(self, schema: str, connection: duckdb.DuckDBPyConnection, sent: Sent) -> Iterator[bytes]:
        """The statements, and rows where it has no partitions, that make the table. See :meth:`fill`."""
        table, name = self.table, self.table.name
        if self.in_place:
            return
        if self.leaves:
            yield table.create(schema, f" PARTITION BY RANGE ({identifier(str(table.partition_by))})").encode()
            yield (table.keys(schema, name, self._key) + table.comments(schema)).encode()
            return
        yield table.create(schema).encode()
        yield from copied(schema, name, sent.counting(copy_lines(connection, table.columns, self.source)))
        yield (table.keys(schema, name, table.primary_key) + table.comments(schema)).encode()
        yield f"ANALYZE {full_name(schema, name)};\n".encode()

    def fill(self, schema: str, connection: duckdb.DuckDBPyConnection, sent: Sent) -> Iterator[bytes]:
        """The statements and rows that make the partitions. After the grants: they are read through the table only."""
        table, column = self.table, identifier(str(self.table.partition_by))
        kind = next((each.duckdb for each in table.columns if each.name == table.partition_by), "")
        for period, name in self.leaves:
            leaf, [start, end] = full_name(schema, name), period.bounds
            # With the check that says the same, attaching need not read the rows.
            check = f"{column} IS NOT NULL AND {column} >= {literal(start)} AND {column} < {literal(end)}"
            yield replace(table, name=name).create(schema, more=f", CONSTRAINT period CHECK ({check})").encode()
            within = f"{column} >= CAST({literal(start)} AS {kind}) AND {column} < CAST({literal(end)} AS {kind})"
            rows = copy_lines(connection, table.columns, f"(SELECT * FROM {self.source} WHERE {within})")
            yield from copied(schema, name, sent.counting(rows))
            comment = f"Rows of {period.name}. Penstock: {period.signature}"
            yield table.keys(schema, name, self._key).encode()
            yield f"COMMENT ON TABLE {leaf} IS {literal(comment)};\nANALYZE {leaf};\n".encode()
            if not self.in_place:
                whole = full_name(schema, table.name)
                yield f"ALTER TABLE {whole} ATTACH PARTITION {leaf} {_bound(period)};\n".encode()
        if self.leaves and not self.in_place:
            yield f"ANALYZE {full_name(schema, table.name)};\n".encode()

    @property
    def _key(self) -> tuple[str, ...]:
        """PostgreSQL wants the column in every key; that the key alone is one has been looked at."""
        key = self.table.primary_key
        return (*key, str(self.table.partition_by)) if key and self.table.partition_by not in key else key


def write_of(
    connection: duckdb.DuckDBPyConnection,
    table: BiTable,
    source: str,
    there: Sequence[Leaf],
    *,
    readers: Sequence[str],
    suffix: str,
) -> Write:
    """What of a changed table has to be written.

    Args:
        connection: the release.
        table: the table.
        source: the DuckDB relation that gives its rows.
        there: its partitions in the BI database; empty where it has none.
        readers: roles that may read it.
        suffix: what tells names of its new partitions from all others; at most 15 bytes.

    Raises:
        SpecError: rows share a key.
        StateCorrupt: the release has more or fewer rows than its manifest says.
    """
    shape = digest("partition", table.shape(), table.partition_by, sorted(set(readers)))
    periods = _periods(connection, table, source, shape) if table.partition_by else ()
    if not periods:
        return Write(table, source)
    _check_rows(connection, table, source, periods)
    known = {leaf.signature: leaf for leaf in there}
    kept = {known[period.signature].name for period in periods if period.signature in known}
    written = [period for period in periods if period.signature not in known]
    # Cut by bytes: names of periods, the token and numbers fill the rest of the 63 that PostgreSQL keeps.
    stem = table.name.encode()[:_NAME_BYTES].decode(errors="ignore")
    leaves = tuple((period, f"{stem}_{period.name.replace('-', '_')}_{suffix}") for period in written)
    gone = tuple(leaf.name for leaf in there if leaf.name not in kept)
    return Write(table, source, leaves, gone, in_place=True) if kept else Write(table, source, leaves)


def _bound(period: Period) -> str:
    start, end = period.bounds
    return f"FOR VALUES FROM ({literal(start)}) TO ({literal(end)})"


def _periods(connection: duckdb.DuckDBPyConnection, table: BiTable, source: str, shape: str) -> tuple[Period, ...]:
    """Its months, or years; none where it is better written as one table."""
    column = identifier(str(table.partition_by))
    rows = connection.execute(
        f"SELECT coalesce(if(year({column}) BETWEEN 1000 AND 9998, strftime({column}, '%Y-%m'), ''), ''), count(*), "
        f"sum(hash(r)::HUGEINT) FROM {source} AS r GROUP BY 1 ORDER BY 1"
    ).fetchall()
    if any(not name for name, _, _ in rows):  # nulls, infinity and far centuries have no month
        return ()
    for length in (7, 4):
        sums: dict[str, tuple[int, int]] = {}
        for name, count, checksum in rows:
            before = sums.get(name[:length], (0, 0))
            sums[name[:length]] = (before[0] + int(count), before[1] + int(checksum))
        if len(sums) <= MOST_PERIODS:
            return tuple(
                Period(name, count, digest(shape, name, count, f"{checksum:x}"))
                for name, (count, checksum) in sums.items()
            )
    return ()


def _check_rows(connection: duckdb.DuckDBPyConnection, table: BiTable, source: str, periods: Sequence[Period]) -> None:
    if (found := sum(period.rows for period in periods)) != table.rows:
        raise StateCorrupt(
            f"The release holds {found} rows, its manifest says {table.rows}.",
            table=table.name,
            remedy="roll back to another release: 'penstock rollback'",
        )
    if not table.primary_key or table.partition_by in table.primary_key:
        return  # then PostgreSQL's own index is proof
    key = ", ".join(map(identifier, table.primary_key))
    if connection.execute(f"SELECT 1 FROM {source} GROUP BY {key} HAVING count(*) > 1 LIMIT 1").fetchone():
        raise SpecError(
            f"Rows share a value of the primary key ({', '.join(table.primary_key)}).",
            table=table.name,
            remedy="correct its meta: bi: primary_key",
        )
