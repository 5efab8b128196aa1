"""The command that ingests what events tell of, for those who have no scheduler."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json


def watch(
    source: Annotated[list[str] | None, typer.Argument(help="Source names; all that have events by default.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Take what has come by now, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Ingest what buckets and queues tell of as it comes, until interrupted. See 'events:' in the specs."""
    from common.errors import PenstockError
    from lake.batches import Receipt
    from penstock.pipeline import Pipeline
    from penstock.show import say
    from penstock.watch import Watcher

    ended: list[Receipt | PenstockError] = []

    def told(result: Receipt | PenstockError) -> None:
        if once:
            ended.append(result)
        if as_json:
            return
        if isinstance(result, PenstockError):
            say(f"refused: {type(result).__name__}: {result}")
        else:
            say(f"{result.table} {result.key}: {result.state}, {result.rows_in:,} rows in, {result.published:,} live")

    watcher = Watcher(Pipeline(load_settings()), source or [], told)
    if not once and not as_json:
        buckets, queues = watcher.watched.buckets, watcher.watched.queues
        say(f"Watching {len(buckets)} buckets' tables and {len(queues)} queues. End it with Ctrl-C.")
    watcher.run(once=once)
    refusals = [result for result in ended if isinstance(result, PenstockError)]
    if as_json:
        print_json(
            {
                "ingested": [
                    {"table": each.table, "interval": each.key, "state": each.state, "published": each.published}
                    for each in ended
                    if isinstance(each, Receipt)
                ],
                "refusals": [{"error": type(each).__name__, "message": str(each)} for each in refusals],
            }
        )
    raise typer.Exit(refusals[0].exit_code if refusals else 0)


COMMANDS = (watch,)
