"""Fault 2: the connection to a database drops, is reset, stalls or comes in slices while its rows are being changed.

A table is read through a proxy that breaks at a byte that is drawn; another thread updates, inserts and deletes rows
meanwhile. Then nothing is staged, and a retry holds exactly what the source held at its own snapshot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import SourceUnavailable
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from lake.lake import Lake
from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.doubles.tcp import Fault, tcp_proxy
from tests.integration.ingestion.conftest import database_source, new_lake
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.test_postgres_network import ROWS, changing_rows, differences
from tests.mariadb_server import MISSING, READER, running_mariadb, server_program

PARTS = ("postgresql", "mariadb")
FAULTS: tuple[Fault, ...] = ("drop", "reset", "stall", "slice")
TIMEOUT_S = 4.0
_MOST_BYTES = {"postgresql": 1_500_000, "mariadb": 60_000}
"""Less than one of three readers gets: the draw reaches everything from the greeting to the last row."""


@dataclass(frozen=True)
class _Database:
    """One database whose rows change.

    Attributes:
        url: as the reader has it.
        stage: reads the table from a URL into a lake that gives up soon.
        proven: reads it undisturbed; how many rows it should have and has, and how many columns or rows differ.
    """

    url: str
    lake: Lake
    stage: Callable[[str, int], StagedBatch]
    proven: Callable[[], tuple[int, int, int]]


def trials(campaign: Campaign) -> Iterator[Trial]:
    """Both databases, every fault."""
    if campaign.part == "mariadb" and server_program() is None:
        yield Trial("2", seed=campaign.seed, stage="extract", point="mariadb", extra={"skipped": MISSING})
        return
    with _postgresql(campaign) if campaign.part == "postgresql" else _mariadb(campaign) as database:
        for seed in campaign.seeds(whole=20, quick=4):
            yield _trial(campaign, seed, database)


def _trial(campaign: Campaign, seed: int, database: _Database) -> Trial:
    drawn = campaign.random(seed)
    fault = FAULTS[seed % len(FAULTS)]
    readers, times = drawn.choice([1, 3]), drawn.choice([1, 1_000])
    error, seconds = "", 0.0
    with tcp_proxy(database.url, fault, _MOST_BYTES[campaign.part], seed=seed, times=times) as between:
        began = time.monotonic()
        try:
            batch = database.stage(between.url, readers)
        except SourceUnavailable:
            seconds = time.monotonic() - began
        except Exception as told:  # noqa: BLE001 - whatever it is, it is what the trial is about
            error = f"{type(told).__name__}: {told}"[:400]
        else:
            if between.broken and fault != "slice":
                error = "it was read although its connection broke" if batch.rows_staged != ROWS else ""
            database.lake.discard(batch)
        broken = between.broken
    left = list(Path(database.lake.settings.lake_uri).rglob("*.parquet"))
    left += [path for path in (database.lake.settings.home / "extracts").rglob("*") if path.is_file()]
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock-reader")]
    if threads:
        error = error or f"still running: {threads}"
    orphan_bytes = sum(path.stat().st_size for path in left)
    for path in left:
        path.unlink()
    began = time.monotonic()
    expected, found, differing = database.proven()
    return Trial(
        "2",
        seed=seed,
        stage="extract",
        point=campaign.part,
        action=fault,
        rows_expected=expected,
        rows_lost=max(0, expected - found),
        rows_duplicated=max(0, found - expected),
        wrong_values=differing,
        recovery_s=round(time.monotonic() - began, 2),
        orphan_bytes=orphan_bytes,
        error=error,
        extra={
            "broken": broken,
            "readers": readers,
            "given_up_after_s": round(seconds, 2),
            "timeout_s": TIMEOUT_S,
        },
    )


@contextmanager
def _postgresql(campaign: Campaign) -> Iterator[_Database]:
    services = campaign.services
    with (
        database_source(services, campaign.folder, f"fault_{campaign.seed}") as source,
        changing_rows(source, services.postgres_url) as spec,
    ):

        def stage(url: str, readers: int) -> StagedBatch:
            lake = new_lake(source.lake.settings.home, parallel_reads=readers, statement_timeout_s=TIMEOUT_S)
            return source.stage(spec, url=url, lake=lake)

        def proven() -> tuple[int, int, int]:
            batch, wrong = differences(source, spec, source.url)
            source.lake.discard(batch)
            return ROWS, batch.rows_in, wrong

        yield _Database(source.url, source.lake, stage, proven)


@contextmanager
def _mariadb(campaign: Campaign) -> Iterator[_Database]:
    with running_mariadb() as server:
        server.run(f"CREATE DATABASE fault; GRANT SELECT ON fault.* TO {READER}@'%';")
        lake = new_lake(campaign.folder / "state", statement_timeout_s=TIMEOUT_S)
        source = MysqlSource(server, "fault", lake, campaign.folder, most_rows=6000)
        source.run(
            "CREATE TABLE t (id int PRIMARY KEY, v text);"
            f"INSERT INTO t SELECT seq, MD5(CONCAT(seq)) FROM seq_1_to_{ROWS};"
        )
        spec = source.spec("id: int32; v: string")
        with _changing(source):
            yield _Database(
                source.url, lake, lambda url, _readers: source.stage(spec, url=url), lambda: _read(source, spec)
            )


@contextmanager
def _changing(source: MysqlSource) -> Iterator[None]:
    """Pairs of rows change together in one transaction: a snapshot that is one holds equal pairs only."""
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            number += 1
            first = number % (ROWS // 2) + 1
            source.run(f"BEGIN; UPDATE t SET v = 'pair {number}' WHERE id IN ({first}, {first + ROWS // 2}); COMMIT;")
            over.wait(0.05)

    source.run(f"UPDATE t SET v = CONCAT('pair ', (id - 1) % {ROWS // 2})")
    writer = threading.Thread(target=change)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def _read(source: MysqlSource, spec: SourceSpec) -> tuple[int, int, int]:
    batch = source.stage(spec)
    found = dict(source.rows(batch, "id", "v"))
    source.lake.discard(batch)
    pairs = ROWS // 2
    torn = sum(found.get(first) != found.get(first + pairs) for first in range(1, pairs + 1))
    return ROWS, len(found), torn
