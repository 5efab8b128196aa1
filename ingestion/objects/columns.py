"""The columns an object has against those its spec names: one comparison for every format."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import SourceSchemaError
from ingestion.spec import TableSpec


def check_columns(names: Sequence[str], table: TableSpec, where: dict[str, str], thing: str) -> list[str]:
    """Compare an object's column names with the spec.

    Args:
        names: what it has, in its order.
        table: what is declared.
        where: source, table and interval, for messages.
        thing: the object and the part of it that has the names, for messages.

    Returns:
        Columns that the spec does not name; what its policy makes of them is ``header_check.py``'s.

    Raises:
        SourceSchemaError: a declared column is missing, or a name stands twice.
    """
    wanted = [column.in_source for column in table.columns]
    missing = [name for name in wanted if name not in names]
    added = [name for name in names if name not in wanted]
    if missing or len(set(names)) != len(names):
        raise SourceSchemaError(
            f"{thing}: {', '.join(names)[:200] or '(none)'}; expected {', '.join(wanted)}.",
            **where,
            remedy="correct the object's header, or the columns in the spec",
        )
    return added
