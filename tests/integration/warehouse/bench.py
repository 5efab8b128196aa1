"""A BI database of the test's own, and releases to publish into it that need no dbt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psycopg  # noqa: TID251 - a client as users have it
from psycopg import sql  # noqa: TID251

from penstock.psql import run_psql
from warehouse.bi import BiPublished, BiSchema
from warehouse.inspect import describe_tables
from warehouse.lease import identity
from warehouse.releases import Release, Releases


@dataclass
class Bench:
    """A warehouse, and the BI database it publishes to.

    Attributes:
        releases: the warehouse's releases.
        url: of the database, as its owner.
        reader_url: of the same, as a role that may only read.
        reader: that role.
    """

    releases: Releases
    url: str
    reader_url: str
    reader: str
    fence: int = field(default=0)

    def release(self, *statements: str, bi: Mapping[str, Any] | None = None, **more: Any) -> Release:
        """A published release whose file these statements have made."""
        candidate = self.releases.new_candidate(from_scratch=True)
        with duckdb.connect(str(candidate.database)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for statement in statements:
                connection.execute(statement)
        tables = describe_tables(candidate.database, {})
        marks = {"bi": bi if bi is not None else {table["name"]: {} for table in tables}}
        self.releases.seal(candidate, {"tables": tables, **marks, **more})
        return self.releases.publish(candidate)

    def numbered(self, number: int, *, rows: int = 50) -> Release:
        """A release whose tables ``a`` and ``b`` both say a number in each row; ``fixed`` is the same in all."""
        return self.release(
            f"CREATE TABLE a AS SELECT {number} AS number, range AS id FROM range({rows})",
            f"CREATE TABLE b AS SELECT {number} AS number, range AS id FROM range({rows})",
            "CREATE TABLE fixed AS SELECT 1 AS one",
            bi={"a": {"primary_key": ["id"], "indexes": [["number", "id"]]}, "b": {}, "fixed": {}},
        )

    @property
    def schema(self) -> BiSchema:
        """The schema of the warehouse."""
        return self.schema_named("marts")

    def schema_named(self, name: str, *, warehouse: str | None = None) -> BiSchema:
        """A schema, of this warehouse or of another."""
        return BiSchema(
            partial(run_psql, self.url),
            schema=name,
            readers=(self.reader,),
            warehouse=warehouse or identity(self.releases.warehouse),
        )

    def publish(self, release: Release, **more: Any) -> BiPublished:
        """Publish under a lease that is newer than every one before."""
        self.fence += 1
        return self.schema.publish(release, fence=self.fence, **more)

    def ask(self, query: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """What a client of its own is told."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def schemas(self) -> list[str]:
        """Schemas of the database that PostgreSQL has not made itself."""
        rows = self.ask("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$'")
        return sorted(row[0] for row in rows)


def make_bench(superuser_url: str, name: str, folder: Path) -> Bench:
    """A database of that name with an owner and a reader, and an empty warehouse."""
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        for role in (f"{name}_owner", f"{name}_reader"):
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(f"{name}_owner"))
        )
    server = superuser_url.split("@")[1].split("/", maxsplit=1)[0]
    owner, reader = (f"postgresql://{name}_{role}:secret@{server}/{name}" for role in ("owner", "reader"))
    return Bench(Releases(folder), owner, reader, f"{name}_reader")


def drop_bench(superuser_url: str, name: str) -> None:
    """Remove the database and its roles."""
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (f"{name}_owner", f"{name}_reader"):
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def manifest_of(release: Release) -> dict[str, Any]:
    """What a release's manifest file says."""
    found: dict[str, Any] = json.loads((release.folder / "manifest.json").read_text())
    return found
