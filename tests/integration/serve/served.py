"""Small releases, a policy of four roles, and a service over them that answers in the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from starlette.testclient import TestClient

from warehouse.inspect import describe_tables
from warehouse.releases import Release, Releases
from warehouse.serve.facts import DatasetFacts, Facts
from warehouse.serve.operations import Operations
from warehouse.serve.sandbox import Limits
from warehouse.serve.server import ServerOptions, Service
from warehouse.serve.tokens import LocalIssuer

CANARY = "canary-3c1f"
PAYLOADS = (
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0"),
    *('=HYPERLINK("http://example.com")', "plain", "", "a,b", 'quo"te', "line\nbreak", "'quoted"),
)
"""Texts of the table ``notes``: what a spreadsheet would run, and what it would not."""

POLICY = """
roles:
  admin:
    scopes: [read, sql, operate]
    datasets:
      "*": {columns: all}
  analyst:
    scopes: [read, sql]
    datasets:
      routes: {columns: all}
      flights:
        columns: all
        hide: [pilot]
        mask: {tail: hash, note: redacted}
        rows: "origin = 'JFK'"
  reader:
    scopes: [read]
    datasets:
      routes: {columns: [day, origin, flights]}
  nobody:
    scopes: [read, sql]
  broken:
    scopes: [read, sql]
    datasets:
      flights: {columns: all, hide: [no_such_column]}
"""

ROUTES = 400
METRICS = {
    "datasets": {
        "routes": {
            "dataset": "routes",
            "description": "Routes by day.",
            "time_dimension": "day",
            "dimensions": [
                {"name": "origin", "label": "Origin", "description": "", "sql": '"origin"', "type": "VARCHAR"}
                | {"columns": ["origin"], "grains": []},
                {"name": "day", "label": "Day", "description": "", "sql": '"day"', "type": "DATE"}
                | {"columns": ["day"], "grains": ["day", "week", "month"]},
            ],
        }
    },
    "metrics": [
        {"name": name, "label": name, "description": "", "unit": unit, "kind": "simple", "made_of": []}
        | {"model": "routes", "sql": sql, "type": kind, "columns": columns}
        for name, unit, sql, kind, columns in (
            ("flown", "flights", 'sum("flights")', "HUGEINT", ["flights"]),
            ("worst_delay", "min", 'max("delay_min")', "DECIMAL(9,2)", ["delay_min"]),
        )
    ],
}
"""As a build compiles them (:func:`warehouse.metrics_layer.compile_metrics`)."""


class Told:
    """Facts that a test can recognise."""

    def dataset(self, name: str) -> DatasetFacts:
        """Facts on any dataset."""
        downstream = ("warehouse.flights", "warehouse.no_such", "mart")
        return DatasetFacts(("ada@example.com",), (f"refined.{name}",), downstream, {"published": 2}, "2013-01-02")


def publish(warehouse: Path, number: int, *, big_rows: int = 0) -> Release:
    """A release whose tables all say its number; ``big`` has a kilobyte in each row."""
    releases = Releases(warehouse)
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(
            "CREATE TABLE routes AS SELECT date '2013-01-01' + (i // 8)::INTEGER AS day, "
            "['JFK', 'LGA', 'EWR', NULL][1 + i % 4] AS origin, (i * 37) % 50 AS flights, "
            f"CASE WHEN i % 5 > 0 THEN ((i % 9) - 4)::DECIMAL(9, 2) END AS delay_min, {number} AS version "
            f"FROM range({ROUTES}) AS r(i)"
        )
        connection.execute("COMMENT ON TABLE routes IS 'Routes by day. Grain: one row per route and day.'")
        connection.execute("COMMENT ON COLUMN routes.flights IS 'Flights of the day.'")
        connection.execute(
            "CREATE TABLE flights AS SELECT i AS flight_id, ['JFK', 'LGA'][1 + i % 2] AS origin, 'N' || i AS tail, "
            f"'{CANARY}-' || i AS pilot, 'note ' || i AS note, "
            f"timestamptz '2013-01-01 00:00:00+00' + to_minutes(i) AS departed_at, {number} AS version "
            "FROM range(100) AS r(i)"
        )
        connection.execute(f"CREATE TABLE payroll AS SELECT '{CANARY}' AS word, {number} AS version")
        connection.execute("CREATE SCHEMA ops")
        connection.execute(f"CREATE TABLE ops.queries AS SELECT '{CANARY}' AS subject")
        if big_rows:
            connection.execute(f"CREATE TABLE big AS SELECT repeat('x', 1000) AS x FROM range({big_rows})")
        connection.execute('CREATE TABLE notes ("=text" VARCHAR, amount INTEGER, ratio DOUBLE)')
        connection.executemany("INSERT INTO notes VALUES (?, -5, 'nan')", [[text] for text in PAYLOADS])
    verdict = {"passed": True, "results": [{"rule": "a_rule", "severity": "warning", "passed": False}]}
    tables = describe_tables(candidate.database, {"routes": "day"})
    said = {"tables": tables, "verdicts": {"routes": verdict}, "metrics": METRICS, "built_at": "2026-01-01T00:00:00Z"}
    releases.seal(candidate, said)
    return releases.publish(candidate)


Response = Any
"""What the test client answers: of httpx, or of what follows it, as is installed."""


@dataclass(frozen=True)
class Served:
    """A service and its callers.

    Attributes:
        folder: of warehouse, state and policy.
        service: the service.
        client: asks it, without a socket between.
        tokens: one of each role, with all scopes of it.
    """

    folder: Path
    service: Service
    client: TestClient
    tokens: Mapping[str, str]

    @property
    def warehouse(self) -> Path:
        """The folder of the releases."""
        return self.folder / "warehouse"

    @property
    def issuer(self) -> LocalIssuer:
        """The local issuer."""
        return LocalIssuer(self.folder / "serve")

    def get(self, path: str, role: str = "admin", /, **options: Any) -> Response:
        """GET as a role; keywords are parameters, ``headers`` aside."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **options.pop("headers", {})}
        return self.client.get(path, params=options, headers=headers)

    def sql(self, text: str, role: str = "admin", **headers: str) -> Response:
        """Guarded SQL as a role."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **headers}
        return self.client.post("/v1/sql", json={"sql": text}, headers=headers)

    def rows(self, path: str, role: str = "admin", /, **options: Any) -> list[dict[str, Any]]:
        """Rows of an answer that must be one."""
        answer = self.get(path, role, **options)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["rows"]
        return found


def options_of(folder: Path, **changed: Any) -> ServerOptions:
    """Options of a service over a folder."""
    (folder / "policy.yml").write_text(POLICY)
    limits = Limits(wall_s=5.0, cpu_s=5, memory_mb=256)
    given = {"requests_per_min": 1_000_000, "sql": limits, **changed}
    return ServerOptions(folder / "warehouse", folder / "serve", folder / "policy.yml", **given)


def serve(folder: Path, *, facts: Facts | None = None, operations: Operations | None = None, **changed: Any) -> Served:
    """A service over a folder with a published warehouse; close it."""
    return served_by(Service(options_of(folder, **changed), facts or Told(), operations), folder)


def served_by(service: Service, folder: Path) -> Served:
    """A service whose state is in a folder, and tokens of each role."""
    issuer = LocalIssuer(folder / "serve")
    tokens = {
        role: issuer.issue(role, ["read", "sql"], subject=role, audience="penstock", expires_in_s=3600)[0]
        for role in ("admin", "analyst", "reader", "nobody", "broken")
    }
    return Served(folder, service, TestClient(service.app), tokens)
