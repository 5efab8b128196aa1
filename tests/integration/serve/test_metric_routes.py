"""Metrics by HTTP and GraphQL are what their definition says, for whom all of it can be seen."""

from __future__ import annotations

from tests.integration.serve.served import Served


def test_a_metric_is_its_expression_by_whatever_it_is_grouped(served: Served) -> None:
    by_origin = served.rows("/v1/metrics/flown,worst_delay", by="origin", filter="origin:is_null:false")
    sums = served.rows(
        "/v1/datasets/routes/aggregate",
        group="origin",
        measure=["sum:flights", "max:delay_min"],
        filter="origin:is_null:false",
    )
    assert [[*row.values()] for row in by_origin] == [[*row.values()] for row in sums]
    months = served.rows("/v1/metrics/flown", grain="month", sort="-month")
    assert [row["month"] for row in months] == ["2013-02-01", "2013-01-01"]
    assert served.rows("/v1/metrics/flown") == [{"flown": sum(row["flown"] for row in months)}]
    asked = (
        '{ metrics { name dimensions { name } timeGrains } metric(names: ["flown", "worst_delay"], by: ["origin"], '
        'filter: ["origin:is_null:false"]) { rows complete } }'
    )
    found = served.get("/graphql", query=asked).json()["data"]
    assert found["metric"] == {"rows": by_origin, "complete": True}
    listed = served.get("/v1/metrics").json()["metrics"]
    assert [each["name"] for each in found["metrics"]] == [each["name"] for each in listed] == ["flown", "worst_delay"]
    assert listed[0]["time_grains"] == found["metrics"][0]["timeGrains"] == ["day", "week", "month"]


def test_a_metric_of_a_column_that_a_role_does_not_see_is_not_there_for_it(served: Served) -> None:
    assert [each["name"] for each in served.get("/v1/metrics", "reader").json()["metrics"]] == ["flown"]
    assert served.get("/v1/metrics/worst_delay", "reader").json()["code"] == "unknown_metric"
    assert served.get("/v1/metrics", "nobody").json()["metrics"] == []
    answer = served.get("/graphql", "reader", query='{ metric(names: ["worst_delay"]) { rows } }')
    assert answer.json()["errors"][0]["extensions"]["code"] == "unknown_metric"


def test_metrics_are_the_releases_so_they_are_tagged_and_come_in_every_form(served: Served) -> None:
    for path in ("/v1/metrics", "/v1/metrics/flown"):
        first = served.get(path)
        again = served.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code) == (200, 304)
        other = served.get(path, "reader", headers={"If-None-Match": first.headers["etag"]})
        assert other.status_code == 200
    assert served.get("/v1/metrics/flown", by="origin", format="csv").text.startswith('"origin","flown"')
    assert served.get("/v1/metrics/flown", by="nothing").json()["code"] == "unknown_column"
    assert served.get("/v1/metrics/flown", grain="hour").json()["code"] == "bad_parameter"
