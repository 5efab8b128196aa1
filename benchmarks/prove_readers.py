"""Readers in processes of their own while the pointer moves a thousand times: none fails, none sees a mixture or an
older release than it was promised.

The promise: what begins to connect or to refresh after a publish or rollback has returned reads that release or a later
one. Each observation is kept as (moves completed before it began, release read, moves completed after it ended) and
compared with the list of moves at the end: the release must be one that was current within that time.

Usage: ``python -m benchmarks.prove_readers [--moves 1000] [--readers 2]``
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb

from common.settings import Settings
from tests.campaign.reader import look_until
from warehouse.lease import lease
from warehouse.releases import Releases

KEEP = 3


@dataclass(frozen=True)
class Proof:
    """What came of it.

    Attributes:
        moves: publishes and rollbacks.
        reads: observations of all readers.
        distinct: how many of the moves a reader saw.
        failed, mixed, stale: observations that must not be.
        reads_per_s: of all readers together.
        move_ms: mean time of a move, in ms, with making the release.
    """

    moves: int
    reads: int
    distinct: int
    failed: list[str]
    mixed: list[str]
    stale: list[str]
    reads_per_s: float
    move_ms: float

    @property
    def holds(self) -> bool:
        """Whether nothing happened that must not happen."""
        return not (self.failed or self.mixed or self.stale) and self.reads > 0


def prove(folder: Path, *, moves: int, readers: int) -> Proof:
    """Move the pointer while readers read, and judge what they saw.

    Args:
        folder: an empty folder for the warehouse.
        moves: how often to publish or roll back.
        readers: processes; every second one connects anew each time, the others live long and refresh.
    """
    context = multiprocessing.get_context("spawn")
    releases = Releases(folder)
    _publish(releases, 1)
    history = ["r000001"]
    completed: Synchronized[int] = context.Value("q", 0)
    stop, ready, told = context.Event(), context.Semaphore(0), context.Queue()
    processes = [
        context.Process(target=_read, args=(folder, n % 2 == 0, completed, stop, ready, told)) for n in range(readers)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    began = time.perf_counter()
    try:
        for move in range(1, moves + 1):
            with lease(folder, wait_s=60.0) as held:
                writer = Releases(folder, held)
                # Two forward, one back; what a rollback leaves is published over by the next one.
                done = writer.rollback() if move % 3 == 0 else _publish(writer, move + 1)
                history.append(done.id)
                completed.value = move
                writer.retain(KEEP)
    finally:
        elapsed_s = time.perf_counter() - began
        stop.set()
        answers = [told.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
    seen = [each for observations, _, _ in answers for each in observations]
    stale = [
        f"{release} was read between move {before} and {after}"
        for before, release, after in seen
        if release not in history[before : after + 2]
    ]
    return Proof(
        moves=moves,
        reads=len(seen),
        distinct=len({before for before, _, _ in seen}),
        failed=[text for _, failed, _ in answers for text in failed],
        mixed=[text for _, _, mixed in answers for text in mixed],
        stale=stale,
        reads_per_s=round(len(seen) / elapsed_s, 1),
        move_ms=round(1000 * elapsed_s / moves, 1),
    )


def _publish(releases: Releases, number: int) -> Any:
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        for table in ("a", "b"):
            connection.execute(f"CREATE TABLE {table} AS SELECT '{candidate.id}' AS release FROM range(100)")
    releases.seal(candidate, {"number": number})
    return releases.publish(candidate)


def _read(folder: Path, lives_long: bool, completed: Any, stop: Event, ready: Any, told: Any) -> None:
    import penstock

    settings = Settings.load({}, home=folder.parent / "reader", warehouse=folder)
    mixed: list[str] = []
    reader = penstock.reader(settings=settings)
    ready.release()

    def look() -> str:
        nonlocal reader
        if lives_long:
            reader.refresh()
        else:
            reader.close()
            reader = penstock.reader(settings=settings)
        rows = [reader.sql(f"SELECT min(release), max(release), count(*) FROM {t}").fetchone() for t in ("a", "b")]
        if rows != [(reader.release.id, reader.release.id, 100)] * 2:
            mixed.append(f"{reader.release.id}: {rows}")
        return reader.release.id

    looks = look_until(stop, look, moment=lambda: int(completed.value))
    told.put((looks.seen, looks.failed, mixed))


def main() -> None:
    """Run the proof in a scratch folder and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--readers", type=int, default=2)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="penstock-readers-"))
    try:
        proof = prove(folder / "warehouse", moves=given.moves, readers=given.readers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(asdict(proof), indent=1))
    raise SystemExit(0 if proof.holds else 1)


if __name__ == "__main__":
    main()
