"""Operations by HTTP over a real lake: who may only look is told of what is theirs, who may do does it, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from lake.failures import Failure, record_failure
from lake.lake import Lake
from penstock.incidents import sync
from penstock.operations import PipelineOperations
from penstock.pipeline import Pipeline
from penstock.records import record
from tests.integration.lake.lakes import Bench
from tests.integration.serve.served import POLICY, Response, Served, Told, options_of, publish, serve
from warehouse.releases import Releases
from warehouse.serve.facts import DatasetFacts

SPEC = """\
source: shop
kind: postgresql
connection: shop
owner: someone@shop.example
tables:
  - name: orders
    mode: append
    cursor: {column: at}
    columns: [{name: at, type: date, nullable: false}, {name: id, type: int64}]
"""
SUITE = """\
suite: raw/shop__orders
expectations:
  - {id: has_rows, expect: expect_table_row_count_to_be_between, kwargs: {min_value: 1}, severity: critical, why: x}
"""
DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
ORDERS = "raw.shop__orders"
WISH = {"targets": [ORDERS], "start": "2013-01-01", "end": "2013-01-06"}
DOING = (
    ("/v1/backfills", WISH),
    ("/v1/backfills/plan", WISH),
    ("/v1/backfills/x/cancel", None),
    ("/v1/releases/r000001/rollback", None),
)


class Made(Told):
    """``routes`` is made from the orders, nothing else is."""

    def dataset(self, name: str) -> DatasetFacts:
        """Facts on any dataset."""
        return DatasetFacts(upstream=(ORDERS,) if name == "routes" else ())


@dataclass(frozen=True)
class Works:
    """A service over a lake of three days, one row of the second in quarantine, and two releases."""

    served: Served
    settings: Settings

    def ask(self, path: str, role: str, *scopes: str, body: Any = None, method: str = "") -> Response:
        """A request by somebody with these scopes."""
        issued = self.served.issuer.issue(role, scopes, subject="t", audience="penstock", expires_in_s=600)
        method = method or ("GET" if body is None else "POST")
        headers = {"Authorization": f"Bearer {issued[0]}"}
        return self.served.client.request(method, path, json=body, headers=headers)

    @property
    def current(self) -> str | None:
        """The current release."""
        return Releases(self.settings.warehouse).current_id()


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    folder = tmp_path_factory.mktemp("works")
    (folder / "sources").mkdir()
    (folder / "sources" / "shop.yml").write_text(SPEC)
    (folder / "suites" / "raw").mkdir(parents=True)
    (folder / "suites" / "raw" / "shop__orders.yml").write_text(SUITE)
    settings = Settings.load({}, home=folder, sources=folder / "sources", suites=folder / "suites")
    bench = Bench(settings)
    for number, day in enumerate(DAYS):
        bench.publish([(1, "a"), (2, "b")], day, rejected=[0] if number == 1 else [])
    broken = Failure(
        *(
            ("source.shop",),
            "connect",
            "shop",
            "",
            "",
            "SourceUnavailable",
            "db.example.com:5432 does not answer",
            "mend",
        ),
        *("run-broken", "t", datetime(2026, 1, 1, tzinfo=UTC)),
    )
    record_failure(Lake(settings), broken)
    record(Pipeline(settings))
    sync(Pipeline(settings))
    for number in (1, 2):
        publish(folder / "warehouse", number)
    running = serve(folder, facts=Made(), operations=PipelineOperations(settings))
    yield Works(running, settings)
    running.service.close()


@pytest.mark.parametrize(("path", "body"), DOING)
def test_without_the_scope_nothing_is_done(works: Works, path: str, body: Any) -> None:
    for role, scopes in (("admin", ("read", "sql")), ("analyst", ("read", "operate")), ("nobody", ("operate",))):
        answer = works.ask(path, role, *scopes, body=body, method="POST")
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert works.current == "r000002"


def test_rows_in_quarantine_need_the_scope_operate(works: Works) -> None:
    path = f"/v1/quarantine/{ORDERS}/rows"
    assert works.ask(path, "admin", "read").status_code == 403
    [row] = works.ask(path, "admin", "operate").json()["rows"]
    assert (row["partition_key"], row["discarded_at"]) == (DAYS[1], None)
    assert works.ask("/v1/quarantine/raw.nothing/rows", "admin", "operate").json()["code"] == "unknown_name"
    assert works.ask("/v1/quarantine/nothing/rows", "admin", "operate").json()["code"] == "unknown_name"


def test_who_may_look_is_told_of_tables_of_the_own_datasets_and_no_reasons(works: Works) -> None:
    told = works.ask("/v1/runs", "reader", "read").json()["runs"]
    assert {table["table"] for run in told for table in run["tables"]} == {ORDERS}
    assert [run["failures"] for run in told] == [[] for _ in told]
    assert [each["table"] for each in works.ask("/v1/quarantine", "reader", "read").json()["quarantine"]] == [ORDERS]
    for path in ("/v1/runs", "/v1/quarantine", "/v1/incidents"):
        answer = works.ask(path, "nobody", "read")
        assert (answer.status_code, [*answer.json().values()]) == (200, [[]])
        assert "db.example.com" not in works.ask(path, "reader", "read").text
    [incident] = works.ask("/v1/incidents", "admin", "read", "operate").json()["incidents"]
    assert (incident["tables"], incident["state"]) == (["source.shop"], "open")
    assert "db.example.com" in incident["reason"]


def test_runs_account_for_every_row(works: Works) -> None:
    runs = works.ask("/v1/runs", "admin", "read", "operate").json()["runs"]
    for run in runs:
        assert run["rows_in"] == sum(run[n] for n in ("published", "quarantined", "rejected", "deduplicated"))
        assert works.ask(f"/v1/runs/{run['id']}", "admin", "read", "operate").json() == run
    assert sum(run["quarantined"] for run in runs) == 1
    assert [run["id"] for run in runs if run["state"] == "failed"] == ["run-broken"]
    failed = works.ask("/v1/runs?state=failed", "admin", "read", "operate").json()["runs"]
    assert [run["id"] for run in failed] == ["run-broken"]
    assert works.ask("/v1/runs/run-broken", "reader", "read").json()["code"] == "unknown_name"


def test_a_plan_wants_what_the_lake_lacks(works: Works) -> None:
    plan = works.ask("/v1/backfills/plan", "admin", "operate", body=WISH).json()
    assert [(each["table"], each["keys"]) for each in plan["ingest"]] == [(ORDERS, ["2013-01-04", "2013-01-05"])]
    for wrong, code in (
        ({"targets": ["nothing"]}, "unknown_name"),
        ({"start": "2013-02-30"}, "bad_body"),
        ({"end": "2013-01-01"}, "bad_body"),
        ({"targets": []}, "bad_body"),
    ):
        answer = works.ask("/v1/backfills/plan", "admin", "operate", body={**WISH, **wrong})
        assert answer.json()["code"] == code


def test_what_is_broken_here_is_told_as_a_problem_without_its_text(works: Works) -> None:
    suite = works.settings.suites / "raw" / "shop__orders.yml"
    suite.rename(suite.with_suffix(".away"))
    try:
        answer = works.ask("/v1/backfills/plan", "admin", "operate", body=WISH)
    finally:
        suite.with_suffix(".away").rename(suite)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(suite.parent) not in answer.text


def test_without_a_scheduler_backfills_are_not_run_here(works: Works) -> None:
    for answer in (
        works.ask("/v1/backfills", "admin", "operate", body=WISH),
        works.ask("/v1/backfills", "admin", "read"),
        works.ask("/v1/backfills/x", "admin", "read"),
        works.ask("/v1/backfills/x/pause", "admin", "operate", method="POST"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (501, "no_scheduler")
        assert str(works.settings.home) not in answer.text


def test_a_server_without_operations_says_so(served: Served) -> None:
    assert served.get("/v1/runs").json()["code"] == "operations_unavailable"


def test_a_rollback_is_served_within_the_promised_delay(tmp_path: Path) -> None:
    for number in (1, 2):
        publish(tmp_path / "warehouse", number)
    settings = Settings.load({}, home=tmp_path)
    (tmp_path / "policy.yml").write_text(POLICY)
    running = serve(tmp_path, operations=PipelineOperations(settings))
    try:
        works = Works(running, settings)
        answer = works.ask("/v1/releases/r000001/rollback", "admin", "operate", method="POST")
        assert (answer.status_code, answer.json()["id"], answer.json()["current"]) == (200, "r000001", True)
        assert works.current == "r000001"
        deadline = time.monotonic() + 60
        while works.ask("/v1/datasets/routes/rows", "admin", "read").json()["release"] != "r000001":
            assert time.monotonic() < deadline
        missing = works.ask("/v1/releases/r999999/rollback", "admin", "operate", method="POST")
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_name")
        assert works.current == "r000001"
    finally:
        running.service.close()
    assert options_of(tmp_path).warehouse == settings.warehouse
