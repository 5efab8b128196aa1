"""Fault 1: ``kill -9`` in each of eight stages, at every point for the first, second, ... time, and at any time.

Beside the kills every point is made to fail in the four ways in which a call can: a retryable and a terminal error, a
lost reply, a full disk. Then: readers have seen old or new only; the same step once more ends as if nothing had
happened, every row by its key; after a sweep nothing is left.

What is killed at any time is killed again while it makes that good, and looked at after each kill; its end is judged
once for all of them. So recovery is disturbed as well, and 300 kills of a stage cost little more than half.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.crash import Crashes, Passed
from tests.campaign.stages import STAGES, STATES, Stage
from tests.campaign.state import World
from tests.campaign.trial import Trial

GROUPS = {
    "lake": ("extract", "stage", "commit", "refine", "gate"),
    "model": ("model", "swap"),
    "build": ("build",),
}
"""Stages that are tried in turn, in one world, by one job: so they come to the same number if its time ends."""

PARTS = tuple(GROUPS)
QUICK_PARTS = ("",)
"""All of them."""

FAILURES = ("retryable", "terminal", "lost-reply", "disk-full")
TRIALS, QUICK = 300, 2
"""Kills of a stage, those at its points included."""

_MOST = 50
"""How often a point is passed by one step, at most: an end to counting."""


def limit_s(part: str, limit_s: int) -> int:
    """A job's time, of so many seconds for each stage."""
    return limit_s * len(GROUPS.get(part, STAGES))


def trials(campaign: Campaign) -> Iterator[Trial]:
    """The trials of some stages, or of all, in turn."""
    stages = [stage for stage in STAGES if stage.name in GROUPS.get(campaign.part, (stage.name,))]
    last = max(STATES.index(stage.state) for stage in stages) + 1
    world = World.make(campaign.folder, campaign.services.connections, upto=STATES[last])
    going = [_of_stage(campaign, world, stage) for stage in stages]
    while going:
        for each in list(going):
            trial = next(each, None)
            if trial is None:
                going.remove(each)
            else:
                yield trial


def _of_stage(campaign: Campaign, world: World, stage: Stage) -> Iterator[Trial]:
    crashes = Crashes(world, stage)
    passed = crashes.passed()
    made = 0
    for trial in _at_points(campaign, crashes):
        made += trial.kills or 0
        yield trial
    for trial in at_any_time(crashes, passed, campaign.seeds(whole=TRIALS, quick=QUICK)):
        if made >= (QUICK if campaign.quick else TRIALS):
            break
        made += trial.kills or 0
        yield trial


def _at_points(campaign: Campaign, crashes: Crashes) -> Iterator[Trial]:
    """Kills at every point for every time it is passed; of a quick campaign at one of them."""
    points = list(crashes.stage.points)
    if campaign.quick:
        points = [campaign.random(campaign.seed).choice(points)]
    for point in points:
        for n in range(1, _MOST):
            trial = crashes.trial(f"{point}:{n}", point=point, n=n, action="kill", seed=campaign.seed)
            if trial is None and n == 1:
                trial = Trial("1", stage=crashes.stage.name, point=point, n=n, error="the point was not reached")
            if trial is None:
                break
            yield trial
            if campaign.quick:
                break
        for action in FAILURES[: 1 if campaign.quick else None]:
            disturbed = crashes.trial(f"{point}:1:{action}", point=point, n=1, action=action, seed=campaign.seed)
            if disturbed is not None:
                yield disturbed


def at_any_time(crashes: Crashes, passed: list[Passed], seeds: range) -> Iterator[Trial]:
    """Kills at times between the points where the stage begins and ends, of the step and of its reruns."""
    stage = crashes.stage
    lasts_s = _lasts_s(stage, passed)
    for seed in seeds:
        chosen = random.Random(f"{stage.name}/{seed}")
        after_s, *again_s = (max(0.0005, chosen.uniform(0.0, lasts_s)) for _ in range(stage.kills))
        then = [f"{stage.opens}:1:kill={each:.4f}" for each in again_s]
        while True:
            armed = f"{stage.opens}:1:kill={after_s:.4f}"
            trial = crashes.trial(armed, then=then, point="any time", action="kill", seed=seed)
            if trial is not None:
                yield trial
                break
            after_s /= 2  # it was done sooner than when it was measured


def _lasts_s(stage: Stage, passed: list[Passed]) -> float:
    begins = next(each.at_s for each in passed if each.point == stage.opens)
    ends = [each.at_s for each in passed if each.point == stage.closes and each.at_s > begins]
    return (ends[-1] if ends else passed[-1].at_s) - begins
