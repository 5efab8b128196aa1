"""Laws of metrics: right under any grouping, refused where they would be wrong, gone for a role that lacks a column."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BuildFailed
from warehouse.metrics_layer import compile_metrics, everything, metrics, question
from warehouse.releases import Release
from warehouse.serve.opened import describe
from warehouse.serve.policy import DatasetRule, Role, Shown, shown_to
from warehouse.serve.problems import Problem

COLUMNS = "flown_on DATE, origin VARCHAR, gate VARCHAR, flights BIGINT, late BIGINT, delay INTEGER"


def dimension(name: str, kind: str = "categorical", expr: str | None = None) -> dict[str, Any]:
    grain = {"time_granularity": "day"} if kind == "time" else None
    return {"name": name, "type": kind, "type_params": grain, "expr": expr, "label": name.capitalize()}


def measure(name: str, agg: str, expr: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "agg": agg, "expr": expr, **more}


def metric(name: str, kind: str, where: str | None = None, **parameters: Any) -> dict[str, Any]:
    kept = {"where_filters": [{"where_sql_template": where}]} if where else None
    return {
        "name": name,
        "label": name.capitalize(),
        "description": f"What {name} is.",
        "type": kind,
        "type_params": parameters,
        "filter": kept,
        "config": {"meta": {"unit": "flights"}},
    }


def semantics(*more: dict[str, Any], table: str = "t", measures: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """The document of dbt of one model and some metrics."""
    return {
        "semantic_models": [
            {
                "name": "model",
                "node_relation": {"schema_name": "main", "alias": table},
                "defaults": {"agg_time_dimension": "flown_on"},
                "dimensions": [
                    dimension("flown_on", "time"),
                    dimension("origin"),
                    dimension("gate"),
                    dimension("place", expr="origin || '-' || gate"),
                ],
                "measures": [
                    measure("sum_flights", "sum", "flights"),
                    measure("sum_late", "sum", "late"),
                    measure(
                        "p90", "percentile", "delay", agg_params={"percentile": 0.9, "use_discrete_percentile": True}
                    ),
                    *measures,
                ],
            }
        ],
        "metrics": [
            metric("all_flights", "simple", measure={"name": "sum_flights"}),
            metric("late_flights", "simple", measure={"name": "sum_late"}),
            metric("late_share", "ratio", numerator={"name": "late_flights"}, denominator={"name": "all_flights"}),
            metric(
                "punctual_share",
                "derived",
                expr="1 - share",
                metrics=[{"name": "late_share", "alias": "share"}],
            ),
            metric("p90_delay", "simple", measure={"name": "p90"}),
            metric(
                "jfk_share",
                "ratio",
                numerator={
                    "name": "all_flights",
                    "filter": {"where_filters": [{"where_sql_template": "{{ Dimension('key__origin') }} = 'JFK'"}]},
                },
                denominator={"name": "all_flights"},
            ),
            *more,
        ],
    }


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metrics") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE t ({COLUMNS})")
    return path


@pytest.fixture(scope="module")
def release(database: Path) -> Release:
    return Release("r000001", database.parent, {"metrics": compile_metrics(semantics(), database)}, True, "")


def warehouse(rows: Sequence[tuple[Any, ...]] = ()) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"ATTACH ':memory:' AS warehouse; CREATE TABLE warehouse.t ({COLUMNS})")
    fill(connection, rows)
    return connection


def fill(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Make these the rows of the table."""
    connection.execute("DELETE FROM warehouse.t")
    if rows:
        places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(rows))
        connection.execute(f"INSERT INTO warehouse.t VALUES {places}", [value for row in rows for value in row])


@pytest.fixture(scope="module")
def filled(release: Release) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Asks for metrics of any rows."""
    with warehouse() as connection:
        shown = everything(release, connection)

        def ask(rows: Sequence[tuple[Any, ...]], *names: str, **how: Any) -> list[tuple[Any, ...]]:
            fill(connection, rows)
            asked = question(release, shown, names, **how)
            return connection.execute(asked.ordered(None), asked.parameters).fetchall()

        yield ask


ROWS = st.lists(
    st.tuples(
        st.dates(min_value=date(2013, 1, 1), max_value=date(2013, 3, 31)),
        st.sampled_from(["JFK", "LGA", "it's"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 9),
        st.integers(0, 9),
        st.none() | st.integers(-60, 600),
    ),
    max_size=30,
)
BY = st.lists(st.sampled_from(["origin", "gate", "place"]), unique=True, max_size=3)


@settings(max_examples=40)
@given(rows=ROWS, by=BY, grain=st.sampled_from([None, "day", "week", "month", "quarter", "year"]))
def test_a_ratio_is_a_ratio_of_sums_and_what_is_derived_follows_under_any_grouping(
    filled: Callable[..., list[tuple[Any, ...]]], rows: list[tuple[Any, ...]], by: list[str], grain: str | None
) -> None:
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        of = {"origin": row[1], "gate": row[2], "place": f"{row[1]}-{row[2]}"}
        groups[(*(of[name] for name in by), *([starts(row[0], grain)] if grain else []))].append(row)
    if not by and grain is None:
        groups.setdefault((), [])
    found = filled(
        rows,
        "all_flights",
        "late_flights",
        "late_share",
        "punctual_share",
        "jfk_share",
        by=by,
        grain=grain,
    )
    keys = len(by) + (grain is not None)
    assert [row[:keys] for row in found] == sorted(groups)
    for row in found:
        members = groups[row[:keys]]
        flights, late = (sum(each[column] for each in members) for column in (3, 4))
        jfk = [each[3] for each in members if each[1] == "JFK"]
        assert row[keys : keys + 2] == ((flights, late) if members else (None, None))
        share = Fraction(late, flights) if flights else None
        assert same(row[keys + 2], share)
        assert same(row[keys + 3], None if share is None else 1 - share)
        assert same(row[keys + 4], Fraction(sum(jfk), flights) if flights and jfk else None)


def starts(day: Any, grain: str) -> Any:
    """The first day of a day's week, month and so on."""
    if grain == "week":
        return day.fromordinal(day.toordinal() - day.weekday())
    month = {"month": day.month, "quarter": (day.month - 1) // 3 * 3 + 1, "year": 1}.get(grain)
    return day if month is None else day.replace(month=month, day=1)


def same(value: float | None, exact: Fraction | None) -> bool:
    return value is None if exact is None else value is not None and math.isclose(value, exact, abs_tol=1e-12)


@settings(max_examples=25)
@given(rows=ROWS, chosen=st.lists(st.sampled_from(["JFK", "LGA", "it's"]), min_size=1, max_size=3))
def test_filters_choose_rows_before_anything_is_added_up(
    filled: Callable[..., list[tuple[Any, ...]]], rows: list[tuple[Any, ...]], chosen: list[str]
) -> None:
    kept = [row for row in rows if row[1] in chosen and str(row[0]) >= "2013-02-01"]
    where = [f"origin:in:{','.join(chosen)}", "flown_on:ge:2013-02-01"]
    [(flights,)] = filled(rows, "all_flights", filters=where)
    by_place = filled(rows, "all_flights", by=["place"], filters=[*where, "gate:eq:a"])
    assert flights == (sum(row[3] for row in kept) if kept else None)
    assert sum(row[1] for row in by_place) == sum(row[3] for row in kept if row[2] == "a")


def test_a_metric_tells_unit_grains_and_what_it_can_be_grouped_by(release: Release) -> None:
    found = {each.name: each for each in metrics(release)}
    share = found["late_share"]
    assert (share.label, share.description, share.unit) == ("Late_share", "What late_share is.", "flights")
    assert (share.kind, share.made_of, share.dataset) == ("ratio", ("late_flights", "all_flights"), "t")
    assert [each.name for each in share.dimensions] == ["flown_on", "origin", "gate", "place"]
    assert share.time_grains == ("day", "week", "month", "quarter", "year")
    assert (share.data_type, found["p90_delay"].data_type) == ("DOUBLE", "INTEGER")


BROKEN: Mapping[str, dict[str, Any]] = {
    "is of type cumulative": semantics(metric("wrong", "cumulative", measure={"name": "sum_late"})),
    "at another time": semantics(
        metric("wrong", "derived", expr="a", metrics=[{"name": "all_flights", "alias": "a", "offset_window": "1 day"}])
    ),
    "joins a time spine": semantics(metric("wrong", "simple", measure={"name": "sum_late", "join_to_timespine": True})),
    "names b, which is not among": semantics(
        metric("wrong", "derived", expr="a + b", metrics=[{"name": "all_flights", "alias": "a"}])
    ),
    "filters by other__nothing": semantics(
        metric("wrong", "simple", "{{ Dimension('other__nothing') }} = 1", measure={"name": "sum_late"})
    ),
    "has the filter": semantics(metric("wrong", "simple", "{{ Entity('key') }} = 1", measure={"name": "sum_late"})),
    "approximate percentile": semantics(
        metric("wrong", "simple", measure={"name": "near"}),
        measures=(
            measure("near", "percentile", "delay", agg_params={"percentile": 0.5, "use_approximate_percentile": True}),
        ),
    ),
    "does not fit t": semantics(
        metric("wrong", "simple", measure={"name": "sum_gone"}), measures=(measure("sum_gone", "sum", "gone"),)
    ),
    "is called like a dimension": semantics(metric("origin", "simple", measure={"name": "sum_late"})),
    "which is no table": semantics(table="nothing"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_one_select_cannot_answer_fails_the_build_by_name(reason: str, database: Path) -> None:
    with pytest.raises(BuildFailed, match=reason) as refused:
        compile_metrics(BROKEN[reason], database)
    assert refused.value.remedy
    assert "wrong" in str(refused.value) or "origin" in str(refused.value) or "model" in str(refused.value)


@pytest.mark.parametrize(
    ("names", "how", "code"),
    [
        (["nothing"], {}, "unknown_metric"),
        ([], {}, "bad_parameter"),
        (["all_flights", "all_flights"], {}, "bad_parameter"),
        (["all_flights"], {"by": ["flights"]}, "unknown_column"),
        (["all_flights"], {"by": ["origin", "origin"]}, "bad_parameter"),
        (["all_flights"], {"grain": "decade"}, "bad_parameter"),
        (["all_flights"], {"grain": "hour"}, "bad_parameter"),
        (["all_flights"], {"filters": ["flights:eq:1"]}, "unknown_column"),
        (["all_flights"], {"filters": ["origin"]}, "bad_filter"),
        (["all_flights"], {"sort": "gate"}, "unknown_column"),
    ],
)
def test_a_question_that_has_no_answer_says_why(
    release: Release, names: list[str], how: dict[str, Any], code: str
) -> None:
    with warehouse() as connection, pytest.raises(Problem) as problem:
        question(release, everything(release, connection), names, **how)
    assert problem.value.code == code


def test_metrics_of_several_datasets_are_asked_apart(database: Path) -> None:
    said = semantics()
    [model] = said["semantic_models"]
    other = {**model, "name": "other", "dimensions": [], "measures": [measure("more", "sum", "late")]}
    both = {
        "semantic_models": [model, other],
        "metrics": [*said["metrics"], metric("m", "simple", measure={"name": "more"})],
    }
    other["node_relation"] = {"schema_name": "main", "alias": "u"}
    with duckdb.connect(str(database.with_name("two.duckdb"))) as connection:
        connection.execute(f"CREATE TABLE t ({COLUMNS}); CREATE TABLE u ({COLUMNS})")
    compiled = compile_metrics(both, database.with_name("two.duckdb"))
    release = Release("r000001", database.parent, {"metrics": compiled}, True, "")
    shown = {
        name: Shown(name, (("late", "BIGINT"), ("flights", "BIGINT")), frozenset(), False, "*", name) for name in "tu"
    }
    with pytest.raises(Problem, match="several datasets: all_flights is of t, m is of u"):
        question(release, shown, ["all_flights", "m"])


def seen(connection: duckdb.DuckDBPyConnection, rule: DatasetRule) -> dict[str, Shown]:
    return shown_to(connection, Role(datasets={"t": rule}), describe(connection)[0], salt="s")


@pytest.mark.parametrize(
    ("rule", "there", "dimensions"),
    [
        (
            DatasetRule(columns="all"),
            {"all_flights", "late_flights", "late_share", "punctual_share", "p90_delay", "jfk_share"},
            ["flown_on", "origin", "gate", "place"],
        ),
        (
            DatasetRule(columns="all", hide=("late",)),
            {"all_flights", "p90_delay", "jfk_share"},
            ["flown_on", "origin", "gate", "place"],
        ),
        (
            DatasetRule(columns="all", mask={"late": "null"}),
            {"all_flights", "p90_delay", "jfk_share"},
            ["flown_on", "origin", "gate", "place"],
        ),
        (
            DatasetRule(columns="all", mask={"origin": "hash"}),
            {"all_flights", "late_flights", "late_share", "punctual_share", "p90_delay"},
            ["flown_on", "origin", "gate"],
        ),
        (
            DatasetRule(columns="all", hide=("origin", "flown_on")),
            {"all_flights", "late_flights", "late_share", "punctual_share", "p90_delay"},
            ["gate"],
        ),
    ],
)
def test_a_metric_is_not_there_for_a_role_that_lacks_one_of_its_columns(
    release: Release, rule: DatasetRule, there: set[str], dimensions: list[str]
) -> None:
    with warehouse() as connection:
        shown = seen(connection, rule)
        found = metrics(release, shown)
        assert {each.name for each in found} == there
        assert [each.name for each in found[0].dimensions] == dimensions
        for name in {each.name for each in metrics(release)} - there:
            with pytest.raises(Problem, match="There is no metric") as problem:
                question(release, shown, name)
            assert name not in str(problem.value.remedy).split(", ")
    assert metrics(release, {}) == []


def test_a_metric_counts_the_rows_that_the_role_sees_and_groups_by_its_masks(release: Release) -> None:
    rows = [("2013-01-01", place, "a", 2, 1, 3) for place in ("JFK", "LGA", "LGA")]
    with warehouse(rows) as connection:

        def ask_as(rule: DatasetRule, **how: Any) -> list[tuple[Any, ...]]:
            asked = question(release, seen(connection, rule), "all_flights", **how)
            return connection.execute(asked.ordered(None), asked.parameters).fetchall()

        assert ask_as(DatasetRule(columns="all", rows="origin = 'LGA'")) == [(4,)]
        masked = ask_as(DatasetRule(columns="all", mask={"origin": "hash"}), by=["origin"])
        assert sorted(flights for _, flights in masked) == [2, 4]
        assert not {place for place, _ in masked} & {"JFK", "LGA"}


def test_a_release_from_before_there_were_metrics_has_none(database: Path) -> None:
    old = Release("r000001", database.parent, {}, True, "")
    assert metrics(old) == []
    with warehouse() as connection, pytest.raises(Problem, match="use one of: none"):
        question(old, everything(old, connection), "all_flights")
