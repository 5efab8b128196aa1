r"""The curated tables of the current release in a PostgreSQL, for tools that speak nothing else.

::

    load    CREATE SCHEMA marts__next_...; COPY what changed; keys, comments, grants      one transaction, unseen
    swap    LOCK the tables of marts; exchange partitions that changed; move unchanged    one transaction, some ms
            tables over; rename next to marts; drop the old ones

Readers never meet a mixture. The swap waits until nobody has a table of the schema open in a transaction, for moments
at a time so that nobody waits long behind it; so whoever has begun to read goes on in the same release to the end of
the transaction. And rows are written frozen, visible to snapshots of before the load: a REPEATABLE READ transaction
that comes to the tables after the swap finds all of the new release, not empty tables.

Every schema of ours says so in its comment. One that does not is never touched, nor is one that holds what we have not
made. The comment's fencing number keeps a publisher that was stopped from putting an older release back.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from common.errors import CommitConflict, LeaseHeld, PenstockError, SourceRefused, StateCorrupt, UsageError
from common.fault_points import reach
from lake.sql import identifier, literal
from warehouse.bi_partitions import Sent, Write, write_of
from warehouse.bi_roles import BiAccess, BiRole, bi_roles
from warehouse.bi_sql import (
    CHANGED,
    LOCK_WAIT_MS,
    LOCKED_OUT,
    SESSION,
    Part,
    full_name,
    granted,
    locked,
    partitions_schema,
    qualified,
    unless,
)
from warehouse.bi_state import BiState, Live, Run
from warehouse.bi_tables import RELEASE_TABLE, TABLES_TABLE, BiTable, bi_tables, own_tables
from warehouse.releases import Release, open_read_only

SWAP_WAIT_S = 60.0
"""How long a swap waits for transactions that have a table of the schema open."""
_RETRY_S = 0.25


@dataclass(frozen=True)
class BiPublished:
    """What a publishing did.

    Attributes:
        release: the release that readers see now.
        written: tables that were written whole.
        carried: tables that were as they should be and only moved along.
        notices: what a person should look at.
        updated: tables of which only partitions that changed were written.
        rows_sent, bytes_sent: rows that went to the database, also those of copies for roles, and their size as text.
    """

    release: str
    written: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    rows_sent: int = field(default=0, compare=False)
    bytes_sent: int = field(default=0, compare=False)


@dataclass(frozen=True)
class _Load:
    """One schema of a swap, and what is written of it."""

    part: Part
    writes: Sequence[Write]

    def expected(self) -> dict[str, int]:
        return {name: rows for write in self.writes for name, rows in write.expected(self.part.upcoming).items()}

    def made(self, connection: duckdb.DuckDBPyConnection, sent: Sent) -> Iterator[bytes]:
        return itertools.chain.from_iterable(write.make(self.part.upcoming, connection, sent) for write in self.writes)

    def filled(self, connection: duckdb.DuckDBPyConnection, sent: Sent) -> Iterator[bytes]:
        return itertools.chain.from_iterable(write.fill(self.part.upcoming, connection, sent) for write in self.writes)


class BiSchema:
    """The schema of one BI database that holds the current release.

    Args:
        run: see :data:`warehouse.bi_state.Run`.
        schema: its name.
        readers: roles that may SELECT from it; made, without login, where they do not exist.
        warehouse: identity of the warehouse; a schema is of one.
        access: who else may see what of it, in schemas of their own.
    """

    def __init__(
        self, run: Run, *, schema: str, readers: Sequence[str], warehouse: str, access: BiAccess | None = None
    ) -> None:
        if len(schema.encode()) > 40 or schema.startswith("pg_") or not schema:
            raise UsageError(
                f"{schema!r} cannot be the BI schema.", remedy="PENSTOCK_BI_SCHEMA: at most 40 bytes, not pg_..."
            )
        self._schema, self._readers, self._warehouse, self._access = schema, tuple(readers), warehouse, access
        self._state = BiState(run, schema, warehouse)

    def live(self) -> Live | None:
        """What readers see now; None if there is no such schema.

        Raises:
            UsageError: there is one that is not Penstock's.
            SourceRefused, SourceUnavailable: the database does not let us, or does not answer.
        """
        return self._state.live(self._state.marks())

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
        marks = self._state.marks()
        live = self._state.live(marks)
        if live is not None:
            self._refuse(live, fence, take_over=take_over)
        roles = bi_roles(release, tables, self._access, schema=self._schema, readers=self._readers)
        self._state.refuse_strange(role.schema for role in roles)
        signatures = {table.name: table.signature(self._readers) for table in tables}
        of_roles = {name: signature for role in roles for name, signature in role.signatures().items()}
        self._state.tidy(marks, fence)
        wanted = (self._warehouse, release.id, signatures, of_roles)
        if live is not None and (live.warehouse, live.release, live.signatures, live.of_roles) == wanted:
            self._state.told([self._renewal(live, fence).encode()])
            return BiPublished(release.id, carried=tuple(signatures), notices=self._state.kept(fence))
        with closing(open_read_only(release.database)) as connection:
            loads = self._loads(live, tables, roles, connection)
            parts = [load.part for load in loads]
            self._state.refuse_strange({part.partitions for part in parts if part.exchanges})
            sent = self._load(release, fence, tables, signatures, roles, loads, connection)
        reach("warehouse.bi.before_swap")
        try:
            self._swap(live, parts, release, fence, wait_s)
        except PenstockError:
            with contextlib.suppress(PenstockError):  # or the next one will
                self._state.tidy(self._state.marks(), fence)
            raise
        changed = loads[0].writes
        return BiPublished(
            release.id,
            tuple(write.table.name for write in changed if not write.in_place),
            tuple(name for name in signatures if name not in {write.table.name for write in changed}),
            self._state.kept(fence),
            tuple(write.table.name for write in changed if write.in_place),
            sent.rows,
            sent.size_bytes,
        )

    def _loads(
        self,
        live: Live | None,
        tables: Sequence[BiTable],
        roles: Sequence[BiRole],
        connection: duckdb.DuckDBPyConnection,
    ) -> list[_Load]:
        """The schemas that are swapped together, the one of all tables first, and what is written of each."""
        token, numbers = uuid.uuid4().hex[:8], itertools.count()
        there = live.roles if live else {}
        before = (
            {full_name(self._schema, name): each for name, each in live.signatures.items()} | live.of_roles
            if live
            else {}
        )

        def load(part: Part, wanted: Sequence[BiTable], sources: Mapping[str, str], readers: Sequence[str]) -> _Load:
            writes, carried = list[Write](), list[str]()
            for table in wanted:
                name = full_name(part.schema, table.name)
                if before.get(name) == table.signature(readers):
                    carried.append(table.name)
                    continue
                leaves = live.leaves.get(name, []) if live else []
                suffix = f"{token}_{next(numbers)}"
                writes.append(write_of(connection, table, sources[table.name], leaves, readers=readers, suffix=suffix))
            moved = (*carried, *(write.table.name for write in writes if write.in_place))
            exchanges = tuple(write.exchange for write in writes if write.leaves or write.gone)
            return _Load(replace(part, carried=moved, exchanges=exchanges), writes)

        old = (*sorted(live.signatures), RELEASE_TABLE, TABLES_TABLE) if live else ()
        partitions = partitions_schema(self._schema)
        main = Part(self._schema, token, old, is_there=live is not None, partitions=partitions)
        found = [load(main, tables, {table.name: f"main.{identifier(table.name)}" for table in tables}, self._readers)]
        for role in roles:
            held, is_there = there.get(role.schema, {}), role.schema in there
            part = _part_of_role(role.schema, token, held, is_there=is_there, partitions=partitions)
            sources = {name: f"({select})" for name, select in role.selects.items()}
            found.append(load(part, role.copies, sources, [role.schema]))
        gone = there.keys() - {role.schema for role in roles}
        return found + [
            _Load(_part_of_role(name, token, there[name], is_there=True, comes=False), []) for name in sorted(gone)
        ]

    # -- loading ---------------------------------------------------------------------------------------------------

    def _load(
        self,
        release: Release,
        fence: int,
        tables: Sequence[BiTable],
        signatures: dict[str, str],
        roles: Sequence[BiRole],
        loads: Sequence[_Load],
        connection: duckdb.DuckDBPyConnection,
    ) -> Sent:
        """Write what changed where nobody looks, and compare the rows that the database counts with the release's."""
        [first, *others], sent = loads, Sent()
        main = first.part
        of_roles = {name: signature for role in roles for name, signature in role.signatures().items()}
        places = {table.name: self._schema if table.name in main.carried else main.upcoming for table in tables}
        places[RELEASE_TABLE] = main.upcoming
        expected = {name: rows for load in loads for name, rows in load.expected().items()}
        counts = "".join(f"SELECT {literal(name)}, count(*) FROM {name};\n" for name in expected)

        def script() -> Iterator[bytes]:
            yield f"{SESSION}BEGIN;\n".encode()
            for part in (load.part for load in loads if load.part.comes):
                schema, mark = identifier(part.upcoming), self._state.mark("next", fence, release.id)
                yield f"CREATE SCHEMA {schema};\nCOMMENT ON SCHEMA {schema} IS {literal(mark)};\n".encode()
            if any(load.part.exchanges for load in loads):
                schema, mark = identifier(main.partitions), self._state.mark("partitions", fence, release.id)
                yield f"CREATE SCHEMA IF NOT EXISTS {schema};\n".encode()
                yield f"COMMENT ON SCHEMA {schema} IS {literal(mark)};\n".encode()
            yield from first.made(connection, sent)
            yield from own_tables(main.upcoming, release, fence, signatures, tables, of_roles)
            yield granted(main.upcoming, self._readers).encode()
            for role, load in zip(roles, others, strict=False):  # what follows are roles that go
                yield from role.script(load.part.upcoming, places, load.made(connection, sent))
            for load in loads:
                yield from load.filled(connection, sent)
            yield f"{counts}COMMIT;\n".encode()

        # Whoever may read learns what it reads: the answer of this session's last queries, before anything is shown.
        found = {row[0]: int(row[1]) for row in self._state.told(script())}
        if found != expected:
            wrong = next(name for name in expected if found.get(name) != expected[name])
            raise StateCorrupt(
                f"The BI database holds {found.get(wrong)} rows of {wrong}, the release {expected[wrong]}.",
                table=wrong,
                remedy="run 'penstock bi publish'; readers see what they saw before",
            )
        return sent

    # -- swapping --------------------------------------------------------------------------------------------------

    def _swap(self, live: Live | None, parts: Sequence[Part], release: Release, fence: int, wait_s: float) -> None:
        script = self._swap_script(live, parts, release, fence)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                self._state.told([script.encode()])
                return
            except SourceRefused as error:
                if not any(text in error.problem for text in (LOCKED_OUT, "lock timeout")):
                    raise
                if time.monotonic() >= deadline:
                    raise LeaseHeld(
                        f"Transactions kept tables of {self._schema!r} open for {wait_s:g} s, so that the BI database "
                        f"still shows {live.release if live else 'nothing'}: {self._holders(parts)}.",
                        remedy="end them, then run 'penstock bi publish'",
                    ) from None
            time.sleep(_RETRY_S)

    def _swap_script(self, live: Live | None, parts: Sequence[Part], release: Release, fence: int) -> str:
        lines = [self._guard(live, parts[0].upcoming)]
        if live is not None:
            lines.append(locked(_names(parts)))
        lines += [part.moved(self._state.mark("current", fence, release.id)) for part in parts]
        if live is not None:  # views of roles are on tables of the first schema, which so goes last
            lines += [part.cleared(self._state.mark("retired", live.fence, live.release)) for part in reversed(parts)]
        return "".join([*lines, "COMMIT;\n"])

    def _renewal(self, live: Live, fence: int) -> str:
        """Only the number changes: whoever was stopped before must not come after us."""
        schema, mark = identifier(self._schema), self._state.mark("current", fence, live.release)
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
            else f"{current} = {literal(self._state.mark_of(live))}"
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

    def _holders(self, parts: Sequence[Part]) -> str:
        names = [full_name(part.schema, name) for part in parts for name in (*part.tables, *part.views)]
        regclasses = ", ".join(f"to_regclass({literal(name)})" for name in names)
        rows = self._state.ask(
            "SELECT DISTINCT a.pid, a.usename, coalesce(nullif(a.application_name, ''), '-') FROM pg_locks l "
            f"JOIN pg_stat_activity a USING (pid) WHERE l.granted AND l.relation IN ({regclasses}) "
            "AND a.pid <> pg_backend_pid() ORDER BY 1;"
        )
        return ", ".join(f"process {pid} of role {role} ({name})" for pid, role, name in rows) or "they have just ended"


def _names(parts: Sequence[Part]) -> str:
    """Everything that readers see now, as a list."""
    return ", ".join(full_name(part.schema, name) for part in parts for name in (*part.tables, *part.views))


def _part_of_role(schema: str, token: str, held: Mapping[str, str], **more: Any) -> Part:
    tables, views = ([name for name, kind in held.items() if kind in each] for each in ("rp", "v"))
    return Part(schema, token, tables, views, **more)
