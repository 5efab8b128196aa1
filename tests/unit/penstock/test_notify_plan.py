"""Laws of telling: once on opening, once on resolving, to those who asked, at their hours, and never two at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from common.notify_routes import QuietHours
from penstock.incident import Incident, fold
from penstock.incident_causes import Cause
from penstock.notify_plan import CLAIM_FOR, Event, Receiver, claim, claims_of, due, settle
from penstock.notify_send import send, split
from penstock.notify_words import SHOWN, message

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ALL = ("critical", "warning", "info")
OPS = Receiver("ops", ALL)


def incident(severity: str = "critical", number: int = 1, **more: object) -> Incident:
    found = Incident(
        f"i{number:06d}",
        "source:s",
        "source",
        "source s fails",
        severity,
        "me",
        "It fails.",
        "penstock run",
        NOW,
        NOW,
        NOW,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def told(
    book: list[Incident], receiver: Receiver, now: datetime, *, taken: bool = True
) -> tuple[list[Incident], list[Event]]:
    """One look: claim, deliver, settle."""
    claimed = claim(book, [receiver], "run", now)
    claims = claims_of(claimed, "run")
    outcomes = dict.fromkeys(claims, None if taken else "refused")
    return settle(claimed, outcomes, "run", now), [event for _, event in claims]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([1, 30, 300])), max_size=14),
    st.sampled_from(ALL),
    st.booleans(),
)
def test_whatever_happens_nothing_is_said_twice_and_no_end_before_its_beginning(
    looks: list[tuple[bool, bool, int]], severity: str, quiet: bool
) -> None:
    hours = QuietHours.parse("22:00-07:00") if quiet else None
    receiver = Receiver("ops", ALL, quiet_hours=hours)
    book: list[Incident] = []
    said: list[tuple[str, int, Event]] = []
    tried = set()
    now = NOW
    for wrong, taken, minutes in looks:
        now += timedelta(minutes=minutes)
        found = [Cause("a:1", "a", "It", severity, "me", ".", "run", (now,))] if wrong else []  # type: ignore[arg-type]
        book = fold(book, found, {}, now, reopen_within=timedelta(hours=2))
        before = [(each.incident_id, each.episode, due(each, receiver, now)) for each in book]
        book, events = told(book, receiver, now, taken=taken)
        tried |= {(name, episode) for name, episode, event in before if event == "opened"}
        if taken:
            said += [(name, episode, event) for name, episode, event in before if event is not None]
            assert all(due(each, receiver, now) is None for each in book), "all that was due is said"
        assert all("claimed_by" not in each.told.get("ops", {}) for each in book)
        if severity != "critical" and hours is not None and hours.holds(now):
            assert events == []
    assert len(set(said)) == len(said), "of one episode each event is said once"
    assert {(name, episode) for name, episode, _ in said} <= tried


def test_quiet_hours_are_those_of_their_own_clock_and_go_over_midnight() -> None:
    hours = QuietHours.parse("22:00-07:00 Europe/Berlin")
    moments = {"20:59": False, "21:00": True, "05:59": True, "06:00": False, "12:00": False}
    for text, quiet in moments.items():
        hour, minute = map(int, text.split(":"))
        assert hours.holds(datetime(2026, 1, 2, hour, minute, tzinfo=UTC)) is quiet, text
    assert QuietHours.parse("12:00-13:00").holds(NOW)
    assert not QuietHours.parse("13:00-14:00").holds(NOW)


def test_a_route_hears_of_its_severities_and_owners_and_of_the_end_of_what_it_heard_of() -> None:
    mine = Receiver("mine", ("critical",), ("me",))
    assert due(incident(), mine, NOW) == "opened"
    assert due(incident("warning"), mine, NOW) is None
    assert due(incident(owner="you"), mine, NOW) is None
    (heard,), _ = told([incident()], mine, NOW)
    assert due(replace(heard, severity="warning", resolved_at=NOW), mine, NOW) == "resolved"


def test_a_claim_keeps_others_silent_until_it_ends_by_itself() -> None:
    (claimed,) = claim([incident()], [OPS], "one", NOW)
    assert claim([claimed], [OPS], "two", NOW + timedelta(minutes=1)) == [claimed]
    assert list(claims_of(claim([claimed], [OPS], "two", NOW + CLAIM_FOR), "two")) == [("ops", "opened")]


def test_what_ended_before_anybody_could_be_told_is_told_once_and_what_waited_for_the_morning_is_not() -> None:
    (failed,), _ = told([incident()], OPS, NOW, taken=False)
    assert due(replace(failed, resolved_at=NOW), OPS, NOW) == "resolved"
    assert due(incident("warning", resolved_at=NOW), OPS, NOW) is None
    assert due(replace(failed, resolved_at=NOW, part_of="source:s"), OPS, NOW) is None


def test_a_message_says_what_since_when_what_is_affected_and_what_to_run() -> None:
    subject, body = message("opened", [incident(affected=("raw.s__a", "fct_a"), occurrences=3)])
    assert subject == "Penstock [critical] source s fails"
    for part in ("It fails.", "Since 2026-01-02 12:00 UTC, seen 3 times", "raw.s__a, fct_a", "Run next: penstock run"):
        assert part in body
    many = [incident("warning", number) for number in range(1, SHOWN + 3)]
    subject, body = message("opened", [*many, incident("critical", 99)])
    assert subject == f"Penstock [critical] {SHOWN + 3} new incidents: 1 critical, {SHOWN + 2} warning"
    assert body.startswith("i000099")
    assert body.endswith("... and 3 more: penstock incidents")


def test_several_urls_are_told_apart_though_a_url_has_commas_of_its_own() -> None:
    urls = split(SecretStr("json://h/x, mailto://u:p@h?to=a@b.c,d@e.f slack://a/b/c"))
    assert [url.get_secret_value() for url in urls] == ["json://h/x", "mailto://u:p@h?to=a@b.c,d@e.f", "slack://a/b/c"]


def test_a_url_that_is_none_is_said_without_it() -> None:
    error = send(SecretStr("nonsense://secret-token"), "subject", "body")
    assert error == "the URL is none that Apprise knows"
