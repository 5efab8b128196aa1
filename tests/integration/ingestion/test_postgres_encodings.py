"""Laws of a PostgreSQL that is not UTF-8: no character is replaced, and no row ends the read of its table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest

from ingestion.databases import postgres_types
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from penstock.embedded import EmbeddedServices
from tests.integration.ingestion.conftest import DatabaseSource, rejects
from tests.integration.ingestion.test_postgres_reader import checksums


@contextmanager
def encoded(services: EmbeddedServices, database: DatabaseSource, encoding: str) -> Iterator[psycopg.Connection[Any]]:
    """A database of another encoding with a table's schema in it; ``database.url`` leads there; dropped at the end."""
    name = f"{encoding.lower()}_{database.schema}"
    locale = "LC_COLLATE 'C' LC_CTYPE 'C'"
    database.admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' {locale} TEMPLATE template0")
    database.url = services.postgres_url.replace("/flightops", f"/{name}")
    try:
        with psycopg.connect(database.url, autocommit=True, client_encoding=encoding) as admin:
            admin.execute(f"CREATE SCHEMA {database.schema}")
            yield admin
    finally:
        database.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


BYTES = {
    1: ("plain", None),
    2: ("Z\\303\\274rich \\360\\237\\230\\200", None),
    3: ("", None),
    4: ("Z\\374rich", 2),
    5: ("abc\\355\\240\\200", 4),  # a lone surrogate
    6: ("\\300\\200", 1),  # NUL in two bytes
    7: ("\\364\\220\\200\\200", 1),  # beyond the last character
    8: ("a\\342\\202", 2),  # cut off
    9: ("\\\\374", None),  # a backslash and digits are text
}
"""Rows by number: bytes as octal escapes, and where they cease to be UTF-8."""


def test_bytes_that_are_no_utf8_set_their_row_apart_with_key_position_and_every_byte(
    services: EmbeddedServices, database: DatabaseSource
) -> None:
    with encoded(services, database, "SQL_ASCII") as admin:
        admin.execute(f"CREATE TABLE {database.schema}.t (id int PRIMARY KEY, v text, c char(30), n numeric)".encode())
        for number, (octal, _) in BYTES.items():
            admin.execute(f"INSERT INTO {database.schema}.t VALUES ({number}, E'{octal}', 'x', 1.5)".encode())
        spec = database.spec("id: int32, v: string, c: string, n: decimal(5,1)")
        staged = database.stage(spec)
        good = {number: octal for number, (octal, bad) in BYTES.items() if bad is None}
        assert dict(database.rows(staged, "id", "v")) == {n: text_of(octal) for n, octal in good.items()}
        assert sorted(rejects(staged)) == [
            ("exact_value", "v holds bytes that have no form in UTF-8", f'key {{"id":{number}}}, byte {bad} of v')
            for number, (_, bad) in BYTES.items()
            if bad is not None
        ]
        rows = {row["id"]: row for row in (json.loads(reject["row"]) for reject in staged.early_rejects.to_pylist())}
        assert {number: row["v"] for number, row in rows.items()} == {
            number: octal for number, (octal, bad) in BYTES.items() if bad is not None
        }
        assert (staged.rows_in, staged.rows_staged) == (len(BYTES), len(good))
        admin.execute(f"DELETE FROM {database.schema}.t WHERE id IN (4, 5, 6, 7, 8)".encode())
        same_checksums(database, spec, staged)


def test_a_key_that_is_no_utf8_is_told_in_octal(services: EmbeddedServices, database: DatabaseSource) -> None:
    with encoded(services, database, "SQL_ASCII") as admin:
        admin.execute(f"CREATE TABLE {database.schema}.t (id text PRIMARY KEY, v text[])".encode())
        admin.execute(f"INSERT INTO {database.schema}.t VALUES (E'\\377', NULL), ('a', ARRAY[E'\\374'])".encode())
        staged = database.stage(database.spec("id: string, v: string"))
    assert sorted(position for _, _, position in rejects(staged)) == [
        'key {"id":"\\\\377"}, byte 1 of id',
        'key {"id":"a"}, byte 2 of v',
    ]
    assert (staged.rows_in, staged.rows_staged) == (2, 0)


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
def test_text_of_another_encoding_arrives_as_the_same_characters_with_the_same_checksum(
    services: EmbeddedServices, database: DatabaseSource, encoding: str
) -> None:
    text = "日本" if encoding == "EUC_JP" else "Zürich é ÿ"
    with encoded(services, database, encoding) as admin:
        admin.execute(f"CREATE TABLE {database.schema}.t (id int, v text, c char(12))")
        admin.execute(f"INSERT INTO {database.schema}.t VALUES (1, %s, %s)", [text, text])
        spec = database.spec("id: int32, v: string, c: string")
        staged = database.stage(spec)
        same_checksums(database, spec, staged)
    assert database.rows(staged) == [(1, text, text.ljust(12))]


def test_a_byte_that_is_no_character_sets_its_row_apart(services: EmbeddedServices, database: DatabaseSource) -> None:
    with encoded(services, database, "WIN1252") as admin:
        admin.execute(f"CREATE TABLE {database.schema}.t (id int, v text)")
        admin.execute(f"INSERT INTO {database.schema}.t VALUES (1, E'Z\\374\\200'), (2, E'Z\\374\\201')")
        staged = database.stage(database.spec("id: int32, v: string"))
    assert database.rows(staged) == [(1, "Zü€")]
    assert [position for _, _, position in rejects(staged)] == ['key {"id":2}, byte 3 of v']
    assert json.loads(str(staged.early_rejects["row"][0]))["v"] == "Z\\374\\201"


@pytest.mark.parametrize("charset", postgres_types._CODECS)
def test_the_bytes_that_are_no_character_are_those_of_the_server(database: DatabaseSource, charset: str) -> None:
    bytes_ = "(SELECT set_byte('\\x00', 0, b) AS v FROM generate_series(1, 255) AS b)"
    known = [b for b in range(1, 256) if re.search(f"^{postgres_types._valid_text(charset)}$", chr(b))]
    converts = f"SELECT count(convert(v, '{charset}', 'UTF8')) FROM {bytes_} AS s WHERE get_byte(v, 0) = ANY(%s)"
    assert database.admin.execute(converts, [known]).fetchone() == (len(known),)
    for byte in set(range(1, 256)) - set(known):
        with pytest.raises(psycopg.Error, match="has no equivalent"):
            database.admin.execute(converts, [[byte]])


def text_of(octal: str) -> str:
    """A text written in octal escapes."""
    return octal.encode().decode("unicode_escape").encode("latin-1").decode()


def same_checksums(database: DatabaseSource, spec: SourceSpec, staged: StagedBatch) -> None:
    """The database's figures are the staged file's."""
    with database.open(spec) as reader:
        assert reader.source_checksums(spec.tables[0]) == checksums(database, staged)
