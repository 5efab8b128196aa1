"""Commands about the work itself: what it cost, and figures for Prometheus. And how every command is accounted for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from common import logs, work
from penstock.cli_options import Json, load_settings


class Accounted(typer.core.TyperGroup):
    """The command line as a whole: what a command has used is kept, and what it tells is sent, however it ends."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        logs.configure("text")
        work.begin(" ".join(ctx._protected_args))  # noqa: SLF001 - click's name of the command before it runs
        try:
            answer = super().invoke(ctx)
        except BaseException as error:
            work.end(None if isinstance(error, typer.Exit) else error)
            raise
        work.end()
        return answer


class By(StrEnum):
    """How costs are grouped."""

    table = "table"
    stage = "stage"
    run = "run"
    day = "day"


def costs(
    by: Annotated[By, typer.Option("--by", help="How to group them.")] = By.table,
    start: Annotated[str | None, typer.Option("--from", help="First day on which work was done, UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Day after the last one.")] = None,
    as_json: Json = False,
) -> None:
    """What work has used: CPU, time, bytes, memory - of tables, stages, runs or days."""
    from common.intervals import parse_day
    from penstock.costs import account
    from penstock.pipeline import Pipeline
    from penstock.show_telemetry import show_costs

    for day in (start, end):
        if day is not None:
            parse_day(day)
    rows = account(Pipeline(load_settings()), by.value, start=start, end=end)
    show_costs(rows, by.value, as_json=as_json)


def metrics(
    serve: Annotated[bool, typer.Option("--serve", help="Answer Prometheus until interrupted.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    every: Annotated[int, typer.Option("--every", min=1, help="Seconds for which a page holds.")] = 60,
    textfile: Annotated[
        Path | None, typer.Option("--textfile", help="Write the page to this file, for node-exporter.")
    ] = None,
) -> None:
    """Figures of lake and releases for Prometheus: freshness, intervals, quarantine, refusals, costs."""
    import sys

    from common.errors import UsageError
    from common.files import write_atomic
    from penstock.metrics import page
    from penstock.show import say

    if serve and textfile is not None:
        raise UsageError("--serve and --textfile do not go together.", remedy="give one of them")
    settings = load_settings()
    if serve:
        from penstock.metrics_server import serve as answer

        answer(settings, host, port, every_s=every)
    elif textfile is not None:
        write_atomic(textfile, page(settings), mode=0o644)
        say(f"The page is in {textfile}.")
    else:
        sys.stdout.write(page(settings))


COMMANDS = (costs, metrics)
