"""PostgreSQL 18 from a wheel: a real server on a loopback port, for a laptop that has nothing but Python.

The wheel's own Python interface offers a Unix socket and no passwords; this module uses only its programs
(``initdb``, ``postgres``, ``psql``) and never imports it.

Where things are
    ``<home>/services/postgres/`` holds the log, ``secrets.json`` (mode 0600) and the data folder - the last elsewhere
    only for root with a closed home (see ``embedded_account``). ``services/state.json`` records the place.

Secrets
    Passwords are drawn once. ``initdb`` reads the superuser's from a private file that is deleted at once; later
    logins go through ``PGPASSWORD``; the reader's role gets a SCRAM verifier computed here, so that its password
    is in no statement that a server log could repeat. Nothing secret is ever on a command line.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from common.errors import SourceUnavailable, StateCorrupt
from penstock.embedded_account import account_of, data_base, forget_base, server_programs, service_account
from penstock.embedded_process import (
    Account,
    ProcessRecord,
    can_reach,
    choose_ports,
    last_line,
    run,
    spawn,
    write_private,
)
from penstock.psql import run_psql

SOURCE = "flightops"
"""Connection name and database name of the demo source."""
READER = "penstock_reader"
"""Role that may connect to that database and SELECT, nothing else."""
SUPERUSER = "postgres"
BI = "penstock_bi"
"""Database of the curated tables for BI tools, and the role that owns it."""

_SHUTDOWN = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
_RESET = "remove it with `penstock clean` and start again"


@dataclass(frozen=True)
class PostgresState:
    """What is known of the server from one start to the next.

    Attributes:
        directory: ``<home>/services/postgres``.
        data: PostgreSQL's data folder.
        port: port it listens on, kept from start to start where possible.
        process: its process, None when stopped.
    """

    directory: Path
    data: Path | None = None
    port: int | None = None
    process: ProcessRecord | None = None

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "postgres.log"

    def url(self, role: str = SUPERUSER, database: str = SOURCE) -> str:
        """Connection URL of a role, with its password.

        Raises:
            StateCorrupt: the secrets file is missing or unreadable.
        """
        password = _passwords(self.directory)[role]
        return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"


def start(state: PostgresState, save: Callable[[PostgresState], None], *, timeout_s: float) -> PostgresState:
    """Start the server, creating its data on the first start, and wait until it answers a query.

    Args:
        state: what is known from before; its process must not be alive.
        save: writes a state to disk; called before the process begins to serve.
        timeout_s: patience for each attempt (a crash recovery may take a while).

    Raises:
        SettingsError: it cannot run here (no account, no place).
        SourceUnavailable: it does not come up; names the log.
        StateCorrupt: data or secrets left by an earlier run do not fit together.
    """
    directory = state.directory
    account = service_account()
    base = data_base(directory, account) if state.data is None else state.data.parent
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o711 if account else 0o700)
    data = base / "data"
    if account and data.exists() and (owner := data.stat().st_uid) not in (0, account.uid):
        account = account_of(owner)  # made by an ordinary user earlier, now started by root
    if not can_reach(base, account):
        raise StateCorrupt(f"The database in {data} can no longer be reached by its account.", remedy=_RESET)
    if (data / "PG_VERSION").exists() and not (directory / "secrets.json").exists():
        raise StateCorrupt(f"The passwords of the database in {data} are gone.", remedy=_RESET)
    programs = server_programs(account)
    _initialise(data, directory, programs, account)
    _drop_stale_pid_file(data)
    state = replace(state, data=data)

    for attempt in (1, 2, 3):
        state = _launch(replace(state, port=_port(state.port), process=None), programs, account, save)
        try:
            _await_ready(state, timeout_s)
            _prepare(state)
        except SourceUnavailable:
            # Dead at once: its port was taken in between, or the last server's children are still leaving.
            was_dead = not is_alive(state)
            stop(state)
            if not was_dead or attempt == 3:
                raise
            time.sleep(0.5)
        except BaseException:
            stop(state)
            raise
        else:
            break
    return state


def is_alive(state: PostgresState) -> bool:
    """Whether the recorded server process runs."""
    return state.process is not None and state.process.is_alive()


def stop(state: PostgresState) -> PostgresState:
    """Stop the server (fast shutdown, then harder); the answered state has no process."""
    if state.process is not None and not state.process.stop(_SHUTDOWN):
        raise SourceUnavailable(
            f"PostgreSQL (process {state.process.pid}) does not stop; see {state.log}.",
            source=SOURCE,
            remedy="end that process yourself",
        )
    return replace(state, process=None)


def remove(state: PostgresState) -> list[Path]:
    """Delete the stopped server's data, log and secrets, wherever they are; answers the folders deleted."""
    folders = [state.directory]
    if state.data is not None and state.data.parent != state.directory:
        folders.append(state.data.parent)
        forget_base(state.data.parent)
    shutil.rmtree(state.directory, ignore_errors=True)
    return folders


def _passwords(directory: Path) -> dict[str, str]:
    """Passwords by role, drawn on the first call and kept in a private file."""
    path = directory / "secrets.json"
    if not path.exists():
        drawn = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, READER, BI)}
        write_private(path, json.dumps(drawn, indent=2) + "\n")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if BI not in known:  # drawn by a version that had no such database
            known[BI] = secrets.token_urlsafe(24)
            write_private(path, json.dumps(known, indent=2) + "\n")
        return {role: str(known[role]) for role in (SUPERUSER, READER, BI)}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StateCorrupt(f"{path} cannot be read ({type(error).__name__}).", remedy=_RESET) from None


def _port(wanted: int | None) -> int:
    return choose_ports(["listen"], {} if wanted is None else {"listen": wanted})["listen"]


def _launch(
    state: PostgresState, programs: Path, account: Account | None, save: Callable[[PostgresState], None]
) -> PostgresState:
    if state.data is None:
        raise StateCorrupt("PostgreSQL has no data folder.", remedy=_RESET)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(state.port),
        "unix_socket_directories": "",  # a deep home would exceed the length of a socket's path
        "timezone": "UTC",
        "log_timezone": "UTC",
        "max_connections": "64",
    }
    command = [str(programs / "postgres"), "-D", str(state.data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    process = spawn(
        command,
        name="postgres",
        marker=str(state.data),
        cwd=state.data.parent,
        log=state.log,
        env={"TZ": "UTC"},
        record=lambda known: save(replace(state, process=known)),
        account=account,
    )
    return replace(state, process=process)


def _await_ready(state: PostgresState, timeout_s: float) -> None:
    """Wait until the superuser can run a query; give up early when the process dies."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            run_psql(state.url(database="postgres"), [b"select 1;\n"], timeout_s=10.0)
        except SourceUnavailable:
            dead = not is_alive(state)
            if dead or time.monotonic() > deadline:
                what = "ended while starting" if dead else f"does not answer after {timeout_s:g} s"
                raise SourceUnavailable(
                    f"PostgreSQL {what}: {last_line(state.log)!r}.", source=SOURCE, remedy=f"read {state.log}"
                ) from None
        else:
            return
        time.sleep(0.05)


def _prepare(state: PostgresState) -> None:
    """Make database and reader as they should be; changes nothing where they are."""
    run_psql(
        state.url(database="postgres"),
        [
            f"select 'create database {SOURCE}' where not exists"
            f" (select from pg_database where datname = '{SOURCE}') \\gexec\n"
            f"select 'create role {READER}' where not exists"
            f" (select from pg_roles where rolname = '{READER}') \\gexec\n"
            f"alter role {READER} login nosuperuser nocreatedb nocreaterole noreplication connection limit 40"
            f" password '{scram_verifier(_passwords(state.directory)[READER])}';\n"
            f"alter role {READER} set default_transaction_read_only = on;\n"
            f"select 'create role {BI}' where not exists"
            f" (select from pg_roles where rolname = '{BI}') \\gexec\n"
            f"alter role {BI} login nosuperuser nocreatedb createrole noreplication"
            f" password '{scram_verifier(_passwords(state.directory)[BI])}';\n"
            f"select 'create database {BI} owner {BI}' where not exists"
            f" (select from pg_database where datname = '{BI}') \\gexec\n"
            f"revoke all on database postgres, template1, {SOURCE}, {BI} from public;\n"
            f"grant connect on database {SOURCE}, {BI} to {READER};\n".encode()
        ],
    )
    run_psql(
        state.url(),
        [
            "revoke all on schema public from public;\n"
            f"grant usage on schema public to {READER};\n"
            f"grant select on all tables in schema public to {READER};\n"
            f"alter default privileges in schema public grant select on tables to {READER};\n".encode()
        ],
    )


def scram_verifier(password: str, *, iterations: int = 4096) -> str:
    """What PostgreSQL stores of a password (RFC 5803), computed here so that the password never travels."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _initialise(data: Path, directory: Path, programs: Path, account: Account | None) -> None:
    """Create the data folder, whole or not at all: initdb works under another name, then one rename."""
    if (data / "PG_VERSION").exists():
        return
    new = data.with_name("data.new")
    password_file = data.with_name("initdb.password")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    write_private(password_file, _passwords(directory)[SUPERUSER])
    try:
        if account:
            for path in (new, password_file):
                os.chown(path, account.uid, account.gid)
        code, output = run(
            [
                *(str(programs / "initdb"), "-D", str(new), "-U", SUPERUSER, "-A", "scram-sha-256"),
                *("--pwfile", str(password_file), "--encoding=UTF8", "--locale=C"),
            ],
            account=account,
            timeout_s=120.0,
        )
    finally:
        password_file.unlink(missing_ok=True)
    if code != 0:
        raise SourceUnavailable(
            f"initdb failed with {code} in {new}: {output.strip()[-500:]!r}.",
            source=SOURCE,
            remedy="check free space and permissions there",
        )
    new.rename(data)


def _drop_stale_pid_file(data: Path) -> None:
    """Remove a ``postmaster.pid`` that a crash left; a server that does run there (its record lost) is stopped.

    PostgreSQL itself goes by the process id alone and would refuse to start when the number has been given to
    another program of the same account, which is common in containers.
    """
    path = data / "postmaster.pid"
    try:
        pid = int(path.read_text(encoding="utf-8").split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        path.unlink(missing_ok=True)
        return
    leftover = ProcessRecord(pid, 0.0, "postgres", str(data))  # only the name and the folder can prove it
    if not leftover.stop(_SHUTDOWN):
        raise StateCorrupt(f"Process {pid} holds {data} and does not stop.", source=SOURCE, remedy="end it yourself")
    path.unlink(missing_ok=True)
