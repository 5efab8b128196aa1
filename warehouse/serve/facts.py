"""What a server is told about datasets by whoever starts it: facts that live outside the warehouse.

The warehouse imports no other stage, so owners, lineage and the state of intervals come through this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class DatasetFacts:
    """Facts on one dataset.

    Attributes:
        owners: who answers for it.
        upstream, downstream: tables it is made of, and tables that are made of it.
        intervals: state -> how many of its intervals are in it; empty for a dataset without intervals.
        newest_interval: key of the newest interval that is published; empty if there is none.
    """

    owners: Sequence[str] = ()
    upstream: Sequence[str] = ()
    downstream: Sequence[str] = ()
    intervals: Mapping[str, int] | None = None
    newest_interval: str = ""


class Facts(Protocol):
    """Where facts come from. Called in a thread; may take a moment."""

    def dataset(self, name: str) -> DatasetFacts:
        """Facts on the dataset of that name; empty ones if there are none."""
        ...


class NoFacts:
    """Of datasets nothing is known but what the release says."""

    def dataset(self, name: str) -> DatasetFacts:  # noqa: ARG002 - the protocol's
        """Nothing."""
        return DatasetFacts()


def quality_of(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the gate said of a dataset when its release was built: rules by severity, and which did not pass."""
    verdict = manifest.get("verdicts", {}).get(name)
    if verdict is None:
        return {"judged": False, "passed": None, "rules": 0, "not_passed": []}
    results = verdict.get("results", [])
    failed = [{"rule": each["rule"], "severity": each["severity"]} for each in results if not each["passed"]]
    return {"judged": True, "passed": bool(verdict.get("passed")), "rules": len(results), "not_passed": failed}
