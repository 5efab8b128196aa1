"""The gate as the settings have it."""

from __future__ import annotations

from functools import partial

from common.settings import Settings
from lake.engine import prepare
from quality.gate import Gate


def make_gate(settings: Settings) -> Gate:
    """A gate that can read the lake; cheap until its first audit."""
    return Gate(
        memory_limit_mb=settings.memory_limit_mb,
        threads=settings.threads,
        spill_directory=settings.home / "tmp",
        prepare_connection=partial(prepare, settings),
        timeout_s=settings.gate_timeout_s,
    )
