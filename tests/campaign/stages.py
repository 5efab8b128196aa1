"""The eight stages that a process is killed in, and the fault points that stand in each."""

from __future__ import annotations

STAGE_POINTS = {
    "extract": ("ingest.extract.before_read", "ingest.extract.after_chunk", "ingest.extract.after_write"),
    "stage": ("lake.stage.before_identify", "lake.stage.before_receipt", "lake.stage.after_receipt"),
    "commit": ("lake.quarantine.before_commit", "lake.publish.before_commit", "lake.publish.after_commit"),
    "refine": ("refine.write.before_write", "refine.write.after_write"),
    "model": ("warehouse.build.before_models", "warehouse.build.after_models"),
    "gate": ("gate.batch.before_judge", "gate.batch.after_judge", "warehouse.gate.after_judge"),
    "build": ("lake.ops.before_commit", "warehouse.seal.before_manifest", "warehouse.seal.after_manifest"),
    "swap": (
        "warehouse.publish.before_folder",
        "warehouse.publish.before_swap",
        "warehouse.publish.after_swap",
        "warehouse.retain.before_remove",
    ),
    "replay": ("lake.rework.before_receipt", "lake.rework.before_commit"),
}
"""Points by stage; ``replay`` is the ninth, of repaired rows that come out of quarantine."""
