"""What readers of text share: rows on their way into DuckDB, and records that are no rows, both in bounded memory.

Every reader of text appends to one table of text, ``source_rows (object_key, object_line, <columns>)``, which DuckDB
spills to disk; typed values are made from it in one place (``convert.py``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from common.errors import ObjectCorrupt
from lake.sql import identifier, literal

_CHUNK_ROWS = 20_000
_CHUNK_CHARACTERS = 16 << 20
_SHOWN_CHARACTERS = 1000

MAX_BROKEN = 1_000_000
"""Broken records of one batch beyond which the objects are not what their spec says."""

MAX_BROKEN_CHARACTERS = 64 << 20
"""Text of broken records that is kept whole; of the others, the first 1,000 characters each."""


@dataclass(frozen=True)
class Broken:
    r"""Text that is no record, or a record that holds no such values.

    Attributes:
        line: the line where it begins, the first being 1.
        offset_bytes: the byte of the object, uncompressed, where it begins.
        reason: what is wrong with it.
        text: the text, undecodable bytes written as ``\xff``.
        rule: the rule it waits under; by default the format's own.
        raw: its bytes, where ``text`` cannot say them.
    """

    line: int
    offset_bytes: int
    reason: str
    text: str
    rule: str | None = None
    raw: bytes | None = None


Reject = Callable[[Broken], None]
"""Takes a record that is set apart."""


class SourceRows:
    """The table ``source_rows`` while it is filled.

    Args:
        connection: where the table is made.
        names: its columns behind object and line.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
        self.connection = connection
        self._names = list(names)
        self._rows: list[Sequence[str | int | None]] = []
        self._characters = 0
        columns = ", ".join(f"{identifier(name)} VARCHAR" for name in names)
        connection.execute(f"CREATE TEMP TABLE source_rows (object_key VARCHAR, object_line BIGINT, {columns})")

    def widen(self, name: str) -> None:
        """One column more; the rows that are there already have null in it."""
        self.connection.execute(f"ALTER TABLE source_rows ADD COLUMN {identifier(name)} VARCHAR")
        self._names.append(name)

    def append(self, key: str, line: int, values: Sequence[str | None], characters: int) -> None:
        """Add one row of an object; ``characters`` is about how long it is."""
        self._rows.append([line, *values])
        self._characters += characters
        if len(self._rows) >= _CHUNK_ROWS or self._characters >= _CHUNK_CHARACTERS:
            self.flush(key)

    def flush(self, key: str) -> None:
        """Move the rows of an object that wait here into the table."""
        if not self._rows:
            return
        types = [pa.int64()] + [pa.large_string()] * len(self._names)
        arrays = [pa.array([row[n] for row in self._rows], kind) for n, kind in enumerate(types)]
        self.connection.register("chunk", pa.table(arrays, [f"c{n}" for n in range(len(types))]))
        self.connection.execute(f"INSERT INTO source_rows SELECT {literal(key)}, * FROM chunk")
        self.connection.unregister("chunk")
        self._rows.clear()
        self._characters = 0

    def forget(self, key: str) -> None:
        """Take back the rows of an object."""
        self.connection.execute(f"DELETE FROM source_rows WHERE object_key = {literal(key)}")


class Rejects:
    """Records of a batch that are set apart, with the place where they stand."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._characters = 0

    def of(self, key: str, form: str) -> Reject:
        """What sets records of one object apart; ``form`` names its format.

        The answer raises :class:`ObjectCorrupt` when there are so many that the object must be something else.
        """

        def reject(record: Broken) -> None:
            text = record.text
            if self._characters + len(text) > MAX_BROKEN_CHARACTERS:
                text = text[:_SHOWN_CHARACTERS]
            told = {form: text}
            if record.raw is not None and text is record.text:
                told["base64"] = base64.b64encode(record.raw).decode()
            self._characters += sum(map(len, told.values()))
            self.rows.append(
                {
                    "rule": record.rule or f"{form}_record",
                    "reason": record.reason,
                    "position": f"{key} line {record.line} byte {record.offset_bytes}",
                    "row": json.dumps(told, ensure_ascii=False),
                }
            )
            if len(self.rows) > MAX_BROKEN:
                raise ObjectCorrupt(
                    f"{key}: more than {MAX_BROKEN} records of the interval are broken.",
                    remedy="correct 'format', 'delimiter', 'quote' or 'encoding' in the spec",
                )

        return reject
