"""Sources for a soak: the flights and the weather of 2013, thinned and moved, as far as 1,000 days go.

Each simulated day is a day of 2013 moved by whole days: the same day of the year, or the nearest one on which New
York's clocks were as they are on the simulated day, so that local hours and instants still fit each other.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import ingestion
import quality
from ingestion.objects.client import Bucket
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql

FIRST_DAY = date(2013, 1, 1)
KEEP_ONE_IN = 30
"""Of so many flights one is kept: about thirty a day."""

_ZONE = ZoneInfo("America/New_York")
_LAST_WHOLE_DAY = date(2013, 12, 29)
"""The last day of which there are flights and a whole day's weather."""
_STATIONS = ("EWR", "JFK", "LGA")


def day_of(number: int) -> date:
    """The simulated day of a number, counted from 0."""
    return FIRST_DAY + timedelta(days=number)


def model_of(day: date) -> date:
    """The day of 2013 that a simulated day is made from."""
    same = date(2013, day.month, 28 if (day.month, day.day) == (2, 29) else day.day)
    nearest = sorted((abs(offset), offset) for offset in range(-20, 21))
    return next(
        found
        for _, offset in nearest
        if FIRST_DAY <= (found := same + timedelta(days=offset)) <= _LAST_WHOLE_DAY and _clocks(found) == _clocks(day)
    )


def _clocks(day: date) -> tuple[timedelta | None, timedelta | None]:
    ends = (day, day + timedelta(days=1))
    return tuple(datetime.combine(end, time(0), _ZONE).utcoffset() for end in ends)  # type: ignore[return-value]


def seed(services: EmbeddedServices, days: int) -> None:
    """Put so many days into running services that hold the demo data."""
    pairs = ",".join(f"('{day_of(number)}'::date,'{model_of(day_of(number))}'::date)" for number in range(days))
    names = "dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest"
    statement = f"""
        begin;
        create table day_map as select * from (values {pairs}) as map (day, model);
        create table model_flights as select * from flights where abs(hashtext(carrier || flight)) % {KEEP_ONE_IN} = 0;
        truncate flights;
        insert into flights (year, month, day, {names}, air_time, distance, hour, minute, time_hour, updated_at)
        select extract(year from map.day), extract(month from map.day), extract(day from map.day), {names},
               air_time, distance, hour, minute, time_hour + (map.day - map.model) * interval '24 hours',
               time_hour + (map.day - map.model) * interval '24 hours' + interval '12 hours'
        from day_map as map join model_flights as f
          on (f.year, f.month, f.day) = (extract(year from map.model), extract(month from map.model),
                                         extract(day from map.model));
        drop table day_map; drop table model_flights;
        commit;
        analyze flights;
    """
    run_psql(services.postgres_url, [statement.encode()])
    with Bucket.open(services.s3_url, source="stations") as bucket, ThreadPoolExecutor(8) as pool:
        objects = [*_moved_weather(bucket, days)]
        list(pool.map(lambda each: bucket.put(*each, content_type="application/gzip"), objects))


def _moved_weather(bucket: Bucket, days: int) -> Iterator[tuple[str, bytes]]:
    held = {found.key for found in bucket.objects("weather/")}
    for number in range(days):
        day = day_of(number)
        model = model_of(day)
        for station in _STATIONS:
            key = f"weather/origin={station}/date={day}.csv.gz"
            if key not in held or day > _LAST_WHOLE_DAY:
                body = bucket.read(f"weather/origin={station}/date={model}.csv.gz")
                yield key, _moved(gzip.decompress(body).decode(), day, day - model)


def _moved(text: str, day: date, by: timedelta) -> bytes:
    rows = [*csv.DictReader(io.StringIO(text))]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        at = datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00")) + by
        moved = {"year": day.year, "month": day.month, "day": day.day, "time_hour": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        writer.writerow(row | moved)
    return gzip.compress(out.getvalue().encode(), mtime=0)


def write_specs(folder: Path, days: int) -> tuple[Path, Path]:
    """The demo's specs and suites for these days: folders of sources and of suites."""
    end = day_of(days)
    sources, suites = folder / "sources", folder / "suites"
    sources.mkdir(parents=True)
    for spec in (Path(ingestion.__file__).parent / "sources").glob("*.yml"):
        text = spec.read_text().replace("end_date: 2014-01-01", f"end_date: {end}")
        (sources / spec.name).write_text(text.replace("      to: 2013-12-31", f"      to: {end}"))
    shutil.copytree(Path(quality.__file__).parent / "suites", suites)
    flights = suites / "raw" / "flightops__flights.yml"
    full_day = "kwargs: {min_value: 500, max_value: 1500}"
    text = flights.read_text()
    if full_day not in text:
        raise ValueError(f"{flights.name} no longer says {full_day}")
    flights.write_text(text.replace(full_day, "kwargs: {min_value: 5, max_value: 100}"))
    return sources, suites
