"""A real Airflow on this machine, for ``make up``, the demo and the tests; no mock of it anywhere.

::

    <home>/airflow/airflow.cfg      all settings and keys, private; `AIRFLOW_HOME=<home>/airflow airflow ...` uses it
    <home>/airflow/passwords.json   generated passwords of the users admin and viewer, private
    <home>/airflow/sessions.json    which processes these are: id and creation time of each
    <home>/airflow/logs/            one log per component, and the tasks' logs

Components are started, each in a session of its own: api-server (it must answer before a task runs, because tasks talk
to it), dag-processor, scheduler; and triggerer, if specs have ``events``. All listen on 127.0.0.1 only, and only the
API server listens at all: logs are read from disk, so Airflow's log servers (which bind every address) are left out.

The components outlive their starter. Others find them by ``sessions.json``; a process id is believed only with its
creation time. To stop is to end the *session*: workers and tasks leave their process group, but not their session.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from common.errors import SettingsError, TerminalError, TransientError, UsageError
from common.files import write_atomic
from common.settings import process_environment
from penstock.airflow_api import AirflowApi
from penstock.embedded_process import ProcessRecord, choose_ports, exclusive, last_line, spawn, wait_until
from penstock.pools import pools, workers

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Components in the order in which they start, and their command lines."""

_SAME_MOMENT_S = 2.0


class Scheduler:
    """A local Airflow under one home.

    Args:
        home: Penstock's home; Airflow lives in ``<home>/airflow``, and tasks get this home.
        dags_folder: folder of the DAG files; those of this installation by default.
        parallelism: how many tasks may read sources at once.
        preload: load the pipeline's modules once in the scheduler, before it forks, instead of once per task.
        triggers: start the triggerer too, which events need.
        environment: further variables for all components and so for tasks, for example ``PENSTOCK_SOURCES``.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path | None = None,
        parallelism: int = 4,
        preload: bool = True,
        triggers: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.expanduser().absolute()
        self.folder = self.home / "airflow"
        self.logs = self.folder / "logs"
        self._dags_folder = (dags_folder or Path(__file__).resolve().parent.parent / "dags").absolute()
        self._parallelism = parallelism
        self._preload = preload
        self._wanted = [name for name in COMPONENTS if triggers or name != "triggerer"]
        self._environment = dict(environment or {})

    @classmethod
    def attach(cls, home: Path) -> Scheduler:
        """The Airflow that another process has started under ``home``.

        Raises:
            UsageError: none is running there.
        """
        scheduler = cls(home)
        if not scheduler.is_running():
            raise UsageError(f"No Airflow is running under {scheduler.folder}.", remedy="start it with 'make up'")
        return scheduler

    @property
    def url(self) -> str:
        """Address of the API server and of its web page."""
        port = self._state().get("port")
        if port is None:
            raise UsageError(f"No Airflow has been started under {self.folder}.", remedy="start it with 'make up'")
        return f"http://127.0.0.1:{port}"

    @property
    def api(self) -> AirflowApi:
        """A new session of the user ``admin``."""
        return self.api_as("admin")

    def api_as(self, user: str) -> AirflowApi:
        """A new session of a user: ``admin``, or ``viewer`` who may look and not touch."""
        passwords = json.loads((self.folder / "passwords.json").read_text())
        return AirflowApi(self.url, user=user, password=passwords[user])

    def is_running(self) -> bool:
        """Whether every component is alive."""
        sessions = self._state().get("sessions", {})
        return set(sessions) >= set(self._wanted) and all(is_leader(record) for record in sessions.values())

    def was_started(self) -> bool:
        """Whether it was started and not stopped since, alive or not."""
        return bool(self._state().get("sessions"))

    def start(self, *, timeout_s: float = 180.0) -> None:
        """Start what is not running and wait until it is healthy. Does nothing when all is up.

        Args:
            timeout_s: longest wait for each step, in seconds.

        Raises:
            TerminalError: a component ended; the message names its log and has its last line.
            TransientError: not healthy in time.
            SettingsError: Airflow is not installed beside this Python.

        Side effects: creates ``<home>/airflow``; processes that live on after this one.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        with exclusive(self.folder / "lock", timeout_s=timeout_s, doing="starting or stopping Airflow"):
            if self.is_running():
                return
            self._end_sessions(patience_s=20.0)
            port = choose_ports(["api"], {"api": port} if (port := self._state().get("port")) else {})["api"]
            self._write_configuration(port)
            self._migrate(timeout_s)
            self._save({"port": port, "sessions": {}})
            try:
                self._launch("api-server")
                self._launch("dag-processor")
                self._await_healthy("metadatabase", timeout_s)
                for name in self._wanted[2:]:
                    self._launch(name)
                for name in ("dag_processor", *self._wanted[2:]):
                    self._await_healthy(name, timeout_s)
                api = self.api
                for name, (slots, description) in pools(self._parallelism).items():
                    api.ensure_pool(name, slots, description)
            except BaseException:
                self._end_sessions(patience_s=5.0)
                raise

    def stop(self, *, patience_s: float = 20.0) -> None:
        """End every process of every component; running tasks are ended too and tried again after the next start.

        Args:
            patience_s: how long the components may take to end by themselves before they are killed, in seconds.

        Raises:
            TerminalError: a process could not be ended.
        """
        if not self.folder.is_dir():
            return
        with exclusive(self.folder / "lock", timeout_s=60.0, doing="starting or stopping Airflow"):
            self._end_sessions(patience_s=patience_s)

    def processes(self) -> list[psutil.Process]:
        """Every live process of every component: servers, executor workers, tasks."""
        return [process for record in self._state().get("sessions", {}).values() for process in processes_of(record)]

    def environment(self) -> dict[str, str]:
        """The environment of the components, with which ``airflow`` commands reach this Airflow."""
        binaries = str(Path(sys.executable).parent)
        inherited = process_environment()
        local = ",".join(filter(None, [inherited.get("NO_PROXY", ""), "127.0.0.1", "localhost"]))
        own = {
            **self._environment,
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW_CONFIG": str(self.folder / "airflow.cfg"),
            "PENSTOCK_HOME": str(self.home),
            "PATH": f"{binaries}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "LC_ALL": "C.UTF-8",
            "NO_PROXY": local,
            "no_proxy": local,
            "OPENBLAS_NUM_THREADS": "1",  # its threads would not survive a fork, and one per task is right anyway
            "GX_ANALYTICS_ENABLED": "false",
        }
        # Settings of another Airflow must not reach this one, and byte code is to be cached: every task imports.
        kept = {
            name: value
            for name, value in inherited.items()
            if not name.startswith("AIRFLOW_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        return {**kept, **own}

    def _write_configuration(self, port: int) -> None:
        passwords_path, old = self.folder / "passwords.json", configparser.ConfigParser(interpolation=None)
        if not passwords_path.exists():
            generated = {user: secrets.token_urlsafe(18) for user in ("admin", "viewer")}
            write_atomic(passwords_path, json.dumps(generated), mode=0o600)
        old.read(self.folder / "airflow.cfg")
        fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        local = "dags.penstock_dags.executor.LocalExecutor" if self._preload else "LocalExecutor"
        options: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": self._dags_folder,
                "plugins_folder": self.folder / "plugins",
                "executor": local,
                "parallelism": workers(self._parallelism),
                "load_examples": False,
                "dags_are_paused_at_creation": True,
                "fernet_key": old.get("core", "fernet_key", fallback=fernet),
                "execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
                "simple_auth_manager_users": "admin:admin,viewer:viewer",
                "simple_auth_manager_passwords_file": passwords_path,
            },
            "database": {
                "sql_alchemy_conn": f"sqlite:///{self.folder / 'airflow.db'}",
                "load_default_connections": False,
            },
            "api": {
                "host": "127.0.0.1",
                "port": port,
                "base_url": f"http://127.0.0.1:{port}",
                "workers": 1,
                "expose_config": False,
                "secret_key": old.get("api", "secret_key", fallback=secrets.token_urlsafe(32)),
            },
            "api_auth": {"jwt_secret": old.get("api_auth", "jwt_secret", fallback=secrets.token_urlsafe(48))},
            "dag_processor": {"parsing_processes": 1, "refresh_interval": 30},
            # A supervisor that misses its task's last breath sleeps for this long (s); Airflow's 5 double short tasks.
            "workers": {"execution_api_timeout": 60, "min_heartbeat_interval": 1},
            # A task whose supervisor is dead too (power cut, kill of everything) is tried again after this long (s).
            "scheduler": {"task_instance_heartbeat_timeout": 120},
            "logging": {"base_log_folder": self.logs / "tasks", "colored_console_log": False},
            "usage_data_collection": {"enabled": False},
        }
        configuration = configparser.ConfigParser(interpolation=None)
        configuration.read_dict(
            {section: {k: str(v).replace("%", "%%") for k, v in values.items()} for section, values in options.items()}
        )
        text = io.StringIO()
        configuration.write(text)
        write_atomic(self.folder / "airflow.cfg", text.getvalue(), mode=0o600)

    def _migrate(self, timeout_s: float) -> None:
        stamp, wanted = self.folder / "migrated", version("apache-airflow-core")
        if stamp.exists() and stamp.read_text() == wanted and (self.folder / "airflow.db").exists():
            return
        log = self.logs / "db-migrate.log"
        try:
            with log.open("ab") as output:
                done = subprocess.run(
                    [self._program(), "db", "migrate"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self.environment(),
                    timeout=timeout_s,
                    check=False,
                    umask=0o077,
                )
        except subprocess.TimeoutExpired:
            raise TransientError(
                f"'airflow db migrate' did not end within {timeout_s:g} s.", remedy=f"read {log}, and try again"
            ) from None
        if done.returncode != 0:
            remedy = f"read {log}; remove {self.folder} to start anew"
            raise TerminalError(f"'airflow db migrate' failed: {last_line(log)}", remedy=remedy)
        stamp.write_text(wanted)

    def _launch(self, name: str) -> None:
        def record(started: ProcessRecord) -> None:
            state = self._state()
            state["sessions"][name] = {"pid": started.pid, "create_time": started.create_time}
            self._save(state)

        command = (self._program(), *COMPONENTS[name])
        log = self.logs / f"{name}.log"
        spawn(command, name="airflow", marker=name, cwd=Path.cwd(), log=log, env=self.environment(), record=record)

    @staticmethod
    def _program() -> str:
        program = Path(sys.executable).parent / "airflow"
        if not program.exists():
            raise SettingsError(
                f"There is no {program}.", remedy="install Penstock with its dependencies into this environment"
            )
        return str(program)

    def _await_healthy(self, name: str, timeout_s: float) -> None:
        api, deadline = self.api, time.monotonic() + timeout_s
        while api.health().get(name, {}).get("status") != "healthy":
            for component, record in self._state()["sessions"].items():
                if not is_leader(record):
                    log = self.logs / f"{component}.log"
                    raise TerminalError(
                        f"Airflow's {component} ended while starting: {last_line(log)}", remedy=f"read {log}"
                    )
            if time.monotonic() >= deadline:
                raise TransientError(
                    f"Airflow's {name} is not healthy after {timeout_s:g} s.",
                    remedy=f"read the logs in {self.logs}, or try again on a less busy machine",
                )
            time.sleep(0.3)

    def _end_sessions(self, *, patience_s: float) -> None:
        state = self._state()
        sessions = state.get("sessions", {})
        # The scheduler with its workers and tasks first: while they end they still tell the API server how it went.
        for names in (("scheduler", "triggerer"), ("dag-processor", "api-server")):
            end_sessions([sessions[name] for name in names if name in sessions], patience_s)
        if sessions:
            self._save({**state, "sessions": {}})

    def _state(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "sessions.json").read_text()))
        except FileNotFoundError:
            return {}

    def _save(self, state: Mapping[str, object]) -> None:
        write_atomic(self.folder / "sessions.json", json.dumps(state, indent=2), mode=0o600)


def end_sessions(records: Sequence[Mapping[str, float]], patience_s: float) -> None:
    """End every process of some sessions: ask them all, wait, then kill what is left."""

    def signal_all(number: signal.Signals) -> list[psutil.Process]:
        found = [process for record in records for process in processes_of(record)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        return found

    def gone() -> bool:
        return not any(processes_of(record) for record in records)

    signal_all(signal.SIGTERM)
    if wait_until(gone, timeout_s=patience_s) or wait_until(lambda: not signal_all(signal.SIGKILL), timeout_s=10.0):
        return
    left = ", ".join(str(process.pid) for record in records for process in processes_of(record))
    raise TerminalError(f"Processes {left} of Airflow do not end.", remedy="end them by hand")


def is_leader(record: Mapping[str, float]) -> bool:
    """Whether the process that began the session still runs."""
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - record["create_time"]) < _SAME_MOMENT_S
        # Reading the status of a dead child of ours reaps it; see ProcessRecord.is_alive.
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def processes_of(record: Mapping[str, float]) -> list[psutil.Process]:
    """The live processes of a session.

    The kernel keeps a session's number from being given away while any member lives. So if the number belongs to a
    process that was created at another time, the session is over; if it belongs to none, what carries it is ours.
    """
    leader = int(record["pid"])
    ProcessRecord(leader, record["create_time"], "", "").is_alive()  # reaps it where it is our own dead child
    if psutil.pid_exists(leader) and not is_leader(record):
        try:
            if psutil.Process(leader).status() != psutil.STATUS_ZOMBIE:
                return []
        except psutil.Error:
            pass
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found
