"""Fault 5: uploads that are torn, short, changed or never finished, downloads that are cut, files that rot.

The first two parts disturb a drawn request of a publish on the real S3. What is committed must be what was published:
compared row by row, with nothing between. In the third a bit of a published file is changed where it lies, and the next
stage must refuse to work with its rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.errors import StateCorrupt, TransientError
from lake.object_store import parse_s3_url, s3_client
from lake.paths import engine_path
from lake.proof import prove
from lake.sweep import sweep
from tests.campaign.campaign import Campaign
from tests.campaign.fault_04 import ends_well, told_by
from tests.campaign.stores import NEW, OLD, LakeWorld, lake_world, proxied
from tests.campaign.trial import Trial
from tests.doubles.s3 import Operation, S3Proxy
from tests.integration.lake.lakes import TABLE, Bench, new_lake

PARTS = ("uploads", "downloads", "rot")

_SENT: tuple[Operation, ...] = ("put", "put_part", "complete")
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "uploads": {
        "torn": {"tear_at": 30},
        "short": {"shorten_sent": 5},
        "bit flip": {"flip_sent": 90},
        "never finished": {"refuse": True, "operations": ("complete",), "times": 1_000},
    },
    "downloads": {"cut": {"cut_at": 60}, "short": {"shorten": 4}},
}
REQUESTS = {"uploads": 22, "downloads": 26}


def trials(campaign: Campaign) -> Iterator[Trial]:
    """On the way up, on the way down, and where it lies."""
    if campaign.part == "rot":
        for seed in campaign.seeds(whole=40, quick=6):
            yield _rot(campaign, seed)
        return
    with proxied(campaign.services) as between:
        for seed in campaign.seeds(whole=30, quick=4):
            between.disturbances.clear()
            yield _on_its_way(campaign, between, seed)


def _on_its_way(campaign: Campaign, between: S3Proxy, seed: int) -> Trial:
    drawn = campaign.random(seed)
    kind = list(KINDS[campaign.part])[seed % len(KINDS[campaign.part])]
    at = drawn.randrange(REQUESTS[campaign.part])
    world = lake_world(campaign, between, seed)
    dials: dict[str, Any] = {
        "operations": _SENT if campaign.part == "uploads" else ("get",),
        "skip": 0 if kind == "never finished" else at,
        "times": drawn.choice([1, 2, 8]),
        **KINDS[campaign.part][kind],
    }
    disturbance = between.disturb(**dials)
    asked = len(between.requests)
    refused = (TransientError, StateCorrupt)
    error = told_by(world.publish, harmless=refused)
    hit = next((f"{r.operation} {r.key.rsplit('.')[-1]}" for r in between.requests[asked:] if r.disturbed), "none")
    seen = world.rows()
    between.disturbances.clear()
    began = time.monotonic()
    error = ends_well(world.publish) or error
    recovery_s = time.monotonic() - began
    found = dict(world.rows())
    abandoned = _uploads(campaign, world)
    sweep(world.clean.open(), grace=timedelta(0))
    left = _uploads(campaign, world)
    return Trial(
        "5",
        seed=seed,
        stage="commit",
        point=hit,
        n=at,
        action=f"{campaign.part}: {kind}",
        rows_expected=len(NEW),
        rows_lost=sum(key not in found for key, _ in NEW),
        rows_duplicated=len(world.rows()) - len(found),
        wrong_values=sum(found.get(key) != note for key, note in NEW),
        partial_reads=int(seen not in (OLD, NEW)),
        recovery_s=round(recovery_s, 2),
        error=error or ("" if left == 0 else f"{left} abandoned uploads after a sweep"),
        extra={
            "disturbed": disturbance.disturbed,
            "corrupt_files_committed": int(seen not in (OLD, NEW)),
            "abandoned_uploads": abandoned,
            "abandoned_after_sweep": left,
        },
    )


def _uploads(campaign: Campaign, world: LakeWorld) -> int:
    location = parse_s3_url(SecretStr(campaign.services.connections["stations"]))
    found = s3_client(location).list_multipart_uploads(Bucket=location.bucket, Prefix=f"{world.prefix}/")
    return len(found.get("Uploads", ()))


def _rot(campaign: Campaign, seed: int) -> Trial:
    drawn = campaign.random(seed)
    rows = [(number, f"note {drawn.random()}") for number in range(400)]
    rejected = [len(rows)] if drawn.random() < 0.5 else []
    home = campaign.folder / f"rot-{seed}"
    url = campaign.services.connections["stations"]
    bench = Bench(new_lake(home, url, f"rot-{seed}"))
    bench.publish([*rows, (-1, "x")] if rejected else rows, rejected=rejected)
    [file] = bench.open().live(TABLE)
    path = Path(engine_path(file.location).removeprefix("s3://"))
    client, bucket, key = s3_client(parse_s3_url(SecretStr(url))), path.parts[0], "/".join(path.parts[1:])
    content = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    at = drawn.randrange(len(content))
    content[at] ^= 1 << drawn.randrange(8)
    client.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    error, detected = "", 1
    lake = bench.open()
    try:
        prove(lake, TABLE, ["2013-01-01"])
    except StateCorrupt:
        pass
    except Exception as other:  # noqa: BLE001 - whatever it is, it is what the trial is about
        error = f"{type(other).__name__}: {other}"[:300]
    else:
        detected = 0
        # A bit that decides nothing, such as one of the writer's name, may change: the rows are what is proven.
        error = "" if bench.rows(lake=lake) == rows else "wrong rows were let through"
    return Trial(
        "5",
        seed=seed,
        stage="refine",
        point=f"byte {at} of {len(content)}",
        action="rot",
        rows_expected=len(rows),
        wrong_values=int(error == "wrong rows were let through"),
        error=error,
        extra={"detected": detected, "harmless": 1 - detected},
    )
