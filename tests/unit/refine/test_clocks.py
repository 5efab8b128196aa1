# ruff: noqa: DTZ001 - a wall time has no zone, on purpose
"""Laws of clocks, against the standard library's time zones as the oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from transformations.refine.clocks import (
    calendar_day,
    convertible_zones,
    local_to_utc,
    minutes_of_clock,
    utc_to_local,
    with_first_reading,
    with_nearest_reading,
)

ZONES = (
    "America/Anchorage",
    "America/Chicago",
    "America/Los_Angeles",
    "America/New_York",
    "America/Phoenix",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Honolulu",
)
WALL, INSTANT = pl.Datetime("us"), pl.Datetime("us", "UTC")

zones = st.sampled_from(ZONES)
# Every second wall time lies in one of 2013's changing nights, where the laws are hardest.
nights = st.sampled_from(
    [datetime(2013, month, day) for month, day in ((3, 10), (3, 31), (4, 7), (10, 6), (10, 27), (11, 3))]
)
minutes = st.integers(-24 * 60, 28 * 60).map(lambda count: timedelta(minutes=count))
walls = st.one_of(
    st.builds(lambda night, offset: night + offset, nights, minutes),
    st.datetimes(datetime(2008, 1, 1), datetime(2030, 1, 1)).map(lambda wall: wall.replace(second=0, microsecond=0)),
)
instants = walls.map(lambda wall: wall.replace(tzinfo=UTC))
clocks = st.builds(lambda hour, minute: hour * 100 + minute, st.integers(0, 23), st.integers(0, 59)) | st.just(2400)


def readings(wall: datetime, zone: str) -> list[datetime]:
    """The instants at which clocks in ``zone`` showed ``wall``: none, one or two, in order."""
    local = [wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
    return sorted({at for at in local if at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall})


def clock_wall(day: datetime, clock: int) -> datetime:
    midnight = day.replace(hour=0, minute=0)
    return midnight + timedelta(minutes=(clock // 100 * 60 + clock % 100) % 1440)


@given(st.lists(st.tuples(walls, zones), min_size=1, max_size=30))
def test_local_to_utc_and_back_shows_the_same_clock_or_null_where_no_clock_showed_it(
    rows: list[tuple[datetime, str]],
) -> None:
    frame = pl.DataFrame(rows, schema={"wall": WALL, "zone": pl.String}, orient="row")
    zone = pl.col("zone")
    out = frame.with_columns(
        local_to_utc(pl.col("wall"), zone, ZONES, reading="earliest").alias("first"),
        local_to_utc(pl.col("wall"), zone, ZONES, reading="latest").alias("last"),
    ).with_columns(
        utc_to_local(pl.col("first"), zone, ZONES).alias("first_shown"),
        utc_to_local(pl.col("last"), zone, ZONES).alias("last_shown"),
    )
    for row in out.to_dicts():
        expected = readings(row["wall"], row["zone"])
        assert row["first"] == (expected[0] if expected else None)
        assert row["last"] == (expected[-1] if expected else None)
        assert row["first_shown"] == row["last_shown"] == (row["wall"] if expected else None)


@given(st.lists(st.tuples(instants, zones, clocks), min_size=1, max_size=20))
@settings(deadline=None)
def test_nearest_reading_shows_the_clock_and_no_other_reading_is_nearer(rows: list[tuple[datetime, str, int]]) -> None:
    frame = pl.LazyFrame(rows, schema={"at": INSTANT, "zone": pl.String, "clock": pl.Int32}, orient="row")
    out = with_nearest_reading(
        frame, "got", clock=pl.col("clock"), expected=pl.col("at"), zone=pl.col("zone"), zones=ZONES
    ).collect()
    for row in out.to_dicts():
        shown = row["at"].astimezone(ZoneInfo(row["zone"])).replace(tzinfo=None)
        days = [clock_wall(shown + timedelta(days=offset), row["clock"]) for offset in (-2, -1, 0, 1, 2)]
        every = [at for wall in days for at in readings(wall, row["zone"])]
        nearest = min(every, key=lambda at: (abs(at - row["at"]), at))
        if row["got"] is None:
            assert any(not readings(wall, row["zone"]) for wall in days), "null only where the clock was skipped"
            continue
        assert row["got"] in every
        # Eleven hours on: with a changed offset the other side's reading may be as near; both are half a day away.
        if abs(nearest - row["at"]) < timedelta(hours=11):
            assert row["got"] == nearest


@given(st.lists(st.tuples(instants, zones, clocks), min_size=1, max_size=20))
@settings(deadline=None)
def test_first_reading_is_the_first_from_the_floor_on(rows: list[tuple[datetime, str, int]]) -> None:
    frame = pl.LazyFrame(rows, schema={"at": INSTANT, "zone": pl.String, "clock": pl.Int32}, orient="row")
    out = with_first_reading(
        frame, "got", clock=pl.col("clock"), floor=pl.col("at"), zone=pl.col("zone"), zones=ZONES
    ).collect()
    for row in out.to_dicts():
        shown = row["at"].astimezone(ZoneInfo(row["zone"])).replace(tzinfo=None)
        days = [clock_wall(shown + timedelta(days=offset), row["clock"]) for offset in (0, 1, 2)]
        later = [at for wall in days for at in readings(wall, row["zone"]) if at >= row["at"]]
        if row["got"] is None:
            assert any(not readings(wall, row["zone"]) for wall in days[:2]), "null only where the clock was skipped"
        else:
            assert row["got"] == min(later)


@given(st.integers(-(2**31), 2**31 - 1) | st.integers(-10, 2500))
def test_only_clock_times_have_minutes(clock: int) -> None:
    (got,) = (
        pl.DataFrame({"clock": [clock]}, schema={"clock": pl.Int32}).select(minutes_of_clock(pl.col("clock"))).row(0)
    )
    is_clock = 0 <= clock <= 2400 and clock % 100 < 60
    assert got == ((clock // 100) * 60 + clock % 100 if is_clock else None)


@given(st.integers(-1, 10_001), st.integers(-1, 14), st.integers(-1, 33))
def test_only_calendar_days_have_a_midnight(year: int, month: int, day: int) -> None:
    frame = pl.DataFrame({"y": [year], "m": [month], "d": [day]}, schema=dict.fromkeys("ymd", pl.Int32))
    (got,) = frame.select(calendar_day(pl.col("y"), pl.col("m"), pl.col("d"))).row(0)
    try:
        expected = datetime(year, month, day)
    except ValueError:
        expected = None
    assert got == expected


def test_zones_that_cannot_be_converted_are_left_out() -> None:
    names = ["Pacific/Honolulu", None, "America/Nowhere", "", "America/New_York", "Pacific/Honolulu"]
    assert convertible_zones(names) == ("America/New_York", "Pacific/Honolulu")
