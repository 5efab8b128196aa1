"""Rows and aggregates by HTTP are what DuckDB says of the release, in every form, page by page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.serve.served import PAYLOADS, ROUTES, Served
from warehouse.releases import Releases

ROWS = "/v1/datasets/routes/rows"
SUMS = "/v1/datasets/routes/aggregate"
DANGEROUS = tuple("=+-@\t\r")


def ask(served: Served, sql: str) -> list[tuple[Any, ...]]:
    with Releases(served.warehouse).connect() as connection:
        return connection.execute(sql).fetchall()


def walk(served: Served, path: str, role: str = "admin", **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = served.get(path, role, **options, **cursor).json()
        found += page["rows"]
        assert page["complete"] == (page["next"] is None)
        if page["complete"]:
            return found
        cursor = {"cursor": page["next"]}


@pytest.mark.parametrize("sort", ["", "day", "-flights", "origin", "-origin,delay_min", "delay_min,-day", "-delay_min"])
@pytest.mark.parametrize("limit", [1, 37, 400])
def test_pages_neither_repeat_nor_lose_a_row_and_keep_the_order(served: Served, sort: str, limit: int) -> None:
    options = {"select": "day,origin,flights,delay_min", "filter": "flights:lt:20", **({"sort": sort} if sort else {})}
    if limit == 1:
        options["filter"] = "day:le:2013-01-03"
    found = walk(served, ROWS, limit=limit, **options)
    condition = "day <= '2013-01-03'" if limit == 1 else "flights < 20"
    keys = [f"{key.removeprefix('-')} {'DESC' if key[0] == '-' else ''} NULLS LAST" for key in sort.split(",") if key]
    order = ", ".join([*keys, "rowid"])
    expected = ask(
        served,
        f"SELECT day::VARCHAR, origin, flights, delay_min::DOUBLE FROM routes WHERE {condition} ORDER BY {order}",
    )
    assert [tuple(row.values()) for row in found] == expected


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        (["origin:eq:JFK"], "origin = 'JFK'"),
        (["origin:ne:JFK", "flights:ge:10"], "origin <> 'JFK' AND flights >= 10"),
        (["origin:in:JFK,LGA"], "origin IN ('JFK', 'LGA')"),
        (["origin:is_null:true"], "origin IS NULL"),
        (["origin:is_null:false", "delay_min:lt:-1.5"], "origin IS NOT NULL AND delay_min < -1.5"),
        (["origin:starts_with:J"], "starts_with(origin, 'J')"),
        (["origin:contains:G"], "contains(origin, 'G')"),
        (["day:gt:2013-01-20", "day:le:2013-01-25"], "day > '2013-01-20' AND day <= '2013-01-25'"),
        (["origin:eq:x' OR '1'='1"], "false"),
        (["origin:eq:a:b"], "origin = 'a:b'"),
    ],
)
def test_filters_choose_the_rows_that_sql_would(served: Served, filters: list[str], condition: str) -> None:
    [(expected,)] = ask(served, f"SELECT count(*) FROM routes WHERE {condition}")
    assert len(walk(served, ROWS, filter=filters, limit=1000)) == expected
    assert served.rows(SUMS, filter=filters) == [{"count": expected}]


def test_aggregates_are_duckdbs(served: Served) -> None:
    measures = [
        "count",
        "sum:flights",
        "avg:flights",
        "min:day",
        "max:delay_min",
        "count_distinct:day",
        "sum:delay_min",
    ]
    found = served.rows(SUMS, group="origin", measure=measures, sort="-sum_flights")
    expected = ask(
        served,
        "SELECT origin, count(*), sum(flights)::BIGINT, avg(flights), min(day)::VARCHAR, max(delay_min)::DOUBLE, "
        "count(DISTINCT day), sum(delay_min)::DOUBLE FROM routes GROUP BY 1 ORDER BY 3 DESC, 1 NULLS LAST",
    )
    assert [tuple(row.values()) for row in found] == expected
    assert list(found[0]) == ["origin", *(measure.replace(":", "_") for measure in measures)]


def test_every_form_holds_the_same_rows(served: Served) -> None:
    options = {"select": "day,origin,flights,delay_min", "sort": "day,origin,flights"}
    expected = walk(served, ROWS, limit=150, **options)
    assert len(expected) == ROUTES
    table = pa.ipc.open_stream(served.get(ROWS, format="arrow", **options).content).read_all()
    parquet = pq.read_table(io.BytesIO(served.get(ROWS, format="parquet", **options).content))
    assert table.equals(parquet)
    assert table.schema.field("delay_min").type == pa.decimal128(9, 2)
    assert json.loads(json.dumps(table.to_pylist(), default=str)) == [
        {**row, "delay_min": None if row["delay_min"] is None else f"{row['delay_min']:.2f}"} for row in expected
    ]
    lines = list(csv.DictReader(io.StringIO(served.get(ROWS, format="csv", **options).text)))
    assert [line["flights"] for line in lines] == [str(row["flights"]) for row in expected]
    assert [line["delay_min"] for line in lines] == [
        "" if row["delay_min"] is None else f"{row['delay_min']:.2f}" for row in expected
    ]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/json;q=0.5, text/csv;q=0.9", "text/csv; charset=utf-8"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_form_is_the_one_that_accept_prefers(served: Served, accept: str, media: str) -> None:
    assert served.get(ROWS, headers={"Accept": accept}).headers["content-type"] == media


def test_no_text_of_a_csv_is_a_formula_and_no_number_is_touched(served: Served, figures: Callable[..., None]) -> None:
    """Fault 14."""
    text = served.get("/v1/datasets/notes/rows", format="csv").text
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    cells = [line[0] for line in lines]
    live = [cell for cell in [*cells, *header] if cell.startswith(DANGEROUS)]
    figures(
        payloads=len(PAYLOADS),
        payloads_live=len(live),
        negative_numbers_altered=sum(line[1] != "-5" for line in lines),
    )
    assert header == ["'=text", "amount", "ratio"]
    assert [line[1] for line in lines] == ["-5"] * len(PAYLOADS)
    assert live == []
    back = [cell[1:] if cell[:1] == "'" and cell[1:].startswith(DANGEROUS) else cell for cell in cells]
    assert back == list(PAYLOADS)
    by_sql = served.sql('select "=text", amount from notes', Accept="text/csv").text
    assert [line[0] for line in list(csv.reader(io.StringIO(by_sql, newline="")))[1:]] == cells


def test_json_has_no_nan_and_times_are_utc(served: Served) -> None:
    assert served.rows("/v1/datasets/notes/rows", limit=1)[0]["ratio"] is None
    assert served.rows("/v1/datasets/flights/rows", limit=1)[0]["departed_at"] == "2013-01-01T00:00:00.000000Z"


def test_sql_answers_in_every_form_from_the_release(served: Served) -> None:
    statement = "select origin, sum(flights) as flights from routes group by all order by 1"
    expected = served.sql(statement).json()
    assert expected["release"] == "r000001"
    table = pa.ipc.open_stream(served.sql(statement, Accept="application/vnd.apache.arrow.stream").content).read_all()
    assert [{**row, "flights": int(row["flights"])} for row in table.to_pylist()] == expected["rows"]
    parquet = served.sql(statement, Accept="application/vnd.apache.parquet").content
    assert pq.read_table(io.BytesIO(parquet)).equals(table)


def test_the_catalog_says_what_dbt_the_gate_and_the_pipeline_say(served: Served) -> None:
    [entry] = [each for each in served.get("/v1/datasets").json()["datasets"] if each["name"] == "routes"]
    assert entry == served.get("/v1/datasets/routes").json()
    assert entry["description"].endswith("Grain: one row per route and day.")
    assert {column["name"]: column["description"] for column in entry["columns"]}["flights"] == "Flights of the day."
    assert (entry["owners"], entry["rows"]) == (["ada@example.com"], ROUTES)
    assert entry["freshness"]["intervals"] == {"published": 2}
    assert entry["quality"] == {
        "judged": True,
        "passed": True,
        "rules": 1,
        "not_passed": [{"rule": "a_rule", "severity": "warning"}],
    }
    assert served.get("/v1/datasets/routes/lineage").json()["upstream"] == ["refined.routes"]
