"""Laws of root causes: what follows from another problem is named by it, and nothing else is swallowed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.incident_causes import Kind, Lineage, Problem, find_causes

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RAW = tuple(f"raw.shop__t{number}" for number in range(5))
LINEAGE = Lineage(
    parents={
        "source.shop": frozenset(),
        **{raw: frozenset({"source.shop"}) for raw in RAW},
        **{f"refined.t{number}": frozenset({raw}) for number, raw in enumerate(RAW)},
        "fct_sales": frozenset({"refined.t0", "refined.t1", "build"}),
        "mart_sales": frozenset({"fct_sales", "build"}),
    },
    owners={"source.shop": "shop@example.org", RAW[1]: "one@example.org", "mart_sales": "mart@example.org"},
)
NODES = tuple(LINEAGE.parents)


def failing(raw: str, kind: Kind = "drift", *, unreachable: bool = False) -> Problem:
    return Problem(
        kind,
        raw,
        "critical",
        f"{raw} fails.",
        (NOW,),
        ("2026-01-01",),
        source_of="source.shop",
        unreachable=unreachable,
    )


def late(node: str) -> Problem:
    return Problem("freshness", node, "critical", f"{node} is late.", (NOW,), ("2026-01-01",))


def keys(*problems: Problem) -> list[str]:
    return [cause.key for cause in find_causes(problems, LINEAGE)[0]]


def test_a_source_that_cannot_be_reached_is_one_cause_whatever_is_late_below_it() -> None:
    problems = [
        failing(RAW[2], "failure", unreachable=True),
        *(late(node) for node in (*RAW, "fct_sales", "mart_sales")),
    ]
    (cause,), consequences = find_causes(problems, LINEAGE)
    assert cause.key == "source:source.shop"
    assert cause.owner == "shop@example.org"
    assert set(cause.affected) == set(NODES) - {"source.shop"}
    assert set(consequences.values()) == {cause.key}
    assert len(consequences) == 7


def test_all_tables_failing_alike_are_their_source_and_all_but_one_are_not() -> None:
    assert keys(*map(failing, RAW)) == ["source:source.shop"]
    assert keys(*map(failing, RAW[:4])) == [f"drift:{raw}" for raw in RAW[:4]]
    assert keys(*map(failing, RAW[:4]), failing(RAW[4], "failure")) == [
        *(f"drift:{raw}" for raw in RAW[:4]),
        f"failure:{RAW[4]}",
    ]


def test_a_refused_table_is_one_cause_with_its_days_and_what_is_late_below_it_is_part_of_it() -> None:
    refused = [Problem("refused", RAW[0], "critical", day, (NOW,), (day,)) for day in ("2026-01-02", "2026-01-01")]
    (cause,), consequences = find_causes([*refused, late("fct_sales"), late(RAW[0])], LINEAGE)
    assert (cause.key, cause.intervals) == ("refused:raw.shop__t0", ("2026-01-01", "2026-01-02"))
    assert cause.affected == ("fct_sales", "mart_sales", "refined.t0")
    assert set(consequences) == {"freshness:fct_sales", "freshness:raw.shop__t0"}


def test_of_late_tables_the_one_nearest_to_the_source_is_the_cause() -> None:
    assert keys(late("mart_sales"), late("fct_sales"), late(RAW[0])) == [f"freshness:{RAW[0]}"]
    assert keys(late("fct_sales"), late(RAW[3])) == ["freshness:fct_sales", f"freshness:{RAW[3]}"]


def test_a_hole_follows_only_from_what_is_wrong_upstream_with_the_same_days() -> None:
    def hole(node: str, *days: str) -> Problem:
        return Problem("missing", node, "warning", "A hole.", (NOW,), days)

    assert keys(hole("fct_sales", "2026-01-01"), hole(RAW[0], "2026-01-01", "2026-01-02")) == [f"missing:{RAW[0]}"]
    assert keys(hole("fct_sales", "2026-01-01"), hole(RAW[0], "2026-01-02")) == [
        "missing:fct_sales",
        f"missing:{RAW[0]}",
    ]
    reached = failing(RAW[0], "failure", unreachable=True)
    assert "missing:raw.shop__t1" in keys(reached, hole(RAW[1], "2025-12-01")), "a hole of the past is no news of today"


def test_the_owner_is_the_nodes_own_or_that_of_what_it_is_made_from() -> None:
    assert LINEAGE.owner(RAW[1]) == "one@example.org"
    assert LINEAGE.owner("refined.t3") == "shop@example.org"
    assert LINEAGE.owner("mart_sales") == "mart@example.org"
    assert LINEAGE.owner("build") == ""


PROBLEMS = st.lists(
    st.builds(
        Problem,
        kind=st.sampled_from(["refused", "volume", "drift", "freshness", "missing", "failure"]),
        node=st.sampled_from(NODES[1:]),
        severity=st.sampled_from(["critical", "warning", "info"]),
        reason=st.just("."),
        seen=st.lists(st.integers(0, 9).map(lambda n: NOW + timedelta(hours=n)), max_size=3).map(tuple),
        intervals=st.sets(st.sampled_from(["2026-01-01", "2026-01-02"]), max_size=2).map(
            lambda days: tuple(sorted(days))
        ),
    ),
    max_size=8,
)


@settings(max_examples=50)
@given(PROBLEMS)
def test_every_problem_is_a_cause_or_leads_to_one_and_the_order_does_not_matter(problems: list[Problem]) -> None:
    causes, consequences = find_causes(problems, LINEAGE)
    known = [cause.key for cause in causes]
    assert len(set(known)) == len(known)
    for problem in problems:
        key = problem.key
        for _ in range(len(NODES) * 6):
            key = consequences.get(key, key)
        assert key in known
    backwards, _ = find_causes(problems[::-1], LINEAGE)
    assert [(each.key, each.intervals, each.seen) for each in backwards] == [
        (each.key, each.intervals, each.seen) for each in causes
    ]
