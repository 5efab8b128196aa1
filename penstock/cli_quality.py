"""Commands about what was judged: record, quality, contract. ``cli.py`` registers them."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json


def record(as_json: Json = False) -> None:
    """Bring ops.gate_results and ops.ledger in step with everything that was judged. Runs do it by themselves."""
    from dataclasses import asdict

    from penstock.pipeline import Pipeline
    from penstock.records import record as bring_in_step
    from penstock.show import say

    found = bring_in_step(Pipeline(load_settings()))
    if as_json:
        print_json(asdict(found))
    else:
        say(f"{found.gate_results:,} verdicts of rules and {found.ledger:,} accounts of batches were added.")


def quality(
    run: Annotated[
        str | None, typer.Option("--run", help="Pages of this earlier run; without it new ones are written.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open them in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write the quality pages from everything that was judged so far, or find those of an earlier run."""
    from penstock.pipeline import Pipeline
    from penstock.quality_pages import find_pages, write_pages
    from penstock.records import record as bring_in_step
    from penstock.show import say

    pipeline = Pipeline(load_settings())
    if run is None:
        bring_in_step(pipeline)
    path = write_pages(pipeline) if run is None else find_pages(pipeline, run)
    if as_json:
        print_json({"pages": path})
    else:
        say(f"Quality pages: {path}")
    if open_browser:
        import webbrowser

        webbrowser.open(path.as_uri())


COMMANDS = (record, quality)
