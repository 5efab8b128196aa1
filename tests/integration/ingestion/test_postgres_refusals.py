"""Laws of refusing a PostgreSQL source: drift, wrong login, no answer, a connection that breaks; nothing is left."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.errors import (
    PenstockError,
    SettingsError,
    SourceRefused,
    SourceSchemaError,
    SourceUnavailable,
    SpecError,
)
from common.intervals import day_interval
from ingestion.spec import SourceSpec
from tests.integration.ingestion.conftest import DatabaseSource, new_lake

CANARY = "CanaryPassword0123456789"


def refuses(database: DatabaseSource, spec: SourceSpec, kind: type[PenstockError], match: str, url: str = "") -> str:
    """Staging fails with this error, nothing is left, and no password shows. Returns the message."""
    with pytest.raises(kind, match=match) as refused:
        database.stage(spec, url=url or None)
    assert database.staged_files() == []
    message = f"{refused.value} {refused.value.__cause__}"
    assert CANARY not in message
    assert (urlsplit(database.url).password or "?") not in message
    assert "source=shop" in message
    assert "Remedy: " in message
    return message


# -- drift ------------------------------------------------------------------------------------------------------------


def test_a_missing_table_and_a_missing_column_are_refused_by_name(database: DatabaseSource) -> None:
    refuses(database, database.spec("id: int32"), SourceSchemaError, r"no table .*\.t that this role can see")
    database.run("CREATE TABLE {s}.t (id int, other int)")
    spec = database.spec("id: int32, name: string")
    message = refuses(database, spec, SourceSchemaError, "column name is not in the source")
    assert "which has id, other" in message


def test_an_added_column_is_passed_over_with_a_warning_or_refused_as_the_spec_says(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t AS SELECT 1 AS added, 2 AS id")
    staged = database.stage(database.spec("id: int32"))
    assert database.rows(staged) == [(2,)]
    assert len(staged.warnings) == 1
    assert "added" in staged.warnings[0]
    database.lake.discard(staged)
    spec = database.spec("id: int32", drift="added: reject")
    refuses(database, spec, SourceSchemaError, r"column added \(integer\) is not in the spec")


def test_a_column_that_was_dropped_and_added_again_is_the_new_one(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (v text, id int)")
    database.run("ALTER TABLE {s}.t DROP v; ALTER TABLE {s}.t ADD v int DEFAULT 7; INSERT INTO {s}.t (id) VALUES (1)")
    assert database.rows(database.stage(database.spec("id: int32, v: int32"))) == [(1, 7)]


def test_a_lake_table_that_does_not_fit_the_spec_is_refused_before_anything_is_read(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t AS SELECT 1 AS id, 'x'::text AS v")
    database.lake.discard(database.stage(database.spec("id: int32, v: string")))
    database.run("ALTER TABLE {s}.t ALTER v TYPE int USING 7")
    with pytest.raises(SpecError, match="v: string in the lake, int32 declared"):
        database.stage(database.spec("id: int32, v: int32"), lake=new_lake(database.lake.settings.home))
    assert database.staged_files() == []


# -- login ------------------------------------------------------------------------------------------------------------


def test_a_wrong_login_is_refused_and_an_address_without_an_answer_is_told_apart(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int)")
    spec = database.spec("id: int32")
    parts = urlsplit(database.url)
    password, port = parts.password or "", str(parts.port)
    wrong = database.url.replace(password, CANARY)
    refuses(database, spec, SourceRefused, "password authentication failed", wrong)
    refuses(database, spec, SourceRefused, "refused", wrong.replace("penstock_reader", "nobody_of_that_name"))
    refuses(database, spec, SourceRefused, "does not exist", database.url.replace("/flightops", "/no_such_database"))
    refuses(database, spec, SourceUnavailable, "does not answer", wrong.replace(port, "9"))
    refuses(database, spec, SourceUnavailable, "does not answer", wrong.replace("127.0.0.1", "no-such-host.invalid"))


def test_a_table_that_the_role_may_not_read_is_refused(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int)")
    database.admin.execute(f"REVOKE SELECT ON {database.schema}.t FROM {database.role}")
    refuses(database, database.spec("id: int32"), SourceSchemaError, "that this role can see")


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{CANARY}@127.0.0.1/x",
        f"postgresql://u:{CANARY}@/x",
        f"postgresql://u:{CANARY}@127.0.0.1",
        f"postgresql://u:{CANARY}@127.0.0.1:port/x",
        f"postgresql://u:{CANARY}@127.0.0.1/x?sslmode=require&hostaddr=10.0.0.1",
        f"postgresql://u:{CANARY}@127.0.0.1/x?options=-cstatement_timeout%3D0",
        CANARY,
    ],
)
def test_a_url_that_is_none_is_refused_without_being_repeated(database: DatabaseSource, url: str) -> None:
    refuses(database, database.spec("id: int32"), SettingsError, "Connection 'shop'", url)


@pytest.mark.parametrize("password", ["p@ss/w:rd?#", 'it\'s "q" \\ {x} $$ %', "ü ñ ' OR 1=1 --"])
def test_a_password_of_any_characters_logs_in(database: DatabaseSource, password: str) -> None:
    from urllib.parse import quote

    role = f"role_{database.schema}"
    quoted = password.replace("'", "''")
    database.admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{quoted}'")
    try:
        database.run("CREATE TABLE {s}.t AS SELECT 1 AS id")
        database.run(f"GRANT CONNECT ON DATABASE flightops TO {role}; GRANT USAGE ON SCHEMA {{s}} TO {role}")
        database.run(f"GRANT SELECT ON {{s}}.t TO {role}")
        parts = urlsplit(database.url)
        url = f"postgresql://{role}:{quote(password, safe='')}@{parts.hostname}:{parts.port}{parts.path}"
        assert database.rows(database.stage(database.spec("id: int32"), url=url)) == [(1,)]
    finally:
        database.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


# -- on the way -------------------------------------------------------------------------------------------------------


def test_a_query_that_takes_too_long_is_cancelled(database: DatabaseSource, tmp_path: Path) -> None:
    database.run("CREATE VIEW {s}.t AS SELECT 1 AS id, pg_sleep(30)::text AS v")
    lake = new_lake(tmp_path / "impatient", statement_timeout_s=0.3)
    with pytest.raises(SourceUnavailable, match=r"does not answer or broke off|was not over after"):
        database.stage(database.spec("id: int32, v: string"), lake=lake)
    assert list(Path(lake.settings.lake_uri).rglob("*.parquet")) == []


def test_a_connection_that_ends_in_the_middle_leaves_nothing_and_the_next_run_reads_all(
    database: DatabaseSource,
) -> None:
    database.run("CREATE TABLE {s}.switch AS SELECT true AS ends")
    database.run(
        "CREATE VIEW {s}.t AS SELECT g AS id, repeat('x', 100) || "
        "CASE WHEN g = 150000 AND (SELECT ends FROM {s}.switch) THEN pg_terminate_backend(pg_backend_pid())::text "
        "ELSE '' END AS v FROM generate_series(1, 200000) AS g"
    )
    spec = database.spec("id: int32, v: string")
    refuses(database, spec, SourceUnavailable, "does not answer or broke off")
    database.run("UPDATE {s}.switch SET ends = false")
    assert database.stage(spec).rows_staged == 200_000


def test_an_error_of_the_source_in_the_middle_leaves_nothing_and_says_what_it_was(database: DatabaseSource) -> None:
    database.run("CREATE VIEW {s}.t AS SELECT g AS id, 1 / (g - 5000) AS v FROM generate_series(1, 6000) AS g")
    refuses(database, database.spec("id: int32, v: int32"), PenstockError, "division by zero")


def test_a_reader_whose_snapshot_broke_says_so_and_reads_nothing_more(database: DatabaseSource) -> None:
    database.run("CREATE VIEW {s}.t AS SELECT 1 / (g - 1) AS id FROM generate_series(1, 2) AS g")
    database.run("CREATE TABLE {s}.u AS SELECT 1 AS id")
    spec = database.spec_of([database.table("id: int32", table=name) for name in ("t", "u")])
    with database.open(spec) as reader:
        with pytest.raises(PenstockError, match="division by zero"):
            reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code")
        with pytest.raises(SourceUnavailable, match="broke off"):
            reader.stage(spec.tables[1], day_interval("2013-01-01"), code="code")
    with pytest.raises(SourceUnavailable, match="not connected"):
        reader.stage(spec.tables[1], day_interval("2013-01-01"), code="code")
    assert database.staged_files() == []


def test_a_source_is_only_ever_read(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.log (at timestamptz)")
    database.run(
        "CREATE FUNCTION {s}.writes() RETURNS int SECURITY DEFINER LANGUAGE sql AS "
        "'INSERT INTO {s}.log VALUES (now()) RETURNING 1'"
    )
    database.run("GRANT EXECUTE ON FUNCTION {s}.writes() TO public; CREATE VIEW {s}.t AS SELECT {s}.writes() AS id")
    refuses(database, database.spec("id: int32"), PenstockError, "read-only transaction")
    assert database.admin.execute(f"SELECT count(*) FROM {database.schema}.log").fetchone() == (0,)
