r"""The curated tables of the current release in a PostgreSQL, for tools that speak nothing else.

::

    load    CREATE SCHEMA marts__next_...; COPY what changed; keys, comments, grants      one transaction, unseen
    swap    LOCK the tables of marts; move unchanged ones over; rename next to marts;     one transaction, some ms
            drop the old ones

Readers never meet a mixture. The swap waits until nobody has a table of the schema open in a transaction, for moments
at a time so that nobody waits long behind it; so whoever has begun to read goes on in the same release to the end of
the transaction. And rows are written frozen, visible to snapshots of before the load: a REPEATABLE READ transaction
that comes to the tables after the swap finds all of the new release, not empty tables.

Every schema of ours says so in its comment. One that does not is never touched, nor is one that holds what we have not
made. The comment's fencing number keeps a publisher that was stopped from putting an older release back.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from common.errors import CommitConflict, LeaseHeld, PenstockError, SourceRefused, StateCorrupt, UsageError
from common.fault_points import reach
from lake.sql import identifier, literal
from warehouse.bi_sql import (
    CHANGED,
    LOCK_WAIT_MS,
    LOCKED_OUT,
    MARK,
    SESSION,
    copied,
    dropped,
    granted,
    locked,
    mark_text,
    qualified,
    unless,
)
from warehouse.bi_tables import RELEASE_TABLE, TABLES_TABLE, BiTable, bi_tables, copy_lines, own_tables
from warehouse.releases import Release, open_read_only

Run = Callable[[Iterable[bytes]], list[list[str]]]
"""Runs a script in one session of the BI database and answers the rows its queries printed."""

SWAP_WAIT_S = 60.0
"""How long a swap waits for transactions that have a table of the schema open."""
_RETRY_S = 0.25


@dataclass(frozen=True)
class Live:
    """What readers of the BI database see now.

    Attributes:
        warehouse: identity of the warehouse it came from.
        fence: fencing number under which it was put there.
        release: id of the release.
        signatures: of each table (:meth:`BiTable.signature`).
        strangers: what else is in the schema, which Penstock did not make.
    """

    warehouse: str
    fence: int
    release: str
    signatures: dict[str, str]
    strangers: tuple[str, ...]


@dataclass(frozen=True)
class BiPublished:
    """What a publishing did.

    Attributes:
        release: the release that readers see now.
        written: tables that were written.
        carried: tables that were as they should be and only moved along.
        notices: what a person should look at.
    """

    release: str
    written: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class BiSchema:
    """The schema of one BI database that holds the current release.

    Args:
        run: see :data:`Run`.
        schema: its name.
        readers: roles that may SELECT from it; made, without login, where they do not exist.
        warehouse: identity of the warehouse; a schema is of one.
    """

    def __init__(self, run: Run, *, schema: str, readers: Sequence[str], warehouse: str) -> None:
        if len(schema.encode()) > 40 or schema.startswith("pg_") or not schema:
            raise UsageError(
                f"{schema!r} cannot be the BI schema.", remedy="PENSTOCK_BI_SCHEMA: at most 40 bytes, not pg_..."
            )
        self._run, self._schema, self._readers, self._warehouse = run, schema, tuple(readers), warehouse

    def live(self) -> Live | None:
        """What readers see now; None if there is no such schema.

        Raises:
            UsageError: there is one that is not Penstock's.
            SourceRefused, SourceUnavailable: the database does not let us, or does not answer.
        """
        return self._live(self._marks())

    def _live(self, marks: dict[str, str]) -> Live | None:
        if self._schema not in marks:
            return None
        mark = MARK.fullmatch(marks[self._schema])
        if mark is None or mark["schema"] != self._schema:
            raise UsageError(
                f"The BI database has a schema {self._schema!r} that Penstock did not make. It was left as it is.",
                remedy="rename or drop it yourself, or set PENSTOCK_BI_SCHEMA to another name",
            )
        here = f"nspname = {literal(self._schema)}"
        rows = self._ask(
            f"SELECT 'table', table_name, signature FROM {qualified(self._schema, [TABLES_TABLE])} "
            f"WHERE to_regclass(format('%I.%I', {literal(self._schema)}, table_name)) IS NOT NULL;\n"
            "SELECT 'there', relname, '' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE {here} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') UNION ALL "
            f"SELECT 'there', proname || '()', '' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
            f"WHERE {here};"
        )
        signatures = {name: signature for kind, name, signature in rows if kind == "table"}
        there = {name for kind, name, _ in rows if kind == "there"}
        strangers = sorted(there - signatures.keys() - {RELEASE_TABLE, TABLES_TABLE})
        return Live(mark["warehouse"], int(mark["fence"]), mark["release"], signatures, tuple(strangers))

    def publish(
        self, release: Release, *, fence: int, take_over: bool = False, wait_s: float = SWAP_WAIT_S
    ) -> BiPublished:
        """Have readers see this release.

        Args:
            release: a published release of the warehouse.
            fence: number of the lease under which this is done.
            take_over: also replace what another warehouse, or one that was begun anew, has put there.
            wait_s: how long to wait for transactions that have a table open.

        Raises:
            CommitConflict: somebody with a newer lease has published; or the schema is another warehouse's.
            LeaseHeld: a transaction kept a table open for too long; the message names whose.
            SpecError: a table cannot be given to PostgreSQL exactly.
            UsageError: the schema is not Penstock's, or holds what Penstock did not make.
            SourceRefused, SourceUnavailable: the database said no, or does not answer.

        Whatever is raised, readers see what they saw before. Side effects: left-overs of publishers that died are
        removed.
        """
        tables = bi_tables(release)
        marks = self._marks()
        live = self._live(marks)
        if live is not None:
            self._refuse(live, fence, take_over=take_over)
        signatures = {table.name: table.signature(self._readers) for table in tables}
        self._tidy(marks, fence)
        wanted = (self._warehouse, release.id, signatures)
        if live is not None and (live.warehouse, live.release, live.signatures) == wanted:
            self._told([self._renewal(live, fence).encode()])
            return BiPublished(release.id, carried=tuple(signatures), notices=self._kept(fence))
        before = live.signatures if live is not None else {}
        carried = tuple(name for name, signature in signatures.items() if before.get(name) == signature)
        written = [table for table in tables if table.name not in carried]
        token = uuid.uuid4().hex[:8]
        upcoming = f"{self._schema}__next_{token}"
        self._load(upcoming, release, fence, written, signatures, tables)
        reach("warehouse.bi.before_swap")
        try:
            self._swap(upcoming, f"{self._schema}__old_{token}", live, carried, release, fence, wait_s)
        except PenstockError:
            with contextlib.suppress(PenstockError):  # or the next one will
                self._tidy(self._marks(), fence)
            raise
        return BiPublished(release.id, tuple(table.name for table in written), carried, self._kept(fence))

    # -- loading ---------------------------------------------------------------------------------------------------

    def _load(
        self,
        upcoming: str,
        release: Release,
        fence: int,
        written: Sequence[BiTable],
        signatures: dict[str, str],
        tables: Sequence[BiTable],
    ) -> None:
        counts = [
            f"SELECT {literal(table.name)}, count(*) FROM {identifier(upcoming)}.{identifier(table.name)};\n"
            for table in written
        ]

        def script() -> Iterator[bytes]:
            schema = identifier(upcoming)
            yield (
                f"{SESSION}BEGIN;\nCREATE SCHEMA {schema};\n"
                f"COMMENT ON SCHEMA {schema} IS {literal(self._mark('next', fence, release.id))};\n"
            ).encode()
            with closing(open_read_only(release.database)) as connection:
                for table in written:
                    yield table.create(upcoming).encode()
                    yield from copied(upcoming, table.name, copy_lines(connection, table))
                    yield table.finish(upcoming).encode()
            yield from own_tables(upcoming, release, fence, signatures, tables)
            yield granted(upcoming, self._readers).encode()
            yield "".join([*counts, "COMMIT;\n"]).encode()

        # Whoever may read learns what it reads: the answer of this session's last queries, before anything is shown.
        found = {row[0]: int(row[1]) for row in self._told(script())}
        expected = {table.name: table.rows for table in written}
        if found != expected:
            wrong = next(name for name in expected if found.get(name) != expected[name])
            raise StateCorrupt(
                f"The BI database holds {found.get(wrong)} rows of {wrong}, the release {expected[wrong]}.",
                table=wrong,
                remedy="run 'penstock bi publish'; readers see what they saw before",
            )

    # -- swapping --------------------------------------------------------------------------------------------------

    def _swap(
        self,
        upcoming: str,
        retired: str,
        live: Live | None,
        carried: Sequence[str],
        release: Release,
        fence: int,
        wait_s: float,
    ) -> None:
        script = self._swap_script(upcoming, retired, live, carried, release, fence)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                self._told([script.encode()])
                return
            except SourceRefused as error:
                if not any(text in error.problem for text in (LOCKED_OUT, "lock timeout")):
                    raise
                if time.monotonic() >= deadline:
                    raise LeaseHeld(
                        f"Transactions kept tables of {self._schema!r} open for {wait_s:g} s, so that the BI database "
                        f"still shows {live.release if live else 'nothing'}: {self._holders(live)}.",
                        remedy="end them, then run 'penstock bi publish'",
                    ) from None
            time.sleep(_RETRY_S)

    def _swap_script(
        self, upcoming: str, retired: str, live: Live | None, carried: Sequence[str], release: Release, fence: int
    ) -> str:
        schema = identifier(self._schema)
        lines = [self._guard(live, upcoming)]
        if live is not None:
            old = [*sorted(live.signatures), RELEASE_TABLE, TABLES_TABLE]
            lines.append(locked(self._schema, old))
            lines += [
                f"ALTER TABLE {schema}.{identifier(name)} SET SCHEMA {identifier(upcoming)};\n" for name in carried
            ]
            lines.append(f"ALTER SCHEMA {schema} RENAME TO {identifier(retired)};\n")
        lines.append(f"ALTER SCHEMA {identifier(upcoming)} RENAME TO {schema};\n")
        lines.append(f"COMMENT ON SCHEMA {schema} IS {literal(self._mark('current', fence, release.id))};\n")
        if live is not None:
            # A view that somebody has built on an old table keeps it: it is told of, not torn down.
            left = [name for name in [*sorted(live.signatures), RELEASE_TABLE, TABLES_TABLE] if name not in carried]
            lines.append(
                f"COMMENT ON SCHEMA {identifier(retired)} IS "
                f"{literal(self._mark('retired', live.fence, live.release))};\n{dropped(retired, left)}"
            )
        return "".join([*lines, "COMMIT;\n"])

    def _renewal(self, live: Live, fence: int) -> str:
        """Only the number changes: whoever was stopped before must not come after us."""
        schema, mark = identifier(self._schema), self._mark("current", fence, live.release)
        return (
            f"{self._guard(live, self._schema)}COMMENT ON SCHEMA {schema} IS {literal(mark)};\n"
            f"UPDATE {qualified(self._schema, [RELEASE_TABLE])} SET fence = {fence};\nCOMMIT;\n"
        )

    def _guard(self, live: Live | None, upcoming: str) -> str:
        """Begin a transaction that fails unless everything is as it was looked at, and keep other publishers out."""
        schema = identifier(self._schema)
        current = f"obj_description(to_regnamespace({literal(schema)}), 'pg_namespace')"
        as_before = (
            f"to_regnamespace({literal(schema)}) IS NULL"
            if live is None
            else f"{current} = {literal(self._mark_of(live))}"
        )
        there = f"to_regnamespace({literal(identifier(upcoming))}) IS NOT NULL"
        return (
            f"{SESSION}BEGIN;\nSET LOCAL lock_timeout = '{LOCK_WAIT_MS}ms';\n"
            f"SELECT pg_advisory_xact_lock(hashtext({literal('penstock bi ' + self._schema)}));\n"
            f"{unless(f'coalesce({as_before}, false) AND {there}', CHANGED)}"
        )

    def _refuse(self, live: Live, fence: int, *, take_over: bool) -> None:
        if live.warehouse != self._warehouse and not take_over:
            raise CommitConflict(
                f"Schema {self._schema!r} of the BI database holds a release of another warehouse.",
                remedy="give this one a PENSTOCK_BI_SCHEMA of its own, or replace it: penstock bi publish --take-over",
            )
        if live.fence > fence and not take_over:
            raise CommitConflict(
                f"The BI database was published to with fence {live.fence}, this process has {fence}. It changes "
                "nothing.",
                remedy="run 'penstock bi publish'",
            )
        if live.strangers:  # they would be swapped out of their owners' sight
            raise UsageError(
                f"Schema {self._schema!r} of the BI database holds what Penstock did not make: "
                f"{', '.join(live.strangers[:5])}. It was left as it is.",
                remedy="move it to a schema of its own, then run 'penstock bi publish'",
            )

    def _holders(self, live: Live | None) -> str:
        names = qualified(self._schema, [*(live.signatures if live else {}), RELEASE_TABLE, TABLES_TABLE])
        regclasses = ", ".join(f"to_regclass({literal(name.strip())})" for name in names.split(", "))
        rows = self._ask(
            "SELECT DISTINCT a.pid, a.usename, coalesce(nullif(a.application_name, ''), '-') FROM pg_locks l "
            f"JOIN pg_stat_activity a USING (pid) WHERE l.granted AND l.relation IN ({regclasses}) "
            "AND a.pid <> pg_backend_pid() ORDER BY 1;"
        )
        return ", ".join(f"process {pid} of role {role} ({name})" for pid, role, name in rows) or "they have just ended"

    # -- what is left of others ------------------------------------------------------------------------------------

    def _tidy(self, marks: dict[str, str], fence: int) -> None:
        """Drop schemas that publishers who died have left, and retired ones that nothing depends on any more."""
        for name in self._left(marks, fence):
            rows = self._ask(
                "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                f"WHERE n.nspname = {literal(name)} AND c.relkind = 'r' ORDER BY 1;"
            )
            drop = dropped(name, [row[0] for row in rows])
            self._told([f"{SESSION}BEGIN;\nSET LOCAL lock_timeout = '{LOCK_WAIT_MS}ms';\n{drop}COMMIT;\n".encode()])

    def _kept(self, fence: int) -> tuple[str, ...]:
        """What is told of schemas that could not be dropped."""
        return tuple(
            f"schema {name} of the BI database ({mark['state']}, {mark['release']}) is kept: a view or a transaction "
            "needs its tables"
            for name, mark in self._left(self._marks(), fence).items()
        )

    def _left(self, marks: dict[str, str], fence: int) -> dict[str, re.Match[str]]:
        found = {name: MARK.fullmatch(comment) for name, comment in sorted(marks.items()) if name != self._schema}
        return {
            name: mark
            for name, mark in found.items()
            if mark is not None
            and mark["schema"] == self._schema
            # One of a publisher that came after us may be at work.
            and (mark["warehouse"] != self._warehouse or int(mark["fence"]) <= fence)
        }

    def _marks(self) -> dict[str, str]:
        """Comment by schema, of the one schema and of all that are made by Penstock."""
        rows = self._ask(
            "SELECT nspname, coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace "
            f"WHERE nspname = {literal(self._schema)} "
            "OR obj_description(oid, 'pg_namespace') LIKE 'Made by Penstock for schema %';"
        )
        return {row[0]: row[1] for row in rows}

    def _mark(self, state: str, fence: int, release: str) -> str:
        return mark_text(self._schema, state, self._warehouse, fence, release)

    def _mark_of(self, live: Live) -> str:
        return mark_text(self._schema, "current", live.warehouse, live.fence, live.release)

    def _ask(self, query: str) -> list[list[str]]:
        return self._told([f"{SESSION}{query}\n".encode()])

    def _told(self, script: Iterable[bytes]) -> list[list[str]]:
        try:
            return self._run(script)
        except SourceRefused as error:
            if CHANGED in error.problem:
                raise CommitConflict(
                    "Somebody else has published to the BI database meanwhile. Nothing was changed.",
                    remedy="run 'penstock bi publish'",
                ) from None
            raise
