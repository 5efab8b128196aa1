"""Laws of the book of incidents over any sequence of looks: one open per cause, nothing lost or counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.incident import Incident, fold
from penstock.incident_causes import Cause

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REOPEN = timedelta(hours=6)


def cause(key: str = "source:source.shop", *hours: int) -> Cause:
    seen = tuple(NOW + timedelta(hours=hour) for hour in hours)
    return Cause(key, key.partition(":")[0], "It fails", "critical", "me", "It fails.", "penstock run", seen)


def looked(before: list[Incident], hour: int, *causes: Cause, part_of: dict[str, str] | None = None) -> list[Incident]:
    return fold(before, causes, part_of or {}, NOW + timedelta(hours=hour), reopen_within=REOPEN)


LOOKS = st.lists(
    st.tuples(st.integers(0, 5), st.sets(st.sampled_from(["a:1", "b:2", "c:3"]))),
    max_size=12,
)


@settings(max_examples=50)
@given(LOOKS)
def test_of_one_cause_at_most_one_is_open_and_open_is_what_was_seen_last(looks: list[tuple[int, set[str]]]) -> None:
    book: list[Incident] = []
    hour = 0
    for passed, present in looks:
        hour += passed
        causes = [cause(key, hour) for key in sorted(present)]
        book = looked(book, hour, *causes)
        assert looked(book, hour, *causes) == book, "the same look at the same time changes nothing"
        assert sum(each.is_open for each in book) == len(present)
        assert {each.cause for each in book if each.is_open} == present
        assert [each.incident_id for each in book] == [f"i{number:06d}" for number in range(1, len(book) + 1)]
        for each in book:
            assert each.first_seen_at <= each.last_evidence_at <= each.last_seen_at
            assert each.occurrences >= each.episode >= 1
            assert Incident.from_row(each.to_row()) == each


def test_what_is_seen_again_is_counted_once_by_its_evidence() -> None:
    (one,) = looked([], 0, cause("a:1", 0))
    (one,) = looked([one], 1, cause("a:1", 0))
    assert one.occurrences == 1
    (one,) = looked([one], 2, cause("a:1", 0, 2))
    assert (one.occurrences, one.last_seen_at) == (2, NOW + timedelta(hours=2))


def test_a_cause_that_is_back_soon_is_the_same_incident_and_later_another_one() -> None:
    book = looked([], 0, cause("a:1", 0))
    book = looked(book, 1)
    assert [(each.state, each.resolved_at) for each in book] == [("resolved", NOW + timedelta(hours=1))]
    soon = looked(book, 7, cause("a:1", 7))
    assert [(each.incident_id, each.state, each.episode) for each in soon] == [("i000001", "open", 2)]
    later = looked(book, 8, cause("a:1", 8))
    assert [(each.incident_id, each.state) for each in later] == [("i000001", "resolved"), ("i000002", "open")]


def test_a_symptom_whose_cause_is_found_is_resolved_as_part_of_it() -> None:
    book = looked([], 0, cause("freshness:t", 0))
    book = looked(book, 1, cause("source:s", 1), part_of={"freshness:t": "source:s"})
    assert [(each.cause, each.state, each.part_of) for each in book] == [
        ("freshness:t", "resolved", "source:s"),
        ("source:s", "open", ""),
    ]


def test_what_could_not_be_looked_at_from_here_stays_as_it_is() -> None:
    book = looked([], 0, cause("freshness:fct", 0), cause("a:1", 0))
    after = fold(book, [], {}, NOW, reopen_within=REOPEN, unjudged={"freshness:fct"})
    assert [(each.cause, each.state) for each in after] == [("a:1", "resolved"), ("freshness:fct", "open")]


def test_who_took_it_on_is_kept_until_it_comes_back() -> None:
    (one,) = looked([], 0, cause("a:1", 0))
    taken = Incident(**{**one.__dict__, "acknowledged_at": NOW, "acknowledged_by": "ada"})
    (still,) = looked([taken], 1, cause("a:1", 1))
    assert still.acknowledged_by == "ada"
    gone = looked([still], 2)
    (back,) = looked(gone, 3, cause("a:1", 3))
    assert (back.acknowledged_at, back.acknowledged_by) == (None, "")
