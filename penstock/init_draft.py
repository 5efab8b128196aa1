"""What ``penstock init`` suggests of a source, before it is text: names, types, keys, modes - each with its reason.

A draft is plain data made by ``init_tables.py`` (databases) or ``init_objects.py`` (buckets) and told as YAML by
``init_files.py``. It is not a ``SourceSpec`` because it also holds what a spec cannot: the reasons, what only looks
personal, and what had to be left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RESERVED = frozenset({"ds", "object_key", "object_line", "source_deleted_at"})
"""Columns that Penstock adds itself."""

_LONGEST_NAME = 63


@dataclass(frozen=True)
class DraftColumn:
    """One column.

    Attributes:
        name: its name in the lake.
        source_name: its name in the source.
        type: type word; None if no word holds it, and then it is left out, with ``remark`` saying so.
        nullable: whether the source may hold nulls.
        description: the source's own comment on it.
        personal: why it looks personal; empty if it does not.
        remark: anything else to tell the reader of the spec.
    """

    name: str
    source_name: str
    type: str | None
    nullable: bool
    description: str = ""
    personal: str = ""
    remark: str = ""


@dataclass(frozen=True)
class DraftTable:
    """One table.

    Attributes:
        name: its name behind the source's.
        source_name: its name in the source; empty for objects.
        schema: its schema, where that is not the one a spec need not name.
        mode: snapshot, incremental, append or window.
        reason: why that mode.
        columns: in their order.
        primary_key: columns of the key, by their names in the lake.
        key_remark: where the key comes from, if not from a primary key.
        cursor: column and late window, or nothing.
        window: column, or nothing.
        version_column: the column whose largest value is the newest version of a row.
        objects: the ``objects:`` section, or nothing.
        rows_estimated: by the source's statistics; None where it has none.
        description: the source's own comment.
    """

    name: str
    source_name: str
    schema: str | None
    mode: str
    reason: str
    columns: tuple[DraftColumn, ...]
    primary_key: tuple[str, ...] = ()
    key_remark: str = ""
    cursor: Mapping[str, Any] = field(default_factory=dict)
    window: Mapping[str, Any] = field(default_factory=dict)
    version_column: str | None = None
    objects: Mapping[str, Any] = field(default_factory=dict)
    rows_estimated: int | None = None
    description: str = ""

    @property
    def kept(self) -> list[DraftColumn]:
        """Columns that the spec declares."""
        return [column for column in self.columns if column.type is not None]

    @property
    def personal(self) -> list[DraftColumn]:
        """Columns that look personal."""
        return [column for column in self.kept if column.personal]


@dataclass(frozen=True)
class DraftSource:
    """One source.

    Attributes:
        source, kind, connection, time_zone, schedule, owner, description: as in a spec.
        remarks: what the reader of each of these keys should know, by key.
        tables: in the order in which they are written.
        left_out: what the source has and the spec does not, with the reason.
        last_day: the newest day that the source is known to have; empty if it is not known.
    """

    source: str
    kind: str
    connection: str
    time_zone: str
    owner: str
    description: str
    tables: tuple[DraftTable, ...]
    schedule: str = "0 3 * * *"
    remarks: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    last_day: str = ""


def lake_name(text: str, *, number: int = 0) -> str:
    """A name of the source as a name in the lake: ``InvoiceLine``, ``invoice-line``, ``INVOICE_LINE`` -> invoice_line.

    Args:
        text: the source's name.
        number: its position, for a name without a single letter or digit of the Latin alphabet.
    """
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    plain = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", plain)
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", plain)
    plain = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    if not plain:
        plain = f"column_{number}"
    if plain[0].isdigit():
        plain = f"n_{plain}"
    if plain in RESERVED:
        plain = f"source_{plain}"
    return plain[:_LONGEST_NAME].rstrip("_")


def distinct(names: Iterable[str]) -> list[str]:
    """The names, those that stand twice numbered from 2 on: ``[a, a]`` -> ``[a, a_2]``."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in found:
            suffix = f"_{number}"
            candidate, number = name[: _LONGEST_NAME - len(suffix)] + suffix, number + 1
        found.append(candidate)
    return found
