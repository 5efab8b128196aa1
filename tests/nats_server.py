"""A real NATS server with JetStream, from its wheel, on a port of its own and with a login."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from nats.js.errors import NotFoundError

from penstock.embedded_process import choose_ports, port_is_free

PASSWORD = "p@ss/w:rd"
STREAMS = {"IN": "in.>", "DEAD": "dead.>"}
"""The streams of the tests: messages, and those that were refused."""

_PATIENCE_S = 60
"""How long is waited for an answer: a busy machine may stall for many seconds."""


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
        address = self.url.split("@")[1]
        client = await nats.connect(address, user="penstock", password=PASSWORD, connect_timeout=_PATIENCE_S)
        try:
            yield client.jetstream(timeout=_PATIENCE_S)
        finally:
            await client.close()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have the server do nothing meanwhile, from when each of its threads has come upon the signal."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            deadline_s = time.monotonic() + _PATIENCE_S
            states = list(Path(f"/proc/{self.process.pid}/task").glob("*/stat"))
            while not all(state.read_text().rpartition(") ")[2].startswith("T") for state in states):
                if time.monotonic() > deadline_s:
                    raise RuntimeError("the server goes on")
                time.sleep(0.01)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def empty_streams(self) -> None:
        """Make :data:`STREAMS` anew: nothing is in them, and nobody has read from them."""

        async def make() -> None:
            async with self.client() as stream:
                for name, subject in STREAMS.items():
                    with contextlib.suppress(NotFoundError):
                        await stream.delete_stream(name)
                    await stream.add_stream(name=name, subjects=[subject])

        asyncio.run(make())


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
        deadline = time.monotonic() + _PATIENCE_S
        while port_is_free(port):
            assert process.poll() is None, (folder / "nats.log").read_text()
            assert time.monotonic() < deadline, "the NATS server does not answer"
            time.sleep(0.02)
        yield NatsServer(f"nats://penstock:p%40ss%2Fw%3Ard@127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)
