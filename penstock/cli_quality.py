"""Commands about what was judged: record, quality, contract. ``cli.py`` registers them."""

from __future__ import annotations

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


COMMANDS = (record,)
