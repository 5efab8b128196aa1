"""Laws of a snapshot that one session holds and others join: tables read one after the other are of one moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest

from common.errors import IntervalError, SourceRefused, UsageError
from dags.penstock_dags import steps
from dags.penstock_dags.snapshot_steps import LOOKS, STARVED_S, hold, hold_while, may_read
from ingestion.databases.dialect import SnapshotSharing
from ingestion.shared_snapshot import SEEN, SharedSnapshot, follows, moment_of
from lake.batches import Receipt
from lake.paths import TableId
from penstock.embedded import EmbeddedServices
from penstock.held_snapshot import HeldSnapshot, holding
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.shops import DAY, Shop

TABLES = ("a", "b")
PLENTY = 5_000


@dataclass
class Bank:
    """Two tables of accounts between which money moves: their sum is always the same."""

    database: DatabaseSource
    shop: Shop

    def transfer(self, cents: int = 7) -> None:
        """Money goes from an account of one table to one of the other."""
        self.database.run(
            f"WITH gone AS (UPDATE {{s}}.a SET cents = cents - {cents} WHERE id = 1) "
            f"UPDATE {{s}}.b SET cents = cents + {cents} WHERE id = 1"
        )

    def ingest(self, table: str, held: HeldSnapshot | None = None) -> Receipt:
        """One table, as a task of its own does it: another process would have nothing more."""
        pipeline = self.shop.pipeline()
        passed = HeldSnapshot.from_dict(held.to_dict()) if held else None
        with pipeline.reading("shop", DAY, held=passed) as reader:
            return pipeline.ingest("shop", table, DAY, reader=reader)

    def in_lake(self) -> dict[str, int]:
        """The money in each table of the lake."""
        return {table: replace(self.shop, table=table).rows("sum(cents)::BIGINT")[0][0] for table in TABLES}

    def in_source(self) -> dict[str, int]:
        """The money in each table of the source."""
        schema = self.database.schema
        return {
            table: int(self.database.admin.execute(f"SELECT sum(cents) FROM {schema}.{table}").fetchall()[0][0])
            for table in TABLES
        }


@pytest.fixture
def bank(database: DatabaseSource) -> Bank:
    """One table is large enough to be read in chunks by several connections."""
    for table, rows in (("a", PLENTY), ("b", 10)):
        database.run(f"CREATE TABLE {{s}}.{table} AS SELECT g AS id, 100 AS cents FROM generate_series(1, {rows}) AS g")
        database.admin.execute(f"ANALYZE {database.schema}.{table}")
    chunks = f"    chunk_rows: {PLENTY // 5}\n"
    tables = [database.table("id: int32, cents: int32", table=table, more=chunks) for table in TABLES]
    text = "source: shop\nkind: postgresql\nconnection: shop\nowner: me@example.org\ntables:\n" + "".join(tables)
    shop = Shop(database.folder, database.url, "a")
    for table in TABLES:
        replace(shop, table=table).declare(text)
    return Bank(database, shop)


def sessions(database: DatabaseSource) -> list[tuple[Any, ...]]:
    """Sessions of the reader that are in a transaction."""
    return database.admin.execute(
        "SELECT pid, state FROM pg_stat_activity WHERE application_name = 'penstock_shop' AND xact_start IS NOT NULL"
    ).fetchall()


# -- reading -----------------------------------------------------------------------------------------------------------


def test_tables_that_are_read_one_after_the_other_in_a_held_snapshot_are_of_one_moment(bank: Bank) -> None:
    bank.transfer()
    then = bank.in_source()
    with holding(bank.shop.pipeline(), "shop", DAY) as holder:
        receipts = []
        for table in TABLES:
            bank.transfer()
            receipts.append(bank.ingest(table, holder.held))
    assert bank.in_lake() == then
    assert {receipt.source_state["snapshot"] for receipt in receipts} == {holder.held.snapshot.moment}
    assert [receipt.warnings for receipt in receipts] == [(), ()]
    assert bank.in_source() != then
    assert sessions(bank.database) == []


def test_tables_that_are_read_one_after_the_other_in_snapshots_of_their_own_are_not(bank: Bank) -> None:
    receipts = []
    for table in TABLES:
        bank.transfer()
        receipts.append(bank.ingest(table))
    assert sum(bank.in_lake().values()) == sum(bank.in_source().values()) + 7
    assert len({receipt.source_state["snapshot"] for receipt in receipts}) == 2


def test_every_reader_of_chunks_joins_the_held_snapshot(bank: Bank) -> None:
    pipeline = bank.shop.pipeline()
    with holding(pipeline, "shop", DAY) as holder:
        bank.transfer()
        with pipeline.reading("shop", DAY, held=holder.held) as reader:
            session = reader._connected  # type: ignore[attr-defined]
            assert isinstance(session, SnapshotSharing)
            for each in session.readers(3):
                bank.transfer()
                assert each.rows(f"SELECT {SEEN} AS a") == [(holder.held.snapshot.moment,)]
            receipt = pipeline.ingest("shop", "a", DAY, reader=reader)
    assert receipt.published == PLENTY
    files = [file for file in pipeline.lake.live(TableId("raw", "shop__a")) if file.rows]
    assert len(files) > 1
    assert bank.in_lake() | {"b": 0} == {"a": 100 * PLENTY, "b": 0}


@pytest.mark.parametrize("why", ["it ended", "another one has its name", "another database has it"])
def test_a_snapshot_that_is_gone_is_replaced_by_one_of_the_tables_own_with_a_warning(
    bank: Bank, services: EmbeddedServices, why: str
) -> None:
    with ExitStack() as others:
        with holding(bank.shop.pipeline(), "shop", DAY) as holder:
            held = holder.held
        if why == "another one has its name":
            name = others.enter_context(holding(bank.shop.pipeline(), "shop", DAY)).held.snapshot.name
            held = replace(held, snapshot=replace(held.snapshot, name=name, moment="3:3:"))
        elif why == "another database has it":
            url = services.postgres_url.rpartition("/")[0] + "/template1"
            other = others.enter_context(psycopg.connect(url))
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            name = other.execute("SELECT pg_export_snapshot()").fetchall()[0][0]
            held = replace(held, snapshot=replace(held.snapshot, name=name))
        bank.transfer()
        receipt = bank.ingest("a", held)
    (warning,) = receipt.warnings
    assert f"snapshot {held.snapshot.name}" in warning
    assert "is gone: read in one of its own" in warning
    assert bank.in_lake() | {"b": 0} == bank.in_source() | {"b": 0}
    assert receipt.source_state["snapshot"] != held.snapshot.moment
    assert sessions(bank.database) == []


def test_unchanged_rows_stay_unchanged_whatever_snapshot_they_are_read_in(bank: Bank) -> None:
    first = bank.ingest("a")
    with holding(bank.shop.pipeline(), "shop", DAY) as holder:
        bank.transfer(0)
        again = bank.ingest("a", holder.held)
    assert (again.state, again.batch_id, again.attempt) == ("unchanged", first.batch_id, first.attempt)


def test_what_another_run_published_since_is_not_replaced_by_an_older_state(bank: Bank) -> None:
    with holding(bank.shop.pipeline(), "shop", DAY) as holder:
        bank.transfer()
        newer = bank.ingest("a")
        receipt = bank.ingest("a", holder.held)
    assert (receipt.state, receipt.attempt) == ("unchanged", newer.attempt)
    assert bank.in_lake() | {"b": 0} == bank.in_source() | {"b": 0}


def test_where_the_lake_has_forgotten_what_it_held_a_snapshot_is_not_joined(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    bank.ingest("a")
    pipeline = bank.shop.pipeline()
    with holding(pipeline, "shop", DAY) as holder:
        forgotten = replace(holder.held, lake={**holder.held.lake, "raw.shop__a": 1})
        unknown = replace(holder.held, lake={"raw.shop__b": None})
        bank.transfer()
        for held in (forgotten, unknown):
            caplog.clear()
            with pipeline.reading("shop", DAY, held=held) as reader:
                assert reader.moment != holder.held.snapshot.moment  # type: ignore[attr-defined]
            assert "the lake has forgotten" in caplog.text


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("00000003-0000001B-1'; DROP TABLE a; --", "1:2:"),
        ("00000003-0000001B-1\n", "1:2:"),
        ("00000003-0000001b-1", "1:2:"),
        ("", "1:2:"),
        ("00000003-0000001B-1", "1:2"),
        ("00000003-0000001B-1", "1:2:' OR 1"),
    ],
)
def test_what_is_no_snapshot_is_refused_before_anything_is_asked(bank: Bank, name: str, moment: str) -> None:
    with pytest.raises(UsageError, match="is no snapshot of PostgreSQL"):
        HeldSnapshot.from_dict({"name": name, "moment": moment, "lake": {}})
    assert sessions(bank.database) == []


def test_a_held_snapshot_comes_through_json_as_it_was_and_says_what_the_lake_held() -> None:
    held = HeldSnapshot(SharedSnapshot("00000003-0000001B-1", "1:9:3,5"), {"raw.shop__a": 2**62, "raw.shop__b": None})
    assert HeldSnapshot.from_dict(held.to_dict()) == held
    wrong: list[Any] = [None, [], {"raw.shop__a": "1"}]
    for lake in wrong:
        with pytest.raises(UsageError, match="does not say what the lake held"):
            HeldSnapshot.from_dict({**held.to_dict(), "lake": lake})


def test_a_snapshot_of_thousands_of_running_transactions_has_a_short_name_of_its_own() -> None:
    many = "1:9999:" + ",".join(map(str, range(2, 5000)))
    other = many.replace(",77,", ",78,")
    assert moment_of("1:9:3,5") == "1:9:3,5"
    assert len(moment_of(many)) < 40
    assert moment_of(many) != moment_of(other)
    assert SharedSnapshot("00000003-0000001B-1", moment_of(many)).moment == moment_of(many)


@pytest.mark.parametrize(
    ("now", "before", "is_later"),
    [
        ("5:9:5,7", "5:9:5,7", True),
        ("5:9:5", "5:9:5,7", True),
        ("5:9:5,7", "5:9:5", False),
        ("5:8:5", "5:9:5", False),
        ("5:12:5,10", "5:9:5", True),
        ("9:9:", "5:9:5,7", True),
        ("5:9:#" + "0" * 20, "5:9:#" + "0" * 20, True),
        ("5:12:#" + "0" * 20, "5:9:5", False),
        ("9:12:#" + "0" * 20, "5:9:5", True),
        ("5:9:?", "5:9:?", False),
        ("9:9:?", "5:9:?", True),
        ("5:9:5", "", False),
    ],
)
def test_a_snapshot_follows_another_where_all_that_had_ended_then_has_ended_now(
    now: str, before: str, is_later: bool
) -> None:
    assert follows(now, before) is is_later


# -- holding -----------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What a holder is told of its run, and what it tells: states come one after the other, and time passes."""

    states: Iterator[dict[str, str | None]]
    between: Callable[[], None] = lambda: None
    now_s: float = 0.0
    told: list[dict[str, Any]] | None = None

    def hold(self, bank: Bank, *, limit_s: float = 3600.0) -> str:
        """Hold; why it ended."""
        self.told = []
        return hold_while(
            bank.shop.pipeline(),
            "shop",
            DAY,
            limit_s=limit_s,
            tell=self.told.append,
            states=lambda: next(self.states),
            sleep=self._sleep,
            clock=lambda: self.now_s,
        )

    def _sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        self.between()


def for_ever(**states: str | None) -> Iterator[dict[str, str | None]]:
    while True:
        yield states


def test_a_snapshot_is_held_until_no_table_is_left_to_be_read_or_tried_again(bank: Bank) -> None:
    seen: list[int] = []
    states: list[dict[str, str | None]] = [
        {"ingest_0": None, "ingest_1": None},
        {"ingest_0": "running", "ingest_1": "queued"},
        {"ingest_0": "up_for_retry", "ingest_1": "success"},
        {"ingest_0": "failed", "ingest_1": "success"},
    ]
    run = Run(iter(states), between=lambda: seen.append(len(sessions(bank.database))))
    assert run.hold(bank) == ""
    assert run.told is not None
    assert [HeldSnapshot.from_dict(each).lake for each in run.told] == [{"raw.shop__a": None, "raw.shop__b": None}]
    assert seen == [1, 1]
    assert sessions(bank.database) == []


def test_nothing_is_held_for_a_run_whose_tables_are_read(bank: Bank) -> None:
    run = Run(for_ever(ingest_0="success", ingest_1="upstream_failed", ingest_2="skipped"))
    assert run.hold(bank) == ""
    assert run.told == []


def test_a_snapshot_is_let_go_at_its_limit_and_where_nothing_moves_and_when_its_session_is_lost(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(for_ever(ingest_0="running"))
    assert "PENSTOCK_SNAPSHOT_HOLD_S" in run.hold(bank, limit_s=900.0)
    assert 900.0 <= run.now_s <= 910.0
    starved = Run(for_ever(ingest_0="queued", ingest_1=None))
    assert "no table begins" in starved.hold(bank)
    assert STARVED_S <= starved.now_s <= STARVED_S + 10.0

    def end_session() -> None:
        ((pid, _),) = sessions(bank.database)
        bank.database.admin.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,))

    lost = Run(for_ever(ingest_0="running"), between=end_session)
    assert "ended its session" in lost.hold(bank)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len([warning for warning in warnings if "is let go after" in warning]) == 3
    assert sessions(bank.database) == []


def test_a_source_that_lets_nobody_in_or_a_day_that_is_not_over_is_told_by_an_error(bank: Bank) -> None:
    pipeline = bank.shop.pipeline()
    with pytest.raises(IntervalError), holding(pipeline, "shop", "2026-01-05"):
        pass
    with pytest.raises(SourceRefused), holding(locked_out(bank).pipeline(), "shop", DAY):
        pass


def locked_out(bank: Bank) -> Shop:
    """The shop with a login that the source does not know."""
    return replace(bank.shop, url=bank.shop.url.replace("//", "//nobody_", 1))


def test_a_holder_that_the_source_does_not_let_in_ends_in_success_with_a_warning(
    bank: Bank, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pipeline of a task needs Airflow's context of the task, and is nothing else otherwise.
    monkeypatch.setattr(steps, "pipeline_for", lambda _connections: locked_out(bank).pipeline())
    told: list[Any] = []
    hold("shop", DAY, connection="shop", limit_s=60.0, tell=told.append, states=lambda: {"ingest_0": None})
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("no snapshot of shop is held, each table is read in one of its own: PostgreSQL at ")
    assert told == []


def test_a_table_that_finds_a_snapshot_gone_and_the_source_too_says_what_is_wrong_with_the_source(bank: Bank) -> None:
    with holding(bank.shop.pipeline(), "shop", DAY) as holder, pytest.raises(SourceRefused):
        replace(bank, shop=locked_out(bank)).ingest("a", holder.held)


# -- waiting for it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "is_told", "passes"),
    [
        ("running", True, True),
        ("running", False, False),
        ("queued", False, False),
        ("queued", True, False),
        ("scheduled", False, False),
        (None, True, False),
        ("up_for_retry", True, False),
        ("success", True, True),
        ("success", False, True),
        ("skipped", False, True),
        ("failed", False, True),
    ],
)
def test_tables_begin_when_a_snapshot_is_told_or_will_not_be(state: str | None, is_told: bool, passes: bool) -> None:
    slept: list[float] = []
    assert may_read(lambda: (state, is_told), sleep=slept.append) is passes
    assert len(slept) == (0 if passes or state in {None, "scheduled"} else LOOKS)


def test_tables_begin_as_soon_as_the_snapshot_is_told() -> None:
    answers = iter([("queued", False), ("running", False), ("running", True)])
    slept: list[float] = []
    assert may_read(lambda: next(answers), sleep=slept.append)
    assert len(slept) == 2
