"""One job of a campaign: the trials of one fault, or of one part of it, each a JSON line as soon as it is done.

Usage: ``python -m tests.campaign.job 2 [--part drop] [--seed 1] [--quick] [--to FILE] [--limit-s 0]``
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.campaign.campaign import Campaign, campaign
from tests.campaign.trial import Trial

FOLDER = Path(__file__).parent


def module_of(number: str) -> Any:
    """The module of a fault's own trials; None if tests elsewhere are all there is."""
    name = f"fault_{int(number):02d}" if number.isdecimal() else f"fault_{number.lower()}"
    return importlib.import_module(f"tests.campaign.{name}") if (FOLDER / f"{name}.py").exists() else None


def parts_of(number: str, *, quick: bool) -> tuple[str, ...]:
    """The parts of a fault's own trials: jobs of a whole campaign, of which a quick one makes one job."""
    module = module_of(number)
    if module is None:
        return ()
    parts = tuple(getattr(module, "PARTS", ("",)))
    return tuple(getattr(module, "QUICK_PARTS", parts)) if quick else parts


def limit_of(number: str, part: str, limit_s: int) -> int:
    """Time of a job, in s: the fault's own, unless its module says how it is shared out."""
    shared: Callable[[str, int], int] = getattr(module_of(number), "limit_s", lambda _part, own: own)
    return shared(part, limit_s)


def trials(number: str, made: Campaign) -> Iterator[Trial]:
    """A fault's trials; what ends them early is the last one."""
    try:
        yield from module_of(number).trials(made)
    except Exception as error:  # whatever it is, it is a defect that the campaign reports
        yield Trial(number, seed=made.seed, stage=made.part, error=f"{type(error).__name__}: {error}")
        raise


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault")
    parser.add_argument("--part", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--limit-s", type=int, default=0, help="begin no trial after so many seconds; 0: no limit")
    given = parser.parse_args()
    parts = (given.part,) if given.part else parts_of(given.fault, quick=given.quick)
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        sys.exit(143)  # services are stopped on the way out

    signal.signal(signal.SIGTERM, stop)
    failed, began = False, time.monotonic()
    with ExitStack() as held:
        out = held.enter_context(given.to.open("a")) if given.to else sys.stdout
        for part in parts:
            with campaign(seed=given.seed, quick=given.quick, part=part) as made:
                for trial in trials(given.fault, made):
                    out.write(trial.line() + "\n")
                    out.flush()
                    failed = failed or bool(trial.defects)
                    if asked:  # while dbt ran, which makes a result of whatever is raised in it
                        sys.exit(143)
                    if given.limit_s and time.monotonic() - began > limit_of(given.fault, part, given.limit_s):
                        break
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
