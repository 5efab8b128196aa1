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
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from common.errors import CommitConflict, LeaseHeld, PenstockError, SourceRefused, StateCorrupt, UsageError
from common.fault_points import reach
from lake.sql import identifier, literal
from warehouse.bi_roles import BiAccess, BiRole, bi_roles
from warehouse.bi_sql import (
    CHANGED,
    LOCK_WAIT_MS,
    LOCKED_OUT,
    SESSION,
    Part,
    copied,
    full_name,
    granted,
    locked,
    qualified,
    unless,
)
from warehouse.bi_state import BiState, Live, Run
from warehouse.bi_tables import RELEASE_TABLE, TABLES_TABLE, BiTable, bi_tables, copy_lines, own_tables
from warehouse.releases import Release, open_read_only

SWAP_WAIT_S = 60.0
"""How long a swap waits for transactions that have a table of the schema open."""
_RETRY_S = 0.25


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
        before = live.signatures if live is not None else {}
        carried = tuple(name for name, signature in signatures.items() if before.get(name) == signature)
        written = [table for table in tables if table.name not in carried]
        parts = self._parts(live, carried, roles)
        self._load(release, fence, tables, signatures, roles, parts)
        reach("warehouse.bi.before_swap")
        try:
            self._swap(live, parts, release, fence, wait_s)
        except PenstockError:
            with contextlib.suppress(PenstockError):  # or the next one will
                self._state.tidy(self._state.marks(), fence)
            raise
        return BiPublished(release.id, tuple(table.name for table in written), carried, self._state.kept(fence))

    def _parts(self, live: Live | None, carried: Sequence[str], roles: Sequence[BiRole]) -> list[Part]:
        """The schemas that are swapped together, the one of all tables first."""
        token = uuid.uuid4().hex[:8]
        old = (*sorted(live.signatures), RELEASE_TABLE, TABLES_TABLE) if live else ()
        parts = [Part(self._schema, token, old, is_there=live is not None, carried=carried)]
        there = live.roles if live else {}
        before = live.of_roles if live else {}
        for role in roles:
            held, same = there.get(role.schema, {}), role.signatures()
            kept = [
                table.name
                for table in role.copies
                if before.get(full_name(role.schema, table.name)) == same[full_name(role.schema, table.name)]
            ]
            parts.append(_part_of_role(role.schema, token, held, is_there=role.schema in there, carried=kept))
        gone = there.keys() - {role.schema for role in roles}
        parts += [_part_of_role(name, token, there[name], is_there=True, comes=False) for name in sorted(gone)]
        return parts

    # -- loading ---------------------------------------------------------------------------------------------------

    def _load(
        self,
        release: Release,
        fence: int,
        tables: Sequence[BiTable],
        signatures: dict[str, str],
        roles: Sequence[BiRole],
        parts: Sequence[Part],
    ) -> None:
        main, carried = parts[0], {part.schema: part.carried for part in parts}
        written = [(main.upcoming, table) for table in tables if table.name not in main.carried]
        of_roles = {name: signature for role in roles for name, signature in role.signatures().items()}
        places = {table.name: self._schema if table.name in main.carried else main.upcoming for table in tables}
        places[RELEASE_TABLE] = main.upcoming
        upcoming = {part.schema: part.upcoming for part in parts}
        copies = [
            (upcoming[role.schema], table)
            for role in roles
            for table in role.copies
            if table.name not in carried[role.schema]
        ]
        counts = [
            f"SELECT {literal(full_name(schema, table.name))}, count(*) FROM {full_name(schema, table.name)};\n"
            for schema, table in (*written, *copies)
        ]

        def script() -> Iterator[bytes]:
            yield f"{SESSION}BEGIN;\n".encode()
            for part in parts:
                if part.comes:
                    schema, mark = identifier(part.upcoming), self._state.mark("next", fence, release.id)
                    yield f"CREATE SCHEMA {schema};\nCOMMENT ON SCHEMA {schema} IS {literal(mark)};\n".encode()
            with closing(open_read_only(release.database)) as connection:
                for schema, table in written:
                    yield table.create(schema).encode()
                    lines = copy_lines(connection, table.columns, f"main.{identifier(table.name)}")
                    yield from copied(schema, table.name, lines)
                    yield table.finish(schema).encode()
                yield from own_tables(main.upcoming, release, fence, signatures, tables, of_roles)
                yield granted(main.upcoming, self._readers).encode()
                for role in roles:
                    yield from role.script(upcoming[role.schema], places, carried[role.schema], connection)
            yield "".join([*counts, "COMMIT;\n"]).encode()

        # Whoever may read learns what it reads: the answer of this session's last queries, before anything is shown.
        found = {row[0]: int(row[1]) for row in self._state.told(script())}
        expected = {full_name(schema, table.name): table.rows for schema, table in (*written, *copies)}
        if found != expected:
            wrong = next(name for name in expected if found.get(name) != expected[name])
            raise StateCorrupt(
                f"The BI database holds {found.get(wrong)} rows of {wrong}, the release {expected[wrong]}.",
                table=wrong,
                remedy="run 'penstock bi publish'; readers see what they saw before",
            )

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
    tables, views = ([name for name, kind in held.items() if kind == each] for each in "rv")
    return Part(schema, token, tables, views, **more)
