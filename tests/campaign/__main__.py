"""Run a campaign: every fault's own trials in jobs beside each other, then the tests that prove faults elsewhere.

Each trial is a JSON line in the campaign's folder as soon as it is done. A job that ended is not run again for the
same commit and seed: whoever was interrupted goes on by the same command. Exit code 1 if a trial found a defect.

Usage: ``python -m tests.campaign [--quick] [--faults 1,24] [--jobs 2] [--seed 1] [--limit-s 0] [--only 1.lake]
[--again]``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.campaign.faults import FAULTS, Fault
from tests.campaign.job import parts_of
from tests.campaign.plugin import trials_file
from tests.campaign.trial import Trial

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/faults.md"


@dataclass(frozen=True)
class Plan:
    """What a campaign is: the same plan finds what it has done before.

    Attributes:
        commit: of the tree, with ``+`` if it was changed since.
        seed: of every random choice.
        quick: whether a sample is enough.
        limit_s: time of a fault, or of a stage of the first, after which no further trial begins, in s; 0 means none.
    """

    commit: str
    seed: int
    quick: bool
    limit_s: int


@dataclass(frozen=True)
class Done:
    """What is kept of a job that has ended.

    Attributes:
        commit, seed, quick, limit_s: of the plan.
        ended_at: UTC, ISO 8601.
        seconds: how long it took.
        code: its exit code.
        cpu_s: processor time of its processes, in s; not that of servers, which nobody waits for.
    """

    commit: str
    seed: int
    quick: bool
    limit_s: int
    ended_at: str
    seconds: float
    code: int
    cpu_s: float = 0.0


class Job:
    """One process of a campaign, and where it leaves its trials.

    Args:
        name: unique among the jobs; files are named by it.
        command: what is run.
        files: where its trials go; they are removed before it starts.
    """

    def __init__(self, folder: Path, name: str, command: Sequence[str], files: Sequence[Path]) -> None:
        self.name, self._command, self._files = name, command, files
        self._done, self._log = folder / f"{name}.done.json", folder / f"{name}.log"
        self._began = self._cpu_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def found(self, plan: Plan) -> Done | None:
        """What it came to, if it has been run for this plan."""
        if not self._done.exists():
            return None
        done = Done(**json.loads(self._done.read_text()))
        return done if Plan(done.commit, done.seed, done.quick, done.limit_s) == plan else None

    def start(self) -> None:
        """Start it."""
        self._done.unlink(missing_ok=True)
        for file in self._files:
            file.unlink(missing_ok=True)
        self._began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        if self._process is None:
            return None
        pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            return None
        self._cpu_s = used.ru_utime + used.ru_stime
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode

    def end(self) -> None:
        """Stop it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def note(self, plan: Plan, code: int) -> None:
        """Write down that it has ended."""
        seconds = round(time.monotonic() - self._began, 1)
        ended_at = datetime.now(UTC).isoformat(timespec="seconds")
        done = Done(**asdict(plan), ended_at=ended_at, seconds=seconds, cpu_s=round(self._cpu_s, 1), code=code)
        self._done.write_text(json.dumps(asdict(done)))

    def trials(self) -> list[Trial]:
        """Its trials so far."""
        return [Trial.read(line) for file in self._files if file.exists() for line in file.read_text().splitlines()]


def jobs_of(folder: Path, faults: Sequence[Fault], plan: Plan) -> list[Job]:
    """The jobs of a campaign; the tests, which take longest, first."""
    found = []
    for fault in faults:
        parts = parts_of(fault.number, quick=plan.quick)
        for part in ("",)[: len(parts)] if plan.quick else parts:
            name = f"{fault.number}.{part or 'own'}"
            file = folder / f"{name}.jsonl"
            command = [sys.executable, "-m", "tests.campaign.job", fault.number, "--to", str(file)]
            command += ["--seed", str(plan.seed), "--limit-s", str(plan.limit_s)]
            command += [*(["--part", part] if part else []), *(["--quick"] if plan.quick else [])]
            found.append(Job(folder, name, command, [file]))
    nodes = sorted({node for fault in faults for node in tests_of(fault, plan)})
    if nodes:
        numbers = ",".join(fault.number for fault in faults)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.campaign.plugin"]
        limit_s = plan.limit_s * sum(bool(fault.sample) for fault in faults)
        command += ["--faults", numbers, "--trials-to", str(folder), "--limit-s", str(limit_s), *nodes]
        found.insert(0, Job(folder, "tests", command, [trials_file(folder, fault.number) for fault in faults]))
    return found


def tests_of(fault: Fault, plan: Plan) -> list[str]:
    """The tests elsewhere that prove a fault; of a quick campaign its sample: ``make test`` runs all of them anyway."""
    if not plan.quick:
        return list(fault.tests)
    return [fault.sample] if fault.sample else []


def commit_of_tree() -> str:
    """The commit of the tree, with ``+`` if files were changed since; empty outside of a repository."""
    asked = [["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--", ".", f":!{PAGE}"]]
    answers = [subprocess.run(each, cwd=ROOT, capture_output=True, text=True, check=False).stdout for each in asked]
    return answers[0].strip() + ("+" if answers[1].strip() else "")


def run(jobs: list[Job], at_once: int, plan: Plan) -> bool:
    """Run jobs, so many at once, and tell what each came to; whether no trial found a defect."""
    waiting = [job for job in jobs if job.found(plan) is None]
    running: list[Job] = []
    total = len(jobs)
    for job in jobs:
        if job not in waiting:
            tell(job, "was done before")
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(waiting.pop(0))
                running[-1].start()
            time.sleep(0.5)
            for job in list(running):
                if (code := job.ended()) is not None:
                    running.remove(job)
                    job.note(plan, code)
                    tell(job, f"{total - len(waiting) - len(running)} of {total} done")
    finally:
        for job in running:
            job.end()
    found = [job.found(plan) for job in jobs]
    return all(done is not None and done.code == 0 for done in found)


def tell(job: Job, progress: str) -> None:
    """Say what a job came to, and what it found."""
    trials = job.trials()
    defects = [trial for trial in trials if trial.defects]
    sys.stdout.write(f"faults: {job.name}: {len(trials)} trials, {len(defects)} defects ({progress})\n")
    for trial in defects[:20]:
        where = f"{trial.fault} {trial.stage} {trial.point}:{trial.n}:{trial.action} seed {trial.seed}"
        sys.stdout.write(f"  {where}: {json.dumps(trial.defects)}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", default="", help="numbers, separated by commas; all by default")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--limit-s", type=int, default=0, help="for each job; 0: no limit")
    parser.add_argument("--only", default="", help="names of jobs, such as 1.lake,24.swap,tests; all by default")
    parser.add_argument("--again", action="store_true", help="run what has been done before as well")
    parser.add_argument("--to", type=Path, default=ROOT / ".faults")
    given = parser.parse_args()
    wanted = [number.strip() for number in given.faults.split(",") if number.strip()]
    unknown = set(wanted) - {fault.number for fault in FAULTS}
    if unknown:
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    faults = [fault for fault in FAULTS if not wanted or fault.number in wanted]
    folder = given.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if given.again:
        for done in folder.glob("*.done.json"):
            done.unlink()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # jobs are stopped on the way out
    plan = Plan(commit_of_tree(), given.seed, given.quick, given.limit_s)
    only = {name.strip() for name in given.only.split(",") if name.strip()}
    jobs = [job for job in jobs_of(folder, faults, plan) if not only or job.name in only]
    whole = run(jobs, given.jobs, plan)
    raise SystemExit(0 if whole else 1)


if __name__ == "__main__":
    main()
