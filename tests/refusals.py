"""What a refusal looks like from outside: one clear line, the right exit code, nothing changed, nothing secret told."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from tests.command_line import Answer, CommandLine, stored_state

CANARY = "canary-7f31-never-to-be-seen"
"""A password that must not be found anywhere."""

REJECTED, USAGE, INFRASTRUCTURE = 1, 2, 3


@contextmanager
def nothing_changes(command: CommandLine, figures: Callable[..., None] | None = None) -> Iterator[None]:
    """Lake and warehouse hold after the block exactly what they held before it; ``figures`` is told whether they do."""
    before = stored_state(command.settings())
    yield
    after = stored_state(command.settings())
    if figures is not None:
        figures(publishes_without_verdict=int(after != before))
    assert after == before


def assert_refused(command: CommandLine, answer: Answer, code: int, kind: str, *named: str) -> None:
    """Exactly one error line, of this kind, naming these things and a remedy; no traceback; no secret anywhere."""
    assert (answer.code, len(answer.errors)) == (code, 1), answer.err
    (line,) = answer.errors
    assert line.startswith(f"penstock: {kind}: ")
    assert [name for name in (*named, "Remedy: ") if name not in line] == [], line
    assert "Traceback" not in answer.err
    logins = (re.match(r"[a-z0-9]+://[^:]*:([^@]*)@", url) for url in command.connections.values())
    secrets = {CANARY, *(login[1] for login in logins if login and len(login[1]) > 8)}
    written = (path.read_bytes() for path in command.home.rglob("*") if path.is_file())
    for content in (answer.out.encode(), answer.err.encode(), *written):
        assert not [secret for secret in secrets if secret.encode() in content]


def with_part(url: str, *, password: str | None = None, port: int | None = None, user: str | None = None) -> str:
    """A URL with another login or port."""
    parts = urlsplit(url)
    login = f"{user or parts.username}:{password or parts.password}"
    host = f"{parts.hostname}" + (f":{port or parts.port}" if port or parts.port else "")
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connected(command: CommandLine, name: str, url: str) -> CommandLine:
    """The same command line with one connection changed."""
    return replace(command, connections={**command.connections, name: url})
