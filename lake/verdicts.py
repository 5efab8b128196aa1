"""Where verdicts lie in the lake: refusals, and Great Expectations' own results beside them.

::

    ops/refusals/<table>/<key>-<attempt>.json        why a batch was refused: written when nothing else remains of it
    ops/validations/<table>/<key>/<attempt>.json     Great Expectations' own JSON of any verdict, published or refused

Receipts and refusals hold the verdict itself, and in ``verdict.validation`` the path of the second below the lake's
root. The attempt in that path is the staged one: writing without rejected rows, or merging, makes further attempts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from common.verdict import Verdict
from lake.lake import Lake
from lake.paths import TableId, engine_path, new_attempt, refusal_folder, root_location, validation_reference


def recorded(verdict: Verdict, table: TableId, key: str, attempt: str) -> dict[str, Any]:
    """A verdict as receipts, refusals and manifests hold it."""
    reference = validation_reference(table, key, attempt) if verdict.validation_json else ""
    return {**verdict.to_dict(), "validation": reference}


def keep_validation(lake: Lake, verdict: Verdict, record: Mapping[str, Any]) -> None:
    """Write Great Expectations' own result where the record says.

    Raises:
        StoreUnavailable: the store does not take it.
    """
    if record["validation"]:
        lake.storage.write_text(_location(lake, record), verdict.validation_json)


def withdraw_validation(lake: Lake, record: Mapping[str, Any]) -> None:
    """Delete the result of a batch that did not come to anything; what cannot be deleted harms nobody."""
    if record["validation"]:
        with suppress(OSError):
            lake.storage.delete(_location(lake, record))


def _location(lake: Lake, record: Mapping[str, Any]) -> str:
    return f"{root_location(lake.settings.lake_uri)}/{record['validation']}"


def record_refusal(
    lake: Lake, table: TableId, key: str, run_id: str, figures: Mapping[str, Any], *, attempt: str | None = None
) -> str:
    """Keep why something was refused where people can read it; the path of the account."""
    location = f"{refusal_folder(lake.settings.lake_uri, table)}/{key}-{attempt or new_attempt()}.json"
    account = {"table": str(table), "key": key, "run_id": run_id, "refused_at": lake.clock().isoformat(), **figures}
    lake.storage.write_json(location, account)
    return engine_path(location)


def record_refused_verdict(
    lake: Lake, table: TableId, key: str, run_id: str, verdict: Verdict, *, attempt: str, **figures: Any
) -> str:
    """The same of a verdict, with Great Expectations' own result of it."""
    record = recorded(verdict, table, key, attempt)
    keep_validation(lake, verdict, record)
    return record_refusal(lake, table, key, run_id, {**figures, "verdict": record}, attempt=attempt)
