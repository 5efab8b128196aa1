"""Processes that outlive their starter, and the few files that describe them.

A service started by ``penstock up`` goes on after the command has returned, so nobody holds a handle on it. What is
left is a record: process id, the time the process was created, its name. Three rules make that record safe to act on:

* **It is written before the service exists.** The child first waits on a pipe; only when its record is on disk is it
  told to become the service. A starter that dies in between leaves nothing: the pipe closes and the child ends.
* **A process is ours only if id, name and creation time agree** (or id, name and an argument naming our own
  directory: a step of the system clock moves creation times). Nothing else is ever signalled.
* **One starter at a time**, by a file lock that the kernel drops when its holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from common.errors import SettingsError, SourceUnavailable
from common.files import write_atomic

# Creation times are read back from a clock of 10 ms ticks; a recycled id within this span is not a real case.
_SAME_MOMENT_S = 2.0
_WAIT_THEN_EXEC = 'read -r go && exec "$@" </dev/null'
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Our own children, kept so that a dead one is reaped and does not linger as a zombie while we live.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Account:
    """An operating system account that a service runs under."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class ProcessRecord:
    """What identifies one process over time.

    Attributes:
        pid: process id.
        create_time: seconds since the epoch, as the kernel tells it.
        name: executable's name.
        marker: an argument of its command line that only this service has.
    """

    pid: int
    create_time: float
    name: str
    marker: str

    def is_alive(self) -> bool:
        """Whether that very process still runs (a zombie does not)."""
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
        try:
            process = psutil.Process(self.pid)
            # A zombie with threads is still dying: they hold its files and ports.
            if process.name() != self.name or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1):
                return False
            same_moment = abs(process.create_time() - self.create_time) < _SAME_MOMENT_S
            return same_moment or self.marker in process.cmdline()
        except psutil.Error:
            return False

    def stop(self, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Signal the process, each signal followed by its patience in seconds, until it is gone.

        Returns:
            Whether it is gone. Side effects: none when the process is not ours or not there.
        """
        for number, patience_s in signals:
            if not self.is_alive():
                return True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            wait_until(lambda: not self.is_alive(), timeout_s=patience_s)
        return not self.is_alive()


def spawn(
    command: Sequence[str],
    *,
    name: str,
    marker: str,
    cwd: Path,
    log: Path,
    env: Mapping[str, str],
    record: Callable[[ProcessRecord], None],
    account: Account | None = None,
) -> ProcessRecord:
    """Start a service in its own session, its output appended to ``log``.

    Args:
        command: full path of the program, then its arguments. No secrets: everyone may read a command line.
        name: name the program will have in the process table.
        marker: one of ``command``'s arguments that names this service's own directory.
        cwd: working directory.
        log: file for standard output and error, made private.
        env: the whole environment of the service; secrets may travel here.
        record: called with the record before the program runs; must have it on disk when it returns.
        account: account to run under, when we are root.

    Raises:
        SettingsError: the account cannot be assumed.
    """
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    waits_on, tells = os.pipe()
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _WAIT_THEN_EXEC, "service", *command],
            stdin=waits_on,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={"PATH": _SYSTEM_PATH, "LC_ALL": "C", **env},
            start_new_session=True,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        _children[child.pid] = child
        started = ProcessRecord(child.pid, psutil.Process(child.pid).create_time(), name, marker)
        record(started)
        with contextlib.suppress(BrokenPipeError):
            os.write(tells, b"go\n")
    except (OSError, subprocess.SubprocessError) as error:
        raise _cannot_assume(account, error) from error
    finally:
        for descriptor in (output, waits_on, tells):
            os.close(descriptor)
    wait_until(lambda: started.is_alive() or child.poll() is not None, timeout_s=10.0)
    return started


def run(command: Sequence[str], *, account: Account | None = None, timeout_s: float = 60.0) -> tuple[int, str]:
    """Run a helper program to its end; answers its exit code and its output, both streams together.

    Raises:
        SettingsError: it cannot be started, or the account cannot be assumed.
        SourceUnavailable: it did not end in time.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": _SYSTEM_PATH, "LC_ALL": "C"},
            timeout=timeout_s,
            check=False,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired:
        raise SourceUnavailable(
            f"{Path(command[0]).name} did not end within {timeout_s:g} s.", remedy="try again on a less busy machine"
        ) from None
    except (OSError, subprocess.SubprocessError) as error:
        raise _cannot_assume(account, error) from error
    return done.returncode, done.stdout.decode(errors="replace")


def can_reach(path: Path, account: Account | None) -> bool:
    """Whether the account may traverse a directory or execute a file at ``path`` (asked of the kernel, as it)."""
    return account is None or run(["/bin/sh", "-c", 'test -x "$0"', str(path)], account=account)[0] == 0


def _cannot_assume(account: Account | None, error: Exception) -> SettingsError:
    who = "this account" if account is None else f"the account {account.name!r}"
    return SettingsError(
        f"A service's program cannot be started under {who} ({error}).",
        remedy="run Penstock as an ordinary user, or name your own database and bucket as connections",
    )


def wait_until(happened: Callable[[], bool], *, timeout_s: float, every_s: float = 0.05) -> bool:
    """Ask until the answer is yes or the time is over; the last answer is returned."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True


def is_listening(port: int) -> bool:
    """Whether something accepts connections on that port of the loopback address."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def choose_ports(names: Sequence[str], wanted: Mapping[str, int]) -> dict[str, int]:
    """A free loopback port for each name: the wanted ones if all are free (addresses stay stable), else new ones."""
    with contextlib.ExitStack() as held:
        kept = {name: _hold(held, wanted[name]) for name in names if name in wanted}
        if len(kept) == len(names) and None not in kept.values():
            return {name: wanted[name] for name in names}
    with contextlib.ExitStack() as held:
        # Held until all are chosen, so that no two names get the same one.
        return {name: port for name in names if (port := _hold(held, 0)) is not None}


def port_is_free(port: int) -> bool:
    """Whether the loopback port can be bound now."""
    with contextlib.ExitStack() as held:
        return _hold(held, port) is not None


def _hold(held: contextlib.ExitStack, port: int) -> int | None:
    listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError):
        return None
    bound: int = listener.getsockname()[1]
    return bound


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; old or new content, never a mixture, also after a power cut."""
    write_atomic(path, text, mode=0o600)


@contextlib.contextmanager
def exclusive(path: Path, *, timeout_s: float, doing: str) -> Iterator[None]:
    """Hold the lock file ``path``; the kernel lets go of it when this process ends, however it ends.

    Raises:
        SourceUnavailable: another process held it for the whole time.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not wait_until(lambda: _lock(descriptor), timeout_s=timeout_s):
            raise SourceUnavailable(
                f"Another process has been {doing} for {timeout_s:g} s ({path}).", remedy="wait for it, or end it"
            )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def last_line(log: Path) -> str:
    """The last line of a log, for an error message; empty when there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
