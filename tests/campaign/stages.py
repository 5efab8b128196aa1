"""The eight stages that a process is killed in: what it does there, the points it passes, and where the stage lies.

All of them bring in, refine, build and publish the same day, :data:`DAY`, one step after the other; the state before
each step is saved, so that a trial runs its own step only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lake.paths import TableId
from penstock.build import build, publish
from penstock.pipeline import Pipeline

DAY = "2013-02-12"
FLIGHTS, WEATHER = TableId("raw", "flightops__flights"), TableId("raw", "stations__weather")
REFINED_FLIGHTS, REFINED_WEATHER = TableId("refined", "flights"), TableId("refined", "weather")

ACTS: Mapping[str, Callable[[Pipeline], object]] = {
    "ingest flights": lambda pipeline: pipeline.ingest("flightops", "flights", DAY),
    "ingest weather": lambda pipeline: pipeline.ingest("stations", "weather", DAY),
    "refine": lambda pipeline: [pipeline.refine(table, DAY) for table in ("flights", "weather")],
    "build": build,
    "publish": publish,
}
"""What a step does, by name. Each may be run again."""

STATES = ("published", "ingested flights", "ingested", "refined", "built", "released")
"""Saved states, in their order; each step leads from one to the next."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: as in ``docs/faults.md``.
        state: saved state that it starts from.
        act: what is done, of :data:`ACTS`.
        points: fault points that stand in it.
        opens, closes: points between which a kill at random falls; ``closes`` is passed for the last time.
        tables: lake tables whose rows are compared, besides the release's.
        read_every_s: pause of the reader beside it; a build takes longest and changes nothing that it can see.
        kills: at any time, in one trial: of the step, then of its reruns. What is left to do of a publish whose
            candidate is used up is a build: that is no rerun. Three of a build, for the last rerun costs most there.
    """

    name: str
    state: str
    act: str
    points: tuple[str, ...]
    opens: str
    closes: str
    tables: tuple[TableId, ...] = ()
    read_every_s: float = 0.2
    kills: int = 2

    @property
    def reads_release(self) -> bool:
        """Whether the release is what readers look at, and not the lake."""
        return not self.tables


STAGES = (
    Stage(
        "extract",
        "published",
        "ingest flights",
        ("ingest.extract.before_read", "ingest.extract.after_chunk", "ingest.extract.after_write"),
        "ingest.extract.before_read",
        "ingest.extract.after_write",
        (FLIGHTS,),
    ),
    Stage(
        "stage",
        "ingested flights",
        "ingest weather",
        (
            "ingest.extract.before_read",
            "ingest.extract.after_write",
            "lake.stage.before_identify",
            "lake.stage.before_receipt",
            "lake.stage.after_receipt",
        ),
        "ingest.extract.before_read",
        "gate.batch.before_judge",
        (WEATHER,),
    ),
    Stage(
        "commit",
        "ingested flights",
        "ingest weather",
        ("lake.quarantine.before_commit", "lake.publish.before_commit", "lake.publish.after_commit"),
        "lake.stage.before_receipt",
        "lake.publish.after_commit",
        (WEATHER,),
    ),
    Stage(
        "refine",
        "ingested",
        "refine",
        ("refine.write.before_write", "refine.write.after_write", "lake.publish.before_commit"),
        "refine.write.before_write",
        "lake.publish.after_commit",
        (REFINED_FLIGHTS, REFINED_WEATHER),
    ),
    Stage(
        "model",
        "refined",
        "build",
        ("warehouse.build.before_models", "warehouse.build.after_models"),
        "warehouse.build.before_models",
        "warehouse.build.after_models",
        read_every_s=1.0,
        kills=3,
    ),
    Stage(
        "gate",
        "ingested flights",
        "ingest weather",
        ("gate.batch.before_judge", "gate.batch.after_judge"),
        "gate.batch.before_judge",
        "gate.batch.after_judge",
        (WEATHER,),
    ),
    Stage(
        "build",
        "refined",
        "build",
        (
            "warehouse.gate.after_judge",
            "lake.ops.before_commit",
            "warehouse.seal.before_manifest",
            "warehouse.seal.after_manifest",
        ),
        "warehouse.build.after_models",
        "warehouse.seal.after_manifest",
        read_every_s=1.0,
        kills=3,
    ),
    Stage(
        "swap",
        "built",
        "publish",
        (
            "warehouse.publish.before_folder",
            "warehouse.publish.before_swap",
            "warehouse.publish.after_swap",
            "warehouse.retain.before_remove",
        ),
        "warehouse.publish.before_folder",
        "warehouse.retain.before_remove",
        kills=1,
    ),
)
