"""What is there now, read from the lake, the quarantine and the releases; nothing is remembered apart from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.errors import UnknownName
from common.settings import Settings
from ingestion.spec import load_sources
from lake.paths import TableId
from lake.quarantine import Chosen, quarantined
from penstock.ledger import raw_tables
from penstock.pipeline import Pipeline
from warehouse.releases import Releases


def status(pipeline: Pipeline) -> dict[str, Any]:
    """Tables with their intervals and rows, the current release, rows in quarantine."""
    tables = []
    for table in lake_tables(pipeline):
        receipts = pipeline.lake.receipts(table)
        if not receipts:
            continue
        keys = [receipt.key for receipt in receipts]
        tables.append(
            {
                "table": str(table),
                "intervals": len(keys),
                "first": keys[0],
                "last": keys[-1],
                "rows": sum(receipt.published for receipt in receipts),
                "quarantined": sum(receipt.quarantined for receipt in receipts),
                "published_at": max(receipt.published_at for receipt in receipts),
            }
        )
    current = Releases(pipeline.settings.warehouse).current()
    release = None
    if current is not None:
        release = {
            "id": current.id,
            "published_at": current.published_at,
            "database": str(current.database),
            "tables": {table["name"]: table["rows"] for table in current.manifest["tables"]},
        }
    return {"home": str(pipeline.settings.home), "tables": tables, "release": release}


def lake_tables(pipeline: Pipeline) -> list[TableId]:
    """Raw tables that the specs declare and refined tables, in the order data flows."""
    return raw_tables(pipeline) + [TableId("refined", name) for name in sorted(pipeline.refined_tables())]


def known_table(pipeline: Pipeline, table: TableId) -> TableId:
    """The table, if there is such a one.

    Raises:
        UnknownName: listing those there are.
    """
    known = lake_tables(pipeline)
    if table not in known:
        raise UnknownName(f"There is no lake table {table}.", remedy=f"use one of {', '.join(map(str, known))}")
    return table


def quarantine_counts(
    pipeline: Pipeline, tables: Sequence[TableId] | None = None, chosen: Chosen | None = None
) -> list[dict[str, Any]]:
    """Rows in quarantine by table, interval and rules; those that wait, of all tables, by default."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for table in lake_tables(pipeline) if tables is None else tables:
        for row in quarantined(pipeline.lake, table, chosen=chosen or Chosen()).to_pylist():
            counts[str(table), row["partition_key"], row["rules"]] += 1
    return [{"table": table, "interval": key, "rules": rules, "rows": n} for (table, key, rules), n in counts.items()]


def noticed(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What the gates of the live batches noticed, summed over intervals by table and rule.

    ``rows`` broke the rule, of ``rows_checked`` in all live batches; ``intervals`` counts where it was noticed.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for table in lake_tables(pipeline):
        receipts = pipeline.lake.receipts(table)
        rows_checked = sum(receipt.verdict["rows_checked"] for receipt in receipts)
        for receipt in receipts:
            for result in receipt.verdict.get("results", []):
                rows = result["rows_unexpected"] or 0
                if result["passed"] and not rows:
                    continue
                line = found.setdefault(
                    (str(table), result["rule"]),
                    {"table": str(table), "rule": result["rule"], "severity": result["severity"], "why": result["why"]}
                    | {"intervals": 0, "rows": 0, "rows_checked": rows_checked, "rows_pct": 0.0},
                )
                line["intervals"] += 1
                line["rows"] += rows
                line["rows_pct"] = 100.0 * line["rows"] / rows_checked if rows_checked else 0.0
    return list(found.values())


def validate_files(settings: Settings) -> str:
    """Load every spec and suite; returns a sentence saying what was found good.

    Raises:
        SpecError: naming file, line and remedy.
    """
    from quality.expectations import check_suite
    from quality.suite import load_suite

    sources = load_sources(settings.sources)
    suites = [load_suite(path) for path in sorted(settings.suites.glob("*/*.yml"))]
    for suite in suites:
        check_suite(suite)
    tables = sum(len(spec.tables) for spec in sources.values())
    return f"{len(sources)} sources with {tables} tables and {len(suites)} suites are valid."
