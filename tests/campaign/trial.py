"""One trial of a fault, and the one JSON line it leaves.

Counters that a trial did not measure are null: they are not shown as zero. A trial fails if a counter that must be zero
is not, or if it says what went wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MUST_BE_ZERO = (
    "rows_lost",
    "rows_duplicated",
    "wrong_values",
    "partial_reads",
    "failed_reads",
    "stale_reads",
    "orphan_bytes",
    "secrets_found",
)
"""Figures of which every one but zero is a defect."""


@dataclass(frozen=True)
class Trial:
    """What one trial did and counted.

    Attributes:
        fault: number as in ``docs/faults.md``: ``1`` to ``25``, ``R1`` to ``R3``.
        seed: that makes the trial the same again.
        stage: of the pipeline; or what of the product is disturbed.
        point: a fault point, or in words where it is disturbed: ``any time``.
        n: the how manyth time the point is reached.
        action: what happens there: ``kill``, ``lost-reply``, ``truncate``.
        kills: processes that were killed in it.
        rows_expected: rows of the end state that an undisturbed run has.
        rows_lost, rows_duplicated: by key, of the end state.
        wrong_values: rows whose key is right and whose values are not.
        partial_reads, failed_reads, stale_reads: of readers beside it.
        recovery_s: how long the rerun took, in s.
        orphan_bytes: left by the trial after a sweep.
        secrets_found: canary secrets in what it left.
        error: what else went wrong; empty if nothing did.
        extra: figures of this fault, such as ``retries``, ``payloads``, ``peak_rss_mb``: numbers or short words.
    """

    fault: str
    seed: int = 0
    stage: str = ""
    point: str = ""
    n: int = 0
    action: str = ""
    kills: int | None = None
    rows_expected: int | None = None
    rows_lost: int | None = None
    rows_duplicated: int | None = None
    wrong_values: int | None = None
    partial_reads: int | None = None
    failed_reads: int | None = None
    stale_reads: int | None = None
    recovery_s: float | None = None
    orphan_bytes: int | None = None
    secrets_found: int | None = None
    error: str = ""
    extra: Mapping[str, int | float | str] = field(default_factory=dict)

    @property
    def defects(self) -> dict[str, Any]:
        """What must not be: counters above zero, and the error."""
        found = {name: value for name in MUST_BE_ZERO if (value := getattr(self, name))}
        return found | ({"error": self.error} if self.error else {})

    def line(self) -> str:
        """The trial as one line of JSON; ``extra`` stands beside the other figures."""
        fields = asdict(self)
        extra = fields.pop("extra")
        return json.dumps({**fields, **{name: value for name, value in extra.items() if name not in fields}})

    @classmethod
    def read(cls, line: str) -> Trial:
        """The trial that :meth:`line` wrote."""
        found = json.loads(line)
        own = {name: found.pop(name) for name in cls.__dataclass_fields__ if name != "extra" and name in found}
        return cls(**own, extra=found)
