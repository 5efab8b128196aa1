"""How an effective suite is shown."""

from __future__ import annotations

from typing import Any

from penstock.cli_options import print_json
from penstock.show import print_table, say
from penstock.yaml_text import flow


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


def _place(place: str, file: str, *, derived: bool) -> str:
    """``line 12`` of the suite's own file, else the other file's name and line."""
    if derived:
        return f"derived: {place.rsplit('/', 1)[-1]}"
    return f"line {place.removeprefix(f'{file}:')}"
