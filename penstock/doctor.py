"""The doctor: finds what is damaged or left over, says what it means and which command mends it, mends what is safe.

::

    look (changes nothing) ─▶ findings ─▶ --repair: say it first, then do it ─▶ look again

*Damage* is state that contradicts itself: somebody reads an error, or less than was published. A *notice* is something
that is there for nothing, or not there yet. Nothing is guessed: each check compares what is stored in two places, the
catalog and the folders, a manifest and its file, a lock and who holds it.

A repair never makes up a row and never deletes one that can be read. Rows whose file is gone come back from the source
or from the raw lake: the repair makes the next run of the interval do its work again, which else it takes for done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from common.errors import LeaseHeld, PenstockError
from lake.sweep import Progress, silent
from penstock.pipeline import Pipeline


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: what it is, in one word.
        severity: ``damage`` or ``notice``.
        where: the table, partition, release or file.
        meaning: what it means, in words.
        mend: the exact command that mends it, or what else does.
        repair: what ``--repair`` does about it; empty if it leaves it to a person.
        act: does that.
    """

    kind: str
    severity: Literal["damage", "notice"]
    where: str
    meaning: str
    mend: str
    repair: str = ""
    act: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {name: getattr(self, name) for name in ("kind", "severity", "where", "meaning", "mend", "repair")}


@dataclass(frozen=True)
class Outcome:
    """What became of one repair; ``error`` is empty if it was done."""

    finding: Finding
    error: str = ""


def examine(pipeline: Pipeline, *, deep: bool = False, progress: Progress = silent) -> list[Finding]:
    """Everything that is not as it should be, damage first. Nothing is changed.

    Args:
        pipeline: lake, specs and releases.
        deep: also read every row of the lake and of the releases, and compare checksums where receipts have them.
        progress: told of each table.

    Raises:
        StoreUnavailable: the catalog or the store does not answer at all.
    """
    found = list(_looked_at(pipeline, deep, progress))
    return sorted(found, key=lambda finding: finding.severity)


def _looked_at(pipeline: Pipeline, deep: bool, progress: Progress) -> Iterator[Finding]:
    from penstock.doctor_lake import hole_findings, lake_findings
    from penstock.doctor_warehouse import home_findings, warehouse_findings

    yield from lake_findings(pipeline, deep=deep, progress=progress)
    yield from warehouse_findings(pipeline.settings.warehouse, deep=deep)
    yield from home_findings(pipeline)
    yield from hole_findings(pipeline)


def repair(findings: list[Finding]) -> list[Outcome]:
    """Do what the findings say a repair does; one that fails keeps none of the others from being done.

    Side effects: as each finding's ``repair`` says.
    """
    outcomes = []
    for finding in findings:
        if finding.act is None:
            continue
        try:
            finding.act()
            outcomes.append(Outcome(finding))
        except LeaseHeld:
            outcomes.append(Outcome(finding, "a build holds the warehouse: run the doctor again when it is done"))
        except (PenstockError, OSError) as error:
            outcomes.append(Outcome(finding, str(error)))
    return outcomes
