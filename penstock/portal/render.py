"""From facts to a page: templates, and how values are written for people. Everything is escaped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FOLDER = Path(__file__).parent
_PATH = re.compile(r"(?<![\w:/.])(?:/[\w.@+-]+)+/([\w.@+-]+)")
NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

STYLE = FOLDER / "static" / "portal.css"
ICON = FOLDER / "static" / "icon.svg"


@cache
def environment() -> Environment:
    """The templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["style"] = f"/static/portal.css?v={hashlib.sha256(STYLE.read_bytes()).hexdigest()[:12]}"
    found.filters |= {"number": number, "moment": moment, "ago": ago, "cell": cell, "is_number": is_number}
    found.filters |= {
        "first_sentence": first_sentence,
        "signed": signed,
        "incident_title": incident_title,
        "table_name": table_name,
    }
    found.filters |= {"without_folders": without_folders, "breakable": breakable}
    return found


def number(value: float | None) -> str:
    """A count: ``336,776``; a dash for none."""
    return NOTHING if value is None else f"{value:,.0f}"


def signed(value: int) -> str:
    """A difference, with its sign."""
    return f"{value:+,}" if value else "0"


def moment(value: str | datetime | None) -> str:
    """A moment in UTC, to the minute; a dash for none."""
    if not value:
        return NOTHING
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(value: str | datetime | None, now: datetime) -> str:
    """How long a moment is past, in its largest unit: ``3 hours ago``."""
    if not value:
        return "never"
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    seconds = max(0.0, (now - at).total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count:,} {unit}{'s' * (count > 1)} ago"
    return "just now"


def is_number(kind: str) -> bool:
    """Whether a DuckDB type is a number's, which stands to the right."""
    return kind.startswith(
        ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "U", "DECIMAL", "FLOAT", "DOUBLE")
    ) and (not kind.startswith(("UUID", "UNION")) and not kind.endswith("]"))


def first_sentence(text: str) -> str:
    """What a description begins with."""
    return text.strip().split(". ")[0].split("\n")[0].rstrip(".") + "." if text.strip() else ""


def incident_title(incident: Mapping[str, Any]) -> str:
    """What is wrong, in a line; without the scope operate only of what kind it is, and where."""
    return incident["subject"] or f"{incident['kind']}: {', '.join(incident['tables'] or incident['affected'])}"


def breakable(name: str) -> Markup:
    """A name that may go on in a new line behind each underscore or dot, where a window is narrow."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[_.])(?![_.])", name))


def without_folders(text: str) -> str:
    """A message without the folders of this machine: of a path its last part is left."""
    return _PATH.sub(r"\1", text)


def table_name(table: str) -> str:
    """A table of a lineage; of a source's only what it is called there, not where that is."""
    return f"source/{table.rpartition('/')[2]}" if "/" in table else table.removeprefix("warehouse.")


def cell(value: Any, kind: str = "") -> str:
    """A value of a dataset of a DuckDB type, as it is; long text is cut, and an instant written for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal | float):
        return f"{value:,f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:,f}"
    text = str(value)
    if kind.startswith("TIMESTAMP"):
        text = text.replace("T", " ", 1).replace(".000000", "")
    return text if len(text) <= 160 else f"{text[:160]}…"
