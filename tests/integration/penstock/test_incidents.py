"""Laws of incidents: one cause is one incident and one message, whoever meets it, and it ends when it works again."""

from __future__ import annotations

import json
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common import fault_points
from common.errors import PenstockError
from common.settings import Settings
from lake import incidents
from penstock import notify_send
from penstock.incident_problems import lineage_of
from penstock.incidents import sync
from penstock.notify_plan import CLAIM_FOR
from penstock.pipeline import Pipeline
from tests.door import Door
from tests.integration.ingestion.conftest import database
from tests.integration.lake.lakes import PROCESSES
from tests.integration.penstock.incident_world import (
    DAY,
    NEXT,
    SECRET,
    TABLES,
    World,
    promise_freshness,
    receiver,
    world,
)
from tests.receivers import JsonReceiver, mail_receiver
from tests.refusals import closed_port, with_part

__all__ = ["database", "receiver", "world"]


def test_a_source_that_cannot_be_reached_is_one_incident_and_one_message_until_it_works_again(
    world: World, receiver: JsonReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url, world.url = world.url, with_part(world.url, port=closed_port())
    for _ in range(2):  # the second meets what is known
        with pytest.raises(PenstockError):
            world.run()
        world.now += timedelta(minutes=30)
    (incident,) = world.incidents()
    assert (incident.cause, incident.severity, incident.state) == ("source:source.shop", "critical", "open")
    assert incident.owner == "me@example.org"
    assert incident.occurrences == 2
    assert incident.first_seen_at == datetime(2013, 1, 2, 12, tzinfo=UTC)
    assert incident.affected == tuple(sorted(f"raw.shop__{name}" for name in TABLES))
    assert incident.command == f"penstock run --from {DAY} --to {NEXT} --source shop"
    (message,) = receiver.messages
    assert message["title"] == "Penstock [critical] source shop fails"
    assert incident.command in message["message"]
    assert "raw.shop__orders" in message["message"]
    assert "2013-01-02 12:00 UTC" in message["message"]
    assert receiver.paths == [f"/{SECRET}"]

    world.url = url
    world.now += timedelta(minutes=30)
    assert world.run().notices == []
    (incident,) = world.incidents()
    assert (incident.state, incident.resolved_at) == ("resolved", world.now)
    assert receiver.titles == [
        "Penstock [critical] source shop fails",
        "Penstock [critical] resolved: source shop fails",
    ]
    world.run()
    assert len(receiver.messages) == 2
    password = str(world.database.url).split("@", maxsplit=1)[0].rsplit(":", 1)[1]
    told = (
        caplog.text
        + json.dumps(receiver.messages)
        + json.dumps([each.to_row() for each in world.incidents()], default=str)
    )
    assert SECRET not in told
    assert password not in told


def test_a_schema_that_vanished_under_five_tables_is_one_incident_and_a_single_table_its_own(
    world: World, receiver: JsonReceiver
) -> None:
    world.run()
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    world.now += timedelta(hours=1)
    assert [type(error).__name__ for error in world.run().refusals] == ["SourceSchemaError"]
    assert world.open() == ["drift:raw.shop__kinds"]
    world.database.run("ALTER TABLE {s}.hidden RENAME TO kinds")
    world.run()
    assert world.open() == []

    for name in TABLES:
        world.database.run(f"ALTER TABLE {{s}}.{name} RENAME TO {name}_gone")
    world.now += timedelta(hours=1)
    assert len(world.run().refusals) == 5
    assert world.open() == ["source:source.shop"]
    for name in TABLES:
        world.database.run(f"ALTER TABLE {{s}}.{name}_gone RENAME TO {name}")
    world.now += timedelta(hours=1)
    world.run()
    assert world.open() == []
    assert receiver.titles == [
        "Penstock [critical] raw.shop__kinds differs from its spec",
        "Penstock [critical] resolved: raw.shop__kinds differs from its spec",
        f"Penstock [critical] source shop fails ({DAY})",
        f"Penstock [critical] resolved: source shop fails ({DAY})",
    ]


def test_a_refused_batch_is_an_incident_of_its_table_until_it_comes_out_as_it_was(
    world: World, receiver: JsonReceiver
) -> None:
    world.run()
    world.database.run("TRUNCATE {s}.customers")
    world.database.run("INSERT INTO {s}.customers VALUES (NULL, 'nobody')")
    world.now += timedelta(hours=1)
    assert world.run().refusals
    (incident,) = world.incidents()
    assert (incident.cause, incident.intervals) == ("refused:raw.shop__customers", ("whole",))
    assert incident.command == "penstock ingest shop --day 2013-01-01 --table customers"
    world.database.run("TRUNCATE {s}.customers")
    world.database.run("INSERT INTO {s}.customers VALUES (1, 'a')")  # the same rows: nothing is published anew
    world.now += timedelta(hours=1)
    assert world.run().refusals == []
    assert world.open() == []
    assert len(receiver.messages) == 2


def test_what_opens_within_one_run_is_one_message_and_routes_get_what_they_ask_for(
    world: World, receiver: JsonReceiver
) -> None:
    with mail_receiver() as mail:
        world.notify["notify"] = {
            "owner": {"url": mail.url, "owners": ["me@example.org"], "severities": ["critical"]},
            "others": {"url": receiver.url("others"), "owners": ["somebody@else.example"]},
        }
        for name in ("customers", "kinds"):
            world.database.run(f"TRUNCATE {{s}}.{name}")
            world.database.run(f"INSERT INTO {{s}}.{name} VALUES (NULL, 'nobody')")
        assert len(world.run().refusals) == 2
        assert len(world.open()) == 2
        assert receiver.titles == ["Penstock [critical] 2 new incidents: 2 critical"]
        (letter,) = mail.mails
        assert (letter["To"], letter["Subject"]) == (
            "ops@shop.example",
            "Penstock [critical] 2 new incidents: 2 critical",
        )
        body = letter.get_body()
        assert body is not None
        assert "penstock ingest shop --day 2013-01-01 --table kinds" in body.get_content()


def test_a_receiver_that_is_down_fails_no_run_and_hears_of_it_at_the_next(world: World, receiver: JsonReceiver) -> None:
    receiver.status = 503
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    report = world.run()
    assert any("was not delivered: notify_urls: JSON did not take it" in notice for notice in report.notices)
    door = Door(world.folder, {"shop": world.url})
    assert "could not be told to notify_urls: 1 times" in " ".join(door.run("incidents").out.split())
    receiver.status = 200
    world.now += timedelta(minutes=5)
    found = sync(world.pipeline())
    assert (found.messages, found.undelivered) == (1, ())
    assert receiver.titles == ["Penstock [critical] raw.shop__kinds differs from its spec"]


def test_a_reminder_comes_until_somebody_takes_it_on(world: World, receiver: JsonReceiver) -> None:
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    world.run()
    for hours in (1, 24, 1):
        world.now += timedelta(hours=hours)
        sync(world.pipeline())
    assert receiver.titles[1:] == ["Penstock [critical] still open: raw.shop__kinds differs from its spec"]
    door = Door(world.folder, {"shop": world.url})
    assert "Nobody is named" in door.run("incidents", "acknowledge", "i000001", "--by", " ").err
    assert door.run("incidents", "acknowledge", "i000001", "--by", "ada", "--note", "asked the shop").code == 0
    shown = door.run("incidents", "show", "i000001").out
    assert "by ada: asked the shop" in shown
    assert "run next     penstock drift shop --connect" in shown
    assert "told         notify_urls: opened" in shown
    assert "open are: i000001" in door.run("incidents", "show", "i000002").err
    world.now += timedelta(days=3)
    sync(world.pipeline())
    assert len(receiver.messages) == 2


def test_two_runs_that_meet_one_cause_at_once_open_one_incident_and_say_it_once(
    world: World, receiver: JsonReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, world.url = world.url, with_part(world.url, port=closed_port())
    for _ in range(2):
        with pytest.raises(PenstockError):
            world.pipeline().ingest("shop", "kinds", DAY)
    both_have_planned = threading.Barrier(2)
    planned: set[int] = set()

    def meet(_point: str) -> None:
        if threading.get_ident() not in planned:
            planned.add(threading.get_ident())
            both_have_planned.wait(timeout=60)

    monkeypatch.setattr(incidents, "reach", meet)
    with ThreadPoolExecutor(2) as threads:
        found = [each.result() for each in [threads.submit(sync, world.pipeline()) for _ in range(2)]]
    assert len(planned) == 2
    assert world.open() == ["source:source.shop"]
    assert sorted(each.messages for each in found) == [0, 1]
    assert len(receiver.messages) == 1
    world.url = url


def test_while_one_run_delivers_another_says_nothing_and_takes_over_if_it_died(
    world: World, receiver: JsonReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    beside: list[int] = []
    receiver.before = lambda: beside.append(sync(world.pipeline()).messages) if not beside else None
    world.run()
    assert (beside, len(receiver.messages)) == ([0], 1)

    world.database.run("ALTER TABLE {s}.shops RENAME TO hidden_too")
    with monkeypatch.context() as dying:
        dying.setattr(notify_send, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    world.now += timedelta(minutes=1)
    assert sync(world.pipeline()).messages == 0
    world.now += CLAIM_FOR
    assert sync(world.pipeline()).messages == 1
    assert receiver.titles[-1] == "Penstock [critical] raw.shop__shops differs from its spec"


def interrupted(*_: object) -> str | None:
    """Stands for a process that ends while it delivers."""
    raise KeyboardInterrupt


def test_quiet_hours_hold_back_warnings_until_their_end_and_let_critical_ones_pass(
    world: World, receiver: JsonReceiver
) -> None:
    world.extra["notify_quiet_hours"] = "20:00-07:00 America/New_York"
    promise_freshness(world)
    world.run()
    world.now = datetime(2013, 1, 5, 5, tzinfo=UTC)  # midnight; 3 January is there, the hole of the 2nd is a warning
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    world.run("2013-01-03", "2013-01-04")
    assert world.open() == ["drift:raw.shop__kinds", "missing:raw.shop__orders"]
    assert receiver.titles == ["Penstock [critical] raw.shop__kinds differs from its spec"]
    world.now = datetime(2013, 1, 5, 11, 59, tzinfo=UTC)
    assert sync(world.pipeline()).messages == 0
    world.now = datetime(2013, 1, 5, 12, tzinfo=UTC)
    assert sync(world.pipeline()).messages == 1
    assert receiver.titles[1:] == ["Penstock [warning] raw.shop__orders has holes (2013-01-02)"]


def test_a_backfill_of_old_days_makes_nothing_fresh_and_the_day_of_today_hides_no_old_hole(
    world: World, receiver: JsonReceiver
) -> None:
    promise_freshness(world)
    world.run()
    world.now = datetime(2013, 1, 5, 12, tzinfo=UTC)
    door = Door(world.folder, {"shop": world.url})
    sync(world.pipeline())
    (late,) = world.incidents()
    assert (late.cause, late.intervals) == ("freshness:raw.shop__orders", ("2013-01-02", "2013-01-03"))
    assert late.first_seen_at == datetime(2013, 1, 3, 17, tzinfo=UTC)  # 36 hours after the day began
    assert late.command == "penstock run --from 2013-01-02 --to 2013-01-04 --source shop"
    assert receiver.titles == ["Penstock [critical] raw.shop__orders is late (2 intervals, 2013-01-02 to 2013-01-03)"]

    world.run("2012-12-30", "2012-12-31")
    assert world.open() == ["freshness:raw.shop__orders", "missing:raw.shop__orders"]

    world.run("2013-01-03", "2013-01-04")
    assert world.open() == ["missing:raw.shop__orders"]
    listed = json.loads(door.run("incidents", "--json").out)
    assert [(each["cause"], each["intervals"]) for each in listed] == [
        ("missing:raw.shop__orders", ["2012-12-31", "2013-01-02"])
    ]
    world.run("2012-12-31", "2013-01-03")
    assert world.open() == []
    everything = json.loads(door.run("incidents", "--all", "--json").out)
    assert [each["state"] for each in everything] == ["resolved", "resolved"]


def test_a_late_table_becomes_part_of_the_incident_of_its_source(world: World, receiver: JsonReceiver) -> None:
    promise_freshness(world)
    world.run()
    world.now = datetime(2013, 1, 5, 12, tzinfo=UTC)
    sync(world.pipeline())
    assert world.open() == ["freshness:raw.shop__orders"]
    world.url = with_part(world.url, port=closed_port())
    with pytest.raises(PenstockError):
        world.run("2013-01-02", "2013-01-03")
    late, source = world.incidents()
    assert (late.state, late.part_of) == ("resolved", "source:source.shop")
    assert (source.cause, source.state) == ("source:source.shop", "open")
    assert len(receiver.messages) == 2


TRIALS = [("lake.incidents.before_commit", 1), ("lake.incidents.before_commit", 2)]
"""Before anything is known of an incident; and when its message is delivered and nothing says so."""


def _look(settings: Settings, now: datetime, point: str) -> None:
    fault_points.arm(point)
    sync(Pipeline(settings, clock=lambda: now))


def test_a_look_killed_at_any_commit_is_made_good_and_its_message_comes_at_least_once(
    world: World, receiver: JsonReceiver
) -> None:
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    with pytest.raises(PenstockError):
        world.pipeline().ingest("shop", "kinds", DAY)
    for (point, occurrence), messages in zip(TRIALS, (0, 1), strict=True):
        process = PROCESSES.Process(target=_look, args=(world.pipeline().settings, world.now, f"{point}:{occurrence}"))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert len(receiver.messages) == messages
    assert world.open() == ["drift:raw.shop__kinds"]
    world.now += CLAIM_FOR
    sync(world.pipeline())
    world.now += CLAIM_FOR
    sync(world.pipeline())
    assert world.open() == ["drift:raw.shop__kinds"]
    assert receiver.titles == ["Penstock [critical] raw.shop__kinds differs from its spec"] * 2


def test_the_declared_lineage_leads_from_a_source_to_every_mart_and_its_owner(tmp_path: Path) -> None:
    lineage = lineage_of(Pipeline(Settings.load({}, home=tmp_path / "state")))
    assert {"raw.flightops__flights", "refined.flights", "fct_flights", "mart_daily_route_performance"} <= set(
        lineage.below("source.flightops")
    )
    assert "fct_weather_hourly" not in lineage.below("source.flightops")
    assert set(lineage.below("build")) >= {"dim_airports", "fct_flights", "mart_weather_delay"}
    assert lineage.owner("mart_weather_delay") == "data-platform@penstock.example"


def test_a_table_that_no_spec_names_any_more_fails_no_more(world: World) -> None:
    world.database.run("ALTER TABLE {s}.kinds RENAME TO hidden")
    world.run()
    assert world.open() == ["drift:raw.shop__kinds"]
    spec = world.folder / "sources" / "shop.yml"
    spec.write_text(spec.read_text().replace("- name: kinds", "- name: sorts"))
    sync(world.pipeline())
    assert world.open() == []
