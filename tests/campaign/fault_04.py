"""Fault 4: the store answers 500 or 503, too late, or not at all although it has done what it was asked.

A batch is published into a lake, a release onto a shelf, both on the real S3 through a proxy that disturbs one drawn
request, or some in a row. What is counted: commits per batch, moves per release, requests more than an undisturbed
publish needs, and, while the store says SlowDown to everything, whether it is asked less often as time goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from common.errors import CommitConflict, PenstockError, StoreUnavailable, TransientError
from tests.campaign.campaign import Campaign
from tests.campaign.stores import (
    ALL,
    NEW,
    OLD,
    REQUESTS_OF_A_PUBLISH,
    lake_world,
    proxied,
    store_world,
)
from tests.campaign.trial import Trial
from tests.doubles.s3 import S3Proxy
from tests.integration.warehouse.test_stored_releases import answer_of, put
from tests.unit.warehouse.small_warehouse import make_release

PARTS = ("lake", "release", "slow-down")

KINDS: dict[str, dict[str, Any]] = {
    "lost reply": {"lose_reply": True},
    "500 after it was done": {"status": 500, "code": "InternalError"},
    "500": {"refuse": True, "status": 500, "code": "InternalError"},
    "503": {"refuse": True, "status": 503},
    "409": {"refuse": True, "status": 409, "code": "OperationAborted"},
    "412 after it was done": {"status": 412, "code": "PreconditionFailed"},
    "no connection": {"refuse": True},
    "late": {"hold_s": 0.5},
}
RELEASE_REQUESTS = 20
_TRIES = 5


def trials(campaign: Campaign) -> Iterator[Trial]:
    """The lake's commit, a release's pointer, and a store that is too busy for anything."""
    with proxied(campaign.services) as between:
        for seed in campaign.seeds(whole={"slow-down": 5}.get(campaign.part, 40), quick=2):
            between.disturbances.clear()
            if campaign.part == "lake":
                yield _lake(campaign, between, seed)
            elif campaign.part == "release":
                yield _release(campaign, between, seed)
            else:
                yield _slow_down(campaign, between, seed)


def _lake(campaign: Campaign, between: S3Proxy, seed: int) -> Trial:
    drawn = campaign.random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    at, times = drawn.randrange(REQUESTS_OF_A_PUBLISH), drawn.choice([1, 1, 2, 5])
    world = lake_world(campaign, between, seed)
    disturbance = between.disturb(operations=ALL, skip=at, times=times, **KINDS[kind])
    asked, began = len(between.requests), time.monotonic()
    error = told_by(world.publish)
    seconds = time.monotonic() - began
    hit = next((f"{r.operation} {r.key.rsplit('.')[-1]}" for r in between.requests[asked:] if r.disturbed), "none")
    partial = world.rows() not in (OLD, NEW)
    between.disturbances.clear()
    began = time.monotonic()
    error = ends_well(world.publish) or error
    found = dict(world.rows())
    return Trial(
        "4",
        seed=seed,
        stage="commit",
        point=hit,
        n=at,
        action=f"{kind} x {times}",
        rows_expected=len(NEW),
        rows_lost=sum(key not in found for key, _ in NEW),
        rows_duplicated=len(world.rows()) - len(found),
        wrong_values=sum(found.get(key) != note for key, note in NEW),
        partial_reads=int(partial),
        recovery_s=round(time.monotonic() - began, 2),
        error=error or ("" if world.commits_per_batch() == 1 else "a batch was committed twice"),
        extra={
            "commits_per_run": world.commits_per_batch(),
            "disturbed": disturbance.disturbed,
            "requests": len(between.requests) - asked,
            "publish_s": round(seconds, 2),
        },
    )


def told_by(publish: Callable[[], object], *, harmless: tuple[type[PenstockError], ...] = (TransientError,)) -> str:
    """What an error says that is not one of those worth another try; empty if there was none, or such a one."""
    try:
        publish()
    except harmless:
        return ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the trial is about
        return f"{type(error).__name__}: {error}"[:400]
    return ""


def ends_well(publish: Callable[[], object], *, harmless: tuple[type[PenstockError], ...] = ()) -> str:
    """Publish undisturbed, again if the machine itself stalls longer than a request may take; what it says at last."""
    said = ""
    for _ in range(_TRIES):
        try:
            publish()
        except harmless:
            return ""
        except TransientError as error:
            said = f"{type(error).__name__}: {error}"[:400]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the trial is about
            return f"{type(error).__name__}: {error}"[:400]
        else:
            return ""
    return said


def _release(campaign: Campaign, between: S3Proxy, seed: int) -> Trial:
    drawn = campaign.random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    at, times = drawn.randrange(RELEASE_REQUESTS), drawn.choice([1, 1, 2, 6])
    store = store_world(campaign, seed)
    put(store, 1)
    release = make_release(store.local, 2)
    endpoint = store.url.split("endpoint=")[1].split("&")[0]
    through = store.at("builder", url=store.url.replace(endpoint, between.endpoint), warehouse=store.local.warehouse)
    disturbance = between.disturb(operations=ALL, skip=at, times=times, **KINDS[kind])
    asked = len(between.requests)
    error = told_by(lambda: through.publish(release, fence=2, keep=10))
    partial = answer_of(store.at("reader")) not in (1, 2)
    between.disturbances.clear()
    began = time.monotonic()
    error = ends_well(lambda: through.publish(release, fence=2, keep=10), harmless=(CommitConflict,)) or error
    moves = Counter(move.release for move in store.builder.moves())
    return Trial(
        "4",
        seed=seed,
        stage="swap",
        n=at,
        action=f"{kind} x {times}",
        rows_expected=2,
        rows_lost=int(answer_of(store.at("reader")) != 2),
        rows_duplicated=sum(moves.values()) - len(moves),
        partial_reads=int(partial),
        recovery_s=round(time.monotonic() - began, 2),
        error=error,
        extra={
            "commits_per_run": max(moves.values()),
            "disturbed": disturbance.disturbed,
            "requests": len(between.requests) - asked,
        },
    )


def _slow_down(campaign: Campaign, between: S3Proxy, seed: int) -> Trial:
    world = lake_world(campaign, between, seed)
    asked, began = len(between.requests), time.monotonic()
    first = ends_well(world.publish)
    usual = (len(between.requests) - asked) / (time.monotonic() - began)
    world.clean.publish(OLD)
    between.disturb(operations=ALL, skip=campaign.random(seed).randrange(REQUESTS_OF_A_PUBLISH // 2), **KINDS["503"])
    asked, began = len(between.requests), time.monotonic()
    error = "nothing was told"
    try:
        world.publish()
    except StoreUnavailable:
        error = ""
    seconds = time.monotonic() - began
    refused = [request for request in between.requests[asked:] if request.disturbed]
    partial = world.rows() != OLD
    between.disturbances.clear()
    began = time.monotonic()
    error = first or error or ends_well(world.publish)
    return Trial(
        "4",
        seed=seed,
        stage="commit",
        action="503 to everything",
        rows_expected=len(NEW),
        rows_lost=int(world.rows() != NEW),
        partial_reads=int(partial),
        recovery_s=round(time.monotonic() - began, 2),
        error=error,
        extra={
            "retries": len(refused),
            "usual_requests_per_s": round(usual, 1),
            "refused_requests_per_s": round(len(refused) / max(refused[-1].at_s - refused[0].at_s, 1), 1),
            "added_s": round(seconds, 1),
        },
    )
