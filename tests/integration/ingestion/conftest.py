"""A source of the test's own: objects under a prefix of the real bucket, tables in a schema of the real database."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest
from pydantic import SecretStr

from common.intervals import day_interval
from common.settings import Settings
from ingestion.databases.reader import DatabaseReader, postgres_reader
from ingestion.objects.reader import ObjectReader
from ingestion.spec import SourceSpec, load_source
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.object_store import S3Location, parse_s3_url, s3_client
from lake.paths import engine_path
from lake.sql import identifier, parquet_relation
from penstock.embedded import EmbeddedServices
from tests.mariadb_server import READER, MariadbServer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from tests.integration.ingestion.mysql_source import MysqlSource

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def staged_rows(lake: Lake, staged: StagedBatch, *names: str) -> list[tuple[Any, ...]]:
    """Rows of a staged batch, in the order of its file."""
    columns, field_ids = lake.columns(staged.table)
    relation = parquet_relation([engine_path(file) for file in staged.files], columns, field_ids)
    wanted = ", ".join(identifier(name) for name in names) or "*"
    with lake.connect() as connection:
        return connection.execute(f"SELECT {wanted} FROM {relation}").fetchall()


def rejects(staged: StagedBatch) -> list[tuple[str, str, str]]:
    """Rule, reason and position of the rows that were set apart while reading."""
    rows = staged.early_rejects.to_pylist()
    return [(row["rule"], row["reason"], row["position"]) for row in rows]


def new_lake(folder: Path, **settings: Any) -> Lake:
    """An empty local lake whose clock stands in 2026."""
    return Lake(Settings.load({}, home=folder, **settings), clock=lambda: NOW)


@dataclass
class BucketSource:
    """A table of CSV objects, one or more per day, in the two columns a and b unless the spec says otherwise."""

    url: str
    prefix: str
    client: S3Client
    location: S3Location
    lake: Lake
    folder: Path

    def key(self, day: str = "2013-01-01", part: str = "p") -> str:
        """Key of an object."""
        return f"{self.prefix}/{part}/{day}.csv"

    def put(self, text: str | bytes, *, day: str = "2013-01-01", part: str = "p", packed: bool = False) -> str:
        """Store an object; returns its key."""
        body = text.encode() if isinstance(text, str) else text
        key = self.key(day, part)
        self.client.put_object(Bucket=self.location.bucket, Key=key, Body=gzip.compress(body) if packed else body)
        return key

    def spec(
        self,
        columns: str = "a: string, b: string",
        *,
        compression: str = "none",
        nulls: str = '["NA"]',
        more: str = "",
        drift: str = "added: ignore",
    ) -> SourceSpec:
        """The source's spec, of which the first column is the key."""
        names = [part.strip().split(": ") for part in columns.split(", ")]
        listed = "\n".join(
            f'      - {{name: {name}, type: "{kind}", nullable: {"true" if n else "false"}}}'
            for n, (name, kind) in enumerate(names)
        )
        path = self.folder / "shop.yml"
        path.write_text(
            f"source: shop\nkind: objects\nconnection: shop\nowner: me@example.org\ntables:\n  - name: orders\n"
            f"    mode: append\n    primary_key: [{names[0][0]}]\n    on_drift: {{{drift}}}\n"
            f'    objects:\n      path: "{self.prefix}/{{part}}/{{key}}.csv"\n      compression: {compression}\n'
            f"      null_tokens: {nulls}\n{more}    columns:\n{listed}\n"
        )
        return load_source(path)

    def open(self, spec: SourceSpec, url: str | None = None) -> ObjectReader:
        """A reader that has listed nothing yet."""
        return ObjectReader(spec, SecretStr(url or self.url), self.lake)

    def stage(self, spec: SourceSpec | None = None, *, day: str = "2013-01-01", url: str | None = None) -> StagedBatch:
        """What a run does with one day."""
        spec = spec or self.spec()
        with self.open(spec, url) as reader:
            return reader.stage(spec.table("orders"), day_interval(day), code="code")

    def rows(self, staged: StagedBatch, *names: str) -> list[tuple[Any, ...]]:
        """Rows of a staged batch."""
        return staged_rows(self.lake, staged, *(names or ("a", "b")))

    def left_behind(self) -> list[Path]:
        """Files that a reader has left where it worked."""
        return [path for path in (self.lake.settings.home / "tmp").rglob("*") if path.is_file()]

    def staged_files(self) -> list[Path]:
        """Data files in the lake's folder."""
        return list(Path(self.lake.settings.lake_uri).rglob("*.parquet"))


@pytest.fixture
def bucket(services: EmbeddedServices, tmp_path: Path) -> Iterator[BucketSource]:
    """A prefix of the real bucket; its objects are removed at the end."""
    url = services.connections["stations"]
    location = parse_s3_url(SecretStr(url))
    client = s3_client(location)
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield BucketSource(url, prefix, client, location, new_lake(tmp_path / "state"), tmp_path)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=prefix):
        found = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if found:
            client.delete_objects(Bucket=location.bucket, Delete={"Objects": found})  # type: ignore[typeddict-item]
    client.close()


@dataclass
class DatabaseSource:
    """A schema of the real database, which a role that may only read reads."""

    admin: psycopg.Connection[Any]
    url: str
    schema: str
    role: str
    lake: Lake
    folder: Path

    def run(self, statement: str) -> None:
        """Do something as the owner; ``{s}`` stands for the schema."""
        self.admin.execute(statement.replace("{s}", identifier(self.schema)))
        self.admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {identifier(self.schema)} TO {identifier(self.role)}")

    def spec(
        self, columns: str, *, table: str = "t", cursor: str | None = None, drift: str = "added: ignore", more: str = ""
    ) -> SourceSpec:
        """A spec of one table, of which the first column is the key."""
        tables = [self.table(columns, table=table, cursor=cursor, drift=drift, more=more)]
        return self.spec_of(tables)

    def table(
        self, columns: str, *, table: str = "t", cursor: str | None = None, drift: str = "added: ignore", more: str = ""
    ) -> str:
        """The part of a spec that describes one table."""
        names = [part.strip().split(": ") for part in columns.split(", ")]
        required = {names[0][0], cursor}
        listed = "\n".join(
            f'      - {{name: {name}, type: "{kind}", nullable: {str(name not in required).lower()}}}'
            for name, kind in names
        )
        mode = f"mode: incremental\n    cursor: {{column: {cursor}}}" if cursor else "mode: snapshot"
        return (
            f"  - name: {table}\n    {mode}\n    schema: {json.dumps(self.schema)}\n    primary_key: [{names[0][0]}]\n"
            f"    on_drift: {{{drift}}}\n{more}    columns:\n{listed}\n"
        )

    def spec_of(self, tables: list[str]) -> SourceSpec:
        """A spec of several tables."""
        path = self.folder / "shop.yml"
        path.write_text(
            "source: shop\nkind: postgresql\nconnection: shop\nowner: me@example.org\n"
            "time_zone: America/New_York\ntables:\n" + "".join(tables)
        )
        return load_source(path)

    def open(self, spec: SourceSpec, url: str | None = None, lake: Lake | None = None) -> DatabaseReader:
        """A reader that is not connected yet."""
        return postgres_reader(spec, SecretStr(url or self.url), lake or self.lake)

    def stage(
        self, spec: SourceSpec, *, day: str = "2013-01-01", url: str | None = None, lake: Lake | None = None
    ) -> StagedBatch:
        """What a run does with one day."""
        with self.open(spec, url, lake) as reader:
            return reader.stage(spec.tables[0], day_interval(day, spec.time_zone), code="code")

    def rows(self, staged: StagedBatch, *names: str) -> list[tuple[Any, ...]]:
        """Rows of a staged batch."""
        return staged_rows(self.lake, staged, *names)

    def staged_files(self) -> list[Path]:
        """Data files in the lake's folder."""
        return list(Path(self.lake.settings.lake_uri).rglob("*.parquet"))


@pytest.fixture(params=["plain"])
def database(services: EmbeddedServices, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DatabaseSource]:
    """An empty schema of the real database, dropped at the end."""
    schema = f"test_{uuid.uuid4().hex[:12]}" if request.param == "plain" else str(request.param)
    with database_source(services, tmp_path, schema) as made:
        yield made


@contextmanager
def database_source(services: EmbeddedServices, folder: Path, schema: str) -> Iterator[DatabaseSource]:
    """The same for whoever has no fixtures."""
    url = services.connections["flightops"]
    role = urlsplit(url).username or ""
    with psycopg.connect(services.postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {identifier(schema)}")
        admin.execute(f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(role)}")
        try:
            yield DatabaseSource(admin, url, schema, role, new_lake(folder / "state"), folder)
        finally:
            admin.execute(f"DROP SCHEMA {identifier(schema)} CASCADE")


@pytest.fixture
def mysql(mariadb: MariadbServer, tmp_path: Path) -> Iterator[MysqlSource]:
    """An empty database of the real MariaDB, dropped at the end."""
    from tests.integration.ingestion.mysql_source import MysqlSource

    name = f"test_{uuid.uuid4().hex[:12]}"
    mariadb.run(f"CREATE DATABASE {name}; GRANT SELECT ON {name}.* TO {READER}@'%';")
    try:
        yield MysqlSource(mariadb, name, new_lake(tmp_path / "state"), tmp_path)
    finally:
        mariadb.run(f"DROP DATABASE {name};")
