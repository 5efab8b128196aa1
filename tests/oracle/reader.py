"""A reader in a loop, in a process of its own: what it is answered, again and again, while others publish.

::

    ReaderLoop ── warehouse ──▶ python -m tests.oracle.reader ── each release it got, with its rows' digest ──▶ answers

Each turn it connects to the current release and reads all rows of the fact. What the rows of a release are is known to
who published it; an answer that is none of these is a partial read, and whatever else than rows comes is a failed one.
A turn that comes before anything was published counts as none.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from common.errors import UnknownName
from warehouse.releases import Releases


@dataclass
class ReaderLoop:
    """A reader that begins with the block and ends with it.

    Attributes:
        warehouse: the warehouse folder.
        table: the table that is read whole.
        reads: turns in which it got rows.
        answers: digests of the rows it got, and how often.
        failures: what came instead, in words.
    """

    warehouse: Path
    table: str
    reads: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        arguments = [sys.executable, "-m", "tests.oracle.reader", str(self.warehouse), self.table]
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            arguments, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, _ = self._process.communicate()
        found = json.loads(out)
        self.reads, self.answers, self.failures = found["reads"], Counter(found["answers"]), found["failures"]

    def partial_reads(self, legal: Iterable[Sequence[Any]]) -> int:
        """Reads whose rows are none of the legal ones."""
        known = {digest_of(rows) for rows in legal}
        return sum(times for answer, times in self.answers.items() if answer not in known)


def digest_of(rows: Sequence[Any]) -> str:
    """Digest of rows, whatever their order."""
    return hashlib.sha256("\n".join(sorted(map(repr, map(tuple, rows)))).encode()).hexdigest()


def _read_until_closed(warehouse: Path, table: str) -> None:
    closed = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait, daemon=True).start()
    answers: Counter[str] = Counter()
    failures: list[str] = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not closed.is_set():
        try:
            with Releases(warehouse).connect() as connection:
                answers[
                    digest_of(connection.execute(f"SELECT * REPLACE (ds::VARCHAR AS ds) FROM {table}").fetchall())
                ] += 1
        except UnknownName:
            closed.wait(0.005)
        except (duckdb.Error, OSError, Exception) as error:  # noqa: BLE001 - every failure counts
            failures.append(f"{type(error).__name__}: {error}"[:300])
    json.dump({"reads": sum(answers.values()), "answers": answers, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    _read_until_closed(Path(sys.argv[1]), sys.argv[2])
