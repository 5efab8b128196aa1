"""Laws of messages: they say that something came for a table that listens, and can say nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SpecError
from ingestion.events.arrivals import Arrival, grouped, run_name
from ingestion.events.messages import MAX_MESSAGE_BYTES, MAX_RECORDS, Listener, Reading, read_message
from ingestion.spec import SourceSpec, load_source

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
SPEC = """\
source: shop
kind: objects
connection: shop
time_zone: America/New_York
owner: me@example.org
tables:
  - name: orders
    mode: append
    primary_key: [a]
    objects: {path: "in/part={part}/{key}.csv"}
    coverage: {from: 2012-01-01, why: It began then.}
    events: EVENTS
    columns:
      - {name: a, type: int32, nullable: false}
"""
QUEUE = "{queue: {connection: bus, stream: S, subject: s.in, dead_letter: s.dead}}"


def spec_of(folder: Path, events: str = QUEUE) -> SourceSpec:
    path = folder / "shop.yml"
    path.write_text(SPEC.replace("EVENTS", events))
    return load_source(path)


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> list[Listener]:
    spec = spec_of(tmp_path_factory.mktemp("spec"))
    return [Listener(spec, spec.table("orders"), "bucket-a")]


def read(content: Any, listeners: list[Listener]) -> Reading:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_message(body, listeners, token="t", now=NOW)


def record(key: str, *, bucket: str = "bucket-a", event: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {"eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}


def arrival(day: str) -> Arrival:
    return Arrival("shop", "orders", day, "t")


@pytest.mark.parametrize(
    "content",
    [
        {"Records": [record("in/part%3Dp+q/2013-01-01.csv")]},
        {
            "EventName": "s3:ObjectCreated:Put",
            "Records": [record("in/part=p/2013-01-01.csv", event="s3:ObjectCreated:Put")],
        },
        {"source": "shop", "table": "orders", "interval": "2013-01-01"},
        {"source": "shop", "table": "orders", "key": "in/part=p/2013-01-01.csv"},
    ],
)
def test_each_form_names_an_interval_of_the_table(listeners: list[Listener], content: Any) -> None:
    reading = read(content, listeners)
    assert (reading.arrivals, reading.refused) == ([arrival("2013-01-01")], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"text"', "no JSON object"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "more than"),
        ({}, "must hold"),
        ({"source": "shop", "table": "orders", "interval": "2013-01-01", "sql": "drop"}, "must hold"),
        ({"source": "shop", "table": "orders", "interval": 20130101}, "must be text"),
        ({"source": "shop", "table": "orders", "interval": "2013-02-30"}, "no calendar day"),
        ({"source": "shop", "table": "orders", "interval": "../2013-01-01"}, "no calendar day"),
        ({"source": "shop", "table": "others", "interval": "2013-01-01"}, "names this queue"),
        ({"source": "shop", "table": "orders", "key": "in/part=p/../2013-01-01.csv"}, "no objects like"),
        ({"Records": [record("in/part=p/2013-01-01.csv", bucket="bucket-b")]}, "no table"),
        ({"Records": [record("out/part=p/2013-01-01.csv")]}, "no table"),
        ({"Records": [record("in/part=../2013-01-01.csv/../../x")]}, "no table"),
        ({"Records": [record("in%2Fpart=p%2F..%2F2013-01-01.csv")]}, "no table"),
        ({"Records": [record("in/part=%FF/2013-01-01.csv")]}, "no event notification"),
        ({"Records": [{"eventName": 1}]}, "no event notification"),
        ({"Records": [record("in/part=p/2013-01-01.csv")] * (MAX_RECORDS + 1)}, "records, more than"),
    ],
)
def test_what_no_spec_declares_is_refused_with_the_reason(listeners: list[Listener], content: Any, reason: str) -> None:
    reading = read(content, listeners)
    assert reading.arrivals == []
    assert reason in reading.reason


def test_a_bad_record_does_not_take_its_neighbours_along(listeners: list[Listener]) -> None:
    reading = read({"Records": [record("x"), record("in/part=p/2013-01-02.csv"), {}]}, listeners)
    assert reading.arrivals == [arrival("2013-01-02")]
    assert len(reading.refused) == 2


def test_what_is_the_schedules_is_left_to_it(listeners: list[Listener]) -> None:
    for day in ("2026-01-02", "2027-01-01", "2011-12-31"):
        reading = read({"source": "shop", "table": "orders", "interval": day}, listeners)
        assert (reading.arrivals, reading.refused, len(reading.left)) == ([], [], 1), day


def test_a_deleted_object_and_the_greeting_of_s3_are_no_news(listeners: list[Listener]) -> None:
    removed = {"Records": [record("in/part=p/2013-01-01.csv", event="ObjectRemoved:Delete")]}
    for content in (removed, {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket-a"}):
        reading = read(content, listeners)
        assert (reading.arrivals, reading.refused) == ([], [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Records", "eventName", "s3", "bucket", "object", "name", "key", "source", "table", "interval"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_message_can_do_more_than_be_refused(listeners: list[Listener], body: bytes) -> None:
    reading = read(body, listeners)
    assert reading.arrivals == []
    assert all(each.isascii() and each.isprintable() for each in reading.refused)


@given(st.permutations([("a", "1"), ("a", "2"), ("b", "1"), ("a", "1")]))
def test_a_run_has_the_same_name_whatever_the_order_and_the_number_of_tellings(told: list[tuple[str, str]]) -> None:
    arrivals = [Arrival("shop", table, "2013-01-01", token) for table, token in told]
    [(_, group)] = grouped(arrivals).items()
    assert run_name(group) == run_name(
        [Arrival("shop", t, "2013-01-01", n) for t, n in (("b", "1"), ("a", "2"), ("a", "1"))]
    )


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ("{}", "needs 'watch: bucket'"),
        ("{poll_interval_s: 5, queue: {connection: b, stream: S, subject: s, dead_letter: d}}", "belong to 'watch"),
        ("{queue: {connection: b, stream: S, subject: 's.>', dead_letter: s.dead}}", "must not be one"),
        ("{queue: {connection: b, stream: S, subject: 's.*', dead_letter: s.dead}}", "must not be one"),
        ("{queue: {connection: b, stream: 'S x', subject: s, dead_letter: d}}", "stream"),
        ("{watch: folder}", "bucket"),
    ],
)
def test_a_spec_whose_events_make_no_sense_is_refused(tmp_path: Path, events: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        spec_of(tmp_path, events)
