"""Laws of events on a real bucket and a real NATS server: one effect each, none lost, obeyed only where declared."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from common.errors import SettingsError, SourceRefused, SourceUnavailable
from ingestion.events.arrivals import Arrival
from ingestion.events.jetstream import Delivery, QueueConsumer
from ingestion.events.messages import Listener
from ingestion.objects.watch import BucketWatch
from ingestion.spec import Queue, SourceSpec
from lake.lake import Lake
from tests.command_line import CommandLine
from tests.door import Door
from tests.integration.ingestion.conftest import BucketSource
from tests.integration.ingestion.shops import Shop, bucket_shop
from tests.nats_server import PASSWORD, NatsServer, running_nats

DAY, OTHER = "2013-01-01", "2013-01-02"
EVENTS = (
    "{watch: bucket, poll_interval_s: 60, from: 2012-12-31, "
    "queue: {connection: bus, stream: IN, subject: in.shop, dead_letter: dead.shop}}"
)
QUEUE = Queue(connection="bus", stream="IN", subject="in.shop", dead_letter="dead.shop")


class Clock:
    """Seconds that pass when the test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now_s


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def bus(nats_server: NatsServer) -> NatsServer:
    """The server with an empty stream and an empty stream of dead letters."""
    nats_server.empty_streams()
    return nats_server


@pytest.fixture
def shop(bucket: BucketSource) -> Shop:
    shop = bucket_shop(bucket)
    bucket.spec("a: int32, b: string", more=f"    events: {EVENTS}\n")
    shop.declare((bucket.folder / "shop.yml").read_text())
    return shop


def watch_of(shop: Shop, clock: Clock | None = None) -> BucketWatch:
    spec, lake = described(shop)
    return BucketWatch(spec, spec.table("orders"), lake, monotonic=clock or Clock())


def described(shop: Shop) -> tuple[SourceSpec, Lake]:
    pipeline = shop.pipeline()
    return pipeline.source("shop"), pipeline.lake


def days(arrivals: list[Arrival]) -> list[str]:
    return [arrival.key for arrival in arrivals]


# -- the bucket


def test_new_and_changed_objects_are_told_by_day_and_what_the_lake_has_is_not(shop: Shop, bucket: BucketSource) -> None:
    for part in "pq":
        bucket.put("a,b\n1,x\n" if part == "p" else "a,b\n2,y\n", part=part)
    bucket.put("a,b\n3,z\n", day=OTHER)
    bucket.put("a,b\n4,z\n", day="2012-12-30")  # before 'from'
    bucket.put("a,b\n4,z\n", day="2026-01-02")  # not over yet
    bucket.put("a,b\n4,z\n", day="2013-02-30")  # a day that is none
    clock = Clock()
    watch = watch_of(shop, clock)
    first = watch.look()
    assert days(first) == [DAY, OTHER], "objects of one day are one arrival"
    assert watch.look() == [], "told once"
    assert watch_of(shop).look() == first, "a restart tells again what the lake lacks, under the same tokens"
    shop.ingest(DAY)
    shop.ingest(OTHER)
    assert watch_of(shop).look() == [], "and nothing that it has"
    clock.now_s += 60
    bucket.put("a,b\n1,changed\n", part="p")
    [changed] = watch.look()
    assert (changed.key, changed.token == first[0].token) == (DAY, False)
    assert watch_of(shop).look() == [changed]


def test_a_vanished_object_is_no_arrival(shop: Shop, bucket: BucketSource) -> None:
    keys = [bucket.put("a,b\n1,x\n", part="p"), bucket.put("a,b\n2,y\n", part="q")]
    shop.ingest(DAY)
    bucket.client.delete_object(Bucket=bucket.location.bucket, Key=keys[0])
    assert watch_of(shop).look() == []


def test_an_object_that_keeps_changing_is_told_ever_more_rarely_and_its_last_state_always(
    shop: Shop, bucket: BucketSource
) -> None:
    clock = Clock()
    watch = watch_of(shop, clock)
    told = []
    for minute in range(60):
        clock.now_s = minute * 60.0
        bucket.put(f"a,b\n{minute},x\n")
        told += [(minute, arrival.token) for arrival in watch.look()]
    assert [minute for minute, _ in told] == [0, 1, 3, 7, 15, 31]
    clock.now_s += 3600
    [last] = watch.look()
    assert last.token not in {token for _, token in told}
    clock.now_s += 3599
    assert watch.look() == []
    clock.now_s += 1
    assert watch.look() == [last], "what the lake still lacks is told again after an hour"


# -- the queue


def listeners_of(shop: Shop, bucket: BucketSource) -> list[Listener]:
    spec, _ = described(shop)
    return [Listener(spec, spec.table("orders"), bucket.location.bucket)]


def consumer_of(shop: Shop, bucket: BucketSource, url: str, **options: Any) -> QueueConsumer:
    clock = lambda: datetime(2026, 1, 2, tzinfo=UTC)  # noqa: E731
    queue = options.pop("queue", QUEUE)
    return QueueConsumer(queue, SecretStr(url), listeners_of(shop, bucket), clock=clock, **options)


async def put(bus: NatsServer, *contents: Any) -> None:
    async with bus.client() as stream:
        for content in contents:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            await stream.publish("in.shop", body)


async def dead(bus: NatsServer) -> list[tuple[bytes, str]]:
    """What is kept under the dead letters' subject, with the reasons."""
    async with bus.client() as stream:
        kept = (await stream.stream_info("DEAD")).state.messages
        found = [await stream.get_msg("DEAD", number) for number in range(1, kept + 1)]
    return [(message.data, message.headers["Penstock-Reason"]) for message in found]


def notification(bucket: BucketSource, key: str) -> dict[str, Any]:
    at = {"bucket": {"name": bucket.location.bucket}, "object": {"key": key}}
    return {"Records": [{"eventName": "ObjectCreated:Put", "s3": at}]}


def interval(day: str = DAY) -> dict[str, str]:
    return {"source": "shop", "table": "orders", "interval": day}


async def everything(consumer: QueueConsumer) -> list[Delivery]:
    found = []
    while (delivery := await consumer.receive(wait_s=0.3)) is not None:
        found.append(delivery)
    return found


def test_messages_are_one_delivery_and_acknowledged_only_when_settled(
    shop: Shop, bucket: BucketSource, bus: NatsServer
) -> None:
    async def story() -> None:
        await put(bus, notification(bucket, bucket.key()), interval(OTHER))
        async with consumer_of(shop, bucket, bus.url) as consumer:
            [first] = await everything(consumer)
            assert days(first.arrivals) == [DAY, OTHER]
        async with consumer_of(shop, bucket, bus.url) as consumer:  # the first one gave back what it had
            [again] = await everything(consumer)
            assert again.arrivals == first.arrivals, "the same tokens"
            await consumer.settle(again)
        async with consumer_of(shop, bucket, bus.url) as consumer:
            assert await everything(consumer) == []

    asyncio.run(story())


def test_a_consumer_that_dies_between_receiving_and_settling_loses_nothing(
    shop: Shop, bucket: BucketSource, bus: NatsServer
) -> None:
    async def story() -> None:
        await put(bus, interval())
        killed = await consumer_of(shop, bucket, bus.url, ack_wait_s=1.0).__aenter__()
        delivery = await killed.receive(wait_s=60.0)
        assert delivery is not None
        killed._unsettled.clear()  # a killed process gives nothing back
        await killed.__aexit__(None, None, None)
        async with consumer_of(shop, bucket, bus.url) as consumer:
            again = await consumer.receive(wait_s=60.0)
            assert again is not None
            assert again.arrivals == delivery.arrivals

    asyncio.run(story())


def test_a_server_that_stalls_is_waited_for_and_not_taken_for_one_without_messages(
    shop: Shop, bucket: BucketSource, bus: NatsServer
) -> None:
    async def story() -> None:
        await put(bus, interval())
        async with consumer_of(shop, bucket, bus.url) as consumer:
            with bus.standing_still():
                receiving = asyncio.ensure_future(consumer.receive(wait_s=0.2))
                await asyncio.sleep(1.0)
                assert not receiving.done(), "its silence says nothing"
            delivery = await receiving
            assert delivery is not None
            assert days(delivery.arrivals) == [DAY]
            await consumer.settle(delivery)
            receiving = asyncio.ensure_future(consumer.receive(wait_s=0.2))
            await asyncio.sleep(0.05)
            time.sleep(0.5)  # now it is this process that stalls, until its time is over
            assert await receiving is None

    asyncio.run(story())


def test_a_refused_message_is_kept_with_its_reason_once_and_its_neighbours_go_on(
    shop: Shop, bucket: BucketSource, bus: NatsServer
) -> None:
    huge = b'{"source": "' + b"x" * 300_000
    foreign = {
        "Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "other"}, "object": {"key": "k"}}}]
    }

    async def story() -> None:
        await put(bus, b"not json", interval(), foreign, huge, {**interval(), "table": "secrets"}, interval(OTHER))
        async with consumer_of(shop, bucket, bus.url) as consumer:
            [delivery] = await everything(consumer)
            assert days(delivery.arrivals) == [DAY, OTHER]
            await consumer.settle(delivery)
            assert await everything(consumer) == [], "a refused message does not come again"
        kept = await dead(bus)
        assert [reason.split(" ")[:3] for _, reason in kept] == [
            ["the", "message", "is"],
            ["no", "table", "that"],
            ["the", "message", "has"],
            ["no", "table", "'shop.secrets'"],
        ]
        assert kept[0][0] == b"not json"
        assert len(kept[2][0]) == 1 << 18

    asyncio.run(story())


def test_a_message_that_cannot_be_kept_is_not_dropped(shop: Shop, bucket: BucketSource, bus: NatsServer) -> None:
    async def story() -> None:
        await put(bus, b"not json")
        async with consumer_of(shop, bucket, bus.url) as consumer:
            async with bus.client() as stream:
                await stream.delete_stream("DEAD")
            assert await consumer.receive(wait_s=1.0) is None
            async with bus.client() as stream:
                assert (await stream.consumer_info("IN", "penstock")).num_ack_pending == 1, "it will come again"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"stream": "NONE"}, SettingsError, "no stream 'NONE'"),
        ({"dead_letter": "nobody.keeps"}, SettingsError, "keeps the subject"),
    ],
)
def test_a_queue_that_is_not_there_is_an_error_that_says_what_to_do(
    shop: Shop, bucket: BucketSource, bus: NatsServer, change: dict[str, str], error: type[Exception], told: str
) -> None:
    async def open_it() -> None:
        async with consumer_of(shop, bucket, bus.url, queue=QUEUE.model_copy(update=change)):
            pass

    with pytest.raises(error, match=told):
        asyncio.run(open_it())


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("nats://penstock:wr%40ng-secret@127.0.0.1:4222", {}, (SourceRefused, SourceUnavailable)),
        ("http://penstock:wr%40ng-secret@127.0.0.1:4222", {}, SettingsError),
        ("nats://penstock:wr%40ng-secret@169.254.169.254:4222", {}, SourceRefused),
        ("nats://penstock:wr%40ng-secret@127.0.0.1:4222", {"allowed_hosts": ["nats.example.org"]}, SourceRefused),
        ("nats://penstock:wr%40ng-secret@127.0.0.1:1", {}, SourceUnavailable),
    ],
)
def test_no_error_holds_the_login(
    shop: Shop,
    bucket: BucketSource,
    bus: NatsServer,
    url: str,
    options: Any,
    error: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def open_it() -> None:
        async with consumer_of(shop, bucket, url.replace("127.0.0.1:4222", bus.url.split("@")[1]), **options):
            pass

    with pytest.raises(error) as caught:
        asyncio.run(open_it())
    assert "secret" not in f"{caught.value}{caplog.text}"


def test_a_lost_connection_is_an_error_and_the_messages_are_there_when_the_server_is_back(
    shop: Shop, bucket: BucketSource, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()

    async def before(server: NatsServer) -> None:
        await put(server, interval())
        async with consumer_of(shop, bucket, server.url) as consumer:
            assert await consumer.receive(wait_s=60.0) is not None
            server.process.kill()
            server.process.wait()
            with pytest.raises(SourceUnavailable):
                await consumer.receive(wait_s=1.0)

    async def after(server: NatsServer) -> None:
        async with server.client() as stream:
            left = await stream.consumer_info("IN", "penstock")
            # A server that is killed may not have written down yet that it had sent the message.
            assert (left.num_ack_pending or 0) + (left.num_pending or 0) == 1

    with running_nats(tmp_path / "own") as server:
        server.empty_streams()
        asyncio.run(before(server))
    with running_nats(tmp_path / "own") as server:
        asyncio.run(after(server))


# -- the command


def test_the_command_ingests_what_came_once_and_then_finds_nothing(
    shop: Shop, bucket: BucketSource, bus: NatsServer
) -> None:
    bucket.put("a,b\n1,x\n")
    door = Door(shop.folder, {"shop": shop.url, "bus": bus.url})
    asyncio.run(put(bus, notification(bucket, bucket.key()), notification(bucket, bucket.key()), b"nonsense"))
    answer = door.run("watch", "--once", "--json")
    assert answer.code == 0, answer.err
    first = json.loads(answer.out)
    states = [(each["interval"], each["state"], each["published"]) for each in first["ingested"]]
    assert sorted(set(states)) == [(DAY, "published", 1), (DAY, "unchanged", 1)]
    assert [state for _, state, _ in states].count("published") == 1, "the same object told three times is one batch"
    assert len(asyncio.run(dead(bus))) == 1
    second = door.run("watch", "shop", "--once")
    assert (second.code, second.out) == (0, "")
    assert PASSWORD not in first["ingested"][0]["table"] + second.err


def test_the_command_goes_on_until_it_is_interrupted_and_ends_cleanly(
    shop: Shop, bucket: BucketSource, bus: NatsServer
) -> None:
    extra = {f"PENSTOCK_{name.upper()}": str(shop.folder / name) for name in ("sources", "suites")}
    command = CommandLine(shop.home, {"shop": shop.url, "bus": bus.url}, extra).start("watch", "shop")
    bucket.put("a,b\n1,x\n")
    asyncio.run(put(bus, interval()))
    lake = shop.pipeline().lake
    deadline = time.monotonic() + 60
    while DAY not in lake.live_attempts(shop.raw):
        assert time.monotonic() < deadline, "not ingested"
        time.sleep(0.1)
    os.kill(command.pid, signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.wait() == 130
    assert "Traceback" not in err
    assert "interrupted; what was published stays" in err
    assert "Watching 1 buckets' tables and 1 queues" in out
    assert shop.rows("a", "b") == [(1, "x")]


def test_a_refused_batch_is_told_and_the_message_does_not_come_again(shop: Shop, bus: NatsServer) -> None:
    door = Door(shop.folder, {"shop": shop.url, "bus": bus.url})
    asyncio.run(put(bus, interval()))  # of a day without objects
    answer = door.run("watch", "--once")
    assert answer.code == 1
    assert "EmptyBatch" in answer.out
    assert door.run("watch", "--once").code == 0


def test_the_command_without_events_says_what_to_write(shop: Shop, bucket: BucketSource) -> None:
    bucket.spec("a: int32, b: string")
    shop.declare((bucket.folder / "shop.yml").read_text())
    answer = Door(shop.folder, {"shop": shop.url}).run("watch", "--once")
    assert answer.code == 2
    assert "add 'events:" in answer.err
