"""How an effective suite is shown, and what it says of the rows that are live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli_options import print_json
from penstock.show import print_table, say
from penstock.yaml_text import flow

if TYPE_CHECKING:
    from penstock.suite_check import Checked


def show_suite(found: dict[str, Any], *, as_json: bool) -> None:
    """An effective suite (:func:`penstock.suite_files.describe_suite`)."""
    if as_json:
        print_json(found)
        return
    derived = sum(rule["origin"] == "derived" for rule in found["rules"])
    title = f"Suite {found['suite']}: {len(found['rules'])} rules, {derived} of them derived"
    rows = [
        {
            **rule,
            "from": _place(rule["place"], found["file"], derived=rule["origin"] == "derived"),
            "asks": f"{rule['expect']} {flow(rule['kwargs'])}",
        }
        for rule in found["rules"]
    ]
    print_table(title, rows, ("id", "severity", "mostly", "asks", "why", "from"))
    say(f"File: {found['file']}")
    signed = f", by {found['policy_by']}: {found['policy_reason']}" if found["policy_by"] else ""
    say(f"Policy: {found['policy']}{signed}")
    if found["budget"]:
        say(f"Budget: {found['budget']}")
    if found["references"]:
        say(f"Reads: {', '.join(found['references'])}")


def show_checked(table: str, checked: Sequence[Checked], *, as_json: bool) -> None:
    """Intervals that were judged again (:func:`penstock.suite_check.check_table`)."""
    found = [each.to_dict() for each in checked]
    if as_json:
        print_json({"table": table, "intervals": found})
        return
    rows = [
        {"interval": each["interval"], "rows": each["rows"], **failed, "observed": _observed(failed)}
        for each in found
        for failed in each["failed"]
    ]
    if rows:
        print_table(
            f"What fails in {table}", rows, ("interval", "rule", "severity", "rows", "rows_unexpected", "observed")
        )
    for each in found:
        for reason in each["reasons"]:
            say(f"{each['interval']} would be refused: {reason}")
    rejected, refused = (sum(each[name] for each in found) for name in ("would_reject", "would_refuse"))
    judged = sum(each["rows"] for each in found)
    say(
        f"{len(found):,} intervals, {judged:,} rows: {rejected:,} rows would be rejected, {refused:,} intervals "
        "refused."
    )


def _observed(failed: dict[str, Any]) -> str:
    """What a rule on the batch observed, or why it could not be judged; of a rule on rows their number says it."""
    told = failed["error"] or ("" if failed["rows_unexpected"] is not None else failed["observed"])
    return str(told)[:80]


def _place(place: str, file: str, *, derived: bool) -> str:
    """``line 12`` of the suite's own file, else the other file's name and line."""
    if derived:
        return f"derived: {place.rsplit('/', 1)[-1]}"
    return f"line {place.removeprefix(f'{file}:')}"
