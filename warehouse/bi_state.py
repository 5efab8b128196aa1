"""What is in a BI database of ours: the live schemas, what others have put there, what publishers who died have left.

Every schema of Penstock's says in its comment whose it is and what it is: the one that readers see (and those of roles
with it), one that is being loaded, one that was swapped out. Nothing is known but by these comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from common.errors import CommitConflict, SourceRefused, UsageError
from lake.sql import identifier, literal
from warehouse.bi_partitions import Leaf
from warehouse.bi_sql import (
    CHANGED,
    LOCK_WAIT_MS,
    MARK,
    SESSION,
    dropped,
    full_name,
    mark_text,
    partitions_schema,
    qualified,
)
from warehouse.bi_tables import RELEASE_TABLE, TABLES_TABLE

Run = Callable[[Iterable[bytes]], list[list[str]]]
"""Runs a script in one session of the BI database and answers the rows its queries printed."""


@dataclass(frozen=True)
class Live:
    """What readers of the BI database see now.

    Attributes:
        warehouse: identity of the warehouse it came from.
        fence: fencing number under which it was put there.
        release: id of the release.
        signatures: of each table (:meth:`BiTable.signature`).
        strangers: what else is in the schema, or in one of a role, which Penstock did not make.
        of_roles: signatures of what is in the schemas of roles, by full name.
        roles: kind (``r`` or ``p`` table, ``v`` view) of each relation in each schema of a role.
        leaves: partitions of each table that has some, by its full name.
    """

    warehouse: str
    fence: int
    release: str
    signatures: dict[str, str]
    strangers: tuple[str, ...]
    of_roles: dict[str, str]
    roles: dict[str, dict[str, str]]
    leaves: dict[str, list[Leaf]]


class BiState:
    """Looks at a BI database and tidies it.

    Args:
        run: see :data:`Run`.
        schema: the schema that holds everything.
        warehouse: identity of the warehouse.
    """

    def __init__(self, run: Run, schema: str, warehouse: str) -> None:
        self._run, self._schema, self._warehouse = run, schema, warehouse

    def live(self, marks: dict[str, str]) -> Live | None:
        """What readers see now, of the comments that :meth:`marks` gave; None if there is no such schema.

        Raises:
            UsageError: there is one that is not Penstock's.
        """
        if self._schema not in marks:
            return None
        mark = MARK.fullmatch(marks[self._schema])
        if mark is None or mark["schema"] != self._schema:
            raise UsageError(
                f"The BI database has a schema {self._schema!r} that Penstock did not make. It was left as it is.",
                remedy="rename or drop it yourself, or set PENSTOCK_BI_SCHEMA to another name",
            )
        role_schemas = sorted(name for name in marks if name != self._schema and self._state(marks[name]) == "current")
        here = f"nspname IN ({', '.join(literal(name) for name in (self._schema, *role_schemas))})"
        rows = self.ask(
            f"SELECT '', table_name, signature FROM {qualified(self._schema, [TABLES_TABLE])} "
            f"WHERE to_regclass(format('%I.%I', {literal(self._schema)}, table_name)) IS NOT NULL "
            "OR (strpos(table_name, '\".\"') > 0 AND to_regclass(table_name) IS NOT NULL);\n"
            "SELECT nspname, relname, relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE {here} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') UNION ALL "
            f"SELECT nspname, proname || '()', '' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
            f"WHERE {here};"
        )
        known = {name: signature for schema, name, signature in rows if not schema}
        of_roles = {name: signature for name, signature in known.items() if '"."' in name}
        signatures = {name: signature for name, signature in known.items() if name not in of_roles}
        ours = {full_name(self._schema, name) for name in (*signatures, RELEASE_TABLE, TABLES_TABLE)} | of_roles.keys()
        roles = {
            schema: {name: kind for place, name, kind in rows if place == schema and full_name(schema, name) in ours}
            for schema in role_schemas
        }
        strangers = sorted(
            name if schema == self._schema else f"{schema}.{name}"
            for schema, name, _ in rows
            if schema and full_name(schema, name) not in ours
        )
        live = (mark["warehouse"], int(mark["fence"]), mark["release"])
        return Live(*live, signatures, tuple(strangers), of_roles, roles, self._leaves(here))

    def _leaves(self, here: str) -> dict[str, list[Leaf]]:
        """Partitions of the tables in some schemas, by full name of the table."""
        place = literal(identifier(partitions_schema(self._schema)))
        rows = self.ask(
            "SELECT n.nspname, p.relname, c.relname, coalesce(obj_description(c.oid, 'pg_class'), '') "
            "FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_class p ON p.oid = inhparent "
            f"JOIN pg_namespace n ON n.oid = p.relnamespace WHERE {here} AND p.relkind = 'p' "
            f"AND c.relnamespace = to_regnamespace({place}) ORDER BY 1, 2, 3;"
        )
        found: dict[str, list[Leaf]] = {}
        for schema, table, name, comment in rows:
            found.setdefault(full_name(schema, table), []).append(Leaf.told(name, comment))
        return found

    def tidy(self, marks: dict[str, str], fence: int) -> None:
        """Drop schemas that publishers who died have left, and retired ones that nothing depends on any more."""
        own = (f"{self._schema}__next_", f"{self._schema}__old_")
        # Views of roles are on tables of the schema that holds all, which so goes last.
        for name in sorted(self._left(marks, fence), key=lambda name: name.startswith(own)):
            rows = self.ask(
                "SELECT c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                f"WHERE n.nspname = {literal(name)} AND c.relkind IN ('r', 'p', 'v') ORDER BY 1;"
            )
            drop = dropped(name, *([relation for relation, kind in rows if kind in each] for each in ("rp", "v")))
            self.told([f"{SESSION}BEGIN;\nSET LOCAL lock_timeout = '{LOCK_WAIT_MS}ms';\n{drop}COMMIT;\n".encode()])

    def kept(self, fence: int) -> tuple[str, ...]:
        """What is told of schemas that could not be dropped."""
        return tuple(
            f"schema {name} of the BI database ({mark['state']}, {mark['release']}) is kept: a view or a transaction "
            "needs its tables"
            for name, mark in self._left(self.marks(), fence).items()
        )

    def _left(self, marks: dict[str, str], fence: int) -> dict[str, re.Match[str]]:
        found = {name: MARK.fullmatch(comment) for name, comment in sorted(marks.items()) if name != self._schema}
        return {
            name: mark
            for name, mark in found.items()
            if mark is not None
            and mark["schema"] == self._schema
            and mark["state"] not in {"current", "partitions"}  # then it is the schema of a role, or belongs to all
            # One of a publisher that came after us may be at work.
            and (mark["warehouse"] != self._warehouse or int(mark["fence"]) <= fence)
        }

    def _state(self, comment: str) -> str:
        """What the comment of a schema says it is to this one; empty if nothing."""
        mark = MARK.fullmatch(comment)
        return mark["state"] if mark is not None and mark["schema"] == self._schema else ""

    def refuse_strange(self, schemas: Iterable[str]) -> None:
        """Let no schema of a role or of partitions take the place of one that somebody else has made."""
        wanted = ", ".join(literal(name) for name in schemas)
        if not wanted:
            return
        rows = self.ask(
            "SELECT nspname, coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace "
            f"WHERE nspname IN ({wanted}) ORDER BY 1;"
        )
        for name, comment in rows:
            if self._state(comment) not in {"current", "partitions"}:
                raise UsageError(
                    f"The BI database has a schema {name!r} that Penstock did not make. It was left as it is.",
                    remedy="rename or drop it yourself, or leave the role out: PENSTOCK_BI_ROLES",
                )

    def marks(self) -> dict[str, str]:
        """Comment by schema, of the one schema and of all that are made by Penstock."""
        rows = self.ask(
            "SELECT nspname, coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace "
            f"WHERE nspname = {literal(self._schema)} "
            "OR obj_description(oid, 'pg_namespace') LIKE 'Made by Penstock for schema %';"
        )
        return {row[0]: row[1] for row in rows}

    def mark(self, state: str, fence: int, release: str) -> str:
        """The comment of a schema of ours."""
        return mark_text(self._schema, state, self._warehouse, fence, release)

    def mark_of(self, live: Live) -> str:
        """The comment that the schema has now."""
        return mark_text(self._schema, "current", live.warehouse, live.fence, live.release)

    def ask(self, query: str) -> list[list[str]]:
        """The rows of queries."""
        return self.told([f"{SESSION}{query}\n".encode()])

    def told(self, script: Iterable[bytes]) -> list[list[str]]:
        """The rows of a script.

        Raises:
            CommitConflict: somebody else has published meanwhile.
            SourceRefused, SourceUnavailable: the database said no, or does not answer.
        """
        try:
            return self._run(script)
        except SourceRefused as error:
            if CHANGED in error.problem:
                raise CommitConflict(
                    "Somebody else has published to the BI database meanwhile. Nothing was changed.",
                    remedy="run 'penstock bi publish'",
                ) from None
            raise
