"""Other people's SQL, each statement in a process of its own that is killed when it takes too much.

::

    run(statement) ─▶ queue (bounded) ─▶ a warm worker ─▶ chunks, until done, a limit or the end of the time: SIGKILL

What a worker may do is settled in :mod:`warehouse.serve.sandbox_worker`; here is who waits, who runs and who is
killed. DuckDB's own limits do not hold (measured: 5.8 GB under a limit of 1 GB, 44 s to interrupt), so none is relied
on: memory and processor time are limits of the kernel, time ends by SIGKILL, and the answer is counted here as well. A
worker is told nothing but its release, so there is no secret in it to be found.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from warehouse.releases import DATABASE
from warehouse.serve import frames
from warehouse.serve.formats import Format
from warehouse.serve.problems import Problem
from warehouse.serve.seccomp import is_supported

_START_S = 20.0
_SLACK_BYTES = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one statement may take, and how many may come at once.

    Attributes:
        wall_s: from the moment it runs to its last byte.
        cpu_s: processor time.
        memory_mb: memory above what an idle worker has.
        max_rows, max_bytes: of the result.
        running: statements at once.
        waiting: statements that may wait for their turn; more are sent away.
        wait_s: how long one waits.
    """

    wall_s: float = 10.0
    cpu_s: int = 10
    memory_mb: int = 512
    max_rows: int = 100_000
    max_bytes: int = 64 << 20
    running: int = 2
    waiting: int = 16
    wait_s: float = 10.0


@dataclass(frozen=True)
class Statement:
    """What to run, and for whom.

    Attributes:
        sql: the caller's text.
        views: name -> SELECT of each dataset that the caller's role may see (:mod:`warehouse.serve.policy`).
        format: how the answer is wanted.
        head: of JSON, what stands before the rows.
        parameters: values of the text's ``?`` in their order: an Arrow IPC stream of one row; empty for none.
        describe: whether only the columns are wanted, and no row.
    """

    sql: str
    views: Mapping[str, str]
    format: Format = "json"
    head: str = ""
    parameters: bytes = b""
    describe: bool = False


@dataclass(frozen=True)
class Answer:
    """A whole result.

    Attributes:
        content: as it is sent.
        rows: how many.
    """

    content: bytes
    rows: int


class _Worker:
    """One process and the socket that leads to it."""

    def __init__(self, folder: Path, link: socket.socket, pidfd: int, layers: tuple[str, ...]) -> None:
        self.folder = folder
        self.link = link
        self.layers = layers
        self._pidfd = pidfd

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self._pidfd], [], [], 0)[0]

    def kill(self) -> None:
        """End it now, and wait until it is gone. Side effects: its memory is free when this returns."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        select.select([self._pidfd], [], [], 5.0)
        os.close(self._pidfd)
        self.link.close()


class Sandbox:
    """Runs statements; safe to use from many threads.

    Args:
        limits: see :class:`Limits`.
        warm: workers that wait, opened on the newest release that was asked for.

    Raises:
        Problem: ``sql_unavailable``, where the kernel cannot keep a process to itself.
    """

    def __init__(self, limits: Limits = Limits(), *, warm: int = 2) -> None:
        if not is_supported():
            raise Problem(
                "sql_unavailable",
                "Guarded SQL needs Linux on x86_64 or aarch64.",
                remedy="use the datasets' own routes, or penstock.connect()",
            )
        self.limits = limits
        self._warm_wanted = warm
        self._warm: list[_Worker] = []
        self._guard = threading.Lock()
        self._turn = threading.Condition()
        self._running = self._waiting = 0
        self._control: socket.socket | None = None
        self._template: subprocess.Popen[bytes] | None = None
        self._closed = False

    def run(self, folder: Path, statement: Statement) -> Answer:
        """Run a statement on a release.

        Args:
            folder: the release's folder.
            statement: what, and for whom.

        Raises:
            Problem: ``sql_refused``, ``sql_error``, ``sql_too_slow``, ``sql_too_much_memory``, ``sql_too_large``, or
                ``busy`` when too many wait already.
        """
        with self._admitted():
            worker = self._take(folder)
            try:
                return self._answer(worker, statement)
            finally:
                worker.kill()
                threading.Thread(target=self._warm_up_again, args=(folder,), daemon=True).start()

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        busy = Problem("busy", "Too many statements run or wait.", remedy="try again in a moment", retry_after_s=2)
        with self._turn:
            if self._running >= self.limits.running:
                if self._waiting >= self.limits.waiting:
                    raise busy
                self._waiting += 1
                try:
                    if not self._turn.wait_for(lambda: self._running < self.limits.running, self.limits.wait_s):
                        raise busy
                finally:
                    self._waiting -= 1
            self._running += 1
        try:
            yield
        finally:
            with self._turn:
                self._running -= 1
                self._turn.notify()

    def _answer(self, worker: _Worker, statement: Statement) -> Answer:
        limits = self.limits
        deadline = time.monotonic() + limits.wall_s
        job = {
            "sql": statement.sql,
            "views": dict(statement.views),
            "format": statement.format,
            "head": statement.head,
            "parameters": base64.b64encode(statement.parameters).decode(),
            "describe": statement.describe,
            "memory_bytes": limits.memory_mb << 20,
            "cpu_s": limits.cpu_s,
            "max_rows": limits.max_rows,
            "max_bytes": limits.max_bytes,
        }
        chunks: list[bytes] = []
        size = 0
        try:
            worker.link.settimeout(limits.wall_s)
            content = json.dumps(job).encode()
            worker.link.sendall(frames.head(frames.JOB, len(content)) + content)
            while True:
                kind, length = frames.parse_head(self._receive(worker, frames.HEAD_BYTES, deadline))
                if size + length > limits.max_bytes + _SLACK_BYTES:
                    raise Problem("sql_too_large", "The result is too large.", remedy="aggregate or limit it")
                content = self._receive(worker, length, deadline)
                size += length
                if kind == frames.CHUNK:
                    chunks.append(content)
                elif kind == frames.DONE:
                    return Answer(b"".join(chunks), int(json.loads(content)["rows"]))
                else:
                    told = json.loads(content)
                    raise Problem(told["code"], told["detail"], remedy=told["remedy"])
        except TimeoutError:
            raise Problem(
                "sql_too_slow",
                f"The statement took longer than {limits.wall_s:g} s.",
                remedy="read less, or aggregate earlier",
            ) from None
        except (EOFError, ConnectionError):
            raise self._of_a_dead_worker(time.monotonic() >= deadline - limits.wall_s + limits.cpu_s - 1) from None

    @staticmethod
    def _of_a_dead_worker(may_be_time: bool) -> Problem:
        if may_be_time:
            return Problem("sql_too_slow", "The statement took too much processor time.", remedy="read less")
        return Problem(
            "sql_too_much_memory",
            "The statement's process ended: it took more than a query may have.",
            remedy="aggregate earlier, or read fewer columns",
        )

    @staticmethod
    def _receive(worker: _Worker, length: int, deadline: float) -> bytes:
        parts = []
        while length:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            worker.link.settimeout(left_s)
            part = worker.link.recv(min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    # -- workers -------------------------------------------------------------------------------------------------------

    def warm_up(self, folder: Path) -> tuple[str, ...]:
        """Have as many workers wait on a release as are wanted; those of other releases are ended.

        Returns:
            The walls around a worker, by name.
        """
        while True:
            with self._guard:
                other = [worker for worker in self._warm if worker.folder != folder]
                self._warm = [worker for worker in self._warm if worker.folder == folder]
                enough = len(self._warm) >= self._warm_wanted or self._closed
                layers = self._warm[0].layers if self._warm else ()
            for worker in other:
                worker.kill()
            if enough:
                return layers
            worker = self._spawn(folder)
            with self._guard:
                if not self._closed:
                    self._warm.append(worker)
                    continue
            worker.kill()

    def _warm_up_again(self, folder: Path) -> None:
        with contextlib.suppress(Problem):  # the next statement is told, if it cannot be run either
            self.warm_up(folder)

    def _take(self, folder: Path) -> _Worker:
        with self._guard:
            mine = [worker for worker in self._warm if worker.folder == folder]
            orphaned = self._template is None or self._template.poll() is not None  # then they are about to end
            for worker in mine:
                self._warm.remove(worker)
                if worker.is_alive() and not orphaned:
                    return worker
                worker.kill()
        return self._spawn(folder)

    def _spawn(self, folder: Path) -> _Worker:
        """A new worker on a release."""
        for _ in range(2):
            ours, theirs = socket.socketpair()
            asked = None
            try:
                with theirs, self._guard:
                    asked = self._ask()
                    socket.send_fds(asked, [os.fsencode(folder)], [theirs.fileno()])
                ours.settimeout(_START_S)
                told, descriptors, _, _ = socket.recv_fds(ours, 4096, 1)
                if descriptors:
                    return _Worker(folder, ours, descriptors[0], tuple(json.loads(told)))
            except OSError:
                pass  # the template is gone: the next attempt starts another one
            ours.close()
            if not (folder / DATABASE).exists():
                break  # nothing is wrong with the template, and to end it would end the statements that run now
            with self._guard:
                if asked is self._control:
                    self._end_template()
        raise Problem("sql_unavailable", "No process for the statement could be started.", remedy="try again")

    def _ask(self) -> socket.socket:
        """The way to the template, which is started if it does not run. The caller holds the guard."""
        if self._control is None or self._template is None or self._template.poll() is not None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._template = subprocess.Popen(
                    [sys.executable, "-m", "warehouse.serve.sandbox_worker", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    cwd=Path(__file__).resolve().parents[2],
                    env={"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "LC_ALL": "C.UTF-8"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._control = ours
        return self._control

    def _end_template(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._template is not None:
            self._template.kill()
            self._template.wait()
        self._control = self._template = None

    def close(self) -> None:
        """End every process. Side effects: nothing of the sandbox runs when this returns."""
        with self._guard:
            self._closed = True
            for worker in self._warm:
                worker.kill()
            self._warm = []
            self._end_template()
