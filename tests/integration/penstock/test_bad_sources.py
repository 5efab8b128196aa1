"""Laws of sources that do not answer, refuse, or hold something else than their spec says.

Every case goes through the real command line in its own process, over a lake and a warehouse that hold a day already.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ingestion.objects.client import Bucket
from lake.paths import TableId
from penstock import drift as drifts
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.psql import run_psql
from tests.command_line import CommandLine, stored_state
from tests.refusals import (
    CANARY,
    INFRASTRUCTURE,
    REJECTED,
    USAGE,
    assert_refused,
    closed_port,
    connected,
    nothing_changes,
    with_part,
)

DONE, NEXT, AFTER = "2013-02-12", "2013-02-13", "2013-02-14"
OBJECT = f"weather/origin=JFK/date={NEXT}.csv.gz"


# -- the database does not fit -------------------------------------------------------------------------------------


@contextmanager
def altered(services: EmbeddedServices, change: str, undo: str) -> Iterator[None]:
    """The source database changed for the length of the block."""
    run_psql(services.postgres_url, [change.encode()])
    try:
        yield
    finally:
        run_psql(services.postgres_url, [undo.encode()])


@pytest.mark.parametrize(
    ("change", "undo", "table", "said"),
    [
        (
            "alter table airlines rename to carriers",
            "alter table carriers rename to airlines",
            "airlines",
            "no table public.airlines",
        ),
        (
            "revoke select on airlines from penstock_reader",
            "grant select on airlines to penstock_reader",
            "airlines",
            "grant SELECT",
        ),
        (
            "alter table flights rename column dest to destination",
            "alter table flights rename column destination to dest",
            "flights",
            "column dest is gone and destination may be its new name (a guess)",
        ),
        (
            "alter table flights alter column distance type double precision",
            "alter table flights alter column distance type integer",
            "flights",
            "distance is double precision, declared int32",
        ),
    ],
    ids=["missing table", "table without grant", "missing column", "changed type"],
)
def test_a_table_that_does_not_fit_its_spec_is_refused(
    published: CommandLine, own_services: EmbeddedServices, change: str, undo: str, table: str, said: str
) -> None:
    with altered(own_services, change, undo), nothing_changes(published):
        answer = published.run("ingest", "flightops", "--table", table, "--day", NEXT)
    assert_refused(
        published, answer, REJECTED, "SourceSchemaError", "source=flightops", f"table={table}", f"interval={NEXT}", said
    )


def test_a_database_that_evolves_leaves_everything_downstream_as_it_was(
    own_services: EmbeddedServices, with_spec: Callable[[str, str, str], CommandLine], tmp_path: Path
) -> None:
    policy = "on_drift: {added: evolve, widened: evolve}\n    freshness: {max_age_s: 129600}"
    command = replace(with_spec("flightops", "freshness: {max_age_s: 129600}", policy), home=tmp_path / "state")
    pipeline = Pipeline(command.settings().model_copy(update={"sources": tmp_path / "sources"}))

    def ingest(day: str) -> None:
        with pipeline.reading("flightops") as reader:
            for table in ("planes", "airlines", "airports", "flights"):
                pipeline.ingest("flightops", table, day, reader=reader)

    ingest(DONE)
    before = pipeline.refine("flights", DONE)
    with altered(
        own_services,
        "alter table flights alter column distance type bigint, add column gate text default 'B7'",
        "alter table flights alter column distance type integer, drop column gate",
    ):
        ingest(NEXT)
        ingest(DONE)
        again, new = pipeline.refine("flights", DONE), pipeline.refine("flights", NEXT)
        recorded = drifts.live(pipeline, [pipeline.source("flightops")])
    assert before is not None
    assert again is not None
    assert new is not None
    assert (again.checksum, again.published) == (before.checksum, before.published)
    assert new.published == new.rows_in > 0
    assert {(line["kind"], line["outcome"]) for line in recorded} >= {("added", "evolved"), ("widened", "evolved")}
    raw = {column.name: column.type for column in pipeline.lake.columns(TableId("raw", "flightops__flights"))[0]}
    assert (raw["distance"], raw["gate"]) == ("int64", "string")


def test_a_column_that_only_the_spec_has_is_refused(with_spec: Callable[[str, str, str], CommandLine]) -> None:
    column = "      - {name: seats, type: int32, nullable: false,"
    command = with_spec("flightops", column, "      - {name: gates, type: int32, nullable: true}\n" + column)
    with nothing_changes(command):
        answer = command.run("ingest", "flightops", "--table", "planes", "--day", NEXT)
    assert_refused(
        command, answer, REJECTED, "SourceSchemaError", "source=flightops", "table=planes", f"interval={NEXT}", "gates"
    )


def test_a_missing_table_stops_its_own_batch_and_the_run_says_so_once(
    published: CommandLine, own_services: EmbeddedServices, tmp_path: Path
) -> None:
    copy = replace(published, home=tmp_path / "state")
    with altered(own_services, "alter table flights rename to f", "alter table f rename to flights"):
        answer = copy.run("run", "--from", NEXT, "--to", AFTER, "--no-build", "--json")
    assert_refused(copy, answer, REJECTED, "SourceSchemaError", "source=flightops", "table=flights", NEXT)
    assert not [name for name in stored_state(copy.settings()) if name == "refined.flights" or "fct_" in name]


# -- the services do not answer, or say no -------------------------------------------------------------------------

RUN = ("run", "--from", NEXT, "--to", AFTER)
INGEST_FLIGHTS = ("ingest", "flightops", "--table", "flights", "--day", NEXT)
INGEST_WEATHER = ("ingest", "stations", "--day", NEXT)


@pytest.mark.parametrize("arguments", [RUN, INGEST_FLIGHTS], ids=["run", "ingest"])
def test_a_wrong_password_is_refused_and_not_repeated(published: CommandLine, arguments: tuple[str, ...]) -> None:
    wrong = connected(published, "flightops", with_part(published.connections["flightops"], password=CANARY))
    with nothing_changes(wrong):
        answer = wrong.run(*arguments)
    said = ("source=flightops", "flights", NEXT, "password authentication failed", "connection 'flightops'")
    assert_refused(wrong, answer, INFRASTRUCTURE, "SourceRefused", *said)


@pytest.mark.parametrize("arguments", [RUN, INGEST_FLIGHTS], ids=["run", "ingest"])
def test_an_unreachable_database_is_an_infrastructure_error(published: CommandLine, arguments: tuple[str, ...]) -> None:
    away = connected(published, "flightops", with_part(published.connections["flightops"], port=closed_port()))
    with nothing_changes(away):
        answer = away.run(*arguments)
    assert_refused(away, answer, INFRASTRUCTURE, "SourceUnavailable", "source=flightops", "flights", NEXT, "127.0.0.1")


def test_a_database_that_does_not_exist_is_refused(published: CommandLine) -> None:
    wrong = connected(published, "flightops", published.connections["flightops"] + "_gone")
    with nothing_changes(wrong):
        answer = wrong.run(*INGEST_FLIGHTS)
    assert_refused(wrong, answer, INFRASTRUCTURE, "SourceRefused", "flightops_gone", "source=flightops", NEXT)


@pytest.mark.parametrize("arguments", [RUN, INGEST_WEATHER], ids=["run", "ingest"])
def test_an_unreachable_bucket_stops_the_run_before_another_source_has_changed_anything(
    published: CommandLine, arguments: tuple[str, ...]
) -> None:
    port = urlsplit(published.connections["stations"].partition("endpoint=")[2]).netloc.rpartition(":")[2].split("&")[0]
    away = published.connections["stations"].replace(f":{port}", f":{closed_port()}")
    command = connected(published, "stations", away)
    with nothing_changes(command):
        answer = command.run(*arguments)
    said = ("source=stations", "table=weather", NEXT, "connection 'stations'")
    assert_refused(command, answer, INFRASTRUCTURE, "SourceUnavailable", *said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: with_part(url, password=CANARY), "SignatureDoesNotMatch"),
        (lambda url: with_part(url, user="NOBODY"), "InvalidAccessKeyId"),
        (lambda url: url.replace("@stations?", "@no-such-bucket?"), "NoSuchBucket"),
    ],
    ids=["wrong secret key", "wrong access key", "no such bucket"],
)
def test_a_bucket_that_refuses_stops_the_run_before_another_source_has_changed_anything(
    published: CommandLine, change: Callable[[str], str], said: str
) -> None:
    command = connected(published, "stations", change(published.connections["stations"]))
    with nothing_changes(command):
        answer = command.run(*RUN)
    assert_refused(command, answer, INFRASTRUCTURE, "SourceRefused", "source=stations", "table=weather", NEXT, said)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("flightops", f"mysql://reader:{CANARY}@127.0.0.1/flightops"),
        ("flightops", f"postgresql://reader:{CANARY}@[broken/flightops"),
        ("stations", f"https://key:{CANARY}@stations"),
        ("stations", f"s3://key:{CANARY}@stations?endpint=http://127.0.0.1"),
    ],
)
def test_a_connection_that_is_no_url_is_refused_without_being_repeated(
    published: CommandLine, name: str, url: str
) -> None:
    command = connected(published, name, url)
    with nothing_changes(command):
        answer = command.run("ingest", name, "--day", NEXT)
    assert_refused(command, answer, USAGE, "SettingsError", f"source={name}", NEXT)


def test_a_connection_that_nobody_set_is_refused_with_every_place_where_it_may_be_set(published: CommandLine) -> None:
    command = replace(published, connections={"stations": published.connections["stations"]})
    with nothing_changes(command):
        answer = command.run(*RUN)
    said = ("source=flightops", NEXT, "PENSTOCK_CONNECTIONS__FLIGHTOPS", "penstock.toml", "make up")
    assert_refused(command, answer, USAGE, "SettingsError", *said)


# -- objects that are broken ---------------------------------------------------------------------------------------


@contextmanager
def replaced(services: EmbeddedServices, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """One station's object changed for the length of the block."""
    with Bucket.open(services.s3_url) as bucket:
        whole = bucket.read(OBJECT)
        bucket.put(OBJECT, change(whole))
        try:
            yield
        finally:
            bucket.put(OBJECT, whole)


def _text(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda body: gzip.compress(change(gzip.decompress(body)), mtime=0)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda body: body[:-20], "ObjectCorrupt", "truncated gzip"),
        (lambda _body: b"", "ObjectCorrupt", "truncated gzip"),
        (gzip.decompress, "ObjectCorrupt", "not valid gzip"),
        (_text(lambda text: text.replace(b"wind_gust", b"gust", 1)), "SourceSchemaError", "wrong header"),
        (_text(lambda text: text.partition(b"\n")[2]), "SourceSchemaError", "wrong header"),
        (_text(lambda text: b"\xff\xfe" + text), "SourceSchemaError", "wrong header"),
    ],
    ids=["cut at its end", "no bytes", "not gzip", "renamed column", "no header", "not UTF-8"],
)
def test_a_broken_object_is_refused_by_name(
    published: CommandLine,
    own_services: EmbeddedServices,
    change: Callable[[bytes], bytes],
    kind: str,
    said: str,
) -> None:
    with replaced(own_services, change), nothing_changes(published):
        answer = published.run(*INGEST_WEATHER)
    named = ("source=stations", "table=weather", f"interval={NEXT}", OBJECT, said)
    assert_refused(published, answer, REJECTED, kind, *named)


def test_objects_that_hold_no_rows_at_all_are_refused_by_the_gate(
    published: CommandLine, own_services: EmbeddedServices
) -> None:
    with Bucket.open(own_services.s3_url) as bucket:
        bodies = {found.key: bucket.read(found.key) for found in bucket.objects("weather/") if NEXT in found.key}
        header = gzip.decompress(bodies[OBJECT]).partition(b"\n")[0]
        try:
            for key in bodies:
                bucket.put(key, gzip.compress(header + b"\n", mtime=0))
            with nothing_changes(published):
                answer = published.run(*INGEST_WEATHER)
        finally:
            for key, body in bodies.items():
                bucket.put(key, body)
    said = ("source=stations", "weather", f"interval={NEXT}", "batch_has_rows")
    assert_refused(published, answer, REJECTED, "GateRefused", *said)


# -- days without data ----------------------------------------------------------------------------------------------


def test_an_empty_day_of_a_database_table_is_refused_by_the_gate(published: CommandLine) -> None:
    with nothing_changes(published):
        answer = published.run("ingest", "flightops", "--table", "flights", "--day", "2013-02-14")
    said = ("source=flightops", "flights", "interval=2013-02-14", "batch_has_rows")
    assert_refused(published, answer, REJECTED, "GateRefused", *said)


def test_an_empty_day_of_a_bucket_is_refused(published: CommandLine) -> None:
    with nothing_changes(published):
        answer = published.run("ingest", "stations", "--day", "2013-02-14")
    assert_refused(published, answer, REJECTED, "EmptyBatch", "source=stations", "table=weather", "interval=2013-02-14")


def test_a_run_over_an_empty_day_refuses_each_table_of_it_and_changes_nothing(published: CommandLine) -> None:
    with nothing_changes(published):
        answer = published.run("run", "--from", "2013-02-14", "--to", "2013-02-15")
    assert answer.code == REJECTED
    kinds = sorted(line.split(": ")[1] for line in answer.errors)
    assert kinds == ["EmptyBatch", "GateRefused"]
    assert all("2013-02-14" in line and "Remedy: " in line for line in answer.errors)
    assert "Traceback" not in answer.err


# -- and afterwards ------------------------------------------------------------------------------------------------


def test_after_all_that_the_next_day_goes_through(published: CommandLine) -> None:
    answer = published.run(*RUN)
    assert (answer.code, answer.errors) == (0, [])
