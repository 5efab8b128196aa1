"""Options that several commands share, and the two things every command does: load settings, print JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from common.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Day = Annotated[str, typer.Option("--day", help="Partition key: a calendar day YYYY-MM-DD in the source's time zone.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Largest number of rows to print.")]


def load_settings() -> Settings:
    """The settings of this process."""
    from common.settings import Settings

    return Settings.load()


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
