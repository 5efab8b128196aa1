"""What a source's table is called in lineage: as OpenLineage names it for its system.

Standard library only, for the scheduler names its assets by it whenever it reads a DAG file.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote, urlsplit


def source_name(
    url: str,
    kind: Literal["postgresql", "mysql", "objects"],
    *,
    table: str,
    schema: str = "public",
    path: str | None = None,
) -> tuple[str, str]:
    """Namespace and name of a source's table; nothing secret of the connection is in them.

    Args:
        url: the connection's.
        kind: of the source.
        table: its name in the source.
        schema: of a database table.
        path: of objects, with its ``{names}``.
    """
    parts = urlsplit(url)
    if path is not None:
        if parts.scheme == "file":
            return "file", f"{unquote(parts.path).rstrip('/')}/{path}"
        return f"s3://{parts.hostname}", path
    database = unquote(parts.path.strip("/"))
    if kind == "mysql":
        return f"mysql://{parts.hostname}:{parts.port or 3306}", f"{database if schema == 'public' else schema}.{table}"
    return f"postgres://{parts.hostname}:{parts.port or 5432}", f"{database}.{schema}.{table}"
