"""The oracle for as long as you like: random sequences and random interleavings, each by a seed that is printed.

``make oracle`` (ORACLE_S=600, the seconds it may take). Rounds take turns: an even seed is one sequence of the state
machine (``machine.py``), an odd one some interleavings of a case and a policy that are drawn (``interleavings.py``).
Each round prints a JSON line. ``--seed`` runs one round again, and a sequence that fails is made as short as it can be
then. Exits with 1 if a round failed.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import time
import traceback
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.campaign.campaign import campaign
from tests.oracle.interleavings import CASES, TO_THE_END, Bench, prepare, sampled, trial
from tests.oracle.machine import Oracle
from tests.oracle.world import World, opened_world

STEPS = 20
"""Of a sequence."""

ORDERS = 12
"""Interleavings of a round: the world that they begin from is made once for all of them."""


def main() -> int:
    """Run rounds until the time is over; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="no round begins later than that")
    parser.add_argument("--seed", type=int, help="only the round of this seed")
    arguments = parser.parse_args()
    first = secrets.randbelow(1_000_000_000) if arguments.seed is None else arguments.seed
    failed = rounds = 0
    with campaign(seed=0, quick=True) as made, opened_world(made.services, made.folder) as world:
        ends_s = time.monotonic() + arguments.seconds
        while rounds == 0 or (arguments.seed is None and time.monotonic() < ends_s):
            told = one_round(world, first + rounds, shrink=arguments.seed is not None)
            print(json.dumps(told), flush=True)  # noqa: T201 - what it is for
            rounds, failed = rounds + 1, failed + bool(told["error"])
    print(f"{rounds} rounds from seed {first}, {failed} failed", file=sys.stderr)  # noqa: T201 - as above
    return int(failed > 0)


def one_round(world: World, seed: int, *, shrink: bool) -> dict[str, Any]:
    """What came of the round of a seed."""
    told: dict[str, Any] = {"seed": seed, "kind": "interleavings" if seed % 2 else "sequence", "error": ""}
    began_s = time.monotonic()
    try:
        told |= interleavings(world, seed) if seed % 2 else sequence(world, seed, shrink=shrink)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the round found
        traceback.print_exc()
        told["error"] = f"{type(error).__name__}: {error}"[:2000]
    return {**told, "seconds": round(time.monotonic() - began_s, 1)}


def sequence(world: World, seed: int, *, shrink: bool) -> dict[str, Any]:
    """One random sequence, the world compared with the model behind each step."""
    machine = type("OracleOfThisRound", (Oracle,), {"world": world})
    run_state_machine_as_test(
        seeded(seed)(machine),
        settings=settings(
            max_examples=1,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        ),
    )
    return {"steps": STEPS}


def interleavings(world: World, seed: int) -> dict[str, Any]:
    """Random orders of a case that is drawn, each compared with the serial orders of the model."""
    drawn = random.Random(seed)
    case = drawn.choice(CASES)
    policy = drawn.choice(case.policies)
    bench = Bench(world)
    bench.begin(policy, prepare)
    count = len(case.actors(bench.model))
    alone = [index for index in range(count) for _ in range(TO_THE_END)]
    stops = len(trial(bench, case, alone)[0].trace)
    for order in sampled(count, count * stops, seed, ORDERS):
        trial(bench, case, order)
    return {"case": case.name, "policy": policy, "orders": ORDERS + 1}


if __name__ == "__main__":
    sys.exit(main())
