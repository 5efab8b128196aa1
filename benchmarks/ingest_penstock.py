"""One ingest of one table by Penstock in this process, its steps measured apart; prints one JSON line.

::

    python -m benchmarks.ingest_penstock HOME SOURCES SUITES      the URL: PENSTOCK_CONNECTIONS__FLIGHTOPS

The real pipeline runs, gate and commit included. The reader and the gate are wrapped only to note CPU seconds and peak
memory where one step ends and the next begins.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import StepMeter
from common.settings import Settings
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


def main() -> None:
    """Ingest the table once and print what each step needed."""
    home, sources, suites = map(Path, sys.argv[1:4])
    meter = StepMeter()
    pipeline = Pipeline(Settings.load(home=home, sources=sources, suites=suites))
    meter.end("start")
    gate = pipeline.gate
    meter.end("gate")
    pipeline.__dict__["gate"] = _Metered(gate, "audit_files", meter, "commit", "gate")
    with pipeline.reading(SOURCE) as reader:
        receipt = pipeline.ingest(SOURCE, TABLE, DAY, reader=_Metered(reader, "stage", meter, "start", "extract"))
    meter.end("commit")
    size_bytes = sum(path.stat().st_size for path in (home / "lake").rglob("*.parquet"))
    figures = {
        "rows": receipt.published,
        "bytes": size_bytes,
        "seconds": receipt.seconds,
        "cpu_s": meter.cpu_s,
        "rss": meter.peak_rss_bytes,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
