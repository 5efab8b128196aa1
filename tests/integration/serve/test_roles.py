"""Fault 21, objects by users: each role sees its datasets, columns and rows, the same by every door, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from common.errors import SpecError
from tests.integration.serve.served import CANARY, Served, publish
from warehouse.serve.policy import Role, load_policy

ROUTES = ["day", "origin", "flights", "delay_min", "version"]
FLIGHTS = ["flight_id", "origin", "tail", "note", "departed_at", "version"]
SEEN: dict[str, dict[str, Sequence[str]]] = {
    "admin": {
        "routes": ROUTES,
        "flights": ["flight_id", "origin", "tail", "pilot", "note", "departed_at", "version"],
        "payroll": ["word", "version"],
        "notes": ["=text", "amount", "ratio"],
    },
    "analyst": {"routes": ROUTES, "flights": FLIGHTS},
    "reader": {"routes": ["day", "origin", "flights"]},
    "nobody": {},
    "broken": {},
}
DATASETS = ("routes", "flights", "payroll", "notes")
MATRIX = [(role, dataset) for role in SEEN for dataset in DATASETS]


@pytest.mark.parametrize(("role", "dataset"), MATRIX)
def test_a_role_sees_its_columns_of_its_datasets_by_every_door(
    served: Served, figures: Callable[..., None], role: str, dataset: str
) -> None:
    columns = SEEN[role].get(dataset)
    base = f"/v1/datasets/{dataset}"
    answers = [served.get(f"{base}{door}", role) for door in ("", "/lineage", "/rows", "/aggregate")]
    answers += [served.get(f"{base}/rows", role, format=form) for form in ("csv", "arrow", "parquet")]
    told = [answer for answer in answers if answer.status_code == 200 and columns is None]
    told += [answer for answer in answers if role != "admin" and CANARY in answer.text]
    figures(action=f"{role}, {dataset}", doors=len(answers), leaks=len(told))
    if columns is None:
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "unknown_dataset")}
    else:
        assert {answer.status_code for answer in answers} == {200}
        assert [column["name"] for column in answers[0].json()["columns"]] == columns
        assert list(answers[2].json()["rows"][0]) == columns
        seen = ["warehouse.flights"] if "flights" in SEEN[role] else []
        assert answers[1].json()["downstream"] == seen
    listed = {each["name"] for each in served.get("/v1/datasets", role).json()["datasets"]}
    assert (dataset in listed) == (columns is not None)
    if "sql" in served.service.follower._policy.roles[role].scopes:
        answer = served.sql(f"select * from {dataset} limit 1", role)
        assert answer.status_code == (200 if columns is not None else 400)
        if columns is not None:
            assert list(answer.json()["rows"][0]) == columns
    if role != "admin":
        assert CANARY not in "".join(answer.text for answer in answers if answer.headers["content-type"] != "x")


@pytest.mark.parametrize(
    ("select", "code"),
    [("pilot", "unknown_column"), ("flight_id,pilot", "unknown_column"), ("PILOT", "unknown_column")],
)
def test_a_hidden_column_is_as_if_it_were_not_there(served: Served, select: str, code: str) -> None:
    rows, sums = "/v1/datasets/flights/rows", "/v1/datasets/flights/aggregate"
    for path, options in (
        (rows, {"select": select}),
        (rows, {"sort": select}),
        (rows, {"filter": f"{select.rsplit(',', maxsplit=1)[-1]}:is_null:false"}),
        (sums, {"group": select}),
        (sums, {"measure": f"max:{select.rsplit(',', maxsplit=1)[-1]}"}),
    ):
        answer = served.get(path, "analyst", **options)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
        assert CANARY not in answer.text
    assert "pilot" not in served.get("/v1/datasets", "analyst").text


def test_a_filter_of_a_role_holds_in_counts_pages_sql_and_differences(served: Served) -> None:
    assert served.rows("/v1/datasets/flights/aggregate", "analyst") == [{"count": 50}]
    assert served.sql("select count(*) as n, min(origin) as o, max(origin) as p from flights", "analyst").json()[
        "rows"
    ] == [{"n": 50, "o": "JFK", "p": "JFK"}]
    first = served.get("/v1/datasets/flights/rows", "analyst", limit=30, sort="-flight_id").json()
    second = served.get(
        "/v1/datasets/flights/rows", "analyst", limit=30, sort="-flight_id", cursor=first["next"]
    ).json()
    rows = first["rows"] + second["rows"]
    assert [row["flight_id"] for row in rows] == list(range(98, -2, -2))
    assert served.get("/v1/datasets/flights", "analyst").json()["rows"] is None
    diff = served.get("/v1/releases/r000001/diff/r000001", "analyst").json()
    assert [(each["name"], each["rows_after"]) for each in diff["datasets"]] == [("flights", None), ("routes", 400)]
    assert served.get("/v1/releases", "reader").json()["releases"][0]["datasets"] == {"routes": 400}


def test_masked_values_are_masked_wherever_they_are_used(served: Served) -> None:
    path = "/v1/datasets/flights/rows"
    rows = served.rows(path, "analyst")
    assert {row["note"] for row in rows} == {"***"}
    assert all(len(row["tail"]) == 16 and not row["tail"].startswith("N") for row in rows)
    assert len({row["tail"] for row in rows}) == 50
    assert served.rows(path, "analyst", filter="tail:eq:N0") == []
    assert served.rows(path, "analyst", filter=f"tail:eq:{rows[3]['tail']}") == [rows[3]]
    by_sql = served.sql("select tail from flights order by flight_id", "analyst").json()["rows"]
    assert [row["tail"] for row in by_sql] == [row["tail"] for row in rows]


def test_a_cursor_of_one_role_shows_another_nothing_more(served: Served) -> None:
    page = served.get("/v1/datasets/flights/rows", "admin", limit=10, sort="flight_id").json()
    answer = served.get("/v1/datasets/flights/rows", "analyst", limit=10, sort="flight_id", cursor=page["next"])
    assert CANARY not in answer.text
    if answer.status_code == 200:
        assert {row["origin"] for row in answer.json()["rows"]} == {"JFK"}


def test_answers_of_one_role_are_never_given_to_another(start: Callable[..., Served]) -> None:
    served = start()
    path = "/v1/datasets/flights/rows"
    for _ in range(2):
        assert CANARY in served.get(path, "admin").text
        assert CANARY not in served.get(path, "analyst").text
        assert served.get(path, "reader").status_code == 404
    tags = {role: served.get(path, role).headers["etag"] for role in ("admin", "analyst")}
    assert tags["admin"] != tags["analyst"]
    answer = served.get(path, "analyst", headers={"If-None-Match": tags["admin"]})
    assert answer.status_code == 200


def test_who_asked_what_is_shown_only_to_a_role_that_names_it(tmp_path: Path) -> None:
    from warehouse.serve.opened import OpenRelease
    from warehouse.serve.policy import DatasetRule, Policy

    release = publish(tmp_path / "warehouse", 1)
    everything, named = {"*": DatasetRule(columns="all")}, {"ops.queries": DatasetRule(columns="all")}
    policy = Policy(roles={"all": Role(datasets=everything), "auditor": Role(datasets={**everything, **named})})
    opened = OpenRelease(release, policy, salt="s", memory_limit_mb=256, threads=1)
    assert set(opened.shown("auditor")) - set(opened.shown("all")) == {"ops.queries"}


def test_a_policy_that_no_longer_fits_a_release_closes_the_dataset(tmp_path: Path) -> None:
    from warehouse.serve.opened import OpenRelease
    from warehouse.serve.policy import DatasetRule, Policy

    release = publish(tmp_path / "warehouse", 1)
    rules = {
        "gone_hidden": DatasetRule(columns="all", hide=("gone",)),
        "gone_mask": DatasetRule(columns="all", mask={"gone": "null"}),
        "gone_column": DatasetRule(columns=("gone",)),
        "gone_in_filter": DatasetRule(columns="all", rows="gone = 1"),
        "all_hidden": DatasetRule(columns=("word",), hide=("word",)),
    }
    policy = Policy(roles={name: Role(datasets={"payroll": rule}) for name, rule in rules.items()})
    opened = OpenRelease(release, policy, salt="s", memory_limit_mb=256, threads=1)
    assert {name: dict(opened.shown(name)) for name in rules} == {name: {} for name in rules}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("roles: []", "policy.yml:1: roles"),
        ("roles: {a: {scopes: [root]}}", "scopes"),
        ("roles:\n  a:\n    datasets:\n      t: {}", "policy.yml:4: roles.a.datasets.t.columns"),
        ("roles:\n  a:\n    datasets:\n      t: {columns: some}", "columns"),
        ("roles:\n  a:\n    datasets:\n      t:\n        columns: all\n        hidden: [x]", "policy.yml:6: "),
        ("roles:\n  a:\n    datasets:\n      t: {columns: all, mask: {x: blur}}", "mask.x"),
        ("roles:\n  a:\n    datasets:\n      t: {columns: all, hide: [x], mask: {x: hash}}", "both hidden and masked"),
        ("roles:\n  a:\n    datasets:\n      '*': {columns: all, hide: [x]}", "only 'columns: all'"),
        ("roles:\n  a:\n    datasets:\n      t: {columns: all, rows: 'x ='}", "policy.yml:4: roles.a.datasets.t.rows"),
        ("roles:\n  a:\n    datasets:\n      t: {columns: all, rows: \"x in (from read_text('f'))\"}", "read_text"),
        ("roles:\n  a:\n    datasets:\n      t: {columns: all, rows: 'x in (select y from other)'}", "other"),
        ("roles:\n  a:\n    datasets:\n      t: {columns: all, rows: 'true); drop table t; --'}", "rows"),
        ("roles:\n  a: {}\n  a: {}", "written twice"),
        ("rules: {}", "policy.yml:1: rules: unknown key"),
        ("", "policy.yml:1"),
    ],
)
def test_a_wrong_policy_is_refused_by_file_and_line(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(text)
    with pytest.raises(SpecError) as refused:
        load_policy(path)
    assert named in str(refused.value)
    assert "Remedy" in str(refused.value)


def test_json_of_a_role_is_json_of_its_release(served: Served) -> None:
    text = served.get("/v1/datasets/flights/rows", "analyst", limit=1).text
    document: dict[str, Any] = json.loads(text)
    assert (document["release"], document["dataset"]) == ("r000001", "flights")
    with duckdb.connect() as connection:
        assert connection.execute("SELECT json_valid(?)", [text]).fetchone() == (True,)
