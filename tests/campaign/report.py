"""``docs/faults.md`` from a campaign's JSON lines.

Usage: ``python -m tests.campaign.report [--from .faults] [--to docs/faults.md]``
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaign.defects import DEFECTS
from tests.campaign.fault_01 import TRIALS
from tests.campaign.faults import FAULTS, Fault
from tests.campaign.job import parts_of
from tests.campaign.stages import STAGES
from tests.campaign.trial import Trial

ROOT = Path(__file__).resolve().parents[2]

_LARGEST = ("_s", "_ms", "_mb", "_bytes", "_pct", "_kb")
"""Ends of names of figures of which the largest is told; of others the sum."""

_NOT_FIGURES = ("seconds", "law", "reads")

HEAD = """# Faults

What goes wrong in a pipeline's world, what Penstock does then, and how often that was tried. This page is rendered from
the JSON lines of a run of the fault campaign; nothing in its tables is written by hand. Run it again:

```sh
make faults                    # all of it: kills at every step, 300 for each of eight stages (an hour on 2 idle cores)
make faults FAULTS=1,24        # some faults
make faults JOBS=1 SEED=7      # one process at a time; other random times
make faults LIMIT_S=240        # at most so many seconds for each fault, and for each stage of the first
make faults-quick              # a sample of every fault (5 minutes)
```

An interrupted campaign goes on where it was: a job that has ended for this commit and seed is not run again
(`.venv/bin/python -m tests.campaign --again` starts over). Trials are in `.faults/*.jsonl`, a line each; this page is
made of them by `.venv/bin/python -m tests.campaign.report`.

A **trial** is one disturbance and the judgement of what it left; a process that is killed at any time is killed again
while it makes that good, so there are more kills than trials. Rows are counted by their keys, against the end of an
undisturbed run: *lost*, *doubled*, *wrong* (the key is right, a value is not). While a process is disturbed, a reader
in a process of its own looks at the same tables in a loop; *partial* are looks that saw neither the old version nor the
new one, *failed* those that ended in an error, *stale* those that saw the old one after the new one. *Left* are bytes
that nothing needs after a sweep. *Recovery* is the time from the beginning of the undisturbed rerun to its end, in a
process that has its modules loaded; half of the reruns took no longer than the first figure, 95 of 100 no longer than
the second. A dash says that the fault's trials do not count this: the test asserts it in its own way.

No failure in N trials bounds the rate of failures below 3/N with 95 % confidence.
"""


def trials_of(folder: Path, fault: Fault) -> list[Trial]:
    """What a campaign's folder holds of a fault."""
    files = sorted(folder.glob(f"{fault.number}.*.jsonl"))
    return [Trial.read(line) for file in files for line in file.read_text().splitlines() if line]


def _sum(trials: Iterable[Trial], name: str) -> str:
    counted = [value for trial in trials if (value := getattr(trial, name)) is not None]
    return f"{sum(counted):,}" if counted else "-"


def _recovery(trials: Iterable[Trial]) -> str:
    taken = sorted(trial.recovery_s for trial in trials if trial.recovery_s is not None)
    if not taken:
        return "-"
    return f"{statistics.median(taken):.2f} / {taken[min(len(taken) - 1, int(0.95 * len(taken)))]:.2f}"


def _bound(trials: Sequence[Trial]) -> str:
    failed = sum(1 for trial in trials if trial.defects)
    if failed:
        return f"{failed} failed"
    return f"< {300 / len(trials):.2g} %" if len(trials) > 3 else "-"


_COLUMNS: tuple[tuple[str, Callable[[Sequence[Trial]], str]], ...] = (
    ("trials", lambda trials: f"{len(trials):,}"),
    ("kills", lambda trials: _sum(trials, "kills")),
    ("rate of failures", _bound),
    ("lost", lambda trials: _sum(trials, "rows_lost")),
    ("doubled", lambda trials: _sum(trials, "rows_duplicated")),
    ("wrong", lambda trials: _sum(trials, "wrong_values")),
    ("partial", lambda trials: _sum(trials, "partial_reads")),
    ("failed", lambda trials: _sum(trials, "failed_reads")),
    ("stale", lambda trials: _sum(trials, "stale_reads")),
    ("left", lambda trials: _sum(trials, "orphan_bytes")),
    ("secrets", lambda trials: _sum(trials, "secrets_found")),
    ("recovery p50 / p95, s", _recovery),
)


def figures(trials: Sequence[Trial]) -> dict[str, str]:
    """A fault's own figures: the sum of each, or the largest where it is a time, a size or a share."""
    found: dict[str, list[float]] = {}
    for trial in trials:
        for name, value in trial.extra.items():
            if isinstance(value, int | float) and name not in _NOT_FIGURES:
                found.setdefault(name, []).append(value)
    told = {name: max(values) if name.endswith(_LARGEST) else sum(values) for name, values in sorted(found.items())}
    return {name: f"{value:,.3f}".rstrip("0").rstrip(".") for name, value in told.items()}


def table(first: Sequence[str], rows: Iterable[tuple[Sequence[str], Sequence[Trial]]]) -> list[str]:
    """A table with some cells of its own before the columns of figures; a row without trials says so."""
    names = [*first, *(name for name, _ in _COLUMNS)]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for own, trials in rows:
        cells = [column(trials) for _, column in _COLUMNS] if trials else ["not run", *[""] * (len(_COLUMNS) - 1)]
        lines.append(f"| {' | '.join([*own, *cells])} |")
    return lines


def page(folder: Path) -> str:
    """The page of a campaign's folder."""
    ended = [json.loads(path.read_text()) for path in sorted(folder.glob("*.done.json"))]
    found = {fault.number: trials_of(folder, fault) for fault in FAULTS}
    lines = [HEAD, *_run(ended, found), "", "## The faults", ""]
    lines += table(("", "fault"), (((each.number, each.title), found[each.number]) for each in FAULTS))
    lines += ["", "## Kills and failures by stage", "", *_stages(found["1"])]
    lines += ["", "## What is expected, and where it is proven", ""]
    for fault in FAULTS:
        lines += _described(fault, found[fault.number])
    lines += ["## Defects found", "", _DEFECTS_HEAD, ""]
    lines += [f"- **{what}** {how} Test: `{test}`." for what, how, test in DEFECTS]
    return "\n".join(lines).rstrip() + "\n"


_DEFECTS_HEAD = (
    "What these trials have found in Penstock's own code. Each has been corrected, and has a regression test."
)


def _run(ended: Sequence[Mapping[str, Any]], found: Mapping[str, Sequence[Trial]]) -> list[str]:
    every = [trial for trials in found.values() for trial in trials]
    failed = sum(1 for trial in every if trial.defects)
    about = f"{len(every):,} trials, {failed} of which found a defect."
    if not ended:
        return [about]
    dates = sorted(done["ended_at"][:10] for done in ended)
    commits = ", ".join(sorted({f"`{done['commit']}`" for done in ended}))
    seeds = ", ".join(sorted({str(done["seed"]) for done in ended}))
    samples = sum(1 for done in ended if done["quick"])
    kind = f"{len(ended)} jobs" + (f", {samples} of them samples as of `make faults-quick`" if samples else "")
    wall, cpu = (sum(done.get(name, 0.0) for done in ended) / 60 for name in ("seconds", "cpu_s"))
    limits = sorted({done["limit_s"] for done in ended if done["limit_s"]})
    after = " or ".join(f"{limit_s} s" for limit_s in limits)
    limited = f" Each fault, and each stage of the first, began no further trial after {after}." if limits else ""
    few = [f"{name} ({kills})" for name, kills in _kills(found["1"]).items() if kills < TRIALS]
    short = f" Stages with fewer than {TRIALS} kills: {', '.join(few)}." if few else ""
    busy = " The machine was busy with other work: times are longer than on an idle one." if cpu < wall / 3 else ""
    took = f"The jobs took {wall:,.0f} minutes in all, {cpu:,.0f} of them on a processor.{busy}{limited}{short}"
    return [f"{dates[-1]}, commit {commits}, seed {seeds}, {kind}: {about} {took}"]


def _kills(trials: Sequence[Trial]) -> dict[str, int]:
    return {stage.name: sum(trial.kills or 0 for trial in trials if trial.stage == stage.name) for stage in STAGES}


def _stages(trials: Sequence[Trial]) -> list[str]:
    rows = []
    for stage in STAGES:
        mine = [trial for trial in trials if trial.stage == stage.name]
        for what, kills in (("kills", True), ("errors, lost replies, full disks", False)):
            rows.append(((stage.name, what), [trial for trial in mine if (trial.action == "kill") is kills]))
    rows.append((("whole runs", "kills, signals"), [trial for trial in trials if trial.stage == "run"]))
    return table(("stage", "what"), rows)


def _described(fault: Fault, trials: Sequence[Trial]) -> list[str]:
    own = f"tests/campaign/fault_{int(fault.number):02d}.py" if fault.number.isdecimal() else ""
    where = [own] if own and parts_of(fault.number, quick=True) else []
    counted = ", ".join(f"{name} {value}" for name, value in figures(trials).items())
    lines = [f"### {fault.number}. {fault.title}", "", fault.expected, ""]
    lines += [f"- `{test}`" for test in (*where, *fault.tests)]
    lines += ["", f"Figures: {counted}."] if counted else []
    return [*lines, ""]


def main() -> None:
    """Render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="folder", type=Path, default=ROOT / ".faults")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "faults.md")
    given = parser.parse_args()
    given.to.write_text(page(given.folder), encoding="utf-8")


if __name__ == "__main__":
    main()
