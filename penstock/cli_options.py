"""Options that several commands share, and the two things every command does: load settings, print JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.settings import Settings
    from common.verdict import Signed


class RunByDefault(typer.core.TyperGroup):
    """``penstock backfill flights ...`` means ``penstock backfill run flights ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` in front of what begins with no command's name."""
        if (args or not self.no_args_is_help) and args[:1] != ["--help"] and not set(args[:1]) & set(self.commands):
            args = ["run", *args]
        return super().parse_args(ctx, args)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Day = Annotated[str, typer.Option("--day", help="Partition key: a calendar day YYYY-MM-DD in the source's time zone.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Largest number of rows to print.")]

AcceptVolume = Annotated[
    list[str] | None,
    typer.Option("--accept-volume", help="Let this raw table shrink as far as it does; may be repeated."),
]
AcceptRefusal = Annotated[
    str | None,
    typer.Option(
        "--accept-refusal",
        help="Publish the batch of one --table although its gate refuses it: the reason, which is recorded.",
    ),
]
By = Annotated[str | None, typer.Option("--by", help="Who answers for --accept-refusal.")]


def signed(reason: str | None, by: str | None, tables: Sequence[str] | None) -> Signed | None:
    """What ``--accept-refusal`` and ``--by`` say; None if neither was given.

    Args:
        reason: the first option.
        by: the second.
        tables: those that the command was limited to.

    Raises:
        UsageError: one of the two is missing or blank, or the command is not about one table.
    """
    if reason is None and by is None:
        return None
    from common.errors import UsageError
    from common.verdict import Signed

    if not (reason or "").strip() or not (by or "").strip():
        raise UsageError(
            "--accept-refusal needs a reason, and --by a name.",
            remedy='write --accept-refusal "why it may be published" --by "who answers for it"',
        )
    if tables is None or len(tables) != 1:
        raise UsageError("--accept-refusal is about one batch.", remedy="name its table with one --table")
    return Signed(by=str(by).strip(), reason=str(reason).strip())


def load_settings() -> Settings:
    """The settings of this process. Side effects: log lines have the form that they say."""
    from common import logs
    from common.settings import Settings, process_environment

    if process_environment().get("PENSTOCK_LOG_FORMAT") == "json":
        logs.configure("json")  # before anything can go wrong
    settings = Settings.load()
    logs.configure(settings.log_format)
    return settings


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
