"""The policy in the BI database: each role sees exactly its columns and rows, as one release, and nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psycopg  # noqa: TID251 - a client as users have it
import pytest
from psycopg import sql  # noqa: TID251

from common.errors import SettingsError, UnknownName, UsageError
from penstock.doors import bi_login, bi_schema
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql
from tests.integration.warehouse.bench import Bench, drop_bench, make_bench
from warehouse.bi import BiPublished, BiSchema
from warehouse.bi_roles import BiAccess
from warehouse.lease import identity
from warehouse.releases import Release
from warehouse.serve.policy import DatasetRule, Policy, Role, Table, shown_to

WHOLE = DatasetRule(columns="all")
FLIGHTS = DatasetRule(columns="all", hide=("pilot",), mask={"tail": "hash", "note": "redacted"}, rows="origin = 'JFK'")
POLICY = Policy(
    roles={
        "all": Role(datasets={"*": WHOLE}),
        "some": Role(datasets={"routes": DatasetRule(columns=("origin", "flights")), "flights": FLIGHTS}),
        "none": Role(),
        "broken": Role(datasets={"flights": DatasetRule(columns="all", hide=("no_such",)), "routes": WHOLE}),
    }
)
SECRET = "canary-77"


class Door:
    """A bench whose schema has a policy.

    Attributes:
        bench: the warehouse and its BI database.
        name: of the schema; roles begin with it.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.name = bench, f"m{uuid.uuid4().hex[:8]}"

    def schema(self, policy: Policy = POLICY, **more: Any) -> BiSchema:
        """The schema under a policy."""
        access = BiAccess(policy, "salt", more.pop("roles", tuple(policy.roles)))
        return BiSchema(
            partial(run_psql, self.bench.url),
            schema=self.name,
            readers=more.pop("readers", (self.bench.reader,)),
            warehouse=identity(self.bench.releases.warehouse),
            access=access,
        )

    def publish(self, release: Release, policy: Policy = POLICY, **more: Any) -> BiPublished:
        """Publish under a newer lease."""
        self.bench.fence += 1
        return self.schema(policy, **more).publish(release, fence=self.bench.fence)

    def release(self, number: int) -> Release:
        """A release whose tables say its number; ``fixed`` and ``stable`` are the same in all."""
        return self.bench.release(
            f"CREATE TABLE flights AS SELECT i AS flight_id, ['JFK', 'LGA'][1 + i % 2] AS origin, 'N' || i AS tail, "
            f"'{SECRET}' AS pilot, 'note' AS note, {number} AS number FROM range(20) AS r(i)",
            "COMMENT ON TABLE flights IS 'Flights. Grain: one row per flight.'",
            "COMMENT ON COLUMN flights.tail IS 'The aircraft.'",
            f"CREATE TABLE routes AS SELECT 'JFK' AS origin, {number} AS flights, '{SECRET}' AS owner",
            "CREATE TABLE stable AS SELECT i AS id, 'x' AS word FROM range(5) AS r(i)",
            bi={
                "flights": {"primary_key": ["flight_id"], "indexes": [["tail"], ["origin"]]},
                "routes": {},
                "stable": {},
            },
        )

    def role(self, role: str) -> str:
        """Name of a role's schema and PostgreSQL role."""
        return f"{self.name}_{role}"

    def seen(self, role: str) -> dict[str, list[str]]:
        """Columns by relation of everything that a role may SELECT from, in the whole database."""
        rows = self.ask(
            role,
            "SELECT c.oid::regclass::text, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind IN ('r', 'v') "
            "AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND has_schema_privilege(n.oid, 'USAGE') "
            "AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1, a.attnum",
        )
        found: dict[str, list[str]] = {}
        for relation, column in rows:
            found.setdefault(relation.removeprefix(f"{self.role(role)}."), []).append(column)
        return found

    def ask(self, role: str, query: str) -> list[tuple[Any, ...]]:
        """What a client learns that has become a role."""
        with psycopg.connect(self.bench.url, autocommit=True) as connection:
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(self.role(role))))
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role(role))))
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def door(services: EmbeddedServices, tmp_path: Path) -> Iterator[Door]:
    """An empty warehouse and an empty BI database, whose owner may make roles."""
    name = f"bi_{uuid.uuid4().hex[:8]}"
    bench = make_bench(services.postgres_url, name, tmp_path / "warehouse")
    with psycopg.connect(services.postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(sql.Identifier(f"{name}_owner")))
    found = Door(bench)
    yield found
    with psycopg.connect(services.postgres_url, dbname=name, autocommit=True) as owner:
        roles = owner.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", (f"{found.name}%",)).fetchall()
        for (role,) in roles:
            owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    drop_bench(services.postgres_url, name)


def test_each_role_sees_exactly_what_the_policy_says_and_by_default_nothing(door: Door) -> None:
    release = door.release(1)
    door.publish(release)
    flights = ["flight_id", "origin", "tail", "pilot", "note", "number"]
    routes, stable, own = (
        ["origin", "flights", "owner"],
        ["id", "word"],
        ["release", "published_at", "fence", "loaded_at"],
    )
    assert door.seen("all") == {"_release": own, "flights": flights, "routes": routes, "stable": stable}
    assert door.seen("some") == {
        "_release": own,
        "flights": ["flight_id", "origin", "tail", "note", "number"],
        "routes": ["origin", "flights"],
    }
    assert door.seen("none") == {"_release": own}
    assert door.seen("broken") == {"_release": own, "routes": routes}  # what no longer fits is closed
    # Rows are those of the SELECT that the other doors read.
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{release.database}' AS warehouse (READ_ONLY)")
        table = Table(
            "flights", (("flight_id", "BIGINT"), *((name, "VARCHAR") for name in flights[1:-1]), ("number", "INTEGER"))
        )
        [shown] = shown_to(connection, POLICY.roles["some"], {"flights": table}, salt="salt").values()
        expected = connection.execute(f"{shown.select()} ORDER BY flight_id").fetchall()
    found = door.ask("some", f"SELECT * FROM {door.role('some')}.flights ORDER BY flight_id")
    assert found == expected
    assert {row[1] for row in found} == {"JFK"}
    comments = f"SELECT obj_description('{door.role('some')}.flights'::regclass)"
    assert door.ask("some", comments) == [("Flights. Grain: one row per flight.",)]
    for forbidden in (f"SELECT * FROM {door.name}.flights", f"SELECT * FROM {door.role('all')}.flights"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            door.ask("some", forbidden)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        door.ask("all", f"DELETE FROM {door.role('all')}.stable")
    # Neither salt nor secret can be read off the catalog, which everybody may read.
    definitions = door.ask("some", "SELECT string_agg(definition, ' ') FROM pg_views WHERE schemaname !~ '^pg_'")[0][0]
    assert "salt" not in definitions
    assert SECRET not in definitions


def test_all_schemas_are_swapped_in_one_transaction_and_what_is_the_same_is_carried(door: Door) -> None:
    masked = Policy(
        roles={"some": Role(datasets={"stable": DatasetRule(columns="all", mask={"word": "hash"}), "flights": FLIGHTS})}
    )
    door.publish(door.release(1), masked)
    copy = (
        f"SELECT '{door.role('some')}.stable'::regclass::oid::text, '{door.role('some')}.flights'::regclass::oid::text"
    )
    before = door.ask("some", copy)
    own = door.role("some")
    together = f"SELECT (SELECT release FROM {own}._release), (SELECT max(number) FROM {own}.flights)"
    with psycopg.connect(door.bench.url) as reader:
        reader.execute(f"SELECT * FROM {door.role('some')}._release".encode())
        reader.commit()
        door.publish(door.release(2), masked)
        assert reader.execute(together.encode()).fetchall() == [("r000002", 2)]
        assert reader.execute(f"SELECT max(number) FROM {door.name}.flights".encode()).fetchall() == [(2,)]
    after = door.ask("some", copy)
    assert (before[0][0] == after[0][0], before[0][1] == after[0][1]) == (True, False)
    door.publish(door.bench.releases.rollback("r000001"), masked)
    assert door.ask("some", together) == [("r000001", 1)]
    assert door.bench.schemas() == sorted([door.name, door.role("some")])


def test_a_copy_is_sent_only_the_rows_of_months_that_changed_and_whole_where_the_role_has_no_day(door: Door) -> None:
    def release(second: int) -> Release:
        return door.bench.release(
            "CREATE TABLE flights AS SELECT i AS flight_id, ['JFK', 'LGA'][1 + i % 2] AS origin, 'N' || i AS tail, "
            f"DATE '2013-01-01' + (i // 20 * 31)::INTEGER AS day, [1, {second}][1 + i // 20] AS version "
            "FROM range(40) AS r(i)",
            bi={"flights": {"primary_key": ["flight_id"], "partition_by": "day"}},
        )

    masked = DatasetRule(columns="all", mask={"tail": "hash"}, rows="origin = 'JFK'")
    policy = Policy(
        roles={
            "some": Role(datasets={"flights": masked}),
            "dayless": Role(datasets={"flights": DatasetRule(columns="all", hide=("day",), rows="origin = 'JFK'")}),
        }
    )
    first, second = release(1), release(2)
    assert door.publish(first, policy).rows_sent == 40 + 20 + 20
    # The month; of the filtered copy half of it; and the copy that has no day, whole.
    assert door.publish(second, policy).rows_sent == 20 + 10 + 20
    copies = [
        (role, f"SELECT version, count(*) FROM {door.role(role)}.flights GROUP BY 1 ORDER BY 1")
        for role in policy.roles
    ]
    for role, query in copies:
        assert door.ask(role, query) == [(1, 10), (2, 10)], role
    assert "day" not in door.seen("dayless")["flights"]
    assert door.publish(door.bench.releases.rollback(first.id), policy).rows_sent == 20 + 10 + 20
    for role, query in copies:
        assert door.ask(role, query) == [(1, 20)], role
    # With less in the policy the copies go, and their partitions with them.
    door.publish(first, Policy(roles={"some": Role()}))
    assert door.ask("some", f"SELECT count(*) FROM pg_tables WHERE schemaname = '{door.name}__partitions'") == [(2,)]


def test_a_changed_policy_counts_with_the_next_publishing_of_the_same_release(door: Door) -> None:
    release = door.release(1)
    door.publish(release)
    door.publish(release)
    narrower = Policy(roles={"some": Role(datasets={"routes": DatasetRule(columns=("origin",))})})
    door.publish(release, narrower)
    assert door.seen("some") == {"_release": ["release", "published_at", "fence", "loaded_at"], "routes": ["origin"]}
    assert door.bench.schemas() == sorted([door.name, door.role("some")])
    assert door.ask("all", "SELECT 1") == [(1,)]  # the role is there, for its grants elsewhere,
    assert door.seen("all") == {}  # and sees nothing
    door.publish(release, narrower, roles=())
    assert door.bench.schemas() == [door.name]


def test_what_others_made_is_not_touched_and_a_reader_of_all_is_no_role(door: Door) -> None:
    release = door.release(1)
    with psycopg.connect(door.bench.url, autocommit=True) as owner:
        owner.execute(f"CREATE SCHEMA {door.role('none')}".encode())
    with pytest.raises(UsageError, match="did not make"):
        door.publish(release)
    with psycopg.connect(door.bench.url, autocommit=True) as owner:
        owner.execute(f"DROP SCHEMA {door.role('none')}".encode())
    with pytest.raises(UsageError, match="would read everything"):
        door.publish(release, readers=(door.role("some"),))
    with pytest.raises(UsageError, match="shorten it"):
        door.publish(release, Policy(roles={"x" * 60: Role()}))
    assert door.bench.schemas() == []
    door.publish(release)
    with psycopg.connect(door.bench.url, autocommit=True) as owner:
        owner.execute(f"CREATE VIEW {door.role('some')}.mine AS SELECT 1".encode())
    with pytest.raises(UsageError, match="mine"):
        door.publish(door.release(2))
    with psycopg.connect(door.bench.url, autocommit=True) as owner:
        owner.execute(
            f"DROP VIEW {door.role('some')}.mine; CREATE VIEW mine AS SELECT * FROM {door.role('some')}.routes".encode()
        )
    notices = door.publish(door.release(3)).notices
    assert any(door.role("some") in notice for notice in notices)  # kept for that view, and told
    with psycopg.connect(door.bench.url, autocommit=True) as owner:
        owner.execute(b"DROP VIEW mine")
    assert door.publish(door.release(4)).notices == ()
    assert len(door.bench.schemas()) == 5


def test_a_role_gets_a_login_only_where_the_operator_asks_for_it(door: Door, make_settings: Any) -> None:
    settings = make_settings(
        connections={"bi": door.bench.url},
        warehouse=door.bench.releases.warehouse,
        bi_schema=door.name,
        bi_readers=(door.bench.reader,),
        bi_roles=("some", "all"),
    )
    settings.policy.parent.mkdir(parents=True, exist_ok=True)
    settings.policy.write_text(
        "roles: {some: {datasets: {routes: {columns: [origin]}}}, other: {}, all: {datasets: {'*': {columns: all}}}}"
    )
    schema = bi_schema(settings)
    assert schema is not None
    schema.publish(door.release(1), fence=1)
    assert door.bench.schemas() == sorted([door.name, door.role("some"), door.role("all")])
    logins = f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{door.role('some')}'"
    assert door.bench.ask(logins) == [(False,)]
    url = bi_login(settings, "some")
    assert door.bench.ask("SELECT origin FROM routes", url=url) == [("JFK",)]
    for refused in ("SELECT owner FROM routes", f"SELECT * FROM {door.name}.routes", "CREATE TABLE x (a int)"):
        with pytest.raises(psycopg.Error):
            door.bench.ask(refused, url=url)
    assert bi_login(settings, "some", revoke=True) == ""
    with pytest.raises(psycopg.OperationalError):
        door.bench.ask("SELECT 1", url=url)
    with pytest.raises(UnknownName, match="other"):
        bi_login(settings, "other")
    with pytest.raises(SettingsError):
        bi_login(settings.model_copy(update={"connections": {}}), "some")
    with pytest.raises(UnknownName, match="nobody"):
        bi_schema(settings.model_copy(update={"bi_roles": ("nobody",)}))
