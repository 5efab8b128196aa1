"""What of a release goes to the BI database: its curated tables, each with the statements that make it there.

Types come from the release's own file, comments too (dbt wrote them), keys and indexes from the release's manifest. So
an earlier release that is rolled back to brings its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb

from common.errors import SpecError, located
from common.hashing import digest
from lake.sql import identifier, literal
from warehouse.bi_sql import copied
from warehouse.bi_types import BiColumn, postgres_type
from warehouse.releases import Release, open_read_only

RELEASE_TABLE, TABLES_TABLE = "_release", "_tables"
_LAYOUT = 1
"""Raised when the statements below change: then every table is written again."""
PARTITION_KINDS = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
"""Types of columns by whose months a table can be partitioned; months of the last one are those of UTC."""
_NAME_BYTES = 63
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class BiTable:
    """One table as it will be in PostgreSQL.

    Attributes:
        name: its name, there and here.
        columns: in their order.
        comment: what it holds; None where nothing is said.
        primary_key: its columns; empty for none.
        indexes: columns of each further index.
        rows, checksum: as the release's manifest has them.
        partition_by: the column by whose months only what changed is written; None to write it whole.
    """

    name: str
    columns: tuple[BiColumn, ...]
    comment: str | None
    primary_key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]
    rows: int
    checksum: str
    partition_by: str | None = None

    def shape(self) -> list[Any]:
        """All of the table but its rows."""
        columns = [[c.name, c.postgres, c.not_null, c.comment] for c in self.columns]
        return [_LAYOUT, columns, self.comment, self.primary_key, self.indexes]

    def signature(self, readers: Sequence[str]) -> str:
        """Equal for tables that need not be written again: rows, types, keys, comments and who may read them."""
        layout, *shape = self.shape()
        partitioned = [self.partition_by] if self.partition_by else []
        return digest(layout, self.checksum, *shape, sorted(set(readers)), *partitioned)

    def create(self, schema: str, tail: str = "", *, more: str = "") -> str:
        """The statement that makes the table, empty and without keys.

        Args:
            schema: where.
            tail: what follows the columns.
            more: further constraints, after a comma.
        """
        fields = ", ".join(f"{identifier(c.name)} {c.postgres}{' NOT NULL' * c.not_null}" for c in self.columns)
        return f"CREATE TABLE {identifier(schema)}.{identifier(self.name)} ({fields}{more}){tail};\n"

    def keys(self, schema: str, name: str, primary_key: Sequence[str]) -> str:
        """The statements that give the table, or a partition of it, its keys and indexes."""
        table = f"{identifier(schema)}.{identifier(name)}"
        statements = [f"ALTER TABLE {table} ADD PRIMARY KEY ({_list(primary_key)});\n"] if primary_key else []
        statements += [f"CREATE INDEX ON {table} ({_list(columns)});\n" for columns in self.indexes]
        return "".join(statements)

    def comments(self, schema: str) -> str:
        """The statements that say what it holds."""
        table = f"{identifier(schema)}.{identifier(self.name)}"
        statements = [f"COMMENT ON TABLE {table} IS {literal(self.comment)};\n"] if self.comment else []
        statements += [
            f"COMMENT ON COLUMN {table}.{identifier(c.name)} IS {literal(c.comment)};\n"
            for c in self.columns
            if c.comment
        ]
        return "".join(statements)


def bi_tables(release: Release) -> list[BiTable]:
    """The curated tables of a release, by name.

    Which they are, and their keys, is in the manifest (``bi``); a release from before that was written gives all of its
    own tables, without keys.

    Raises:
        SpecError: a type that PostgreSQL cannot hold exactly, or a name it cannot hold; names table and column.
        StateCorrupt: the release's file is damaged.
    """
    known = {table["name"]: table for table in release.manifest["tables"] if "." not in table["name"]}
    marked: Mapping[str, Any] = release.manifest.get("bi", {name: {} for name in known})
    with closing(open_read_only(release.database)) as connection:
        comments = dict(
            connection.execute("SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
        )
        rows = connection.execute(
            "SELECT table_name, column_name, data_type, NOT is_nullable, comment FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name = 'main' ORDER BY table_name, column_index"
        ).fetchall()
    columns: dict[str, list[BiColumn]] = {}
    for table, name, kind, not_null, comment in rows:
        if table in marked and table in known:
            with located(table=f"{table}.{name}"):
                column = BiColumn(name, kind, postgres_type(kind), bool(not_null), comment)
            columns.setdefault(table, []).append(column)
    found = []
    for name, own in sorted(columns.items()):
        _check_names(name, own)
        names = {column.name for column in own}
        keys = [tuple(key) for key in (marked[name].get("primary_key") or (), *(marked[name].get("indexes") or ()))]
        if missing := sorted({column for key in keys for column in key} - names):
            raise SpecError(f"It has no column {missing[0]!r} for a key.", table=name, remedy="correct its meta: bi")
        partition_by = marked[name].get("partition_by")
        if partition_by and (partition_by, True) not in {(c.name, c.duckdb in PARTITION_KINDS) for c in own}:
            raise SpecError(
                f"It has no column {partition_by!r} of type {' or '.join(PARTITION_KINDS)} to be partitioned by.",
                table=name,
                remedy="correct its meta: bi: partition_by, or write false",
            )
        found.append(
            BiTable(
                name,
                tuple(own),
                comments.get(name),
                keys[0],
                tuple(keys[1:]),
                int(known[name]["rows"]),
                str(known[name]["checksum"]),
                partition_by or None,
            )
        )
    return found


def copy_lines(connection: duckdb.DuckDBPyConnection, columns: Sequence[BiColumn], relation: str) -> Iterator[bytes]:
    """A relation's rows as the stream that ``COPY ... FROM STDIN`` takes, in pieces of some 10,000 rows."""
    fields = ", ".join(column.as_copy_text() for column in columns)
    query = f"SELECT concat_ws(chr(9), {fields}) || chr(10) AS line FROM {relation}"
    for batch in connection.cursor().sql(query).to_arrow_reader(_ROWS_AT_ONCE):
        yield "".join(map(str, batch.column(0).to_pylist())).encode()


def own_tables(
    upcoming: str,
    release: Release,
    fence: int,
    signatures: Mapping[str, str],
    tables: Sequence[BiTable],
    of_roles: Mapping[str, str],
) -> Iterator[bytes]:
    """The two tables that say what a schema holds, and the schemas of roles with it, as statements and rows."""
    schema = identifier(upcoming)
    yield (
        f"CREATE TABLE {schema}.{RELEASE_TABLE} (release text PRIMARY KEY, published_at timestamptz NOT NULL, "
        "fence bigint NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now());\n"
        f"COMMENT ON TABLE {schema}.{RELEASE_TABLE} IS 'The release that all tables of this schema are of. One "
        "row.';\n"
        f"CREATE TABLE {schema}.{TABLES_TABLE} (table_name text PRIMARY KEY, rows bigint NOT NULL, "
        "checksum text NOT NULL, signature text NOT NULL);\n"
        f"COMMENT ON TABLE {schema}.{TABLES_TABLE} IS 'The tables of this schema as the release has them, and what "
        "the schemas of roles hold. One row per table or view.';\n"
    ).encode()
    line = f"{release.id}\t{release.published_at}\t{fence}\n"
    yield from copied(upcoming, RELEASE_TABLE, [line.encode()], "(release, published_at, fence)")
    lines = [f"{table.name}\t{table.rows}\t{table.checksum}\t{signatures[table.name]}\n" for table in tables]
    lines += [f"{name}\t0\t\t{signature}\n" for name, signature in of_roles.items()]
    yield from copied(upcoming, TABLES_TABLE, [line.replace("\\", "\\\\").encode() for line in lines])


def _check_names(table: str, columns: Sequence[BiColumn]) -> None:
    for name in (table, *(column.name for column in columns)):
        if len(name.encode()) > _NAME_BYTES or "\x00" in name:
            raise SpecError(
                f"The name {name!r} is longer than the {_NAME_BYTES} bytes that PostgreSQL keeps.",
                table=table,
                remedy="shorten it in the model, or leave the model out with config: {meta: {bi: false}}",
            )
    if table in {RELEASE_TABLE, TABLES_TABLE}:
        raise SpecError("That name is Penstock's own in the BI database.", table=table, remedy="rename the model")


def _list(columns: Sequence[str]) -> str:
    return ", ".join(map(identifier, columns))
