"""A step in a process of its own that is disturbed, readers beside it, and the judgement of what they and it leave."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import fault_points
from common.errors import PenstockError
from lake.paths import TableId
from penstock.build import build_and_publish
from penstock.pipeline import Pipeline
from tests.campaign.reader import FileThere, look_until
from tests.campaign.stages import ACTS, STATES, Stage
from tests.campaign.state import Difference, Look, World, look, rows_of, settings_of
from tests.campaign.trial import Trial
from tests.forked import Process, start

KILLED = (-signal.SIGKILL, -signal.SIGALRM)
FAILED, FOREIGN = 3, 4
"""Exit codes of a step that raised a :class:`PenstockError`, or any other error."""
RAISED_RAW = ("lost-reply", "disk-full")
"""Actions whose error is the operating system's: at a point, where no call stands that would translate it."""


@dataclass(frozen=True)
class Passed:
    """A point that a step passed.

    Attributes:
        point: its name.
        at_s: when, in s since the first one.
    """

    point: str
    at_s: float


def do(home: str, connections: dict[str, str], sources: str, act: str, armed: str) -> None:
    """One step, armed; the exit code says how it ended. Runs in a process of its own."""
    fault_points.arm(armed)
    try:
        ACTS[act](Pipeline(settings_of(Path(home), connections, Path(sources))))
    except PenstockError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(FAILED) from None
    except Exception as error:  # noqa: BLE001 - told apart by its code from Penstock's own
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(FOREIGN) from None


def read(
    home: str,
    connections: dict[str, str],
    sources: str,
    tables: list[str],
    every_s: float,
    stop: str,
    answer: str,
    starter: int,
) -> None:
    """Look until a file is there, then write down what was seen. Runs in a process of its own."""
    settings = settings_of(Path(home), connections, Path(sources))
    named = tuple(TableId(*table.split(".")) for table in tables)
    looks = look_until(FileThere(Path(stop), starter), lambda: look(settings, named), pause_s=every_s)
    Path(answer).write_text(json.dumps([[seen for _, seen, _ in looks.seen], looks.failed]))


@dataclass
class Seen:
    """What a reader saw beside one trial."""

    looks: list[Look]
    failed: list[str]


class Crashes:
    """Trials of one stage.

    Args:
        world: with the states before and after the stage.
        stage: the stage.
    """

    def __init__(self, world: World, stage: Stage) -> None:
        self.world, self.stage = world, stage
        self._after = STATES[STATES.index(stage.state) + 1]
        self._old, self._new = world.expected(stage, stage.state), world.expected(stage, self._after)
        self._rows = world.expected_rows(stage, self._after)
        self._folder = world.saved.parent
        self._said = ""

    def passed(self) -> list[Passed]:
        """The points that the undisturbed step passes, in their order."""
        self.world.restore(self.stage.state)
        code = self._run("*:1+:trace")
        lines = re.findall(r"^fault point (\S+) (\S+)$", self._said, flags=re.MULTILINE)
        if code or not lines:
            raise AssertionError(f"the undisturbed step {self.stage.act} ended with {code}: {self._said}")
        begun = float(lines[0][1])
        return [Passed(point, float(at) - begun) for point, at in lines]

    def trial(self, armed: str, *, then: Sequence[str] = (), **names: Any) -> Trial | None:
        """One trial from the saved state.

        Args:
            armed: what disturbs the step.
            then: what kills each rerun in its turn, before the one that is let be; nothing by default.
            names: of the trial.

        Returns:
            What it left; None if the point was not reached, so that nothing happened.
        """
        self.world.restore(self.stage.state)
        reader = self._start_reader()
        began = time.monotonic()
        try:
            code = self._run(armed)
            if code == 0 and names["action"] == "kill":
                return None
            told = {*KILLED, 0, FAILED} | ({FOREIGN} if names["action"] in RAISED_RAW else set())
            problems = [] if code in told else [f"exit code {code}: {self._last_words()}"]
            problems += self._mixtures(look(self.world.settings, self.stage.tables))
            kills = int(code in KILLED)
            for each in then:
                code = self._run(each)
                problems += [] if code in {*KILLED, 0} else [f"the rerun's exit code {code}: {self._last_words()}"]
                problems += self._mixtures(look(self.world.settings, self.stage.tables))
                kills += code in KILLED
            began = time.monotonic()
            again(self.world, self.stage.act)
            recovery_s = time.monotonic() - began
        except PenstockError as error:
            failed = f"the rerun failed: {type(error).__name__}: {error}"
            return Trial("1", stage=self.stage.name, error=failed, **names)
        finally:
            looks = self._stop_reader(reader)
        partial, stale = self.judged(looks)
        found = look(self.world.settings, self.stage.tables)
        if found != self._new:
            problems.append("the end is not that of an undisturbed run")
        if self.stage.state == "ingested flights" and self.world.waiting() != 1:
            problems.append(f"{self.world.waiting()} rows wait in quarantine instead of 1")
        rows = self.difference()
        return Trial(
            "1",
            stage=self.stage.name,
            rows_expected=rows.expected,
            rows_lost=rows.lost,
            rows_duplicated=rows.duplicated,
            wrong_values=rows.wrong,
            partial_reads=partial,
            failed_reads=len(looks.failed),
            stale_reads=stale,
            recovery_s=round(recovery_s, 3),
            orphan_bytes=self.world.sweep(),
            kills=kills,
            error="; ".join([*problems, *looks.failed[:1]]),
            extra={"reads": len(looks.looks) + len(looks.failed)},
            **names,
        )

    def difference(self) -> Difference:
        """How the rows that are there now differ from those of the undisturbed end."""
        return Difference.between(self._rows, rows_of(self.world.settings, self.stage.tables))

    def _run(self, armed: str) -> int:
        process = self._start("do", self.stage.act, armed)
        try:
            _, self._said = process.communicate(timeout=600)
        except TimeoutError:
            self._said = "it did not end within 600 s"
        return process.wait()

    def _start(self, function: str, *arguments: Any) -> Process:
        settings = self.world.settings
        connections = {name: url.get_secret_value() for name, url in settings.connections.items()}
        return start(
            [str(settings.home), connections, str(settings.sources), *arguments],
            environment={"HOME": str(self._folder)},
            folder=self._folder,
            function=f"tests.campaign.crash:{function}",
        )

    def _start_reader(self) -> Process:
        for file in (self._stop, self._answer):
            file.unlink(missing_ok=True)
        tables = [str(table) for table in self.stage.tables]
        told = (tables, self.stage.read_every_s, str(self._stop), str(self._answer), os.getpid())
        return self._start("read", *told)

    def _stop_reader(self, reader: Process) -> Seen:
        self._stop.touch()
        _, err = reader.communicate(timeout=600)
        if reader.wait() != 0:
            return Seen([], [f"the reader ended: {err[-300:]}"])
        return Seen(*json.loads(self._answer.read_text()))

    @property
    def _stop(self) -> Path:
        return self._folder / "stop"

    @property
    def _answer(self) -> Path:
        return self._folder / "seen.json"

    def _last_words(self) -> str:
        return " ".join(self._said.split())[-400:]

    def _mixtures(self, seen: Look) -> list[str]:
        wrong = [part for part, value in seen.items() if value not in (self._old.get(part), self._new.get(part))]
        missing = [part for part in self._old if part not in seen]
        problems = [f"{part} is neither old nor new" for part in wrong] + [f"{part} is gone" for part in missing]
        if self.stage.state == "ingested flights":
            part = next(part for part in self._new if part not in self._old)
            if self.world.waiting() != (part in seen):
                problems.append("a rejected row waits without its batch, or not with it")
        return problems

    def judged(self, looks: Seen) -> tuple[int, int]:
        """How many looks saw a part that is neither old nor new, and how many an old one after a new one."""
        partial = stale = 0
        new: set[str] = set()
        for seen in looks.looks:
            legal = all(value in (self._old.get(part), self._new.get(part)) for part, value in seen.items())
            partial += not (legal and self._old.keys() <= seen.keys())
            stale += any(seen.get(part) != self._new[part] for part in new)
            new |= {part for part, value in self._new.items() if seen.get(part) == value != self._old.get(part)}
        return partial, stale


def again(world: World, act: str) -> None:
    """The same step once more, undisturbed. What is left to do of a publish whose candidate is used up is a build."""
    pipeline = world.pipeline()
    if act == "publish" and not list(world.settings.warehouse.glob("candidates/*/manifest.json")):
        build_and_publish(pipeline)
    else:
        ACTS[act](pipeline)
