"""The pieces of SQL that publishing to the BI database is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lake.sql import identifier, literal

CHANGED = "penstock: the schema has changed meanwhile"
"""What the database says when it is no longer as it was looked at."""
LOCKED_OUT = "penstock: the tables are in use"
"""What it says when transactions had tables open all the time."""
LOCK_WAIT_MS = 100
"""How long one try to lock the tables waits, and so how long a reader may wait behind it."""
_TRIES, _PAUSE_S = 5, 0.03

SESSION = r"""\set VERBOSITY terse
SET client_min_messages = warning;
SET standard_conforming_strings = on;
SET DateStyle = ISO;
SET IntervalStyle = postgres;
SET TimeZone = 'UTC';
SET search_path = pg_catalog;
"""
MARK = re.compile(
    r"Made by Penstock for schema (?P<schema>.+): (?P<state>next|current|retired|partitions), "
    r"warehouse (?P<warehouse>\w+), fence (?P<fence>\d+), release (?P<release>\w+)\."
)


def mark_text(schema: str, state: str, warehouse: str, fence: int, release: str) -> str:
    """The comment by which a schema of ours is known; :data:`MARK` reads it."""
    return f"Made by Penstock for schema {schema}: {state}, warehouse {warehouse}, fence {fence}, release {release}."


def copied(schema: str, table: str, lines: Iterable[bytes], columns: str = "") -> Iterator[bytes]:
    """COPY a table's rows, frozen: visible to every snapshot, also to those from before."""
    yield f"COPY {identifier(schema)}.{identifier(table)} {columns} FROM STDIN (FORMAT text, FREEZE);\n".encode()
    yield from lines
    yield b"\\.\n"


def qualified(schema: str, names: Iterable[str]) -> str:
    """Names of tables of a schema, quoted, as a list."""
    return ", ".join(f"{identifier(schema)}.{identifier(name)}" for name in names)


def full_name(schema: str, name: str) -> str:
    """Schema and table, quoted: how ``_tables`` names what belongs to a role."""
    return f"{identifier(schema)}.{identifier(name)}"


def unless(condition: str, message: str) -> str:
    """A statement that fails with a message unless a condition holds."""
    return (
        f"DO $penstock$ BEGIN IF NOT ({condition}) THEN RAISE EXCEPTION {literal(message)}; END IF; END $penstock$;\n"
    )


def dropped(schema: str, tables: Sequence[str], views: Sequence[str] = ()) -> str:
    """Drop a schema of ours and what is in it, unless something else depends on it or has it open."""
    drop = f"DROP VIEW {qualified(schema, views)} RESTRICT; " if views else ""
    drop += f"DROP TABLE {qualified(schema, tables)} RESTRICT; " if tables else ""
    return (
        f"DO $penstock$ BEGIN {drop}DROP SCHEMA {identifier(schema)} RESTRICT; "
        "EXCEPTION WHEN dependent_objects_still_exist OR lock_not_available THEN NULL; END $penstock$;\n"
    )


def locked(names: str) -> str:
    """Lock tables and views, as :func:`qualified` lists them, against all readers.

    In tries that give everything free again when one lock is not to be had. So no reader waits long, and one that holds
    what we want while it wants what we hold gets it.
    """
    return (
        f"DO $penstock$ BEGIN FOR try IN 1..{_TRIES} LOOP BEGIN "
        f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE; RETURN; "
        f"EXCEPTION WHEN lock_not_available OR deadlock_detected THEN PERFORM pg_sleep({_PAUSE_S}); END; END LOOP; "
        f"RAISE EXCEPTION {literal(LOCKED_OUT)}; END $penstock$;\n"
    )


def partitions_schema(schema: str) -> str:
    """The schema in which partitions of tables lie, where no tool shows them and no reader looks."""
    return f"{schema}__partitions"


@dataclass(frozen=True)
class Exchange:
    """What a swap does with the partitions of one table.

    Attributes:
        table: the table.
        gone: names of partitions that leave it.
        comes: names of partitions that come, each with its bounds.
        in_place: whether the table is the one that is there; a new one has its partitions already.
    """

    table: str
    gone: Sequence[str]
    comes: Sequence[tuple[str, str]]
    in_place: bool


@dataclass(frozen=True)
class Part:
    """One schema in a swap: what readers see now, what they will see, and what becomes of the former.

    Attributes:
        schema: its name to readers.
        token: of this publishing.
        tables, views: what is in it now; both empty where it is not there yet.
        is_there: whether it is there now.
        carried: tables of it that are moved along, with all or some of their partitions.
        exchanges: of its tables that have partitions.
        partitions: name of the schema of partitions.
        comes: whether there will be one; a role that the policy no longer has loses its own.
    """

    schema: str
    token: str
    tables: Sequence[str] = ()
    views: Sequence[str] = ()
    is_there: bool = False
    carried: Sequence[str] = ()
    exchanges: Sequence[Exchange] = ()
    partitions: str = ""
    comes: bool = True

    @property
    def upcoming(self) -> str:
        """Its name until the swap."""
        return f"{self.schema}__next_{self.token}"

    @property
    def retired(self) -> str:
        """The name of the former from the swap on."""
        return f"{self.schema}__old_{self.token}"

    def moved(self, current: str) -> str:
        """The statements that put the upcoming one in the place of the one there is; ``current`` is its mark."""
        schema, lines = identifier(self.schema), list[str]()
        for exchange in self.exchanges:
            lines += self._exchanged(exchange)
        lines += [
            f"ALTER TABLE {schema}.{identifier(name)} SET SCHEMA {identifier(self.upcoming)};\n"
            for name in self.carried
        ]
        if self.is_there:
            lines.append(f"ALTER SCHEMA {schema} RENAME TO {identifier(self.retired)};\n")
        if self.comes:
            lines.append(f"ALTER SCHEMA {identifier(self.upcoming)} RENAME TO {schema};\n")
            lines.append(f"COMMENT ON SCHEMA {schema} IS {literal(current)};\n")
        return "".join(lines)

    def _exchanged(self, exchange: Exchange) -> Iterator[str]:
        table = full_name(self.schema, exchange.table)
        for name in exchange.gone:  # and so it is dropped, or kept for who needs it, with the schema that retires
            yield f"ALTER TABLE {table} DETACH PARTITION {full_name(self.partitions, name)};\n"
            yield f"ALTER TABLE {full_name(self.partitions, name)} SET SCHEMA {identifier(self.schema)};\n"
        for name, bounds in exchange.comes:
            yield f"ALTER TABLE {full_name(self.upcoming, name)} SET SCHEMA {identifier(self.partitions)};\n"
            if exchange.in_place:
                yield f"ALTER TABLE {table} ATTACH PARTITION {full_name(self.partitions, name)} {bounds};\n"

    def cleared(self, retired: str) -> str:
        """The statements that drop the former; ``retired`` is its mark, for as long as something keeps it."""
        if not self.is_there:
            return ""
        # A view that somebody has built on an old table keeps it: it is told of, not torn down.
        left = [name for name in self.tables if name not in self.carried]
        left += [name for exchange in self.exchanges for name in exchange.gone]
        mark = f"COMMENT ON SCHEMA {identifier(self.retired)} IS {literal(retired)};\n"
        return mark + dropped(self.retired, left, self.views)


def granted(schema: str, readers: Sequence[str]) -> str:
    """The statements that let roles read a schema's tables; a role that does not exist is made, without login."""
    return "".join(
        f"SELECT format('CREATE ROLE %I NOLOGIN', {literal(role)}) "
        f"WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(role)}) \\gexec\n"
        f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(role)};\n"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {identifier(schema)} TO {identifier(role)};\n"
        for role in readers
    )
