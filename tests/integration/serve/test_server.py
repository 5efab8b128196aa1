"""A real server on a real port: it tells its address, bears slow and broken callers, and ends cleanly."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import pytest
import uvicorn

from common.settings import process_environment
from tests.architecture.source_tree import ROOT
from tests.integration.serve.served import POLICY, options_of, publish
from warehouse.serve import gate, server
from warehouse.serve.query_log import read_log
from warehouse.serve.server import Service, run
from warehouse.serve.tokens import LocalIssuer

ROWS = "/v1/datasets/routes/rows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a release and a policy."""
    home = tmp_path_factory.mktemp("server")
    publish(home / "warehouse", 1, big_rows=20_000)
    (home / "policy.yml").write_text(POLICY)
    return home


def token(home: Path) -> str:
    """A token of an admin."""
    issuer = LocalIssuer(home / "serve")
    return issuer.issue("admin", ["read", "sql"], subject="t", audience="penstock", expires_in_s=600)[0]


def test_serve_prints_its_address_answers_and_ends_by_ctrl_c_with_exit_code_0(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "serve", "--port", "0", "--no-bi"],
        env=process_environment(PENSTOCK_HOME=str(folder), PYTHONPATH=str(ROOT)),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Serving http://127.0.0.1:"), first
        address = first.split()[1].removesuffix("/v1")
        headers = {"Authorization": f"Bearer {token(folder)}"}
        assert httpx.get(f"{address}{ROWS}", headers=headers).json()["release"] == "r000001"
        sql = httpx.post(f"{address}/v1/sql", headers=headers, json={"sql": "select count(*) as n from routes"})
        assert sql.json()["rows"] == [{"n": 400}]
        assert httpx.get(f"{address}/v1/datasets").status_code == 401
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
    finally:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1], "Traceback" in err) == (0, "Ended.", False)
    deadline = time.monotonic() + 60
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Running:
    """A server in a thread.

    Attributes:
        port: where it listens.
        token: of an admin.
    """

    port: int
    token: str

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def is_well(self) -> bool:
        """Whether it answers others."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.get(f"http://127.0.0.1:{self.port}{ROWS}", headers=headers).status_code == 200


class InThread(server.Server):
    """A server that no signal ends."""

    made: ClassVar[list[InThread]] = []

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.made.append(self)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the main thread."""
        yield


@pytest.fixture
def running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server whose patience is short."""
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    monkeypatch.setattr(gate, "BODY_S", 0.5)
    monkeypatch.setattr(gate, "SEND_S", 0.5)
    monkeypatch.setattr(server, "Server", InThread)
    service = Service(options_of(folder))
    addresses: queue.Queue[str] = queue.Queue()
    options = {"host": "127.0.0.1", "port": 0, "ready": addresses.put}
    thread = threading.Thread(target=run, args=(service.app,), kwargs=options)
    thread.start()
    yield Running(int(addresses.get(timeout=60).rsplit(":", 1)[1]), token(folder))
    InThread.made.pop().should_exit = True
    thread.join()
    service.close()


def until_closed(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_callers_that_are_slow_are_broken_off_and_others_are_answered(running: Running) -> None:
    with running.connect() as silent, running.connect() as head, running.connect() as body:
        head.sendall(b"GET /v1/datasets HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        body.sendall(
            b"POST /v1/sql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            b"Authorization: Bearer " + running.token.encode() + b'\r\n\r\n{"sql": '
        )
        assert running.is_well()
        assert until_closed(silent) == b""
        assert until_closed(head) == b""
        assert b" 408 " in body.recv(65_536)
    assert running.is_well()


def test_a_caller_that_takes_nothing_is_broken_off_and_costs_no_memory(running: Running, folder: Path) -> None:
    with running.connect() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"Host: x\r\nAuthorization: Bearer {running.token}"
        lazy.sendall(f"GET /v1/datasets/big/rows?format=csv HTTP/1.1\r\n{head}\r\n\r\n".encode())
        deadline = time.monotonic() + 60
        while not (gone := [each for each in read_log(folder / "serve" / "queries") if each["code"] == "client_gone"]):
            assert time.monotonic() < deadline
            assert running.is_well()
            time.sleep(0.05)
        # Of what was taken into buffers, the kernel's included; to read it to its end takes such a small one 100 s.
        assert gone[0]["size_bytes"] < 20_000_000


def test_nonsense_on_the_wire_is_refused_and_does_no_harm(running: Running) -> None:
    for text in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000, b"A" * 100_000):
        with running.connect() as connection:
            connection.sendall(text)
            assert b" 200 " not in until_closed(connection)
    assert running.is_well()
