"""Laws of reading a large table in chunks: one snapshot, every row once, whatever is cut and however it is resumed."""

from __future__ import annotations

import threading
from typing import Any

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest

from common.errors import PenstockError
from common.intervals import day_interval
from ingestion.databases.chunks import ChunkPlan
from ingestion.databases.dialect import SnapshotSharing
from ingestion.databases.postgres import PostgresDialect
from ingestion.databases.postgres_chunks import PostgresChunks
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from penstock.embedded import EmbeddedServices
from tests.integration.ingestion.conftest import DatabaseSource, new_lake, rejects
from tests.integration.ingestion.crashes import stage_killed_at
from tests.integration.ingestion.shops import database_shop

ROWS = 12_000
COLUMNS = "id: int32, v: string, d: date"
CHUNKS = "    chunk_rows: 2000\n"


def fill(database: DatabaseSource, columns: str = "", options: str = "") -> SourceSpec:
    """A table that is read in six chunks, and its spec."""
    database.run(f"CREATE TABLE {{s}}.t (id int PRIMARY KEY, v text, d date{columns}){options}")
    database.run(
        f"INSERT INTO {{s}}.t (id, v, d) SELECT g, md5(g::text), date '2013-01-01' + g % 365 "
        f"FROM generate_series(1, {ROWS}) AS g"
    )
    database.admin.execute(f"ANALYZE {database.schema}.t")
    return database.spec(COLUMNS, more=CHUNKS)


def source_rows(database: DatabaseSource, names: str = "id, v, d") -> list[tuple[Any, ...]]:
    """What the table holds now."""
    return database.admin.execute(f"SELECT {names} FROM {database.schema}.t ORDER BY id").fetchall()


def staged(database: DatabaseSource, batch: StagedBatch, *names: str) -> list[tuple[Any, ...]]:
    """What was staged, by key."""
    return sorted(database.rows(batch, *(names or ("id", "v", "d"))))


def left_over(database: DatabaseSource, batch: StagedBatch | None = None) -> list[str]:
    """Files of the lake and records of extracts that belong to nothing; of a batch, its own files do not count."""
    mine = {file.removeprefix("file://") for file in batch.files} if batch else set()
    files = {str(path) for path in database.staged_files()} - mine
    records = (database.lake.settings.home / "extracts").rglob("*")
    return sorted(files | {str(path) for path in records if path.is_file()})


# -- one snapshot ------------------------------------------------------------------------------------------------------


def test_chunks_of_several_readers_hold_each_row_of_one_moment_once_while_rows_change(
    database: DatabaseSource, services: EmbeddedServices
) -> None:
    spec = fill(database)
    stop = threading.Event()

    def disturb() -> None:
        with psycopg.connect(services.postgres_url, autocommit=True) as admin:
            number = ROWS
            while not stop.is_set():
                number += 1
                admin.execute(
                    f"UPDATE {database.schema}.t SET v = 'changed' WHERE id % 97 = {number % 97}; "
                    f"INSERT INTO {database.schema}.t VALUES ({number}, 'new'); "
                    f"DELETE FROM {database.schema}.t WHERE id = {number - ROWS}"
                )

    writer = threading.Thread(target=disturb)
    with database.open(spec) as reader:
        before = source_rows(database)
        writer.start()
        try:
            batch = reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code")
        finally:
            stop.set()
            writer.join()
    assert len(batch.files) >= 6
    assert staged(database, batch) == before
    assert source_rows(database) != before
    assert left_over(database, batch) == []


def test_every_reader_is_read_only_bounded_named_and_of_the_same_snapshot(database: DatabaseSource) -> None:
    spec = fill(database)
    with database.open(spec) as reader:
        session = reader._connected
        assert isinstance(session, SnapshotSharing)
        asked = (
            "SELECT current_setting('transaction_read_only') AS a, current_setting('transaction_isolation') AS b, "
            "current_setting('application_name') AS c, current_setting('statement_timeout') AS d, "
            "current_setting('TimeZone') AS e, pg_current_snapshot()::text AS f, pg_backend_pid() AS g"
        )
        answers = []
        for each in session.readers(3):
            answers += each.rows(asked)
            database.run("INSERT INTO {s}.t SELECT max(id) + 1 FROM {s}.t")
        settings = {answer[:5] for answer in answers}
        assert settings == {("on", "repeatable read", "penstock_shop", "810s", "UTC")}
        assert len({answer[5] for answer in answers}) == 1
        assert len({answer[6] for answer in answers}) == 3
        for each in session.readers(3):
            with pytest.raises(Exception, match="read-only transaction"):
                each.rows("SELECT lo_create(0)")


def test_a_table_of_few_rows_or_of_no_statistics_is_cut_by_what_it_holds(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int) WITH (autovacuum_enabled = false)")
    spec = database.spec("id: int32", more=CHUNKS)
    assert len(database.stage(spec).files) == 1
    database.run("INSERT INTO {s}.t SELECT generate_series(1, 10000)")
    batch = database.stage(spec)
    assert (len(batch.files), batch.rows_in) == (5, 10_000)


def test_rows_set_apart_are_counted_once_wherever_they_lie(database: DatabaseSource) -> None:
    spec = fill(database)
    database.run("UPDATE {s}.t SET d = 'infinity' WHERE id % 1000 = 7")
    batch = database.stage(spec)
    expected = [row for row in source_rows(database, "id, v, CASE WHEN isfinite(d) THEN d END") if row[0] % 1000 != 7]
    assert staged(database, batch) == expected
    assert sorted(position for _, _, position in rejects(batch)) == sorted(
        f'key {{"id":{number}}}' for number in range(7, ROWS, 1000)
    )
    assert (batch.rows_in, batch.rows_staged) == (ROWS, ROWS - 12)


def test_a_partitioned_and_an_inherited_table_are_cut_by_key_and_a_view_is_read_in_one_piece(
    database: DatabaseSource,
) -> None:
    database.run("CREATE TABLE {s}.t (id int, v text) PARTITION BY HASH (id)")
    for part in range(3):
        database.run(f"CREATE TABLE {{s}}.p{part} PARTITION OF {{s}}.t FOR VALUES WITH (MODULUS 3, REMAINDER {part})")
    database.run("INSERT INTO {s}.t SELECT g * 3 - 9000, 'x' FROM generate_series(1, 9000) AS g")
    database.run("CREATE TABLE {s}.u (id int); CREATE TABLE {s}.c () INHERITS ({s}.u)")
    database.run("INSERT INTO {s}.u SELECT generate_series(1, 3000)")
    database.run("INSERT INTO {s}.c SELECT generate_series(3001, 9000); CREATE VIEW {s}.w AS SELECT * FROM {s}.t")
    database.admin.execute("ANALYZE")
    found = {}
    for name in ("t", "u", "w"):
        spec = database.spec("id: int32", table=name, more=CHUNKS)
        batch = database.stage(spec)
        rows = database.admin.execute(f"SELECT id FROM {database.schema}.{name} ORDER BY id").fetchall()
        assert staged(database, batch, "id") == rows
        found[name] = len(batch.files)
    assert found == {"t": 5, "u": 5, "w": 1}


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_an_interval_of_more_rows_than_a_chunk_is_cut_by_time_and_one_of_fewer_is_one_query(
    database: DatabaseSource, kind: str
) -> None:
    database.admin.execute("SET TimeZone = 'America/New_York'")
    database.run(f"CREATE TABLE {{s}}.t (id int, at {kind} NOT NULL)")
    database.run(
        "INSERT INTO {s}.t SELECT g, timestamptz '2013-01-01 05:00Z' + g * interval '10 s' "
        "FROM generate_series(0, 9999) AS g"
    )
    database.run("INSERT INTO {s}.t SELECT id, at + interval '5 days' FROM {s}.t WHERE id < 100; ANALYZE {s}.t")
    spec = database.spec(f"id: int32, at: {kind}", cursor="at", more=CHUNKS)
    days = {day: database.stage(spec, day=day) for day in ("2013-01-01", "2013-01-02", "2013-01-06", "2013-02-01")}
    assert [len(batch.files) for batch in days.values()] == ([1, 1, 1, 1] if kind == "date" else [5, 1, 1, 1])
    rows = [row for batch in days.values() for row in staged(database, batch, "id")]
    assert sorted(rows) == database.admin.execute(f"SELECT id FROM {database.schema}.t ORDER BY id").fetchall()


def test_an_error_in_one_chunk_ends_the_others_and_leaves_nothing(database: DatabaseSource) -> None:
    fill(database, ", w int GENERATED ALWAYS AS (id) STORED")
    spec = database.spec("id: int32, v: string", more=CHUNKS)
    database.run(
        "ALTER TABLE {s}.t RENAME TO base; CREATE VIEW {s}.t AS SELECT id, (1 / (id - 9000))::text AS v FROM {s}.base"
    )
    with pytest.raises(PenstockError, match="division by zero"):
        database.stage(spec)
    assert left_over(database) == []


# -- after a crash -----------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[str, int, str]] = {
    "nothing": ("SELECT 1", 3, "3 of 6 chunks kept"),
    "updated": ("UPDATE {s}.t SET v = 'new' WHERE id = 1", 2, "2 of 6 chunks kept"),
    "deleted": ("DELETE FROM {s}.t WHERE id = 1", 2, "2 of 6 chunks kept"),
    "inserted at the end": ("INSERT INTO {s}.t VALUES (20000, 'x')", 3, "3 of 6 chunks kept"),
    "one deleted, one inserted in its place": (
        "DELETE FROM {s}.t WHERE id = 1; VACUUM {s}.t; INSERT INTO {s}.t VALUES (1, 'x')",
        2,
        "2 of 6 chunks kept",
    ),
    "vacuumed and frozen": ("VACUUM (FREEZE) {s}.t", 3, "3 of 6 chunks kept"),
    "rewritten": ("VACUUM FULL {s}.t", 0, "the table was rewritten"),
    "emptied": ("TRUNCATE {s}.t", 0, "the table was rewritten"),
    "made anew": (
        "CREATE TABLE {s}.n AS SELECT id, 'n' AS v, d FROM {s}.t; DROP TABLE {s}.t; ALTER TABLE {s}.n RENAME TO t",
        0,
        "the table was made anew",
    ),
    "column replaced by another of its name": (
        "ALTER TABLE {s}.t DROP v; ALTER TABLE {s}.t ADD v text DEFAULT 'same for all'",
        0,
        "the table's columns changed",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_killed_extract_goes_on_with_the_chunks_that_are_proven_unchanged(
    database: DatabaseSource, change: str
) -> None:
    statement, kept, told = CHANGES[change]
    spec = fill(database)
    stage_killed_at(database, "ingest.extract.after_chunk:3", parallel_reads=1)
    finished = {path: path.stat().st_mtime_ns for path in database.staged_files()}
    assert len(finished) == 3
    for each in statement.split("; "):
        database.run(each)
    batch = database.stage(spec)
    assert staged(database, batch) == source_rows(database)
    reused = [path for path in database.staged_files() if finished.get(path) == path.stat().st_mtime_ns]
    assert len(reused) == kept
    assert told in batch.warnings[0]
    assert left_over(database, batch) == []


@pytest.mark.parametrize("occurrence", [1, 4])
def test_an_extract_of_parallel_readers_killed_at_any_chunk_ends_as_if_undisturbed_while_rows_change(
    database: DatabaseSource, services: EmbeddedServices, occurrence: int
) -> None:
    spec = fill(database)
    with psycopg.connect(services.postgres_url, autocommit=True) as other:
        other.execute(f"BEGIN; SAVEPOINT a; INSERT INTO {database.schema}.t VALUES (20001, 'of a subtransaction')")
        stage_killed_at(database, f"ingest.extract.after_chunk:{occurrence}", parallel_reads=3)
        other.execute("COMMIT")  # began before the killed snapshot, visible only now
    database.run("UPDATE {s}.t SET v = v || '!' WHERE id % 4001 = 0; DELETE FROM {s}.t WHERE id = 6001")
    batch = database.stage(spec)
    assert staged(database, batch) == source_rows(database)
    assert left_over(database, batch) == []


def test_a_row_that_a_transaction_of_before_brings_later_is_not_missed_where_another_one_goes(
    database: DatabaseSource, services: EmbeddedServices
) -> None:
    spec = fill(database)
    database.run("DELETE FROM {s}.t WHERE id = 2")
    database.run("VACUUM {s}.t")  # room in the first block
    with psycopg.connect(services.postgres_url, autocommit=True) as other:
        other.execute(f"BEGIN; SAVEPOINT a; INSERT INTO {database.schema}.t VALUES (2, 'late')")
        database.admin.execute("SELECT txid_current()")  # so that the subtransaction's number is below the next one
        stage_killed_at(database, "ingest.extract.after_chunk:6", parallel_reads=1)
        other.execute("COMMIT")
    database.run("DELETE FROM {s}.t WHERE id = 1")  # the number of rows in the block is what it was
    batch = database.stage(spec)
    assert staged(database, batch) == source_rows(database)


def test_what_a_later_extract_has_left_is_not_taken_for_the_state_of_a_snapshot_before_it(
    database: DatabaseSource, services: EmbeddedServices
) -> None:
    spec = fill(database)
    database.run("DELETE FROM {s}.t WHERE id IN (2, 3)")
    database.run("VACUUM {s}.t")  # room in the first block, for a new version of its row
    url = services.postgres_url
    with psycopg.connect(url) as long, psycopg.connect(url, autocommit=True) as other, database.open(spec) as reader:
        then = source_rows(database)
        long.execute("SELECT txid_current()")  # the oldest one that runs, now and when the other extract begins
        other.execute(f"UPDATE {database.schema}.t SET v = 'new' WHERE id = 1")
        stage_killed_at(database, "ingest.extract.after_chunk:6", parallel_reads=1)
        batch = reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code")
    assert staged(database, batch) == then
    assert left_over(database, batch) == []


def test_a_renamed_enum_label_and_a_changed_spec_are_changes_of_every_row(database: DatabaseSource) -> None:
    database.run("CREATE TYPE {s}.mood AS ENUM ('good', 'bad')")
    fill(database, ", m {s}.mood DEFAULT 'good'")
    spec = database.spec("id: int32, m: string", more=CHUNKS)
    stage_killed_at(database, "ingest.extract.after_chunk:3")
    database.run("ALTER TYPE {s}.mood RENAME VALUE 'good' TO 'fine'")
    batch = database.stage(spec)
    assert staged(database, batch, "id", "m") == source_rows(database, "id, m::text")
    database.lake.discard(batch)
    stage_killed_at(database, "ingest.extract.after_chunk:3")
    with database.open(spec) as reader:
        batch = reader.stage(spec.tables[0], day_interval("2013-01-01"), code="other code")
    assert "the spec, the suite, the columns or Penstock changed" in batch.warnings[1]
    assert left_over(database, batch) == []


def test_a_kept_chunk_gives_its_rejects_again_and_a_damaged_one_is_read_again(database: DatabaseSource) -> None:
    spec = fill(database)
    database.run("UPDATE {s}.t SET d = '-infinity' WHERE id IN (1, 11999)")
    database.run("VACUUM FULL {s}.t")
    stage_killed_at(database, "ingest.extract.after_chunk:6", parallel_reads=1)
    damaged = sorted(database.staged_files())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    batch = database.stage(spec)
    assert "5 of 6 chunks kept" in batch.warnings[0]
    assert (batch.rows_in, batch.early_rejects.num_rows) == (ROWS, 2)
    assert len(staged(database, batch)) == ROWS - 2


def test_a_view_starts_over_and_says_why_and_leaves_no_orphans(database: DatabaseSource) -> None:
    database.run("CREATE VIEW {s}.t AS SELECT g AS id FROM generate_series(1, 5000) AS g")
    spec = database.spec("id: int32", more=CHUNKS)
    stage_killed_at(database, "ingest.extract.after_write")
    assert len(database.staged_files()) == 1
    batch = database.stage(spec)
    assert batch.warnings == ("an interrupted extract was started over: a view has no blocks of its own",)
    assert left_over(database, batch) == []


def test_row_security_proves_nothing(database: DatabaseSource) -> None:
    spec = fill(database)
    database.run("ALTER TABLE {s}.t ENABLE ROW LEVEL SECURITY; CREATE POLICY even ON {s}.t USING (id % 2 = 0)")
    stage_killed_at(database, "ingest.extract.after_chunk:3")
    database.run("DROP POLICY even ON {s}.t; CREATE POLICY odd ON {s}.t USING (id % 2 = 1)")
    batch = database.stage(spec)
    assert "row security decides" in batch.warnings[0]
    assert {row[0] % 2 for row in staged(database, batch)} == {1}
    assert left_over(database, batch) == []


def test_a_second_run_of_the_same_table_takes_nothing_from_the_first(database: DatabaseSource) -> None:
    spec = fill(database)
    table, interval = spec.tables[0], day_interval("2013-01-01")
    second: list[StagedBatch] = []
    with database.open(spec) as first, database.open(spec, lake=new_lake(database.lake.settings.home)) as other:

        class Meanwhile(PostgresChunks):
            """Lets the second run happen while the first one holds its record."""

            def plan(self, *arguments: Any) -> ChunkPlan:
                second.append(other.stage(table, interval, code="code"))
                return super().plan(*arguments)

        first._planner = Meanwhile(PostgresDialect())
        batch = first.stage(table, interval, code="code")
    assert second[0].attempt != batch.attempt
    assert staged(database, second[0]) == staged(database, batch) == source_rows(database)
    assert batch.warnings == second[0].warnings == ()


def test_chunks_become_one_batch_whose_identity_does_not_depend_on_how_it_was_cut(database: DatabaseSource) -> None:
    fill(database)
    database.run("UPDATE {s}.t SET d = 'infinity' WHERE id = 5000")
    shop = database_shop(database)
    text = (database.folder / "shop.yml").read_text()
    shop.declare(text)
    receipt = shop.ingest()
    assert (receipt.rows_in, receipt.published, receipt.quarantined) == (ROWS, ROWS - 1, 1)
    assert len(shop.pipeline().lake.live(shop.raw)) == 6
    database.admin.execute(f"CLUSTER {database.schema}.t USING t_pkey")
    assert shop.ingest().state == "unchanged"
    assert shop.rows("count(*)", "count(distinct id)") == [(ROWS - 1, ROWS - 1)]
    assert len(list((database.folder / "state" / "lake" / "raw").rglob("*.parquet"))) == 6
