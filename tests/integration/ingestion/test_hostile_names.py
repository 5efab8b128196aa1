"""Laws of names (fault 15): a name is a name whatever it says. It is quoted, or it never gets past its spec.

Every name of the corpus is a schema, a table and four columns of a real database at once, read as a superuser in a
session of our own, so that nothing but quoting stands between a payload and its target: a sequence that would advance,
a table that would be gone, a file that would appear.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest
from psycopg.sql import SQL, Identifier  # noqa: TID251
from pydantic import SecretStr

from common.errors import SourceSchemaError, SpecError
from common.intervals import day_interval
from ingestion.databases.checksums import lake_checksums
from ingestion.databases.reader import postgres_reader
from ingestion.spec import SourceSpec, load_source
from lake.paths import engine_path
from lake.sql import parquet_relation
from penstock.embedded import EmbeddedServices
from penstock.ledger import verify
from tests.integration.ingestion.conftest import DatabaseSource, new_lake, rejects
from tests.integration.ingestion.shops import Shop

CORPUS = (
    *("'", "''", '"', '""', "\\", '\\"', "\\'", "`", ";", "%", "$", "#", "*", "/", "?", "@", "|", "(", ")"),
    "x\"; SELECT nextval('canary'); --",
    "x'; SELECT nextval('canary'); --",
    "x\\'; SELECT nextval('canary'); --",
    "\"); COMMIT; SELECT nextval('canary'); --",
    "'); COMMIT; SELECT nextval('canary'); --",
    "''); SELECT nextval('canary'); --",
    '" FROM pg_class; DROP TABLE canary_table; --',
    "x'; DROP TABLE canary_table; --",
    "x'); COPY (SELECT 1) TO 'pwn'; --",
    "x''); COPY (SELECT 1) TO 'pwn'; --",
    "x'; ATTACH 'pwn' AS pwn; --",
    *("/* x", "*/ x", "-- x", "x --", "$$x$$", "$1", "E'\\x27", 'U&"\\0022', "a::text", "a.b", 'a"."b', "../../pwn"),
    *("%s", "%(x)s", "%%", "{x}", "{0}", "{s}", "{{ 7 * 7 }}", "{% raw %}", "{# x #}", "${x}", "$(touch pwn)"),
    *("`touch pwn`", "<script>", "=1+1", "@import", "&amp;", "\u2018; DROP TABLE canary_table"),
    *(
        "\uff02",
        "\uff07; --",
        "\u02bc",
        "\u201d",
        "\u202egnirts",
        "a\u00a0b",
        "a\u200bb",
        "e\u0301",
        "\u212a",
        "😀",
        "日本",
    ),
    *("select", "SELECT", "Select", "from", "table", "user", "null", "true", "group", "default", "current_user", "1"),
    *("_source", "_row", "rule", "reason", "position", "row", "pg", "ds", "total", " lead", "trail ", " ", "x" * 61),
)

REFUSED = ("", "a\nb", "a\rb", "a\tb", "a\0b", "\x1b[2J", "\x7f", "\x85", "x" * 64, "é" * 32, "\ud800")


def test_the_corpus_holds_no_name_twice() -> None:
    assert len(set(CORPUS)) == len(CORPUS)


@pytest.fixture
def target(services: EmbeddedServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseSource]:
    """A database of its own with the canaries; a working folder that must stay empty."""
    name = "hostile_names"
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    with psycopg.connect(services.postgres_url, autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            url = services.postgres_url.replace("/flightops", f"/{name}")
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("CREATE SEQUENCE canary; CREATE TABLE canary_table AS SELECT 1 AS id")
                yield DatabaseSource(admin, url, "public", "postgres", new_lake(tmp_path / "state"), tmp_path)
                assert executed(admin, working) == 0
        finally:
            owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


def executed(admin: psycopg.Connection[Any], working: Path) -> int:
    """How many canaries show that a payload was executed."""
    found = [
        admin.execute("SELECT last_value, is_called FROM canary").fetchone() != (1, False),
        admin.execute("SELECT id FROM canary_table").fetchall() != [(1,)],
        any(working.iterdir()),
    ]
    return sum(found)


def create(target: DatabaseSource, name: str) -> None:
    """Three rows, of which one has a value without an exact form, under the name at every place.

    Quoted by the driver, not by us: what is wrong with our quoting must show in what reads.
    """
    names = {place: Identifier(name + suffix) for place, suffix in zip("nkabc", ("", "", "a", "b", "c"), strict=True)}
    for statement in (
        "CREATE SCHEMA {n}",
        "CREATE TABLE {n}.{n} ({k} text PRIMARY KEY, {a} timestamptz NOT NULL, {b} date, {c} int)",
        "INSERT INTO {n}.{n} VALUES ('1', '2013-01-01 12:00Z', '2013-01-01', 1), "
        "('2', '2013-01-01 12:00Z', 'infinity', 2), ('3', '2013-02-01 12:00Z', '2013-02-01', 3)",
    ):
        target.admin.execute(SQL(statement).format(**names))


def described(table: str, name: str, *, drift: str = "added: ignore") -> str:
    """The part of a spec that describes the table of :func:`create`."""
    key, at, day, schema = (json.dumps(name + suffix, ensure_ascii=False) for suffix in ("", "a", "b", ""))
    return (
        f"  - name: {table}\n    source_name: {schema}\n    schema: {schema}\n    mode: incremental\n"
        f"    description: {schema}\n    primary_key: [id]\n    cursor: {{column: at}}\n"
        f"    on_drift: {{{drift}}}\n    columns:\n"
        f"      - {{name: id, source_name: {key}, type: string, nullable: false, description: {key}, unit: {key}}}\n"
        f"      - {{name: at, source_name: {at}, type: timestamptz, nullable: false}}\n"
        f"      - {{name: day, source_name: {day}, type: date}}\n"
    )


def spec_of(target: DatabaseSource, tables: list[str]) -> SourceSpec:
    """A spec of these tables."""
    path = target.folder / "shop.yml"
    head = "source: shop\nkind: postgresql\nconnection: shop\nowner: me@example.org\ntables:\n"
    path.write_text(head + "".join(tables), encoding="utf-8")
    return load_source(path)


def test_no_name_of_the_corpus_is_ever_more_than_a_name(target: DatabaseSource, figures: Callable[..., None]) -> None:
    for name in CORPUS:
        create(target, name)
    spec = spec_of(target, [described(f"t{number}", name) for number, name in enumerate(CORPUS)])
    with postgres_reader(spec, SecretStr(target.url), target.lake) as reader:
        for table, name in zip(spec.tables, CORPUS, strict=True):
            staged = reader.stage(table, day_interval("2013-01-01"), code="code")
            assert target.rows(staged, "id", "day") == [("1", date(2013, 1, 1))], name
            assert rejects(staged) == [("exact_value", f"{name}b is infinite or out of range", 'key {"id":"2"}')]
            assert staged.warnings == (
                f"schema drift, added: columns that the spec does not name are not read: {name}c",
            )
            row = json.loads(str(staged.early_rejects["row"][0]))
            assert (row["id"], row["day"]) == ("2", "infinity")
            checksums = reader.source_checksums(table) or {}
            assert (checksums["rows"], checksums["at"][0], checksums["day"][0]) == (3, 3, 3), name
            columns, field_ids = target.lake.columns(staged.table)
            relation = parquet_relation([engine_path(file) for file in staged.files], columns, field_ids)
            with target.lake.connect() as connection:
                assert lake_checksums(connection, table, relation)["rows"] == 1
    # A name stands as schema, table and four columns, read once and counted once.
    figures(names=len(CORPUS), call_sites=12, executed_payloads=executed(target.admin, target.folder / "working"))


@pytest.mark.parametrize("name", ["\"); COMMIT; SELECT nextval('canary'); --", "x\\'; {{ 7 * 7 }} %s"])
def test_a_hostile_name_goes_through_a_whole_run_and_the_ledger(target: DatabaseSource, name: str) -> None:
    create(target, name)
    shop = Shop(target.folder, target.url, "t")
    shop.declare(
        "source: shop\nkind: postgresql\nconnection: shop\nowner: me@example.org\ntables:\n" + described("t", name)
    )
    first, last = shop.ingest("2013-01-01"), shop.ingest("2013-02-01")
    assert (first.published, first.quarantined, last.published) == (1, 1, 1)
    assert shop.quarantined() == [("exact_value", f"{name}b is infinite or out of range")]
    [line] = verify(shop.pipeline())
    assert (line["source_rows"], line["ledger_rows"], line["columns_that_differ"]) == (3, 3, [])


def test_a_refusal_tells_a_hostile_name_and_nothing_else_happens(target: DatabaseSource) -> None:
    name = "x\"; SELECT nextval('canary'); --"
    create(target, name)
    spec = spec_of(target, [described("t", name, drift="added: reject")])
    with postgres_reader(spec, SecretStr(target.url), target.lake) as reader, pytest.raises(SourceSchemaError) as told:
        reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code")
    assert f"{name}c" in str(told.value)


@pytest.mark.parametrize("backslashes", ["on", "off"])
def test_a_backslash_is_a_backslash_whatever_the_server_is_set_to(target: DatabaseSource, backslashes: str) -> None:
    name = "x\\'; SELECT nextval('canary'); --"
    target.admin.execute(f"ALTER DATABASE hostile_names SET standard_conforming_strings = {backslashes}")
    create(target, name)
    spec = spec_of(target, [described("t", name)])
    with postgres_reader(spec, SecretStr(target.url), target.lake) as reader:
        assert reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code").rows_staged == 1


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_a_name_that_is_no_identifier_never_gets_past_the_spec(tmp_path: Path, name: str) -> None:
    source = DatabaseSource(None, "", "", "", new_lake(tmp_path / "state"), tmp_path)  # type: ignore[arg-type]
    for place in ("schema", "source_name"):
        text = described("t", "good").replace(f'    {place}: "good"', f"    {place}: {json.dumps(name)}")
        with pytest.raises(SpecError):
            spec_of(source, [text])
    text = described("t", "good").replace('source_name: "gooda"', f"source_name: {json.dumps(name)}")
    with pytest.raises(SpecError):
        spec_of(source, [text])
