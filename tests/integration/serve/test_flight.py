"""The Flight door with real clients: the stock ADBC driver, and pyarrow's own; each sees what the policy allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from common.errors import SettingsError
from tests.integration.serve.served import CANARY, Served, publish
from tests.integration.serve.test_following import wait_for
from warehouse.flight import connections, server
from warehouse.flight.certificate import Certificate, own_certificate, read_certificate
from warehouse.flight.server import FlightDoor
from warehouse.releases import Releases
from warehouse.serve.query_log import read_log


@dataclass(frozen=True)
class Door:
    """A Flight door over a service.

    Attributes:
        served: the service.
        server: the door.
        certificate: what clients believe.
    """

    served: Served
    server: FlightDoor
    certificate: Certificate

    def adbc(self, role: str = "admin", **token: str) -> flight_sql.Connection:
        """A connection of the ADBC driver, as a role or with a token."""
        options = {
            DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token.get('token', self.served.tokens.get(role))}",
            DatabaseOptions.TLS_ROOT_CERTS.value: self.certificate.chain.decode(),
        }
        return flight_sql.connect(self.server.address, db_kwargs=options, autocommit=True)

    def sql(self, text: str, role: str = "admin", parameters: Any = None, **token: str) -> pa.Table:
        """What the ADBC driver gets for a statement."""
        with self.adbc(role, **token) as connection, connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetch_arrow_table()

    @contextmanager
    def plain(self, role: str = "admin") -> Iterator[tuple[flight.FlightClient, flight.FlightCallOptions]]:
        """Pyarrow's client as a role."""
        headers: list[Any] = [(b"authorization", f"Bearer {self.served.tokens[role]}".encode())]
        options = flight.FlightCallOptions(headers=headers)
        with flight.connect(self.server.address, tls_root_certs=self.certificate.chain.decode()) as client:
            yield client, options

    def get(self, ticket: str | dict[str, Any], role: str = "admin") -> pa.Table:
        """What pyarrow's client gets for a ticket."""
        content = ticket if isinstance(ticket, str) else json.dumps(ticket)
        with self.plain(role) as (client, options):
            return client.do_get(flight.Ticket(content.encode()), options).read_all()


def open_door(served: Served) -> Door:
    """A door over a service; close its server."""
    certificate = own_certificate(served.folder / "serve" / "flight", "127.0.0.1")
    return Door(served, FlightDoor(served.service, host="127.0.0.1", port=0, certificate=certificate), certificate)


@pytest.fixture(scope="module")
def door(served: Served) -> Iterator[Door]:
    """A door over the release that nobody changes."""
    found = open_door(served)
    yield found
    found.server.close()


@pytest.fixture
def own_door(start: Callable[..., Served]) -> Iterator[Door]:
    """A door over a release of the test's own."""
    found = open_door(start())
    yield found
    found.server.close()


def names(connection: flight_sql.Connection, **which: Any) -> dict[str, list[str]]:
    """Columns by table, as GetObjects tells them."""
    [catalog] = connection.adbc_get_objects(**which).read_all().to_pylist()
    assert catalog["catalog_name"] == "penstock"
    return {
        f"{schema['db_schema_name']}.{table['table_name']}": [each["column_name"] for each in table["table_columns"]]
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }


def test_the_stock_adbc_driver_reads_aggregates_binds_parameters_and_learns_columns_beforehand(door: Door) -> None:
    found = door.sql("select origin, sum(flights) as n from penstock.main.routes group by all order by n desc limit 1")
    assert (
        found.to_pylist()
        == door.served.sql("select origin, sum(flights) as n from routes group by all order by n desc limit 1").json()[
            "rows"
        ]
    )
    text = "select count(*) as n from routes where origin = ? and flights > ? and day >= ?"
    [row] = door.sql(text, parameters=("JFK", 10, None)).to_pylist()
    assert row == {"n": 0}
    [row] = door.sql("select count(*) as n from routes where origin = ?", parameters=("JFK",)).to_pylist()
    assert row == {"n": 100}
    with door.adbc() as connection, connection.cursor() as cursor:
        for origin in ("JFK", "LGA"):
            cursor.execute("select distinct origin from routes where origin = ?", (origin,))
            assert cursor.fetchall() == [(origin,)]
        schema = cursor.adbc_execute_schema("select day, count(*) as n from routes group by all")
        assert [(field.name, field.type) for field in schema] == [("day", pa.date32()), ("n", pa.int64())]
        assert connection.adbc_get_info()["vendor_name"] == "Penstock"
        assert connection.adbc_get_table_types() == ["TABLE"]


def test_metadata_shows_what_the_role_sees_and_nothing_else(door: Door) -> None:
    with door.adbc("analyst") as connection:
        assert names(connection) == {
            "main.flights": ["flight_id", "origin", "tail", "note", "departed_at", "version"],
            "main.routes": ["day", "origin", "flights", "delay_min", "version"],
        }
        assert list(names(connection, table_name_filter="r%s")) == ["main.routes"]
        schema = connection.adbc_get_table_schema("routes")
        told = schema.field("flights").metadata or {}
        assert told[b"ARROW:FLIGHT:SQL:REMARKS"] == b"Flights of the day."
        with pytest.raises(flight_sql.ProgrammingError):
            connection.adbc_get_table_schema("payroll")
    with door.adbc("nobody") as connection:
        assert names(connection) == {}
    with door.plain("reader") as (client, options):
        flights = list(client.list_flights(options=options))
    assert [(each.descriptor.path, each.schema.names) for each in flights] == [
        ([b"routes"], ["day", "origin", "flights"])
    ]


def test_hidden_masked_and_filtered_is_as_in_the_http_door(door: Door) -> None:
    by_http = door.served.rows("/v1/datasets/flights/rows", "analyst", sort="flight_id")
    answers = (
        door.sql("select * from flights", "analyst"),
        door.sql("select * from flights order by flight_id", "analyst"),
        door.get("flights", "analyst"),
        door.get({"dataset": "flights", "sort": "flight_id"}, "analyst"),
    )
    for found in answers:
        rows = sorted(
            found.select(["flight_id", "origin", "tail", "note"]).to_pylist(), key=lambda row: row["flight_id"]
        )
        assert rows == [{name: row[name] for name in ("flight_id", "origin", "tail", "note")} for row in by_http]
        assert "pilot" not in found.column_names
        assert CANARY not in str(found.to_pylist())
    asks: tuple[Callable[[], object], ...] = (
        lambda: door.sql("select pilot from flights", "analyst"),
        lambda: door.sql("select * from payroll", "analyst"),
        lambda: door.sql("select * from warehouse.main.payroll"),
        lambda: door.get("payroll", "analyst"),
        lambda: door.get({"dataset": "flights", "select": "pilot"}, "analyst"),
        lambda: door.get({"dataset": "flights", "filter": ["pilot:is_null:false"]}, "analyst"),
        lambda: door.sql("select * from flights", "broken"),
    )
    for ask in asks:
        with pytest.raises((flight_sql.Error, flight.FlightError)) as refused:
            ask()
        assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("insert into routes values (1)", "sql_refused"),
        ("create table x as select 1", "sql_refused"),
        ("select * from read_text('/etc/passwd')", "sql_refused"),
        ("select 1; select 2", "sql_refused"),
        ("select nothing from routes", "sql_error"),
        ("selec", "sql_error"),
    ],
)
def test_the_guard_of_sql_stands_here_too_and_nothing_leaks(door: Door, text: str, code: str) -> None:
    with pytest.raises(flight_sql.Error) as refused:
        door.sql(text)
    told = str(refused.value)
    assert f"(code: {code})" in told
    assert "Remedy: " in told
    assert not any(leak in told for leak in ("Traceback", ".py", str(door.served.folder)))


def test_what_writes_is_refused(door: Door) -> None:
    with door.adbc() as connection, connection.cursor() as cursor:
        writes: tuple[Callable[[], object], ...] = (
            partial(cursor.adbc_ingest, "routes", pa.table({"a": [1]}), mode="append"),
            lambda: cursor.executemany("insert into routes values (?)", [(1,), (2,)]),
        )
        for write in writes:
            with pytest.raises(flight_sql.Error, match=r"Nothing can be written here|no SELECT"):
                write()
    with door.plain() as (client, options):
        writer, _ = client.do_put(flight.FlightDescriptor.for_path("routes"), pa.schema([("a", pa.int64())]), options)
        with pytest.raises(flight.FlightError, match="method_not_allowed"):
            writer.close()
        with pytest.raises(flight.FlightError, match="not_found"):
            list(client.do_action(flight.Action("BeginTransaction", b""), options))


def test_scopes_hold_and_a_whole_dataset_needs_only_read(door: Door) -> None:
    assert door.sql("select * from routes", "reader").num_rows == 400
    with pytest.raises(flight_sql.Error, match=r"scope_missing"):
        door.sql("select count(*) from routes", "reader")


def test_tokens_that_are_none_or_over_or_taken_back_are_refused(own_door: Door) -> None:
    issuer = own_door.served.issuer
    short, _ = issuer.issue("admin", ["read", "sql"], subject="s", audience="penstock", expires_in_s=-5)
    good, claims = issuer.issue("admin", ["read", "sql"], subject="s", audience="penstock", expires_in_s=600)
    assert own_door.sql("select 1 as one", token=good).to_pylist() == [{"one": 1}]
    issuer.revoke(claims["jti"])
    for token, code in (("nonsense", "token_invalid"), (short, "token_expired"), (good, "token_revoked")):
        with pytest.raises(flight_sql.Error, match=rf"UNAUTHENTICATED.*\(code: {code}\)"):
            own_door.sql("select 1 as one", token=token)
    with flight.connect(own_door.server.address, tls_root_certs=own_door.certificate.chain.decode()) as client:
        with pytest.raises(flight.FlightUnauthenticatedError, match="token_missing"):
            client.do_get(flight.Ticket(b"routes")).read_all()
        # A driver that knows only users and passwords sends the token as the password.
        header = client.authenticate_basic_token("anybody", own_door.served.tokens["reader"])
        options = flight.FlightCallOptions(headers=[header])
        assert client.do_get(flight.Ticket(b"routes"), options).read_all().num_rows == 400


def test_a_rate_is_counted_over_all_doors(start: Callable[..., Served]) -> None:
    served = start(requests_per_min=40)
    door = open_door(served)
    try:
        served.service.admission._requests._clock = lambda: 0.0  # so that no minute ends meanwhile
        for _ in range(30):
            assert served.get("/v1/datasets").status_code == 200
        for _ in range(10):
            assert door.get("routes").num_rows == 400
        with pytest.raises(flight.FlightUnavailableError, match="too_many_requests"):
            door.get("routes")
        assert served.get("/v1/datasets").status_code == 429
    finally:
        door.server.close()


def test_tickets_filter_choose_sort_and_cut(door: Door) -> None:
    asked = {"dataset": "routes", "select": "origin,flights", "filter": ["flights:ge:48"], "sort": "-flights,origin"}
    found = door.get({**asked, "limit": 3}).to_pylist()
    path = "/v1/datasets/routes/rows"
    assert found == door.served.rows(
        path, select="origin,flights", filter="flights:ge:48", sort="-flights,origin", limit=3
    )
    for wrong in ('{"dataset": "routes", "x": 1}', '{"dataset": "routes", "limit": 0}', "{", "x" * 300_000):
        with pytest.raises(flight.FlightError, match=r"bad_body|body_too_large"):
            door.get(wrong)


def test_queries_follow_the_release_and_a_ticket_stays_on_its_own(own_door: Door) -> None:
    with own_door.plain() as (client, options), own_door.adbc() as connection, connection.cursor() as cursor:
        cursor.execute("select max(version) as v from routes")
        assert cursor.fetchall() == [(1,)]
        info = client.get_flight_info(flight.FlightDescriptor.for_path("routes"), options)
        publish(own_door.served.warehouse, 2)
        wait_for(own_door.served, "r000002")
        cursor.execute("select max(version) as v from routes")  # prepared before the switch
        assert cursor.fetchall() == [(2,)]
        assert set(client.do_get(flight.Ticket(b"routes"), options).read_all()["version"].to_pylist()) == {2}
        pinned = client.do_get(info.endpoints[0].ticket, options).read_all()
        assert set(pinned["version"].to_pylist()) == {1}
        Releases(own_door.served.warehouse).retain(1)
        with pytest.raises(flight.FlightError, match="unknown_release"):
            client.do_get(info.endpoints[0].ticket, options)


def test_a_big_answer_is_streamed_in_messages_that_any_client_takes_and_can_be_left(tmp_path: Path) -> None:
    from tests.integration.serve.served import serve

    publish(tmp_path / "warehouse", 1, big_rows=150_000)  # 150 MB; guarded SQL ends at 64 MB
    served = serve(tmp_path)
    door = open_door(served)
    try:
        with door.adbc() as connection, connection.cursor() as cursor:
            cursor.execute("select * from big")
            batches = list(cursor.fetch_record_batch())
        assert sum(batch.num_rows for batch in batches) == 150_000
        assert max(batch.nbytes for batch in batches) < 16 << 20
        with door.plain() as (client, options):
            reader = client.do_get(flight.Ticket(b"big"), options)
            reader.read_chunk()
            reader.cancel()
        deadline = time.monotonic() + 60
        while door.server._streams._open:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        log = [each for each in read_log(tmp_path / "serve" / "queries") if each["method"] == "DoGet"]
        assert [
            (each["door"], each["code"], each["release"]) for each in log if each["path"] != "CommandGetSqlInfo"
        ] == [
            ("flight", "", "r000001"),
            ("flight", "client_gone", "r000001"),
        ]
        assert max(each["rows"] for each in log) == 150_000
    finally:
        door.server.close()
        served.service.close()


def test_a_caller_that_takes_nothing_is_broken_off_and_does_not_hold_up_the_end(
    start: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "warehouse", 1, big_rows=150_000)  # more than sockets hold
    door = open_door(start())

    def log() -> list[str]:
        return [each["code"] for each in read_log(tmp_path / "serve" / "queries") if each["path"] == "dataset big"]

    with door.plain() as (lazy, options):
        reader = lazy.do_get(flight.Ticket(b"big"), options)
        reader.read_chunk()
        monkeypatch.setattr(connections, "STALLED_S", 0.5)
        deadline = time.monotonic() + 60
        while log() != ["client_gone"]:
            assert time.monotonic() < deadline
            assert door.get("routes").num_rows == 400  # others have connections of their own
            time.sleep(0.05)
        with pytest.raises(flight.FlightError):
            reader.read_all()
    monkeypatch.setattr(connections, "STALLED_S", 600.0)
    monkeypatch.setattr(server, "_STOP_S", 0.2)
    with door.plain() as (lazy, options):
        reader = lazy.do_get(flight.Ticket(b"big"), options)
        reader.read_chunk()
        door.server.close()
        assert log() == ["client_gone", "client_gone"]


def test_one_caller_cannot_take_all_streams(door: Door) -> None:
    streams = door.server._streams
    for _ in range(streams._most_of_one):
        streams.begin("admin")
    try:
        with pytest.raises(flight.FlightUnavailableError, match="busy"):
            door.get("routes")
        assert door.get("routes", "reader").num_rows == 400
    finally:
        for _ in range(streams._most_of_one):
            streams.end("admin")


def test_a_certificate_is_kept_for_as_long_as_it_counts_and_its_key_is_private(tmp_path: Path) -> None:
    first = own_certificate(tmp_path / "a", "127.0.0.1")
    assert own_certificate(tmp_path / "a", "localhost") == first
    other = own_certificate(tmp_path / "a", "10.1.2.3")
    assert other.chain != first.chain
    assert (tmp_path / "a" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert other.path is not None
    assert read_certificate(other.path, tmp_path / "a" / "key.pem").chain == other.chain
    own_certificate(tmp_path / "b", "localhost")
    for chain, key in (("a/certificate.pem", "b/key.pem"), ("a/none.pem", "a/key.pem"), ("a/key.pem", "a/key.pem")):
        with pytest.raises(SettingsError):
            read_certificate(tmp_path / chain, tmp_path / key)
