"""Which models of the warehouse are made from which refined tables, read off the models' own text.

``select * from {{ ref('a') }} ... {{ source('refined', 'b') }}`` -> edges. dbt's own parser tells the same and takes
seconds to import; to say what a backfill will touch must not cost that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from transformations.dbt_session import PROJECT

_EDGE = re.compile(r"\{\{\s*(?:ref\(\s*'(\w+)'|source\(\s*'refined'\s*,\s*'(\w+)')\s*\)\s*\}\}")


@cache
def model_inputs() -> Mapping[str, frozenset[str]]:
    """Model -> what its text reads: other models by name, refined tables as ``refined.<name>``."""
    found = {}
    for path in sorted((PROJECT / "models").rglob("*.sql")):
        edges = _EDGE.findall(path.read_text(encoding="utf-8"))
        found[path.stem] = frozenset(model or f"refined.{table}" for model, table in edges)
    return found


def models_from(tables: Iterable[str]) -> list[str]:
    """Models that are made, directly or not, from these (``refined.<name>`` or models)."""
    reached, before = set(tables), set[str]()
    while reached != before:
        before = set(reached)
        reached |= {model for model, inputs in model_inputs().items() if inputs & reached}
    return sorted(reached & model_inputs().keys())


def refined_inputs(model: str) -> list[str]:
    """Refined tables (``refined.<name>``) that a model is made from, directly or not."""
    seen, pending = set[str](), [model]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += model_inputs().get(name, frozenset())
    return sorted(name for name in seen if name.startswith("refined."))
