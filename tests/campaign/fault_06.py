"""Fault 6: clocks that are wrong by an hour, or are set back meanwhile; nights with 23 or 25 hours, leap days.

``calendar``: rows at every half hour and a microsecond around each midnight of days that are no usual ones; each must
lie in exactly the partition of its local day. ``skew``: the same interval is ingested twice by processes whose wall
clock is shifted and stepped on the way, while the source changed in between; what the source says last must win.
``lease``: a builder holds the warehouse while a process with another clock asks for it; only one may write.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from common.errors import CommitConflict
from common.settings import process_environment
from lake.sql import literal
from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.doubles.clock import SetClock, why_no_clock
from tests.integration.ingestion.conftest import DatabaseSource, database_source
from tests.integration.ingestion.shops import Shop, database_shop
from warehouse.lease import lease

PARTS = ("calendar", "skew", "lease")

DAYS = (
    ("America/New_York", date(2013, 3, 10)),
    ("America/New_York", date(2013, 11, 3)),
    ("Europe/Berlin", date(2024, 3, 31)),
    ("Europe/Berlin", date(2024, 10, 27)),
    ("Australia/Lord_Howe", date(2024, 4, 7)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("Asia/Kathmandu", date(2024, 2, 29)),
    ("UTC", date(2024, 2, 29)),
    ("Pacific/Chatham", date(2024, 12, 31)),
    ("Africa/Cairo", date(2024, 4, 26)),
)
"""Nights of 23, 25 and 23.5 hours, midnights that do not exist, leap days, an end of a year."""

_POINTS = ("ingest.extract.after_write", "lake.stage.before_receipt", "lake.publish.before_commit")
_REPOSITORY = Path(__file__).parents[2]


def trials(campaign: Campaign) -> Iterator[Trial]:
    """Days, clocks, and who may build."""
    why = why_no_clock()
    if why and campaign.part != "calendar":
        yield Trial("6", seed=campaign.seed, stage=campaign.part, extra={"skipped": why})
        return
    number = {"calendar": 30, "skew": 10, "lease": 10}[campaign.part]
    for seed in campaign.seeds(whole=number, quick=2 if campaign.part == "calendar" else 1):
        if campaign.part == "lease":
            yield _lease(campaign, seed)
            continue
        folder = campaign.folder / str(seed)
        folder.mkdir()
        with database_source(campaign.services, folder, f"clock_{seed}") as source:
            yield _calendar(campaign, seed, source) if campaign.part == "calendar" else _skew(campaign, seed, source)


def _declared(source: DatabaseSource, zone: str) -> Shop:
    shop = database_shop(source)
    source.run("CREATE TABLE {s}.t (id int PRIMARY KEY, at timestamptz, v text)")
    source.spec("id: int32, at: timestamptz, v: string", cursor="at")
    text = (source.folder / "shop.yml").read_text()
    shop.declare(text.replace("America/New_York", zone))
    return shop


def _calendar(campaign: Campaign, seed: int, source: DatabaseSource) -> Trial:
    drawn = campaign.random(seed)
    name, middle = DAYS[seed % len(DAYS)]
    zone = ZoneInfo(name)
    shop = _declared(source, name)
    keys = [(middle + timedelta(days=offset)).isoformat() for offset in (-1, 0, 1)]
    first = datetime.combine(middle - timedelta(days=1), datetime.min.time(), zone).astimezone(UTC)
    moments = [first + timedelta(minutes=30 * number) for number in range(-4, 152)]
    around = [
        datetime.combine(middle + timedelta(days=offset), datetime.min.time(), zone).astimezone(UTC)
        for offset in (-1, 0, 1, 2)
    ]
    moments += [moment + timedelta(microseconds=by) for moment in around for by in (-1, 1)]
    moments += [first + timedelta(microseconds=drawn.randrange(3 * 86_400_000_000)) for _ in range(100)]
    values = ", ".join(f"({number}, {literal(moment.isoformat())}, 'x')" for number, moment in enumerate(moments))
    source.run(f"INSERT INTO {{s}}.t VALUES {values}")
    expected = {
        number: day
        for number, moment in enumerate(moments)
        if (day := moment.astimezone(zone).date().isoformat()) in keys
    }
    drawn.shuffle(keys)
    for key in keys:
        shop.ingest(key)
    rows = shop.rows("id", "ds::VARCHAR")
    found = dict(rows)
    return Trial(
        "6",
        seed=seed,
        stage="extract",
        point=f"{middle} {name}",
        action="calendar",
        rows_expected=len(expected),
        rows_lost=len(expected.keys() - found.keys()),
        rows_duplicated=len(rows) - len(found),
        wrong_values=sum(expected.get(number) != day for number, day in found.items()),
    )


def _skew(campaign: Campaign, seed: int, source: DatabaseSource) -> Trial:
    drawn = campaign.random(seed)
    shop = _declared(source, "UTC")
    key = "2013-01-02"
    source.run(
        "INSERT INTO {s}.t SELECT g, TIMESTAMPTZ '2013-01-02 00:00:00+00' + g * INTERVAL '5 minutes', 'first' "
        "FROM generate_series(0, 287) AS g"
    )
    clock = SetClock(source.folder / "clock")
    began = time.monotonic()
    codes = []
    for turn in ("first", "last"):
        if turn == "last":
            source.run("UPDATE {s}.t SET v = 'last' WHERE id % 2 = 0")
        clock.set(timedelta(seconds=drawn.uniform(-3600, 3600)))
        step = f"{drawn.choice(_POINTS)}:1:clock={drawn.choice([-3600, 3600])}"
        codes.append(_command(shop, clock, step, "ingest", "shop", "--day", key))
    rows = shop.rows("id", "v")
    found = dict(rows)
    return Trial(
        "6",
        seed=seed,
        stage="commit",
        point="any time",
        action="clock skew and step",
        rows_expected=288,
        rows_lost=288 - len(found),
        rows_duplicated=len(rows) - len(found),
        wrong_values=sum(v != ("last" if number % 2 == 0 else "first") for number, v in found.items()),
        error="".join(codes),
        extra={"commands_s": round(time.monotonic() - began, 2)},
    )


def _command(shop: Shop, clock: SetClock, fault: str, *arguments: str) -> str:
    """Run ``penstock`` in a process that sees the set clock; what it said if it failed."""
    environment = {
        **process_environment(),
        **clock.environment,
        "PENSTOCK_HOME": str(shop.home),
        "PENSTOCK_SOURCES": str(shop.folder / "sources"),
        "PENSTOCK_SUITES": str(shop.folder / "suites"),
        "PENSTOCK_CONNECTIONS__SHOP": shop.url,
        "PENSTOCK_FAULT_POINT": fault,
        "PYTHONPATH": str(_REPOSITORY),
    }
    command = [sys.executable, "-m", "penstock", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr[-400:]}"


_ASK = """
import sys
from pathlib import Path
from common.errors import LeaseHeld
from warehouse.lease import lease
try:
    with lease(Path(sys.argv[1])) as held, held.fenced():
        print("held")
except LeaseHeld:
    print("refused")
"""


def _lease(campaign: Campaign, seed: int) -> Trial:
    warehouse = campaign.folder / f"warehouse-{seed}"
    clock = SetClock(campaign.folder / f"clock-{seed}")
    clock.set(timedelta(seconds=campaign.random(seed).uniform(-3600, 3600)))
    environment = {**process_environment(), **clock.environment, "PYTHONPATH": str(_REPOSITORY)}
    with lease(warehouse) as held:
        done = subprocess.run(
            [sys.executable, "-c", _ASK, str(warehouse)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        taken = done.stdout.strip() == "held"
        try:
            with held.fenced():
                both = taken
        except CommitConflict:
            both = False
    return Trial(
        "6",
        seed=seed,
        stage="swap",
        action="clock skew",
        error=done.stderr[-300:] or ("two could write" if both else ""),
        extra={"lease_overlaps": int(both), "taken_over": int(taken)},
    )
