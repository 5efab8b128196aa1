"""``penstock serve`` beside a real Airflow, in a process of its own, and somebody who operates it by HTTP."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from common.settings import process_environment
from tests.architecture.source_tree import ROOT
from warehouse.serve.tokens import LocalIssuer

POLICY = "roles: {operator: {scopes: [read, operate], datasets: {'*': {columns: all}}}}"


class Operator:
    """Somebody with the scope ``operate``.

    Args:
        address: of the API.
        token: a bearer token.
    """

    def __init__(self, address: str, token: str) -> None:
        self._client = httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=120)

    def ask(self, path: str, *, status: int = 200) -> dict[str, Any]:
        """The document at a path."""
        return _document(self._client.get(path), status)

    def tell(self, path: str, body: Mapping[str, Any] | None = None, *, status: int = 200) -> dict[str, Any]:
        """What is answered to a POST."""
        return _document(self._client.post(path, json=body), status)


@contextmanager
def serving(home: Path, sources: Path, **connections: str) -> Iterator[Operator]:
    """The server over a state folder in which there is a release; the web's door only."""
    (home / "policy.yml").write_text(POLICY)
    given = {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in connections.items()}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "penstock", "serve", "--no-flight", "--no-bi", "--no-metrics"],
            env=process_environment(PENSTOCK_HOME=str(home), PENSTOCK_SOURCES=str(sources), **given),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert server.stdout is not None
            told = server.stdout.readline().split()
            log.seek(0)
            assert told[:1] == ["Serving"], log.read()
            token, _ = LocalIssuer(home / "serve").issue(
                "operator", ["read", "operate"], subject="t", audience="penstock", expires_in_s=3600
            )
            yield Operator(told[1], token)
        finally:
            server.terminate()
            server.communicate(timeout=120)


def _document(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found
