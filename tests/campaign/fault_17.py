"""Fault 17: objects that unpack to far more than they are: each stops at its limit, before the disk notices."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import ObjectCorrupt
from ingestion.objects import transfer
from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.integration.ingestion.folders import FolderSource
from tests.integration.ingestion.test_hostile_objects import bomb

KINDS = ("gzip", "zstd", "zip", "zip that lies", "parquet")
BLOCK_BYTES = 1 << 20


def trials(campaign: Campaign) -> Iterator[Trial]:
    """Every kind of bomb against limits that are drawn."""
    bombs = {kind: bomb(kind) for kind in KINDS}
    for seed in campaign.seeds(whole=30, quick=5):
        drawn = campaign.random(seed)
        kind, limit_bytes = KINDS[seed % len(KINDS)], drawn.randrange(200_000, 30_000_000)
        source = FolderSource(campaign.folder / str(seed))
        source.put(bombs[kind])
        yield _trial(seed, kind, source, limit_bytes, len(bombs[kind]))


def _trial(seed: int, kind: str, source: FolderSource, limit_bytes: int, size_bytes: int) -> Trial:
    written = 0
    real = transfer._Sink.write

    def watched(sink: Any, block: bytes) -> None:
        nonlocal written
        real(sink, block)
        written = max(written, sum(path.stat().st_size for path in (source.home / "state" / "tmp").rglob("*.part")))

    layout: dict[str, Any] = {"format": "parquet"} if kind == "parquet" else {"compression": kind.partition(" ")[0]}
    error, began, cpu = "it was read", time.monotonic(), time.process_time()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transfer._Sink, "write", watched)
        try:
            source.stage(source.spec(max_object_bytes=limit_bytes, **layout))
        except ObjectCorrupt:
            error = ""
    over = max(0, written - limit_bytes)
    if over > BLOCK_BYTES:
        error = f"{over} bytes over the limit"
    return Trial(
        "17",
        seed=seed,
        stage="extract",
        action=kind,
        orphan_bytes=sum(Path(path).stat().st_size for path in source.left_behind()),
        error=error,
        extra={
            "limit_bytes": limit_bytes,
            "object_bytes": size_bytes,
            "written_bytes": written,
            "overshoot_bytes": over,
            "stopped_after_s": round(time.monotonic() - began, 3),
            "cpu_s": round(time.process_time() - cpu, 3),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
    )
