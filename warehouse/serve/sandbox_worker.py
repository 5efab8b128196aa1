"""The processes in which other people's SQL runs: one statement each, then they end.

::

    server ──(release folder, socket)──▶ template ── fork ──▶ worker: opens the release, waits warm
    server ──(statement, views, limits)──────────────────────▶ worker: limits ─▶ locked down ─▶ check ─▶ run ─▶ exit

The template has loaded DuckDB and Arrow and does nothing but fork, so a worker costs milliseconds. A worker reads its
release, and from then on holds no name of a file: where it may (as root, or where the kernel gives user namespaces) it
has the release's folder as its whole file system and no network; in any case the kernel refuses it every system call
but those of :mod:`warehouse.serve.seccomp`. It runs as nobody where it was started as root. Even the check of the
statement is made in here: a parser that fails on hostile text takes nobody along.

Run by :mod:`warehouse.serve.sandbox` as ``python -m warehouse.serve.sandbox_worker <descriptor>``.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow as pa
import pyarrow.parquet

from lake.sql import identifier, literal
from warehouse.serve import frames
from warehouse.serve.formats import encode
from warehouse.serve.problems import Problem
from warehouse.serve.seccomp import lock_down
from warehouse.serve.sql_check import CATALOG, check, count_parameters

_NOBODY = 65534
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_SET_PDEATHSIG = 1
_TOO_MUCH = "The query needs more memory than a query may have."


def serve(control: socket.socket) -> None:
    """Fork a worker for every request, until the server is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = _engine()
    gc.collect()
    gc.freeze()
    while True:
        folder, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        if not descriptors:
            return
        if os.fork() == 0:
            control.close()
            _work(descriptors[0], Path(os.fsdecode(folder)), connection)
        os.close(descriptors[0])


def _engine() -> duckdb.DuckDBPyConnection:
    """An engine without a thread of its own, so that it can be forked; it knows no file yet."""
    connection = duckdb.connect(
        config={
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "temp_directory": "",
            "python_enable_replacements": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    # An enforced filter must run before the caller's conditions: else an error in one of them tells of hidden rows.
    connection.execute("SET disabled_optimizers = 'cte_filter_pusher'")
    connection.execute(f"ATTACH ':memory:' AS {CATALOG}")
    connection.execute(f"USE {CATALOG}")
    connection.execute("SELECT 1 AS one").to_arrow_table()
    return connection


def _work(answer: int, folder: Path, connection: duckdb.DuckDBPyConnection) -> NoReturn:
    code = 1
    try:
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)
        size = os.open("/proc/self/statm", os.O_RDONLY)  # read again when there is no /proc any more
        layers = _open(connection, folder)
        pidfd = os.pidfd_open(os.getpid())
        with socket.socket(fileno=os.dup(answer)) as link:
            socket.send_fds(link, [json.dumps(layers).encode()], [pidfd])
        os.close(pidfd)
        kind, content = frames.read_frame(answer)
        if kind == frames.JOB:
            _answer(answer, connection, json.loads(content), size)
        code = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0  # nobody waits for it any more
    finally:
        os._exit(code)


def _open(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[str]:
    """Open the release and build the walls around this process; which, by name."""
    layers = ["limits", "system calls"]
    os.nice(5)
    libc = ctypes.CDLL(None)
    is_root = os.geteuid() == 0
    if libc.unshare(_NEW_NET if is_root else _NEW_USER | _NEW_NET) == 0:
        layers.append("no network")
        os.chroot(folder)
        layers.append("no files")
        os.chdir("/")
    else:
        os.chdir(folder)
    connection.execute("ATTACH 'warehouse.duckdb' AS warehouse (READ_ONLY)")
    connection.execute("SET enable_external_access = false")
    if is_root:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)  # a change of user takes it back
        layers.append("as nobody")
    return layers


def _answer(answer: int, connection: duckdb.DuckDBPyConnection, job: dict[str, Any], size: int) -> None:
    memory_bytes = int(job["memory_bytes"])
    for schema in sorted({name.split(".")[0] for name in job["views"] if "." in name}):
        connection.execute(f"CREATE SCHEMA {identifier(schema)}")
    for name, sql in job["views"].items():
        target = ".".join(identifier(part) for part in name.split("."))
        connection.execute(f"CREATE VIEW {target} AS {sql}")
    connection.execute(f"SET memory_limit = {literal(f'{memory_bytes * 3 // 4} B')}")
    connection.execute("SET lock_configuration = true")
    _limit(size, memory_bytes, int(job["cpu_s"]))
    lock_down()
    try:
        values = _values(base64.b64decode(job["parameters"]))
        if job["describe"] and not values:
            values = [None] * count_parameters(connection, job["sql"])
        sql = check(connection, job["sql"], job["views"], parameters=len(values))
        relation = connection.sql(sql, params=values)
        columns = [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
        most = 0 if job["describe"] else int(job["max_rows"]) + 1
        limited = f"SELECT * FROM ({sql}\n) LIMIT {most}"
        encoded = encode(connection, limited, columns, job["format"], values, head=job["head"])
        size = 0
        for chunk in encoded:
            size += len(chunk)
            if encoded.rows > job["max_rows"] or size > job["max_bytes"]:
                raise Problem(
                    "sql_too_large",
                    f"The result has more than {job['max_rows']:,} rows or {job['max_bytes']:,} bytes.",
                    remedy="aggregate or limit it, or export a dataset as Arrow or Parquet",
                )
            frames.write_frame(answer, frames.CHUNK, chunk)
        frames.write_frame(answer, frames.DONE, json.dumps({"rows": encoded.rows}).encode())
    except Problem as problem:
        _fail(answer, problem.code, problem.problem, str(problem.remedy))
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        _fail(answer, "sql_too_much_memory", _TOO_MUCH, "aggregate earlier, or read fewer columns")
    except duckdb.Error as error:
        text = str(error)
        if "std::bad_alloc" in text or "Out of Memory" in text:
            _fail(answer, "sql_too_much_memory", _TOO_MUCH, "aggregate earlier, or read fewer columns")
        elif isinstance(error, (duckdb.BinderException, duckdb.ConversionException, duckdb.OutOfRangeException)):
            _fail(answer, "sql_error", _told(text), "correct the statement")
        else:
            _fail(answer, "sql_error", "The statement cannot be run.", "simplify the statement")


def _values(stream: bytes) -> list[Any]:
    """The parameters, whose bytes are a caller's: read in here, without a thread, which this process may not start."""
    if not stream:
        return []
    try:
        with pa.ipc.open_stream(stream, options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
            table = reader.read_all()
        table.validate(full=True)
        if table.num_rows != 1:
            raise Problem("sql_error", f"There are {table.num_rows} rows of parameters.", remedy="bind one row")
        return [column[0].as_py() for column in table.columns]
    except (pa.ArrowException, ValueError, TypeError):
        raise Problem("sql_error", "The parameters cannot be read.", remedy="bind plain values") from None


def _limit(size: int, memory_bytes: int, cpu_s: int) -> None:
    used_bytes = int(os.pread(size, 256, 0).split()[0]) * resource.getpagesize()
    os.close(size)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + memory_bytes,) * 2)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))


def _fail(answer: int, code: str, detail: str, remedy: str) -> None:
    frames.write_frame(answer, frames.FAILED, json.dumps({"code": code, "detail": detail, "remedy": remedy}).encode())


def _told(text: str) -> str:
    """DuckDB's own sentence, without the statement that it repeats below."""
    return text.split("\n\nLINE", 1)[0].split("\n", 1)[0][:500]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
