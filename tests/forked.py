"""``penstock`` commands in processes forked from one that has the heavy modules loaded, as Airflow's executor has them.

A command that runs models imports for seven seconds of CPU before it does anything; tests run dozens of them. The
process that forks has imported and nothing else: no connection, no thread pool, no settings. What a test sees is a
process of its own all the same: its own environment, folder, signals, exit status. Starting ``python -m penstock``
itself is what ``tests/architecture/test_startup.py`` and the Airflow tests do.

::

    test ── argv, environment, folder, two pipes ──▶ template ── fork ──▶ keeper ── fork ──▶ command
         ◀───────────── pid, later the wait status ────────────────────── keeper
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from common import fault_points
from common.settings import process_environment

_MODULES = (
    "penstock.cli",
    "penstock.build",
    "penstock.gates",
    "penstock.pipeline",
    "penstock.run",
    "penstock.show",
    "penstock.status",
    "ingestion.databases.reader",
    "ingestion.objects.reader",
    "quality.audit",
    "quality.engine",
    "quality.gate",
    "transformations.dbt_runner",
    "transformations.lake_plugin",
    "transformations.refine.stage",
    "great_expectations",
    "duckdb_engine",
    "pyiceberg.avro.file",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "sqlglot.dialects.duckdb",
    "dbt_common.clients.agate_helper",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "dbt.task.build",
    "dbt.task.docs.generate",
    "boto3.s3.inject",
)
_LENGTH_BYTES = 8


class Process:
    """A command that runs; what tests use of :class:`subprocess.Popen`."""

    def __init__(self, keeper: socket.socket, out: int, err: int) -> None:
        self._keeper = keeper
        self._told = keeper.makefile("r", encoding="ascii")
        self.pid = int(self._told.readline())
        self.returncode: int | None = None
        self.stdout = io.TextIOWrapper(os.fdopen(out, "rb"), encoding="utf-8")
        self.stderr = io.TextIOWrapper(os.fdopen(err, "rb"), encoding="utf-8")

    def send_signal(self, number: int) -> None:
        """Signal the command, if it has not ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or minus the signal it died of.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds.
        """
        if self.returncode is None:
            self._keeper.settimeout(timeout)
            self.returncode = os.waitstatus_to_exitcode(int(self._told.readline()))
            self._told.close()
            self._keeper.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both outputs to their end, wait, and close them.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds; it is killed then.
        """
        texts = ["", ""]

        def read(number: int, stream: io.TextIOWrapper) -> None:
            texts[number] = stream.read()

        readers = [threading.Thread(target=read, args=each) for each in enumerate((self.stdout, self.stderr))]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except TimeoutError:
            self.kill()
            raise
        finally:
            for reader in readers:
                reader.join()
        self.stdout.close()
        self.stderr.close()
        return texts[0], texts[1]


def start(
    arguments: Sequence[Any], *, environment: Mapping[str, str], folder: Path, function: str = "penstock.cli:main"
) -> Process:
    """Start ``penstock`` with these arguments and exactly this environment, in this folder.

    Another ``function``, ``module:name``, is called with them; they must be JSON, and its ``SystemExit`` is the exit.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_template())
    out, their_out = os.pipe()
    err, their_err = os.pipe()
    order = json.dumps([list(arguments), dict(environment), str(folder), function]).encode()
    socket.send_fds(connection, [len(order).to_bytes(_LENGTH_BYTES, "big")], [their_out, their_err])
    connection.sendall(order)
    os.close(their_out)
    os.close(their_err)
    return Process(connection, out, err)


@cache
def _template() -> str:
    """Address of this session's template process, which ends with it."""
    address = tempfile.mkdtemp(prefix="penstock-forked-") + "/socket"
    own = {name: value for name, value in process_environment().items() if not name.startswith("PENSTOCK_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", address],
        cwd=Path(__file__).resolve().parent.parent,
        env={**own, "OPENBLAS_NUM_THREADS": "1", "GX_ANALYTICS_ENABLED": "false"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def end() -> None:
        process.kill()
        process.wait()
        Path(address).unlink(missing_ok=True)
        Path(address).parent.rmdir()

    atexit.register(end)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return address


# -- the template's side ----------------------------------------------------------------------------------------------


def _serve(address: str) -> None:
    for name in _MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each collection in a fork writes to, and so copies, every page of what was imported
    signal.signal(signal.SIGCHLD, _bury)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _keep(connection)
        connection.close()


def _bury(*_: object) -> None:
    """Wait for keepers that have ended: so their processor time counts as that of who waits for the template."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def _keep(connection: socket.socket) -> NoReturn:
    """Fork the command, tell its pid, and its wait status when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, 2)
    order = b""
    while len(order) < int.from_bytes(head, "big"):
        order += connection.recv(1 << 16)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(descriptors, *json.loads(order))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def _become(
    descriptors: list[int], arguments: list[Any], environment: dict[str, str], folder: str, function: str
) -> NoReturn:
    """Be the command: this environment, this folder, these outputs; then run it and exit as it does."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in zip([nothing, *descriptors], (0, 1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()  # noqa: TID251 - the command's whole environment is the order's
    os.environ.update(environment)  # noqa: TID251 - as above
    os.chdir(folder)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - by the line, as Python's own
    is_command = function == "penstock.cli:main"
    sys.argv = ["penstock", *arguments] if is_command else ["penstock"]
    fault_points.arm(environment.get("PENSTOCK_FAULT_POINT", ""))
    code: object = None
    try:
        module, _, name = function.partition(":")
        getattr(importlib.import_module(module), name)(*([] if is_command else arguments))
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as Python's own end does
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not through Python's own end: it joins threads of libraries that a fork does not bring along, and crashes.
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
