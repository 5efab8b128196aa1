"""A real NATS server with JetStream, from its wheel, on a port of its own and with a login."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats

from penstock.embedded_process import choose_ports, port_is_free

PASSWORD = "p@ss/w:rd"


@dataclass(frozen=True)
class NatsServer:
    """A running server.

    Attributes:
        url: with user and password.
        process: of the server.
    """

    url: str
    process: subprocess.Popen[bytes]

    @contextlib.asynccontextmanager
    async def client(self) -> Any:
        """A client of one who puts messages there."""
        client = await nats.connect(self.url.split("@")[1], user="penstock", password=PASSWORD)
        try:
            yield client.jetstream()
        finally:
            await client.close()


@contextlib.contextmanager
def running_nats(folder: Path, *, port: int | None = None) -> Iterator[NatsServer]:
    """A server that keeps its streams in ``folder``; started again there, it has them still."""
    port = port or choose_ports(["nats"], {})["nats"]
    configuration = folder / "nats.conf"
    configuration.write_text(
        f'host: 127.0.0.1\nport: {port}\njetstream: {{store_dir: "{folder}"}}\n'
        f'authorization: {{user: penstock, password: "{PASSWORD}"}}\n'
    )
    program = Path(sys.executable).with_name("nats-server")
    with (folder / "nats.log").open("ab") as log:
        process = subprocess.Popen([program, "-c", configuration], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while port_is_free(port):
            assert process.poll() is None, (folder / "nats.log").read_text()
            assert time.monotonic() < deadline, "the NATS server does not answer"
            time.sleep(0.02)
        yield NatsServer(f"nats://penstock:p%40ss%2Fw%3Ard@127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(10)
