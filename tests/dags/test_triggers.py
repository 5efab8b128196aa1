"""Laws of the triggers in Airflow's own shared streams, on a real NATS server and a real folder of objects."""

# ruff: noqa: TID251 - it drives Airflow's own machinery
from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from airflow.triggers.shared_stream import SharedStreamManager

from common.errors import SourceUnavailable
from dags.penstock_dags import triggers
from dags.penstock_dags.triggers import BucketTrigger, QueueTrigger
from tests.nats_server import PASSWORD, NatsServer, running_nats

SPEC = """\
source: shop
kind: objects
connection: shop
owner: me@example.org
tables:
  - name: orders
    mode: append
    primary_key: [a]
    objects: {path: "{part}/{key}.csv"}
    events: {watch: bucket, queue: {connection: bus, stream: IN, subject: in.shop, dead_letter: dead.shop}}
    columns:
      - {name: a, type: int32, nullable: false}
"""
QUEUE = {"connection": "bus", "stream": "IN", "subject": "in.shop", "dead_letter": "dead.shop"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running_nats(tmp_path_factory.mktemp("nats")) as running:
        running.empty_streams()
        yield running


@pytest.fixture
def files(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the source's objects; spec and connections are in the environment, as a triggerer has them."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "shop.yml").write_text(SPEC)
    folder = tmp_path / "files" / "p"
    folder.mkdir(parents=True)
    for name, value in {
        "HOME": tmp_path / "state",
        "SOURCES": tmp_path / "sources",
        "CONNECTIONS__SHOP": f"file://{folder.parent}",
        "CONNECTIONS__BUS": server.url,
    }.items():
        monkeypatch.setenv(f"PENSTOCK_{name}", str(value))

    async def none_in_airflow(_names: set[str]) -> dict[str, str]:
        return {}

    # There is no triggerer around this process to be asked; the smoke tests have one.
    monkeypatch.setattr("dags.penstock_dags.connections.airflow_connections_in_trigger", none_in_airflow)
    monkeypatch.setattr(triggers, "_FIRST_PAUSE_S", 0.05)
    return folder


async def first(events: AsyncIterator[Any]) -> Any:
    return (await asyncio.wait_for(anext(events), 60)).payload


def test_a_trigger_can_be_made_again_from_what_it_says_of_itself() -> None:
    for trigger in (BucketTrigger("shop", "orders", 5.0, "v1"), QueueTrigger(QUEUE, "v1")):
        path, arguments = trigger.serialize()
        module, _, name = path.rpartition(".")
        assert module == triggers.__name__
        assert getattr(triggers, name)(**arguments).serialize() == (path, arguments)
        json.dumps(arguments)


def test_a_new_object_fires_once_and_again_after_a_restart_until_the_lake_has_it(files: Path) -> None:
    async def story() -> list[Any]:
        (files / "2013-01-01.csv").write_text("a\n1\n")
        found = []
        for _ in range(2):  # the second is a triggerer that was restarted
            events = BucketTrigger("shop", "orders", 0.05, "v1").run()
            found.append(await first(events))
            (files / "2013-01-02.csv").write_text("a\n2\n")
            found.append(await first(events))
            await events.aclose()  # type: ignore[attr-defined]
            (files / "2013-01-02.csv").unlink()
        return found

    found = asyncio.run(story())
    assert [[each["key"] for each in payload] for payload in found] == [["2013-01-01"], ["2013-01-02"]] * 2
    assert found[0] == found[2], "the same arrival has the same token, and so the same run"


def test_a_bucket_that_is_not_there_is_tried_again_and_told_once(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> Any:
        moved = files.parent.rename(files.parent.with_name("moved"))
        events = BucketTrigger("shop", "orders", 0.05, "v1").run()
        waiting = asyncio.ensure_future(first(events))
        await asyncio.sleep(0.6)
        (moved / "p" / "2013-01-01.csv").write_text("a\n1\n")
        moved.rename(files.parent)
        return await waiting

    assert [each["key"] for each in asyncio.run(story())] == ["2013-01-01"]
    assert caplog.text.count("cannot be read, and is tried again") == 1


@pytest.mark.usefixtures("files")
def test_a_listing_does_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingestion.objects.watch import BucketWatch

    def slow(_watch: BucketWatch) -> list[Any]:
        time.sleep(0.5)
        raise SourceUnavailable("slow")

    monkeypatch.setattr(BucketWatch, "look", slow)

    async def story() -> int:
        events = BucketTrigger("shop", "orders", 0.05, "v1").run()
        waiting = asyncio.ensure_future(anext(events))
        turns = 0
        while turns < 40:
            await asyncio.sleep(0.02)
            turns += 1
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return turns

    assert asyncio.run(story()) == 40


class Triggerer:
    """What the triggerer does around one trigger: subscribe, filter, say what is in the database."""

    def __init__(self) -> None:
        self.manager = SharedStreamManager(log=structlog.get_logger(), ack_timeout=60.0)
        self.trigger = QueueTrigger(QUEUE, "v1")
        self.key = self.trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=1, trigger=self.trigger, key=self.key)
        self.events = self.trigger.filter_shared_stream(stream)

    async def fired(self) -> tuple[list[dict[str, str]], int]:
        """The next event's payload, and the number by which it is confirmed."""
        payload = await first(self.events)
        number = self.manager.bind_pending_event(trigger_id=1, key=self.key)
        assert number is not None
        return payload, number

    async def stop(self) -> None:
        """As on a restart: what is not confirmed is forgotten."""
        await self.manager.stop_all()


async def pending(server: NatsServer) -> int:
    async with server.client() as stream:
        consumer = await stream.consumer_info("IN", "penstock")
    return int(consumer.num_ack_pending) + int(consumer.num_pending)


async def put(server: NatsServer, *days: str) -> None:
    async with server.client() as stream:
        for day in days:
            body = {"source": "shop", "table": "orders", "interval": day}
            await stream.publish("in.shop", json.dumps(body).encode())


async def until_settled(server: NatsServer, more: asyncio.Future[Any]) -> None:
    deadline = time.monotonic() + 60
    while await pending(server):
        assert time.monotonic() < deadline, "not acknowledged"
        assert not more.done(), more
        await asyncio.sleep(0.05)


@pytest.mark.usefixtures("files")
def test_a_message_is_acknowledged_when_its_event_is_stored_and_comes_again_if_it_was_not(server: NatsServer) -> None:
    async def story() -> None:
        await put(server, "2013-01-01", "2013-01-02")
        triggerer = Triggerer()
        payload, _ = await triggerer.fired()
        assert [each["key"] for each in payload] == ["2013-01-01", "2013-01-02"], "what came together is one event"
        await triggerer.stop()  # received and fired, not stored
        assert await pending(server) == 2
        triggerer = Triggerer()
        again, number = await triggerer.fired()
        assert again == payload, "the same tokens, and so the same run"
        more = asyncio.ensure_future(triggerer.fired())  # moves past the event, as the triggerer does
        await asyncio.sleep(0.3)
        assert await pending(server) == 2, "not stored yet"
        triggerer.manager.confirm_persisted([number])
        await until_settled(server, more)
        more.cancel()
        await triggerer.stop()

    asyncio.run(story())


@pytest.mark.usefixtures("files")
def test_a_message_that_says_nothing_new_is_acknowledged_without_an_event(server: NatsServer) -> None:
    async def story() -> None:
        await put(server, "2999-01-01")  # not over yet: the schedule's
        triggerer = Triggerer()
        more = asyncio.ensure_future(triggerer.fired())
        await asyncio.sleep(0.2)
        await until_settled(server, more)
        more.cancel()
        await triggerer.stop()

    asyncio.run(story())


@pytest.mark.usefixtures("files")
def test_a_server_that_does_not_answer_is_tried_again_without_its_password_in_the_log(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        monkeypatch.setenv("PENSTOCK_CONNECTIONS__BUS", f"{server.url.rpartition(':')[0]}:1")
        triggerer = Triggerer()
        waiting = asyncio.ensure_future(triggerer.fired())
        while "cannot be read, and is tried again" not in caplog.text:
            await asyncio.sleep(0.05)
        monkeypatch.setenv("PENSTOCK_CONNECTIONS__BUS", server.url)
        await put(server, "2013-02-01")
        payload, _ = await waiting
        assert [each["key"] for each in payload] == ["2013-02-01"]
        await triggerer.stop()

    asyncio.run(story())
    assert PASSWORD not in caplog.text
    assert "p%40ss" not in caplog.text
