"""The protocol by which every batch of the lake goes: audit what was staged, publish as the verdict says.

::

    staged -> the same as what is live? unchanged : judged -> published by one commit, or refused and deleted
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from common.errors import GateRefused
from common.fault_points import reach
from common.interrupts import raise_if_noted
from lake.batches import Receipt, StagedBatch
from lake.publish import find_same, identify
from lake.publish import publish as publish_batch
from lake.together import Together

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline


def audit_and_publish(
    pipeline: Pipeline, staged: StagedBatch, stage: str, took_s: dict[str, float], together: Together | None = None
) -> Receipt:
    """Have a staged batch judged and publish it as its verdict says.

    Args:
        pipeline: whose lake, gate and suites.
        staged: the batch.
        stage: ``ingest`` or ``refine``.
        took_s: time that each step took so far.
        together: batches it may share its commit with.

    Returns:
        The receipt; ``unchanged`` if the same batch is live already, which is not judged again.

    Raises:
        GateRefused: the verdict is not PASS.
        See :func:`lake.publish.publish`; whatever it is, the lake is as it was and the staged files are gone.
    """
    try:
        with pipeline.work.step("gate") as gate:
            reach("lake.stage.before_identify")
            identity = identify(pipeline.lake, staged)
            if (same := find_same(pipeline.lake, staged, identity)) is not None:
                return same.found_unchanged(seconds=took_s)
            if together is not None:
                together.settle(pipeline.suite(staged.table).references)
            reach("gate.batch.before_judge")
            verdict = pipeline.judge(staged.table, staged.key, staged.files, rejected_before=staged.early_rejected)
            reach("gate.batch.after_judge")
            pipeline.work.judged(str(staged.table), verdict)
            raise_if_noted()
            if pipeline.accept_refusal is not None:
                verdict = verdict.accept(pipeline.accept_refusal)
    except BaseException:
        pipeline.lake.discard(staged)
        raise
    seconds = took_s | {"gate": gate.seconds}
    named = partial(publish_batch, identity=identity, stage=stage, run_id=pipeline.run_id, seconds=seconds)
    try:
        with pipeline.work.step("publish") as step:
            receipt = named(pipeline.lake, staged, verdict, together=together)
            step.came_to(receipt.to_dict())
    except GateRefused as error:
        pipeline.teller.refused(stage, str(staged.table), staged.attempt, str(error))
        raise
    receipt.seconds["publish"] = step.seconds
    return receipt
