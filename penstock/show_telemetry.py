"""How costs are shown."""

from __future__ import annotations

from typing import Any

from penstock.cli_options import print_json
from penstock.costs import total
from penstock.show import print_table, say

_COLUMNS = ("times", "cpu_s", "cpu_share_pct", "wall_s", "read_mb", "written_mb", "peak_mb")


def show_costs(rows: list[dict[str, Any]], by: str, *, as_json: bool) -> None:
    """An account of :func:`penstock.costs.account` with its sums, or the same as JSON."""
    sums = total(rows)
    if as_json:
        print_json({"by": by, "rows": rows, "total": sums})
        return
    if not rows:
        say("No costs are kept yet.")
        return
    names = [name for name in rows[0] if name in {"table_name", "stage", "step", "run_id", "day"}]
    last = {names[0]: "in all", **sums, "cpu_share_pct": 100.0}
    print_table(f"Costs by {by}", [_readable(row, names) for row in [*rows, last]], (*names, *_COLUMNS))


def _readable(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    megabytes = {
        "read_mb": row["read_bytes"] / 1e6,
        "written_mb": row["written_bytes"] / 1e6,
        "peak_mb": row["peak_rss_bytes"] / 1e6,
    }
    shown = {**row, **megabytes}
    if names == ["table_name"] and not row["table_name"]:
        shown["table_name"] = "(no table)"
    return shown
