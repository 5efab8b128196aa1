"""Real services for a laptop: PostgreSQL and S3 from wheels, started, found again, stopped and removed as one.

``<home>/services/`` holds all of it::

    state.json          processes, ports and places: what another process needs to find the services   0600
    connections.json    {"flightops": "postgresql://...", "stations": "s3://...", "bi": ...}, read by settings    0600
    lock                held while services are started, stopped or removed
    postgres/  s3/      log, secrets and data of each

Services outlive the process that starts them: ``penstock up`` returns and ``penstock down`` is another process. A
``with`` block that found them already running leaves them running; one that started them stops them. Two starters at
once end with one set of services: the second waits for the lock and then finds them. A service that has died - kill -9,
a power cut - is started again on its old ports if they are free, with its data, and recovers by its own log.
"""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from common.errors import SourceUnavailable, StateCorrupt
from penstock import embedded_postgres, embedded_s3
from penstock.embedded_postgres import PostgresState
from penstock.embedded_process import ProcessRecord, exclusive, is_listening, write_private
from penstock.embedded_s3 import S3State

_VERSION = 1


@dataclass(frozen=True)
class EmbeddedServices:
    """Running services of one home.

    Attributes:
        home: the state folder they belong to.
        postgres_url: superuser's URL of the database ``flightops``: for seeding, never for reading pipelines.
        s3_url: URL of the bucket ``stations``.
        connections: URL by connection name of the sources; ``flightops`` logs in as a SELECT-only role.
        bi_connections: ``bi``, which owns the database for BI tools, and ``bi_reader``, which may only SELECT there.
        owned: whether this handle started them, and so stops them at the end of its ``with`` block.
    """

    home: Path
    postgres_url: str = field(repr=False)
    s3_url: str = field(repr=False)
    connections: dict[str, str] = field(repr=False)
    bi_connections: dict[str, str] = field(repr=False)
    owned: bool = False

    @classmethod
    def start(cls, home: Path, *, timeout_s: float = 60.0) -> Self:
        """Start what is not running, wait until both answer, and write ``connections.json``.

        Args:
            home: state folder; made when missing.
            timeout_s: patience for each service, and for another process that is starting them.

        Raises:
            SourceUnavailable, StoreUnavailable: a service does not come up; the message names its log.
            SettingsError: services cannot run here.
            StateCorrupt: what an earlier run left does not fit together.
        """
        home = home.expanduser().resolve()
        folder = _services(home)
        home.mkdir(parents=True, exist_ok=True)
        for path in (folder, folder / "postgres", folder / "s3"):
            # Traversable, not readable: as root, PostgreSQL's own account must be able to pass through.
            path.mkdir(exist_ok=True)
            path.chmod(0o711)
        with _lock(home, timeout_s=3 * timeout_s):
            state = _State.load(home)
            started_s3 = started_postgres = False
            try:
                if not _s3_answers(state.s3):
                    started_s3 = True
                    stopped = embedded_s3.stop(state.s3)
                    state = state.with_s3(embedded_s3.start(stopped, state.save_s3, timeout_s=timeout_s))
                if not _postgres_answers(state.postgres):
                    started_postgres = True
                    halted = embedded_postgres.stop(state.postgres)
                    state = state.with_postgres(
                        embedded_postgres.start(halted, state.save_postgres, timeout_s=timeout_s)
                    )
                services = cls._of(state, owned=started_s3 or started_postgres)
                content = json.dumps({**services.connections, **services.bi_connections}, indent=2) + "\n"
                write_private(folder / "connections.json", content)
            except BaseException:
                if started_s3:
                    state = state.with_s3(embedded_s3.stop(state.s3))
                if started_postgres:
                    state.with_postgres(embedded_postgres.stop(state.postgres))
                raise
            return services

    @classmethod
    def attach(cls, home: Path) -> Self:
        """A handle on services that another process has started.

        Raises:
            SourceUnavailable: they are not running, or not all of them.
        """
        state = _State.load(home.expanduser().resolve())
        for name, answers in (("PostgreSQL", _postgres_answers(state.postgres)), ("S3", _s3_answers(state.s3))):
            if not answers:
                raise SourceUnavailable(
                    f"The embedded {name} service of {home} is not running.", remedy="start it with `penstock up`"
                )
        return cls._of(state, owned=False)

    @classmethod
    def _of(cls, state: _State, *, owned: bool) -> Self:
        reader = state.postgres.url(role=embedded_postgres.READER)
        return cls(
            home=state.home,
            postgres_url=state.postgres.url(),
            s3_url=state.s3.url(),
            connections={embedded_postgres.SOURCE: reader, embedded_s3.BUCKET: state.s3.url()},
            bi_connections={
                "bi": state.postgres.url(role=embedded_postgres.BI, database=embedded_postgres.BI),
                "bi_reader": state.postgres.url(role=embedded_postgres.READER, database=embedded_postgres.BI),
            },
            owned=owned,
        )

    def stop(self) -> None:
        """Stop the services, whoever started them; data and connections' URLs stay."""
        stop(self.home)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.owned:
            self.stop()


def is_running(home: Path) -> bool:
    """Whether both services of this home run and accept connections."""
    state = _State.load(home.expanduser().resolve())
    return _postgres_answers(state.postgres) and _s3_answers(state.s3)


def stop(home: Path) -> bool:
    """Stop the services of this home from any process.

    Returns:
        Whether anything was running. Side effects: only processes recorded as ours are signalled.

    Raises:
        SourceUnavailable, StoreUnavailable: a process does not end.
    """
    home = home.expanduser().resolve()
    if not _services(home).exists():
        return False
    with _lock(home):
        return _stop(_State.load(home))


def remove(home: Path) -> list[Path]:
    """Stop the services and delete their data, secrets and logs, also those kept outside the home for root.

    Returns:
        The folders deleted.
    """
    home = home.expanduser().resolve()
    folder = _services(home)
    if not folder.exists():
        return []
    with _lock(home):
        state = _State.load(home)
        _stop(state)
        deleted = [*embedded_postgres.remove(state.postgres), *embedded_s3.remove(state.s3), folder]
        shutil.rmtree(folder, ignore_errors=True)
    return deleted


def _stop(state: _State) -> bool:
    was_running = embedded_postgres.is_alive(state.postgres) or embedded_s3.is_alive(state.s3)
    state = state.with_postgres(embedded_postgres.stop(state.postgres))
    state.with_s3(embedded_s3.stop(state.s3))
    return was_running


def _postgres_answers(state: PostgresState) -> bool:
    return embedded_postgres.is_alive(state) and state.port is not None and is_listening(state.port)


def _s3_answers(state: S3State) -> bool:
    return embedded_s3.is_alive(state) and embedded_s3.is_healthy(state)


def _services(home: Path) -> Path:
    return home / "services"


def _lock(home: Path, *, timeout_s: float = 120.0) -> AbstractContextManager[None]:
    return exclusive(_services(home) / "lock", timeout_s=timeout_s, doing="starting or stopping the services")


@dataclass(frozen=True)
class _State:
    """``state.json``: every change is on disk before the next step is taken."""

    home: Path
    postgres: PostgresState
    s3: S3State

    @classmethod
    def load(cls, home: Path) -> Self:
        folder = _services(home)
        path = folder / "state.json"
        postgres, s3 = PostgresState(folder / "postgres"), S3State(folder / "s3")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            known, kept = found["postgres"], found["s3"]
            return cls(
                home,
                replace(
                    postgres,
                    data=Path(known["data"]) if known["data"] else None,
                    port=known["port"],
                    process=_process(known["process"]),
                ),
                replace(s3, ports=dict(kept["ports"]), process=_process(kept["process"])),
            )
        except FileNotFoundError:
            return cls(home, postgres, s3)
        except (ValueError, KeyError, TypeError) as error:
            raise StateCorrupt(
                f"{path} cannot be understood ({type(error).__name__}: {error}).",
                remedy="end the services yourself, then delete that file",
            ) from None

    def with_postgres(self, postgres: PostgresState) -> Self:
        changed = replace(self, postgres=postgres)
        changed.save()
        return changed

    def with_s3(self, s3: S3State) -> Self:
        changed = replace(self, s3=s3)
        changed.save()
        return changed

    def save_postgres(self, postgres: PostgresState) -> None:
        self.with_postgres(postgres)

    def save_s3(self, s3: S3State) -> None:
        self.with_s3(s3)

    def save(self) -> None:
        known = {
            "version": _VERSION,
            "postgres": {
                "process": _process_dict(self.postgres.process),
                "port": self.postgres.port,
                "data": str(self.postgres.data) if self.postgres.data else None,
            },
            "s3": {"process": _process_dict(self.s3.process), "ports": dict(self.s3.ports)},
        }
        write_private(_services(self.home) / "state.json", json.dumps(known, indent=2) + "\n")


def _process(found: dict[str, Any] | None) -> ProcessRecord | None:
    return ProcessRecord(**found) if found else None


def _process_dict(process: ProcessRecord | None) -> dict[str, Any] | None:
    return asdict(process) if process else None
