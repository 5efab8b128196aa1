"""Keeps ``ops.*`` in step with receipts, refusal files, release manifests, files of costs and the servers' logs.

::

    live attempts of raw and refined ─┐
    attempts of their last snapshots ─┼─ not in ops.ledger yet ─▶ read those files ─▶ gate_results ─▶ ledger
    refusal files, releases ──────────┘                                               one commit     one commit
    cost files that ops.costs does not have ─▶ costs                                                  one commit
    logged queries behind what ops.queries has ─▶ queries (penstock/query_history.py)                 one commit a chunk

Nothing is written where the work is done: a sync may be left out, come twice, at once or after a crash, and the next
one makes it good. ``ops.ledger`` is committed last, so an attempt that stands there is done; only attempts that do not
stand there cost a read. A batch that was replaced before any sync saw it is still found while its snapshot is listed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from common.hashing import digest
from lake.batches import Receipt
from lake.catalog import find_table
from lake.commit import ATTEMPT_PROPERTY
from lake.costs import pending_costs
from lake.lake import Lake
from lake.ops import COSTS, GATE_RESULTS, LEDGER, Row, append_missing, declare_ops, remembered
from lake.paths import WHOLE, TableId, refusal_folder
from penstock.costs import keep
from penstock.facts import FACTS
from penstock.query_history import sync_queries
from penstock.status import lake_tables
from warehouse.releases import Release, Releases

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

_REFUSAL = re.compile(r"/([a-z_0-9]+\.[a-z_0-9]+)/(.+)-([0-9a-f]{32})\.json$")
_STAGES = {"raw": "ingest", "refined": "refine", "warehouse": "warehouse"}


@dataclass(frozen=True)
class Recorded:
    """What a sync added, and how long it took."""

    gate_results: int
    ledger: int
    costs: int
    queries: int
    seconds: float


@dataclass(frozen=True)
class _Account:
    """One attempt as both tables tell of it."""

    head: dict[str, Any]
    moment: datetime
    figures: dict[str, Any] | None
    results: list[dict[str, Any]]
    rows_checked: int

    def ledger_rows(self) -> list[Row]:
        return [] if self.figures is None else [{**self.head, **self.figures, "published_at": self.moment}]

    def gate_rows(self) -> Iterator[Row]:
        for result in self.results:
            observed = result.get("observed")
            yield {
                **self.head,
                "rule": result["rule"],
                "expectation": result.get("expectation", ""),
                "severity": result["severity"],
                "is_row_level": bool(result.get("row_level")),
                "passed": bool(result["passed"]),
                "observed": None if observed is None else json.dumps(observed, default=str),
                "rows_unexpected": result.get("rows_unexpected"),
                "rows_checked": self.rows_checked,
                "error": result.get("error"),
                "judged_at": self.moment,
            }


def record(pipeline: Pipeline) -> Recorded:
    """Bring the tables in step; what this run has used so far is among it.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: the next sync goes on from there.

    Side effects: one commit per table, or none if there is nothing new.
    """
    started = time.perf_counter()
    lake = pipeline.lake
    keep(pipeline)
    declare_ops(lake)
    known = remembered(lake, LEDGER)
    accounts = [*_batches(pipeline, known), *_refusals(lake, known), *_releases(pipeline, known)]
    gate_rows = [row for account in accounts for row in account.gate_rows()]
    ledger = [row for account in accounts for row in account.ledger_rows()]
    costs = append_missing(lake, COSTS, pending_costs(lake), run_id=pipeline.run_id)
    queries = sync_queries(pipeline)
    results = append_missing(lake, GATE_RESULTS, gate_rows, run_id=pipeline.run_id)
    rows = append_missing(lake, LEDGER, ledger, run_id=pipeline.run_id)
    return Recorded(results, rows, costs, queries, time.perf_counter() - started)


# -- batches -----------------------------------------------------------------------------------------------------------


def _batches(pipeline: Pipeline, known: set[str]) -> Iterator[_Account]:
    for table in lake_tables(pipeline):
        for attempt, key in _landed(pipeline.lake, table).items():
            if attempt not in known:
                receipt = pipeline.lake.find_receipt(table, key, attempt)
                if receipt is not None:
                    yield _batch(receipt)


def _landed(lake: Lake, table: TableId) -> dict[str, str]:
    """Attempt -> partition key, of batches that are live and of those that the last snapshots published."""
    loaded = find_table(lake.catalog, table)
    found: dict[str, str] = {}
    for snapshot in loaded.metadata.snapshots if loaded else ():
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if ATTEMPT_PROPERTY in summary and "penstock.partition_key" in summary:
            attempts = summary.get("penstock.attempts", summary[ATTEMPT_PROPERTY])  # of all that shared the commit
            found |= zip(attempts.split(","), summary["penstock.partition_key"].split(","), strict=True)
    return found | {attempt: key for key, attempt in lake.live_attempts(table).items()}


def _batch(receipt: Receipt) -> _Account:
    moment = _moment(receipt.published_at)
    head = _head(receipt.stage, receipt.table, receipt.key, receipt.attempt, moment, "published", receipt.run_id)
    return _Account(
        {**head, "batch_id": receipt.batch_id},
        moment,
        {
            **_figures(receipt.rows_in),
            "published": receipt.published,
            "quarantined": receipt.quarantined,
            "deduplicated": receipt.deduplicated,
            "deduplicated_because": json.dumps(receipt.because) if receipt.because else None,
            "carried": receipt.carried,
            "deleted": receipt.deleted,
            "replayed": receipt.replayed,
            "discarded": receipt.discarded,
            "warnings": json.dumps(receipt.warnings) if receipt.warnings else None,
            "validation": receipt.verdict.get("validation") or None,
            "seconds": sum(receipt.seconds.values()),
        },
        [] if receipt.rewritten else receipt.verdict.get("results", []),
        int(receipt.verdict.get("rows_checked", receipt.published)),
    )


# -- refusals ----------------------------------------------------------------------------------------------------------


def _refusals(lake: Lake, known: set[str]) -> Iterator[_Account]:
    for path in lake.storage.list_files(refusal_folder(lake.settings.lake_uri)):
        found = _REFUSAL.search(path)
        if found and found[3] not in known:
            yield _refusal(found[1], found[2], found[3], lake.storage.read_json(path))


def _refusal(table: str, key: str, attempt: str, account: Mapping[str, Any]) -> _Account:
    moment = _moment(account["refused_at"])
    namespace, name = table.split(".")
    head = _head(_STAGES[namespace], table, key, attempt, moment, "refused", account.get("run_id", ""))
    if namespace == "warehouse":
        head |= {"table_name": name}
    verdict = account.get("verdict") or {}
    guards = [
        {"rule": guard, "severity": "critical", "passed": False, "observed": account[guard]}
        for guard in ("volume", "anomaly", "deletes")
        if guard in account
    ]
    told = (account.get("reason") or json.dumps(guard["observed"]) for guard in guards)
    reasons = [*verdict.get("reasons", []), *(f"{g['rule']}: {text}" for g, text in zip(guards, told, strict=True))]
    rows_in = int(account.get("rows_in", 0))
    return _Account(
        head,
        moment,
        {
            **_figures(rows_in),
            "rejected": rows_in,
            "reason": "; ".join(reasons),
            "validation": verdict.get("validation") or None,
            "seconds": verdict.get("seconds", 0),
        },
        [*verdict.get("results", []), *guards],
        int(verdict.get("rows_checked", rows_in)),
    )


# -- releases ----------------------------------------------------------------------------------------------------------


def _releases(pipeline: Pipeline, known: set[str]) -> Iterator[_Account]:
    for release in Releases(pipeline.settings.warehouse).all():
        attempt = digest(release.id, release.manifest["built_at"])  # a new warehouse counts from 1 again
        if attempt not in known:
            yield from _release(pipeline.lake, release, attempt)


def _release(lake: Lake, release: Release, attempt: str) -> Iterator[_Account]:
    """Verdicts of a release's tables; and its facts' rows of the intervals that changed, against the refined rows."""
    manifest = release.manifest
    moment, run_id = _moment(manifest["built_at"]), str(manifest.get("run_id", ""))
    tables = {table["name"]: table for table in manifest["tables"]}
    facts = {fact: name for name, (fact, _) in FACTS.items()}

    def head(table: str, key: str) -> dict[str, Any]:
        found = _head("warehouse", table, key, attempt, moment, "published", run_id)
        return {**found, "release_id": release.id}

    for table, verdict in manifest["verdicts"].items():
        rows = int(tables[table]["rows"]) if table in tables else int(verdict["rows_checked"])
        figures = {**_figures(rows), "published": rows, "seconds": verdict.get("seconds", 0)}
        whole = None if table in facts else figures  # a fact's rows are accounted for by interval
        yield _Account(head(table, WHOLE), moment, whole, verdict["results"], int(verdict["rows_checked"]))
    for fact, name in facts.items():
        attempts = manifest["inputs"].get(name, {}).get("attempts", {})
        changed = attempts if manifest.get("full_refresh") else manifest.get("changed_keys", {}).get(name) or ()
        for key in changed:
            receipt = lake.find_receipt(TableId("refined", name), key, attempts[key]) if key in attempts else None
            if receipt is not None:
                rows = int(tables[fact]["rows_by_key"].get(key, 0)) if fact in tables else 0
                yield _Account(head(fact, key), moment, {**_figures(receipt.published), "published": rows}, [], rows)


def _head(
    stage: str, table: str, key: str, attempt: str, moment: datetime, outcome: str, run_id: str
) -> dict[str, Any]:
    return {
        "month": moment.strftime("%Y-%m"),
        "stage": stage,
        "table_name": table,
        "partition_key": key,
        "attempt_id": attempt,
        "batch_id": "",
        "run_id": run_id,
        "release_id": None,
        "outcome": outcome,
    }


def _figures(rows_in: int) -> dict[str, Any]:
    names = ("published", "quarantined", "rejected", "deduplicated", "carried", "deleted", "replayed", "discarded")
    counts = dict.fromkeys(names, 0)
    return {"rows_in": rows_in, **counts, "seconds": 0.0}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
