"""A pipeline lives as long as its run: whoever makes one for each day keeps none of them."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from common.settings import Settings
from lake.paths import TableId
from penstock.pipeline import Pipeline


def test_a_pipeline_that_knows_suites_and_digests_is_freed_with_its_lake(tmp_path: Path) -> None:
    pipeline = Pipeline(Settings.load({}, home=tmp_path))
    spec = pipeline.source("flightops")
    assert pipeline.suite(TableId("refined", "flights")) is pipeline.suite(TableId("refined", "flights"))
    assert pipeline.ingest_code(spec, spec.table("flights")) != pipeline.ingest_code(spec, spec.table("planes"))
    assert pipeline.refine_code("flights") == pipeline.refine_code("flights")
    held = weakref.ref(pipeline), weakref.ref(pipeline.lake)
    del pipeline
    gc.collect()
    assert [each() for each in held] == [None, None]
