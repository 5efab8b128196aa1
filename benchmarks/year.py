"""What both year programs need: scratch services with the demo data, a run in its own process, table checksums."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import run_measured
from common.settings import Settings, process_environment
from penstock import demo_data, embedded
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.status import lake_tables
from warehouse.releases import Releases


@dataclass(frozen=True)
class Measured:
    """One ``penstock run`` as a process: its report, wall and CPU seconds, and its peak memory."""

    report: dict[str, Any]
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


@contextmanager
def scratch_home(keep: str | None) -> Iterator[Path]:
    """A state folder with running, seeded services; everything is stopped and removed at the end unless kept."""
    folder = Path(keep).absolute() if keep else Path(tempfile.mkdtemp(prefix="penstock-year-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    try:
        print("starting PostgreSQL and S3, seeding New York flights 2013 ...", file=sys.stderr, flush=True)
        with EmbeddedServices.start(folder) as services:
            demo_data.seed(services)
            yield folder
    finally:
        if not keep:
            embedded.remove(folder)
            subprocess.run(["rm", "-rf", str(folder)], check=True)


def run_process(home: Path, start: str, end: str) -> Measured:
    """``penstock run`` over the days in a process of its own; progress goes to standard error.

    Raises:
        SystemExit: with the run's own exit code, if it is not 0.
    """
    command = [sys.executable, "-m", "penstock", "run", "--from", start, "--to", end, "--json"]
    usage = run_measured(command, env=process_environment(PENSTOCK_HOME=str(home)))
    if usage.exit_code:
        sys.stdout.write(usage.output)
        sys.exit(usage.exit_code)
    return Measured(json.loads(usage.output), usage.wall_s, usage.cpu_s, usage.peak_rss_bytes)


def checksums(pipeline: Pipeline) -> dict[str, str]:
    """Order-independent checksum of every lake table and every table of the current release."""
    pipeline.declare_raw()
    found = {}
    for table in lake_tables(pipeline):
        if table.namespace == "refined":
            refined = pipeline.refined(table.name)
            pipeline.lake.ensure(table, refined.columns, partition_by="ds" if refined.partitioned else None)
        found[str(table)] = pipeline.lake.checksum(table)
    current = Releases(pipeline.settings.warehouse).current()
    assert current is not None
    return found | {table["name"]: table["checksum"] for table in current.manifest["tables"]}


def open_pipeline(home: Path) -> Pipeline:
    """A pipeline over a state folder."""
    return Pipeline(Settings.load({}, home=home))
