"""What each role of the policy has in the BI database: a schema of its own, and a PostgreSQL role that reads only that.

::

    policy ─▶ the role's SELECT of each curated table ─┬─ whole columns, all rows ─▶ a view of the table
                                                       └─ masked or filtered      ─▶ rows, copied as DuckDB gives them

The SELECT is the one that every door reads. It is computed by DuckDB and copied, not said again in PostgreSQL's SQL:
its conditions are DuckDB's, a mask's salt in the text of a view could be read by everybody, and a view's condition can
be got around by functions of a caller's. Only columns that are left out need no copy; a view without them is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import duckdb

from common.errors import UsageError
from common.hashing import digest
from lake.sql import identifier, literal
from warehouse.bi_sql import full_name, granted, partitions_schema
from warehouse.bi_tables import RELEASE_TABLE, BiTable
from warehouse.bi_types import BiColumn, postgres_type
from warehouse.releases import Release, open_read_only
from warehouse.serve.policy import Policy, Shown, Table, shown_to

_NAME_BYTES = 48
"""Most bytes of a role's schema: its next and old ones have 15 more, and PostgreSQL keeps 63."""


@dataclass(frozen=True)
class BiAccess:
    """Who may see what in the BI database.

    Attributes:
        policy: the policy.
        salt: what hashed values are salted with.
        roles: roles of the policy that get a schema.
    """

    policy: Policy
    salt: str
    roles: Sequence[str]


@dataclass(frozen=True)
class BiRole:
    """What one role of the policy gets.

    Attributes:
        schema: name of its schema, and of its role in PostgreSQL.
        views: columns that are shown of each table that needs no copy, by table.
        copies: tables of its own.
        selects: what a copy holds, in DuckDB's SQL, by table.
    """

    schema: str
    views: Mapping[str, BiTable]
    copies: Sequence[BiTable]
    selects: Mapping[str, str]

    def signatures(self) -> dict[str, str]:
        """By full name; equal for what need not be made again."""
        found = {table.name: table.signature([self.schema]) for table in self.copies}
        for name, table in self.views.items():
            found[name] = digest("view", [[c.name, c.comment] for c in table.columns], table.comment)
        found[RELEASE_TABLE] = "view"
        return {full_name(self.schema, name): signature for name, signature in found.items()}

    def script(self, upcoming: str, places: Mapping[str, str], tables: Iterable[bytes]) -> Iterator[bytes]:
        """The statements and rows that make the schema where nobody looks.

        Args:
            upcoming: name of the schema until then.
            places: schema in which each table lies now, by table.
            tables: statements and rows of those copies that are made.
        """
        yield from tables
        for name, table in self.views.items():
            yield _view(upcoming, name, places[name], table).encode()
        everything = f"SELECT * FROM {identifier(places[RELEASE_TABLE])}.{RELEASE_TABLE}"
        yield f"CREATE VIEW {identifier(upcoming)}.{RELEASE_TABLE} AS {everything};\n".encode()
        yield granted(upcoming, [self.schema]).encode()


def bi_roles(
    release: Release, tables: Sequence[BiTable], access: BiAccess | None, *, schema: str, readers: Sequence[str]
) -> list[BiRole]:
    """What the roles get of a release.

    Args:
        release: the release.
        tables: its curated tables; a role gets nothing else.
        access: who may see what; nobody if None.
        schema: name of the schema that holds them all.
        readers: PostgreSQL roles that read that schema, all of it.

    Raises:
        UsageError: a role's name is too long, or is that of a reader of everything.
    """
    if access is None:
        return []
    with closing(open_read_only(release.database)) as connection:
        known = {table.name: Table(table.name, tuple((c.name, c.duckdb) for c in table.columns)) for table in tables}
        found = []
        for name in access.roles:
            own = f"{schema}_{name}"
            if len(own.encode()) > _NAME_BYTES or "\0" in own:
                raise UsageError(
                    f"The role {name[:80]!r} cannot have a schema of the BI database.",
                    remedy=f"shorten it so that {schema}_<role> has at most {_NAME_BYTES} bytes",
                )
            if own == partitions_schema(schema):
                raise UsageError(
                    f"The role {name!r} cannot have a schema of the BI database.", remedy="name it otherwise"
                )
            if own in readers:
                raise UsageError(
                    f"The role {own!r} of the BI database would read everything, as one of PENSTOCK_BI_READERS.",
                    remedy="name another reader there",
                )
            shown = shown_to(connection, access.policy.roles[name], known, salt=access.salt)
            found.append(_role(own, tables, shown, access.salt, connection))
    return found


def _role(
    schema: str, tables: Sequence[BiTable], shown: Mapping[str, Shown], salt: str, connection: duckdb.DuckDBPyConnection
) -> BiRole:
    views, copies, selects = {}, [], {}
    for table in tables:
        if table.name not in shown:
            continue
        each = shown[table.name]
        columns = tuple(_column(table, each, name, kind) for name, kind in each.columns)
        if not each.masked and not each.filtered:
            views[table.name] = replace(table, columns=columns)
            continue
        select = each.select()
        [rows] = connection.execute(f"SELECT count(*) FROM ({select})").fetchone() or (0,)
        kept = {name for name, _ in each.columns if name not in each.masked}
        copies.append(
            replace(
                table,
                columns=columns,
                primary_key=table.primary_key if kept.issuperset(table.primary_key) else (),
                indexes=tuple(index for index in table.indexes if kept.issuperset(index)),
                partition_by=table.partition_by if table.partition_by in kept else None,
                rows=rows,
                checksum=digest(table.checksum, select, salt),
            )
        )
        selects[table.name] = select
    return BiRole(schema, views, copies, selects)


def _column(table: BiTable, shown: Shown, name: str, kind: str) -> BiColumn:
    known = next(column for column in table.columns if column.name == name)
    if name not in shown.masked:
        return known
    return BiColumn(name, kind, postgres_type(kind), False, known.comment)


def _view(schema: str, name: str, place: str, table: BiTable) -> str:
    view = f"{identifier(schema)}.{identifier(name)}"
    fields = ", ".join(identifier(column.name) for column in table.columns)
    lines = [f"CREATE VIEW {view} AS SELECT {fields} FROM {identifier(place)}.{identifier(name)};"]
    if table.comment:
        lines.append(f"COMMENT ON VIEW {view} IS {literal(table.comment)};")
    lines += [
        f"COMMENT ON COLUMN {view}.{identifier(c.name)} IS {literal(c.comment)};" for c in table.columns if c.comment
    ]
    return "\n".join(lines) + "\n"
