"""An Airflow spread over hosts, as ``deploy/compose.yml`` describes it: CeleryExecutor, two workers and a builder.

::

    <root>/api-server/  scheduler/  dag-processor/  triggerer/      each a host: a working folder, an AIRFLOW_HOME and
    <root>/worker-1/    worker-2/   builder/                        a PENSTOCK_HOME of its own
    <root>/redis/                                                   the broker

Commands and environments are those of the compose file, addresses and folders put in the place of its hosts' and
volumes'. PostgreSQL and S3 are the embedded ones; databases and pools are made by the files that compose mounts. The
machine is one, but the hosts share nothing except the network, the code and the DAG files. A host is killed as a whole:
every process of its session, with SIGKILL.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psutil
from pydantic import SecretStr

from benchmarks.compose_file import DEPLOY, services
from benchmarks.host import folder_name
from common.settings import decode_url_part, process_environment
from lake.object_store import parse_s3_url, s3_client
from penstock.airflow_api import AirflowApi, wait_for
from penstock.embedded import EmbeddedServices
from penstock.embedded_process import ProcessRecord, choose_ports, is_listening, last_line, spawn
from penstock.psql import run_psql, wheel_programs
from penstock.scheduler import end_sessions, is_leader, processes_of

WORKERS = ("worker-1", "worker-2", "builder")
"""Hosts that run tasks."""

CONTROL = ("api-server", "dag-processor", "triggerer", "scheduler")
"""Hosts that do not, in the order in which they start."""

_TIMEOUT_S = 600.0


class Cluster:
    """Hosts of one Airflow, as folders and processes.

    Args:
        root: an empty folder.
        embedded: running services: their PostgreSQL holds Airflow's metadata and the catalog, their S3 the lake, and
            both are the demo's sources.
    """

    def __init__(self, root: Path, embedded: EmbeddedServices) -> None:
        self.root = root
        self._embedded = embedded
        self._sessions: dict[str, dict[str, float]] = {}
        self._ports = choose_ports(["api", "redis", "health"], {})
        store = parse_s3_url(SecretStr(embedded.s3_url))
        names = ("POSTGRES_PASSWORD", "AIRFLOW_DB_PASSWORD", "ICEBERG_DB_PASSWORD", "REDIS_PASSWORD")
        keys = ("AIRFLOW_API_SECRET_KEY", "AIRFLOW_JWT_SECRET", "AIRFLOW_ADMIN_PASSWORD")
        self._secrets = {name: secrets.token_hex(32) for name in (*names, *keys)} | {
            "AIRFLOW_FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "S3_ACCESS_KEY": store.access_key,
            "S3_SECRET_KEY": store.secret_key.get_secret_value(),
            "FLIGHTOPS_URL": embedded.connections["flightops"],
            "STATIONS_URL": embedded.connections["stations"],
        }
        self._described = services(self._secrets)
        self._store = store
        self._server = urlsplit(embedded.postgres_url)

    # -- start and stop --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start("redis")
            self._wait(lambda: is_listening(self._ports["redis"]), "Redis")
            self._run("migrate")
            for name in (*CONTROL, *WORKERS):
                self.start(name)
                if name == "api-server":
                    self._await_healthy("metadatabase")
            for part in ("scheduler", "dag_processor", "triggerer"):
                self._await_healthy(part)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process: those that run tasks first, the broker last."""
        for names in ((*WORKERS, "scheduler"), CONTROL[:3], ("redis",)):
            end_sessions([self._sessions.pop(name) for name in names if name in self._sessions], 20.0)

    def start(self, name: str) -> None:
        """Start a host's process, for the first time or again; it leads a session of its own."""

        def record(started: ProcessRecord) -> None:
            self._sessions[name] = {"pid": started.pid, "create_time": started.create_time}

        folder, command = self.root / name, self._command(name)
        log, environment = folder / f"{name}.log", self.environment(name)
        spawn(command, name=name, marker=command[1], cwd=folder, log=log, env=environment, record=record)

    def kill(self, name: str) -> int:
        """Kill a host: every process of it at once, with SIGKILL; how many those were."""
        record = self._sessions.pop(name)
        doomed = processes_of(record)
        for process in doomed:
            process.kill()
        self._wait(lambda: not processes_of(record), f"the end of {name}")
        return len(doomed)

    # -- what is asked of it ---------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"http://127.0.0.1:{self._ports['api']}"

    @property
    def api(self) -> AirflowApi:
        """A session of the user ``admin``."""
        return AirflowApi(self.url, user="admin", password=self._secrets["AIRFLOW_ADMIN_PASSWORD"])

    def environment(self, host: str) -> dict[str, str]:
        """The environment of a host's processes."""
        folder = self.root / host
        described = self._described[host].get("environment", {})
        kept = {
            name: value
            for name, value in process_environment().items()
            if not name.startswith(("AIRFLOW_", "PENSTOCK_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        programs = f"{Path(sys.executable).parent}{os.pathsep}{wheel_programs()}"
        here = {
            # What the image sets.
            "PATH": f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "LC_ALL": "C.UTF-8",
            "OPENBLAS_NUM_THREADS": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DEPLOY.parent / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PENSTOCK_HOME": str(folder / "penstock"),
            # What several hosts on one machine need.
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{folder_name.__module__}.{folder_name.__name__}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._ports["api"]),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self._ports["health"]),
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "3",  # the embedded server has 64 connections
            # What a lost host ran is tried again after this long, and what waited in its hands, in s: sooner than in
            # production, where a busy network must not look like a lost host.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "180",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        wanted = {name: self._here(str(value), host) for name, value in described.items()}
        return {**kept, **wanted, **here}

    def memory_mb(self) -> dict[str, int]:
        """What each host's processes hold now, in MB; pages that several share are divided among them."""
        found = {}
        for name, record in self._sessions.items():
            held = 0
            for process in processes_of(record):
                with contextlib.suppress(psutil.Error):
                    held += process.memory_full_info().pss
            found[name] = round(held / 1e6)
        return found

    def query(self, statement: str) -> list[list[str]]:
        """Ask Airflow's database."""
        url = f"postgresql://airflow:{self._secrets['AIRFLOW_DB_PASSWORD']}@{self._address('postgres')}/airflow"
        return run_psql(url, [f"{statement};\n".encode()])

    # -- the compose file, here ------------------------------------------------------------------------------------

    def _address(self, service: str) -> str:
        port = {"postgres": self._server.port, "redis": self._ports["redis"], "api-server": self._ports["api"]}
        return urlsplit(self._store.endpoint).netloc if service == "object-store" else f"127.0.0.1:{port[service]}"

    def _here(self, text: str, host: str) -> str:
        """A value of the compose file with this machine's addresses and this host's folders."""
        for service, port in (("postgres", 5432), ("redis", 6379), ("api-server", 8080), ("object-store", 8333)):
            text = text.replace(f"{service}:{port}", self._address(service))
        if text == "/warehouse":  # the builder's volume, as others see it
            return str(self.root / "builder" / "penstock" / "warehouse")
        for volume in ("/opt/airflow", "/var/lib/penstock"):
            text = text.replace(volume, str(self.root / host / Path(volume).name))
        return text

    def _command(self, host: str) -> Sequence[str]:
        command = [self._here(part, host) for part in self._described[host]["command"]]
        if host == "redis":
            listens = f"port {self._ports['redis']}\nbind 127.0.0.1\ndir {self.root / host}\n"
            command[-1] = command[-1].replace("requirepass", f"{listens}requirepass")
        if host in {*WORKERS, "scheduler", "triggerer"}:
            command.append("--skip-serve-logs")  # its port is the same on every host
        if host in WORKERS:
            command += ["--celery-hostname", host]  # the real host's name otherwise
        found = Path(sys.executable).parent / command[0]
        return [str(found) if found.exists() else f"/bin/{command[0]}", *command[1:]]

    def _prepare(self) -> None:
        """Folders, databases, the lake's bucket."""
        for host in (*CONTROL, *WORKERS, "redis", "migrate"):
            (self.root / host / "airflow").mkdir(parents=True, mode=0o700)
        (self.root / "migrate" / "airflow" / "pools.json").symlink_to(DEPLOY / "pools.json")
        login = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self._server.port),
            "PGPASSWORD": decode_url_part(self._server.password),
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": "postgres",
        }
        names = ("AIRFLOW_DB_PASSWORD", "ICEBERG_DB_PASSWORD")
        self._do(
            ["/bin/sh", str(DEPLOY / "databases.sh")], "migrate", login | {name: self._secrets[name] for name in names}
        )
        s3_client(self._store).create_bucket(Bucket="penstock-lake")

    def _run(self, host: str) -> None:
        """Run a host's command to its end."""
        self._do(self._command(host), host, {})

    def _do(self, command: Sequence[str], host: str, extra: Mapping[str, str]) -> None:
        log = self.root / host / f"{host}.log"
        environment = {**self.environment(host), **extra}
        nothing = subprocess.DEVNULL
        with log.open("ab") as output:
            done = subprocess.run(
                command, cwd=log.parent, env=environment, stdin=nothing, stdout=output, stderr=output, check=False
            )
        if done.returncode:
            raise SystemExit(f"{host} failed: {last_line(log)}")

    def _wait(self, happened: Callable[[], bool], what: str) -> None:
        def asked() -> bool:
            for name, record in self._sessions.items():
                if not is_leader(record):
                    raise SystemExit(f"{name} ended: {last_line(self.root / name / f'{name}.log')}")
            return happened()

        if not wait_for(asked, _TIMEOUT_S):
            raise SystemExit(f"waited in vain for {what}")

    def _await_healthy(self, part: str) -> None:
        self._wait(lambda: self.api.health().get(part, {}).get("status") == "healthy", part)
