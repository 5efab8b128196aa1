"""A real MariaDB for tests and benchmarks: the machine's own program, started by hand in a folder, stopped by its pid.

There is no wheel of it, so it is the one service that may be missing: ``apt-get install mariadb-server-core
mariadb-client-core`` (or all of ``mariadb-server``). No system service is used or touched.

``MYSQL_OF_TESTS`` names the ``mysqld`` of a MySQL: the tests then run on that one, asked by MariaDB's client as before.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from common.settings import process_environment

READER = "penstock_reader"
PASSWORD = "reader-S3cret"
MISSING = "there is no mariadbd on this machine: apt-get install mariadb-server"

_SEQUENCE = re.compile(rb"\bseq_(\d+)_to_(\d+)\b")
_NUMBERS = (
    rb"(WITH RECURSIVE numbers (seq) AS (SELECT CAST(\1 AS UNSIGNED) UNION ALL SELECT seq + 1 FROM numbers "
    rb"WHERE seq < \2) SELECT seq FROM numbers) AS numbered"
)
"""What MariaDB's sequence engine answers for ``seq_1_to_9``, and MySQL has no table of."""


def mysqld() -> str | None:
    """Path of the MySQL that the tests are to run on; None if they run on MariaDB."""
    return process_environment().get("MYSQL_OF_TESTS") or None


def server_program() -> str | None:
    """Path of the server program; None if the machine has none."""
    path = process_environment().get("PATH", "")
    return mysqld() or shutil.which("mariadbd", path=f"{path}:/usr/sbin:/usr/local/sbin")


def require(program: str | None, *, in_ci: bool) -> None:
    """Skip the test if there is no server program; in continuous integration, fail it."""
    if program is None:
        (pytest.fail if in_ci else pytest.skip)(MISSING)


_OF_MYSQL = ("--mysqlx=OFF", "--secure-file-priv=", "--performance-schema=OFF")
"""No second port; files are read from where the tests write them; no memory for figures that nobody reads."""


@dataclass
class MariadbServer:
    """A running server.

    Attributes:
        folder: holds its data, its log and its TLS files.
        port: on 127.0.0.1.
        process: the server.
        is_mysql: whether it is a MySQL.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    is_mysql: bool

    def client(self, *options: str, database: str = "") -> list[str]:
        """Command of the client as the server's owner, through its socket."""
        client = shutil.which("mariadb") or "mariadb"
        socket_path = self.folder / "server.sock"
        named = [database] if database else []
        return [client, "--no-defaults", "--user=root", f"--socket={socket_path}", *options, *named]

    def run(self, sql: str | bytes, *, database: str = "", time_zone: str = "+00:00") -> list[list[str]]:
        """Run statements as the owner; answers the last ones' rows, as the client prints them in batch mode."""
        text = sql.encode() if isinstance(sql, str) else sql
        opening = f"SET time_zone = '{time_zone}';\n".encode()
        if self.is_mysql:
            opening += b"SET cte_max_recursion_depth = 1000000;\n"
            text = _SEQUENCE.sub(_NUMBERS, text)
        command = self.client("--batch", "--skip-column-names", "--default-character-set=utf8mb4", database=database)
        done = subprocess.run(command, input=opening + text, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return [line.split("\t") for line in done.stdout.decode().splitlines()]

    @property
    def md5_is_a_component(self) -> bool:
        """Whether it is a MySQL of the versions that have MD5 only as a component."""
        numbers = re.findall(r"\d+", self.run("SELECT VERSION()")[0][0])
        return self.is_mysql and (int(numbers[0]), int(numbers[1])) >= (9, 6)

    def url(self, database: str, *, user: str = READER, password: str = PASSWORD, options: str = "") -> str:
        """URL of a database for the role that may only read."""
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"mysql://{credentials}@127.0.0.1:{self.port}/{quote(database, safe='')}{options}"

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_mariadb(options: Sequence[str] = ()) -> Iterator[MariadbServer]:
    """A server in a temporary folder, with TLS by a certificate authority of its own; it is stopped and removed."""
    program = server_program()
    if program is None:
        raise RuntimeError(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="penstock-mariadb-"))
    try:
        _make_certificates(folder)
        user = ["--user=root"] if os.geteuid() == 0 else []
        made = ["--no-defaults", f"--datadir={folder / 'data'}", *user]
        if mysqld():
            command = [program, *made, "--initialize-insecure", "--innodb-doublewrite=0"]
        else:
            command = ["mariadb-install-db", *made, "--skip-test-db", "--auth-root-authentication-method=normal"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        server = _started(program, folder, [*user, *options])
        try:
            if server.md5_is_a_component:
                server.run("INSTALL COMPONENT 'file://component_classic_hashing';")
            server.run(f"CREATE USER {READER}@'%' IDENTIFIED BY '{PASSWORD}'; DROP USER IF EXISTS ''@'localhost';")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(program: str, folder: Path, options: Sequence[str]) -> MariadbServer:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(program, "--no-defaults", f"--datadir={folder / 'data'}", f"--socket={folder / 'server.sock'}"),
        *(f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder / 'server.pid'}", "--skip-log-bin"),
        *("--local-infile=1", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"),
        *(f"--ssl-ca={folder / 'ca.pem'}", f"--ssl-cert={folder / 'server.pem'}", f"--ssl-key={folder / 'server.key'}"),
        *(_OF_MYSQL if mysqld() else ()),
        *options,
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = MariadbServer(folder, port, process, is_mysql=bool(mysqld()))
    for _ in range(900):
        if process.poll() is not None:
            break
        asked = subprocess.run(server.client("-e", "SELECT 1"), capture_output=True, check=False)
        if asked.returncode == 0:
            return server
        time.sleep(0.1)
    server.stop()
    raise RuntimeError(f"{program} did not start: {(folder / 'server.log').read_text()[-800:]}")


def _make_certificates(folder: Path) -> None:
    """A certificate authority (``ca.pem``), the server's certificate for 127.0.0.1, and a stranger (``other.pem``)."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for name in ("ca", "other"):
        _openssl(
            folder,
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN=penstock-test-{name}"),
        )
    _openssl(
        folder,
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"),
    )
    _openssl(
        folder,
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", "2", "-extfile", "names", "-out", "server.pem"),
    )


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)
