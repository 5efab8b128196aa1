"""Laws of the swap: a reader sees one release, whole; only the newest publisher swaps; strangers are left alone."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.synchronize import Event

import psycopg  # noqa: TID251 - a client as users have it
import pytest

from common.errors import CommitConflict, LeaseHeld, SourceRefused, UsageError
from tests.integration.warehouse.bench import Bench, manifest_of
from warehouse.bi import BiPublished

ONE_RELEASE = (
    "SELECT (SELECT release FROM marts._release), "
    "(SELECT min(number) FROM marts.a), (SELECT max(number) FROM marts.a), (SELECT count(*) FROM marts.a), "
    "(SELECT min(number) FROM marts.b), (SELECT count(*) FROM marts.b), (SELECT one FROM marts.fixed)"
)


def seen(number: int, release: str) -> tuple[object, ...]:
    """What the query above answers on the release of a number."""
    return (release, number, number, 50, number, 50, 1)


def test_the_schema_holds_the_release_with_its_keys_indexes_comments_and_name(bench: Bench) -> None:
    release = bench.release(
        'CREATE TABLE dim (id INTEGER NOT NULL, "odd ""name\'" VARCHAR, day DATE)',
        "INSERT INTO dim VALUES (1, 'x', '2013-01-01'), (2, NULL, NULL)",
        "COMMENT ON TABLE dim IS 'It''s a table. Grain: one row per id.'",
        "COMMENT ON COLUMN dim.day IS 'A \\ day; -- no comment'",
        "CREATE TABLE hidden AS SELECT 1 AS a",
        bi={"dim": {"primary_key": ["id"], "indexes": [["day"], ["odd \"name'", "day"]]}},
    )
    done = bench.publish(release)
    assert done == BiPublished("r000001", written=("dim",))
    tables = bench.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'marts' ORDER BY 1")
    assert tables == [("_release",), ("_tables",), ("dim",)]
    columns = bench.ask(
        "SELECT column_name, is_nullable, col_description('marts.dim'::regclass, ordinal_position) "
        "FROM information_schema.columns WHERE table_schema = 'marts' AND table_name = 'dim' ORDER BY ordinal_position"
    )
    assert columns == [("id", "NO", None), ("odd \"name'", "YES", None), ("day", "YES", "A \\ day; -- no comment")]
    assert bench.ask("SELECT obj_description('marts.dim'::regclass)") == [("It's a table. Grain: one row per id.",)]
    indexes = bench.ask("SELECT indexdef FROM pg_indexes WHERE tablename = 'dim' ORDER BY 1")
    assert sorted(definition.split(" USING ")[1] for (definition,) in indexes) == [
        'btree ("odd ""name\'", day)',
        "btree (day)",
        "btree (id)",
    ]
    [(name, published_at, fence)] = bench.ask("SELECT release, published_at, fence FROM marts._release")
    assert (name, published_at.isoformat(), fence) == ("r000001", release.published_at, 1)
    checksum = manifest_of(release)["tables"][0]["checksum"]
    assert bench.ask("SELECT table_name, rows, checksum FROM marts._tables") == [("dim", 2, checksum)]


def test_unchanged_tables_are_moved_along_and_changed_ones_written_and_what_is_the_same_costs_nothing(
    bench: Bench,
) -> None:
    assert bench.publish(bench.numbered(1)) == BiPublished("r000001", written=("a", "b", "fixed"))
    before = bench.ask("SELECT 'marts.fixed'::regclass::oid, 'marts.a'::regclass::oid")
    second = bench.numbered(2)
    assert bench.publish(second) == BiPublished("r000002", written=("a", "b"), carried=("fixed",))
    after = bench.ask("SELECT 'marts.fixed'::regclass::oid, 'marts.a'::regclass::oid")
    assert (after[0][0] == before[0][0], after[0][1] == before[0][1]) == (True, False)
    assert bench.publish(second) == BiPublished("r000002", carried=("a", "b", "fixed"))
    assert bench.ask(ONE_RELEASE) == [seen(2, "r000002")]
    assert bench.schemas() == ["marts"]
    # The grants have come along.
    assert bench.ask(ONE_RELEASE, url=bench.reader_url) == [seen(2, "r000002")]


def test_a_rollback_swaps_back_and_a_table_that_is_gone_from_the_release_is_gone_from_the_schema(bench: Bench) -> None:
    first, second = bench.numbered(1), bench.release("CREATE TABLE other AS SELECT 7 AS seven")
    bench.publish(second)
    assert bench.ask("SELECT seven FROM marts.other") == [(7,)]
    bench.publish(bench.releases.rollback(first.id))
    assert bench.ask(ONE_RELEASE) == [seen(1, "r000001")]
    assert bench.ask("SELECT to_regclass('marts.other')") == [(None,)]


def test_a_key_that_is_none_fails_the_publishing_and_names_the_table(bench: Bench) -> None:
    bench.publish(bench.numbered(1))
    with pytest.raises(SourceRefused, match="could not create unique index"):
        bench.publish(
            bench.release("CREATE TABLE a AS SELECT 1 AS id FROM range(2)", bi={"a": {"primary_key": ["id"]}})
        )
    assert bench.ask(ONE_RELEASE) == [seen(1, "r000001")]
    assert bench.schemas() == ["marts"]


# -- who may do what -------------------------------------------------------------------------------------------------


def test_readers_may_select_and_nothing_else_and_a_missing_role_is_told(bench: Bench) -> None:
    for number in (1, 2):
        bench.publish(bench.numbered(number))
    for statement in (
        "INSERT INTO marts.a VALUES (1, 1)",
        "UPDATE marts.a SET number = 0",
        "DELETE FROM marts.fixed",
        "TRUNCATE marts.b",
        "DROP TABLE marts.a",
        "CREATE TABLE marts.mine (a int)",
        "ALTER SCHEMA marts RENAME TO yours",
        "CREATE SCHEMA yours",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bench.ask(statement, url=bench.reader_url)
    bench.reader = "nobody_made_this_role"
    with pytest.raises(SourceRefused, match="permission denied to create role"):
        bench.publish(bench.numbered(3))
    assert bench.ask(ONE_RELEASE) == [seen(2, "r000002")]


def test_a_publisher_with_an_older_lease_is_refused_and_changes_nothing(bench: Bench) -> None:
    old, new = bench.numbered(1), bench.numbered(2)
    bench.schema.publish(new, fence=8)
    with pytest.raises(CommitConflict, match=r"with fence 8, this process has 7.*It changes nothing"):
        bench.schema.publish(old, fence=7)
    assert bench.ask(ONE_RELEASE) == [seen(2, "r000002")]


def test_a_publisher_that_was_overtaken_between_load_and_swap_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been stopped there, and woke."""
    old, new = bench.numbered(1), bench.numbered(2)
    for fence, newer in ((9, 10), (11, 20)):  # the schema is not there yet; it is, and all of it as it should be

        def overtake(_point: str, newer: int = newer) -> None:
            monkeypatch.undo()
            bench.schema.publish(new, fence=newer)

        monkeypatch.setattr("warehouse.bi.reach", overtake)
        with pytest.raises(CommitConflict, match="published to the BI database meanwhile"):
            bench.schema.publish(old, fence=fence)
        assert bench.ask(ONE_RELEASE) == [seen(2, "r000002")]
        assert bench.ask("SELECT fence FROM marts._release") == [(newer,)]
    bench.schema.publish(new, fence=21)
    assert bench.schemas() == ["marts"]


def test_another_warehouse_is_refused_until_it_is_told_to_take_over(bench: Bench) -> None:
    bench.publish(bench.numbered(1))
    release = bench.numbered(2)
    other = bench.schema_named("marts", warehouse="0123")
    with pytest.raises(CommitConflict, match=r"another warehouse.*--take-over"):
        other.publish(release, fence=99)
    assert bench.ask(ONE_RELEASE) == [seen(1, "r000001")]
    other.publish(release, fence=1, take_over=True)
    assert bench.ask(ONE_RELEASE) == [seen(2, "r000002")]


# -- what is not ours ------------------------------------------------------------------------------------------------


def test_a_schema_that_others_made_is_never_touched(bench: Bench) -> None:
    with psycopg.connect(bench.url, autocommit=True) as owner:
        owner.execute("CREATE SCHEMA marts")
        owner.execute("CREATE TABLE marts.a AS SELECT 1 AS kept")
        owner.execute("CREATE SCHEMA marts__next_0")
        owner.execute("CREATE SCHEMA marts__old_0")
    with pytest.raises(UsageError, match=r"'marts' that Penstock did not make.*PENSTOCK_BI_SCHEMA"):
        bench.publish(bench.numbered(1))
    with pytest.raises(UsageError, match="did not make"):
        bench.schema.publish(bench.numbered(2), fence=5, take_over=True)
    assert bench.ask("SELECT kept FROM marts.a") == [(1,)]
    assert bench.schema_named("other").publish(bench.numbered(3), fence=1).release == "r000003"
    assert bench.schemas() == ["marts", "marts__next_0", "marts__old_0", "other"]


def test_what_others_put_into_our_schema_stops_the_swap_and_a_view_elsewhere_keeps_its_old_table(bench: Bench) -> None:
    bench.publish(bench.numbered(1))
    with psycopg.connect(bench.url, autocommit=True) as owner:
        owner.execute("CREATE TABLE marts.notes (a int)")
        with pytest.raises(UsageError, match=r"did not make: notes\."):
            bench.publish(bench.numbered(2))
        owner.execute("DROP TABLE marts.notes")
        owner.execute("CREATE SCHEMA mine")
        owner.execute("CREATE VIEW mine.v AS SELECT DISTINCT number FROM marts.a")
        owner.execute("CREATE VIEW mine.w AS SELECT one FROM marts.fixed")
        done = bench.publish(bench.numbered(3))
        assert [notice.split(" is kept")[1] for notice in done.notices] == [
            ": a view or a transaction needs its tables"
        ]
        assert bench.ask("SELECT (SELECT number FROM mine.v), (SELECT one FROM mine.w)") == [(1, 1)]
        assert bench.ask(ONE_RELEASE) == [seen(3, "r000003")]
        owner.execute("DROP VIEW mine.v")
    assert bench.publish(bench.numbered(4)).notices == ()
    assert bench.schemas() == ["marts", "mine"]


# -- readers at the moment of the swap -------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:3], ids=lambda level: level.name)
def test_a_transaction_that_has_begun_to_read_ends_in_its_release_and_the_swap_waits_for_it(
    bench: Bench, isolation: psycopg.IsolationLevel
) -> None:
    bench.publish(bench.numbered(1))
    second = bench.numbered(2)
    with psycopg.connect(bench.reader_url) as reader:
        reader.isolation_level = isolation
        with reader.cursor(name="server_side") as cursor:
            cursor.execute("SELECT number FROM marts.a")
            assert cursor.fetchone() == (1,)
            with pytest.raises(LeaseHeld, match=rf"process \d+ of role {bench.reader}.*penstock bi publish"):
                bench.publish(second, wait_s=0.0)
            waiting = threading.Thread(target=bench.publish, args=(second,))
            waiting.start()
            for _ in range(5):
                time.sleep(0.05)
                with psycopg.connect(bench.reader_url) as another:  # nobody is locked out meanwhile
                    assert another.execute(ONE_RELEASE.encode()).fetchone() == seen(1, "r000001")
            assert {number for (number,) in cursor.fetchall()} == {1}
        assert reader.execute("SELECT max(number) FROM marts.b").fetchone() == (1,)
        reader.commit()
        waiting.join()
        assert reader.execute(ONE_RELEASE.encode()).fetchone() == seen(2, "r000002")
    assert bench.schemas() == ["marts"]


def test_a_snapshot_from_before_the_load_finds_the_new_release_whole_and_no_empty_tables(bench: Bench) -> None:
    bench.publish(bench.numbered(1))
    with psycopg.connect(bench.reader_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM pg_class")  # the snapshot is taken; no table of ours is open
        bench.publish(bench.numbered(2))
        assert reader.execute(ONE_RELEASE.encode()).fetchone() == seen(2, "r000002")


def test_a_prepared_statement_follows_the_swap(bench: Bench) -> None:
    bench.publish(bench.numbered(1))
    with psycopg.connect(bench.reader_url, autocommit=True) as reader:
        for number in (1, 2, 3):
            if number > 1:
                bench.publish(bench.numbered(number))
            for _ in range(6):  # from the sixth time on the server may keep a plan
                found = reader.execute("SELECT number FROM marts.a WHERE id = %s", [7], prepare=True).fetchone()
                assert found == (number,)


def _read(url: str, stop: Event, told: multiprocessing.Queue[tuple[int, int, list[str]]]) -> None:
    """A reader in a process of its own: single statements and whole transactions, until it is told to stop."""
    reads, problems, swaps, last = 0, list[str](), 0, ""
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            rows = []
            with connection.transaction():
                rows.append(connection.execute("SELECT release FROM marts._release").fetchone())
                rows.append(connection.execute("SELECT min(number), max(number), count(*) FROM marts.a").fetchone())
                rows.append(connection.execute("SELECT min(number), max(number), count(*) FROM marts.b").fetchone())
            rows.append(connection.execute(ONE_RELEASE.encode()).fetchone())
            reads += 1
            release, a, b, all_at_once = rows
            if a != b or a is None or release is None or a[2] != 50 or int(release[0][1:]) != a[0]:
                problems.append(f"a transaction saw {rows[:3]}")
            if all_at_once is None or all_at_once != seen(int(all_at_once[0][1:]), str(all_at_once[0])):
                problems.append(f"a statement saw {all_at_once}")
            stop.wait(0.005)
            swaps += release is not None and release[0] != last
            last = release[0] if release else last
    told.put((reads, swaps, problems))


def test_readers_in_a_loop_during_thirty_swaps_never_fail_and_never_see_a_mixture(bench: Bench) -> None:
    releases = [bench.numbered(number) for number in (1, 2, 3)]
    bench.publish(releases[0])
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), context.Queue()
    readers = [context.Process(target=_read, args=(bench.reader_url, stop, told)) for _ in range(1)]
    for reader in readers:
        reader.start()
    try:
        for swap in range(30):
            assert bench.publish(releases[(swap + 1) % 3]).release == releases[(swap + 1) % 3].id
    finally:
        stop.set()
        answers = [told.get(timeout=60) for _ in readers]
        for reader in readers:
            reader.join()
    assert [problems for _, _, problems in answers] == [[]]
    assert all(reads > 30 and swaps > 5 for reads, swaps, _ in answers), answers
    assert bench.schemas() == ["marts"]
