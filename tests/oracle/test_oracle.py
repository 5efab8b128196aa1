"""The whole system against the oracle: whatever is done to it, it shows what the serial model says, after each step."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.oracle.machine import Oracle
from tests.oracle.world import World

EXAMPLES, STEPS = 3, 6
"""A sample; the long run is fault 25 of ``make faults``."""


def test_the_world_equals_the_oracle_whatever_is_done_to_it(world: World) -> None:
    machine = type("OracleOfThisTest", (Oracle,), {"world": world})
    run_state_machine_as_test(
        seed(2013)(machine),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            print_blob=True,
        ),
    )
