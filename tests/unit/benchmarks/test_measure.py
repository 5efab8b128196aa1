"""What the benchmarks' own instruments say is true."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from benchmarks.ingest import Sample, summarize
from benchmarks.lake_growth import Cost, around
from benchmarks.measure import run_measured
from common.settings import process_environment

MB = 1_000_000


def test_the_memory_of_a_command_is_its_own_and_not_that_of_the_program_that_measures() -> None:
    ballast = bytearray(b"x" * (400 * MB))
    small = run_measured(["true"], env=process_environment())
    large = run_measured([sys.executable, "-c", "x = b'x' * 200_000_000"], env=process_environment())
    assert len(ballast) == 400 * MB
    assert small.peak_rss_bytes < 50 * MB
    assert 200 * MB <= large.peak_rss_bytes < 300 * MB


def test_cpu_output_and_exit_code_are_those_of_the_command() -> None:
    script = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint('done'); sys.exit(3)"
    used = run_measured([sys.executable, "-c", script], env=process_environment())
    assert used.cpu_s >= 0.3
    assert (used.output, used.exit_code) == ("done\n", 3)


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no-such-program"):
        run_measured(["no-such-program"], env=process_environment())


def test_ratios_are_of_medians_and_a_missed_limit_is_named() -> None:
    ours = [Sample(10.0, cpu_s, 100 * MB, 0, 6) for cpu_s in (4.0, 5.0, 90.0)]
    floor = [replace(ours[0], wall_s=wall_s, cpu_s=1.0) for wall_s in (4.0, 5.0, 500.0)]
    fast, slow = ([replace(ours[0], cpu_s=cpu_s)] for cpu_s in (20.0, 30.0))
    report = summarize({"penstock": ours, "copy": floor, "dlt-a": slow, "dlt-b": fast}, 6)
    assert report["limits"]["client CPU of the best dlt"] == {"ratio": 0.25, "limit": 0.5}
    assert report["limits"]["wall of COPY to nowhere"] == {"ratio": 2.0, "limit": 1.8}
    assert report["missed"] == ["wall of COPY to nowhere"]
    heavy = [*ours, replace(ours[0], peak_rss_bytes=251 * MB)]
    assert summarize({"penstock": heavy}, 6)["missed"] == ["peak memory of 250 MB"]


def test_a_commits_cost_is_the_median_of_its_neighbours() -> None:
    costs = [Cost(float(number), 1.0) for number in range(100)]
    assert around(costs, 50).commit_ms == pytest.approx(49.5)
    assert around(costs, 100).commit_ms == pytest.approx(89.5)
