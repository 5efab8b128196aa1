"""Laws of rows that move, vanish, come late or change, with a real database on the other side."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import IntervalError, UsageError, VolumeRefused
from ingestion.databases.reader import DatabaseReader
from lake.paths import TableId
from penstock import ledger
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.row_versions import D1, D2, D3, RECONCILE, Versions
from tests.integration.ingestion.shops import database_shop


@pytest.fixture
def versions(database: DatabaseSource) -> Versions:
    """A table of three columns."""
    return Versions(database, database_shop(database))


# -- rows that move ------------------------------------------------------------------------------------------------


def test_a_changed_row_leaves_the_day_it_was_in_and_stands_once(versions: Versions) -> None:
    versions.declare("", on_update="moves")
    versions.make((1, 1, "a"), (2, 1, "b"), (3, 2, "c"))
    versions.ingest(D1)
    versions.ingest(D2)
    versions.put(1, 3, "a, changed")
    receipt = versions.ingest(D3)
    assert versions.shop.rows("ds::VARCHAR", "id", "note") == [
        (D1, 2, "b"), (D2, 3, "c"), (D3, 1, "a, changed"),
    ]  # fmt: skip
    assert receipt.touched == (D1,)
    first, second, _ = versions.shop.pipeline().lake.receipts(versions.shop.raw)
    assert (first.rows_in, first.published, first.deduplicated) == (2, 1, 1)
    assert first.because == {"a newer version came in another interval": 1}
    assert second.run_id != first.run_id, "a day without an older version is not rewritten"
    versions.assert_balanced()
    (verified,) = ledger.verify(versions.shop.pipeline())
    assert verified["source_rows"] == verified["ledger_rows"] == 3
    assert verified["columns_that_differ"] == []


def test_a_day_read_again_keeps_rows_that_moved_on_to_a_day_that_is_not_loaded(versions: Versions) -> None:
    versions.declare("", on_update="moves")
    versions.make((1, 1, "a"), (2, 1, "b"))
    versions.ingest(D1)
    versions.put(1, 2, "a, changed")
    again = versions.ingest(D1)
    assert versions.shop.rows("id", "note") == [(1, "a"), (2, "b")], "rows lost 0"
    assert (again.rows_in, again.published, again.carried) == (2, 2, 1)
    before = versions.shop.pipeline().lake.snapshot_id(versions.shop.raw)
    assert versions.ingest(D1).state == "unchanged"
    assert versions.shop.pipeline().lake.snapshot_id(versions.shop.raw) == before
    versions.ingest(D2)
    assert versions.shop.rows("ds::VARCHAR", "id", "note") == [(D1, 2, "b"), (D2, 1, "a, changed")]
    versions.assert_balanced()


# -- rows that vanish ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_update", ["stays", "moves"])
def test_a_row_that_vanished_is_marked_and_unmarked_when_it_comes_back(versions: Versions, on_update: str) -> None:
    versions.declare(RECONCILE, on_update=on_update)
    versions.make(*((n, 1 + n % 2, "x") for n in range(1, 7)))
    assert versions.run().reconciliations[0].marked == 0
    versions.database.run("DELETE FROM {s}.t WHERE id IN (2, 3)")
    versions.put(9, 3, "in a day that is not loaded")
    found = versions.reconcile()
    assert (found.rows_compared, found.marked, found.missing) == (6, 2, {})
    assert [(id_, marked) for _, id_, _, marked in versions.rows()] == [
        (2, True), (4, False), (6, False), (1, False), (3, True), (5, False),
    ]  # fmt: skip
    assert [receipt.deleted for receipt in versions.shop.pipeline().lake.receipts(versions.shop.raw)] == [1, 1]
    versions.assert_balanced()
    assert versions.reconcile().marked == 0, "who is marked is not marked again"
    assert ledger.verify(versions.shop.pipeline())[0]["ledger_rows"] == 4
    versions.put(2, 1, "x")
    versions.run()
    assert [id_ for _, id_, _, marked in versions.rows() if marked] == [3]
    versions.assert_balanced()


def test_only_the_partitions_with_vanished_rows_are_rewritten_and_only_buckets_that_differ_are_pulled(
    versions: Versions,
) -> None:
    versions.declare(RECONCILE)
    versions.database.run(
        "CREATE TABLE {s}.t AS SELECT n AS id, '2013-01-01 17:00+00'::timestamptz + "
        "(n % 2) * interval '1 day' AS at, 'x' AS note FROM generate_series(1, 40000) AS n"
    )
    versions.run()
    before = versions.shop.pipeline().lake.live_attempts(versions.shop.raw)
    versions.database.run("DELETE FROM {s}.t WHERE id IN (2, 20000)")
    found = versions.reconcile()
    after = versions.shop.pipeline().lake.live_attempts(versions.shop.raw)
    assert (found.marked, found.buckets, found.buckets_pulled) == (2, 64, 2)
    assert {key for key in after if after[key] != before[key]} == {D1}


def test_too_many_vanished_rows_are_refused_unless_somebody_says_that_they_may(versions: Versions) -> None:
    versions.declare(RECONCILE)
    versions.make(*((n, 1, "x") for n in range(1, 11)))
    versions.run()
    versions.database.run("DELETE FROM {s}.t WHERE id > 5")
    with pytest.raises(VolumeRefused, match="5 of 10 live rows are gone from the source, more than 40%"):
        versions.reconcile()
    assert not any(marked for *_, marked in versions.rows())
    (account,) = (versions.shop.home / "lake" / "ops" / "refusals" / str(versions.shop.raw)).iterdir()
    assert json.loads(account.read_text())["deletes"] == {"vanished": 5, "rows_live": 10, "max_share": 0.4}
    accepted = versions.reconcile(accept=[str(versions.shop.raw)])
    assert accepted.marked == 5
    assert accepted.warnings == ("deletions accepted by --accept-volume: 5 of 10 live rows are gone from the source",)


def test_a_whole_table_keeps_vanished_rows_marked_in_the_same_commit(versions: Versions) -> None:
    versions.declare(RECONCILE, cursor=None)
    versions.make(*((n, 1, "x") for n in range(1, 6)))
    versions.ingest(D1)
    versions.database.run("DELETE FROM {s}.t WHERE id = 1")
    receipt = versions.ingest(D1)
    marked = "source_deleted_at IS NOT NULL"
    assert versions.shop.rows("id", marked) == [(1, True), (2, False), (3, False), (4, False), (5, False)]
    assert (receipt.rows_in, receipt.published, receipt.carried, receipt.deleted) == (5, 5, 1, 1)
    assert versions.ingest(D1).state == "unchanged"
    versions.database.run("DELETE FROM {s}.t WHERE id < 4")
    with pytest.raises(VolumeRefused, match="2 of 4 live rows did not come again"):
        versions.ingest(D1)
    assert sum(found for _, found in versions.shop.rows("id", marked)) == 1
    versions.put(1, 1, "back")
    assert versions.ingest(D1, accept=[str(versions.shop.raw)]).deleted == 2
    assert versions.shop.rows("id", marked) == [(1, False), (2, True), (3, True), (4, False), (5, False)]
    versions.assert_balanced()


def test_a_table_whose_spec_ignores_deletions_is_not_compared(versions: Versions) -> None:
    versions.declare("")
    versions.make((1, 1, "a"))
    with pytest.raises(UsageError, match="ignores deletions"):
        versions.reconcile()


# -- rows that come late -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", ["count", "reopen"])
def test_rows_beyond_the_late_window_are_counted_and_taken_in_by_policy(
    versions: Versions, figures: Callable[..., None], beyond: str
) -> None:
    """Fault 8: late rows beyond the window, accounted 2 of 2; an absurd cursor is in no interval and is told."""
    versions.declare(f"    late: {{beyond: {beyond}}}\n")
    versions.make((1, 1, "a"), (2, 2, "b"))
    assert versions.run().warnings == []
    versions.put(3, 1, "late")
    versions.put(4, 1, "late")
    versions.database.run("INSERT INTO {s}.t VALUES (5, '2999-01-01', 'absurd')")
    report = versions.run(D2, D3)
    rows, told = versions.shop.rows("id"), re.findall(r": (\d+) rows came later", "\n".join(report.warnings))
    figures(
        action=f"late rows beyond the window: {beyond}",
        late_rows=2,
        late_rows_accounted=sum(map(int, told)) if beyond == "count" else sum(row in rows for row in [(3,), (4,)]),
        cursors_advanced_wrongly=rows.count((5,)),
    )
    what = "read again" if beyond == "reopen" else "not read"
    assert report.warnings == [
        f"raw.shop__t: 2 rows came later than the late window, in 2013-01-01 (2): {what}",
        # New York's clock: midnight in Greenwich is the day before.
        "raw.shop__t: 1 rows lie in days to come (2998-12-31 (1)) and are in no interval until then",
    ]
    late = [(3,), (4,)] if beyond == "reopen" else []
    assert versions.shop.rows("id") == [(1,), *([(2,)] if not late else []), *([(2,), *late] if late else [])]
    with pytest.raises(IntervalError, match="not over yet"):
        versions.ingest("2998-12-31")
    assert versions.run(D2, D3).warnings[0].endswith(what) == (beyond == "count")


def test_a_late_row_inside_the_window_is_merged_to_its_own_day(
    versions: Versions, figures: Callable[..., None]
) -> None:
    """Fault 8: late rows merged 1 of 1; fault 7: what comes twice is there once."""
    versions.declare("")
    text = (versions.database.folder / "shop.yml").read_text()
    versions.shop.declare(text.replace("on_update: stays", "on_update: stays, late_window_s: 172800"))
    versions.make((1, 1, "a"), (2, 2, "b"))
    versions.run()
    versions.put(3, 1, "late")
    for _ in range(2):
        versions.run(D2, D3)
    rows = versions.shop.rows("ds::VARCHAR", "id")
    figures(
        action="late rows inside the window",
        rows_expected=3,
        rows_duplicated=len(rows) - len(set(rows)),
        late_rows=1,
        late_rows_accounted=rows.count((D1, 3)),
    )
    assert rows == [(D1, 1), (D1, 3), (D2, 2)]


# -- every version of a row ----------------------------------------------------------------------------------------


def test_the_history_keeps_every_version_with_the_time_for_which_it_held(versions: Versions) -> None:
    versions.declare("    version_column: at\n    history: true\n" + RECONCILE, on_update="moves")
    versions.make((1, 1, "a"), (2, 1, "b"), (3, 2, "c"))
    versions.run()
    versions.put(1, 3, "a, changed")
    versions.database.run("DELETE FROM {s}.t WHERE id = 3")
    versions.run(D3, "2013-01-04")
    assert versions.history() == [
        (1, "a", D1, D3, False),
        (1, "a, changed", D3, None, False),
        (2, "b", D1, None, False),
        (3, "c", D2, "2026-01-02", True),
    ]
    table = TableId("raw", "shop__t__history")
    before = versions.shop.pipeline().lake.snapshot_id(table)
    versions.run(D3, "2013-01-04")
    assert versions.shop.pipeline().lake.snapshot_id(table) == before, "what is in step is left alone"


def test_a_history_that_missed_a_batch_is_made_good_by_the_next_run(versions: Versions) -> None:
    versions.declare("    history: true\n", cursor=None)
    versions.make((1, 1, "a"), (2, 1, "b"))
    versions.ingest(D1)
    versions.put(1, 1, "a, changed")
    versions.shop.ingest(D1)  # and then the process died
    assert versions.history() == [(1, "a", "2026-01-02", None, False), (2, "b", "2026-01-02", None, False)]
    assert versions.ingest(D1).state == "unchanged"
    assert [(id_, note, to is None) for id_, note, _, to, _ in versions.history()] == [
        (1, "a", False), (1, "a, changed", True), (2, "b", True),
    ]  # fmt: skip


def test_only_changed_partitions_of_the_history_are_rewritten(versions: Versions) -> None:
    versions.declare("    history: true\n")
    versions.make((1, 1, "a"), (2, 2, "b"))
    versions.run()
    table = TableId("raw", "shop__t__history")
    before = {file.key: file.location for file in versions.shop.pipeline().lake.live(table)}
    versions.put(2, 2, "b, changed")
    versions.run()
    after = {file.key: file.location for file in versions.shop.pipeline().lake.live(table)}
    assert after.pop("ended-2026-01")
    assert {key for key in after if after[key] != before[key]} == {D2}


def test_a_run_that_was_overtaken_looks_again_and_marks_what_the_source_does_not_have_then(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.declare(RECONCILE)
    versions.make(*((n, 1, "x") for n in range(1, 5)))
    versions.run()
    versions.database.run("DELETE FROM {s}.t WHERE id = 1")
    real = DatabaseReader.compare_keys

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(DatabaseReader, "compare_keys", real)
        versions.put(1, 1, "back")  # it comes back and is ingested while another one compares what it saw before
        versions.put(2, 1, "y")
        versions.ingest(D1)
        versions.database.run("DELETE FROM {s}.t WHERE id = 1")
        return real(*arguments)

    monkeypatch.setattr(DatabaseReader, "compare_keys", overtaken)
    assert versions.reconcile().marked == 1
    assert [row[1] for row in versions.rows() if row[-1]] == [1]
    assert versions.reconcile().marked == 0
