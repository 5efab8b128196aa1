"""Ingests of one table by Penstock in this process, their steps measured apart; prints one JSON line.

::

    python -m benchmarks.ingest_penstock HOME SOURCES SUITES            the URL: PENSTOCK_CONNECTIONS__FLIGHTOPS
    python -m benchmarks.ingest_penstock HOME SOURCES SUITES no-gate

The real pipeline runs, commit included. The table is ingested twice with its gate, into two lakes: the first time
everything has to be loaded, the second time is what a worker does that has done it before (as Airflow's preloaded
executor). Or once without a gate, which then loads nothing either: what extract and commit cost as a process. Reader
and gate are wrapped only to note CPU seconds and peak memory where one step ends and the next begins.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import StepMeter
from benchmarks.no_gate import NoGate
from common.settings import Settings
from lake.batches import Receipt
from penstock.pipeline import Pipeline

DAY = "2020-01-01"
SOURCE, TABLE = "tpch", "lineitem"


class _Metered:
    """Passes everything on; a call of the named method ends the step before it and the step it is."""

    def __init__(self, inner: Any, method: str, meter: StepMeter, before: str, step: str) -> None:
        self._inner, self._method = inner, method
        self._meter, self._before, self._step = meter, before, step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._meter.end(self._before)
            answer = found(*args, **kwargs)
            self._meter.end(self._step)
            return answer

        return call


class _LateGate:
    """The pipeline's gate, loaded when it is first asked, as a run does; loading it is part of its step."""

    def __init__(self, pipeline: Pipeline, meter: StepMeter, prefix: str) -> None:
        self._pipeline, self._meter, self._prefix = pipeline, meter, prefix

    def audit_files(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`quality.gate.Gate.audit_files`."""
        self._meter.end(f"{self._prefix}commit")
        del self._pipeline.__dict__["gate"]
        verdict = self._pipeline.gate.audit_files(*args, **kwargs)
        self._meter.end(f"{self._prefix}gate")
        return verdict


def ingest(
    home: Path, sources: Path, suites: Path, meter: StepMeter, prefix: str = "", *, gate: bool = True
) -> Receipt:
    """Ingest the table once into an empty lake."""
    pipeline = Pipeline(Settings.load(home=home, sources=sources, suites=suites))
    pipeline.__dict__["gate"] = _LateGate(pipeline, meter, prefix) if gate else NoGate()
    start, extract = f"{prefix}start", f"{prefix}extract"
    with pipeline.reading(SOURCE) as reader:
        receipt = pipeline.ingest(SOURCE, TABLE, DAY, reader=_Metered(reader, "stage", meter, start, extract))
    meter.end(f"{prefix}commit")
    return receipt


def main() -> None:
    """Ingest the table and print what each step needed."""
    home, sources, suites = map(Path, sys.argv[1:4])
    with_gate = sys.argv[4:] != ["no-gate"]
    meter = StepMeter()
    receipt = ingest(home / "cold", sources, suites, meter, gate=with_gate)
    figures: dict[str, Any] = {
        "rows": receipt.published,
        "bytes": sum(path.stat().st_size for path in (home / "cold" / "lake").rglob("*.parquet")),
        "seconds": receipt.seconds,
    }
    if with_gate:
        cold_s = time.monotonic()
        warm = ingest(home / "warm", sources, suites, meter, "warm ")
        figures["warm"] = {
            "rows": warm.published,
            "wall_s": time.monotonic() - cold_s,
            "gate_s": warm.seconds["gate"],
        }
    print(json.dumps({**figures, "cpu_s": meter.cpu_s, "rss": meter.peak_rss_bytes}))


if __name__ == "__main__":
    main()
