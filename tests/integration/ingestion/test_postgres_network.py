"""Fault 2: the network between drops, resets, stalls or slices; and laws of TLS: who is not proven is not talked to.

Each trial of the fault prints a JSON line.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.errors import PenstockError, SourceUnavailable, TransientError
from common.intervals import day_interval
from ingestion.databases import postgres_session
from ingestion.databases.checksums import lake_checksums
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from lake.paths import engine_path
from lake.sql import parquet_relation
from penstock.embedded import EmbeddedServices
from tests.doubles.tcp import Fault, tcp_proxy
from tests.integration.ingestion.conftest import DatabaseSource, new_lake
from tests.integration.ingestion.shops import database_shop

ROWS = 30_000
TIMEOUT_S = 4.0


@pytest.fixture
def changing(database: DatabaseSource, services: EmbeddedServices) -> Iterator[SourceSpec]:
    """A table of five chunks whose rows are updated, inserted and deleted all the time."""
    with changing_rows(database, services.postgres_url) as spec:
        yield spec


@contextmanager
def changing_rows(database: DatabaseSource, postgres_url: str) -> Iterator[SourceSpec]:
    """The same for whoever has no fixtures."""
    database.run("CREATE TABLE {s}.t (id int PRIMARY KEY, v text)")
    database.run(f"INSERT INTO {{s}}.t SELECT g, repeat(md5(g::text), 4) FROM generate_series(1, {ROWS}) AS g")
    database.admin.execute(f"ANALYZE {database.schema}.t")
    over = threading.Event()

    def change() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            number = ROWS
            while not over.is_set():
                number += 1
                admin.execute(
                    f"UPDATE {database.schema}.t SET v = v || '!' WHERE id % 997 = {number % 997}; "
                    f"INSERT INTO {database.schema}.t VALUES ({number}, 'new'); "
                    f"DELETE FROM {database.schema}.t WHERE id = {number - ROWS}"
                )
                over.wait(0.01)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        yield database.spec("id: int32, v: string", more="    chunk_rows: 6000\n")
    finally:
        over.set()
        writer.join()


def differences(database: DatabaseSource, spec: SourceSpec, url: str) -> tuple[StagedBatch, int]:
    """Stage again, and count the columns whose checksum is not the source's own at the same snapshot."""
    with database.open(spec, url) as reader:
        batch = reader.stage(spec.tables[0], day_interval("2013-01-01"), code="code")
        expected = reader.source_checksums(spec.tables[0]) or {}
    columns, field_ids = database.lake.columns(batch.table)
    relation = parquet_relation([engine_path(file) for file in batch.files], columns, field_ids)
    with database.lake.connect() as connection:
        found = lake_checksums(connection, spec.tables[0], relation)
    return batch, sum(found[name] != expected[name] for name in expected)


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize(("fault", "after_bytes"), [("drop", 400_000), ("reset", 700_000), ("stall", 500_000)])
def test_a_connection_that_breaks_or_stalls_while_rows_change_leaves_nothing_and_a_retry_differs_in_nothing(
    database: DatabaseSource, changing: SourceSpec, fault: Fault, after_bytes: int, readers: int
) -> None:
    settings: dict[str, Any] = {"parallel_reads": readers, "statement_timeout_s": TIMEOUT_S}
    lake = new_lake(database.lake.settings.home, **settings)
    with tcp_proxy(database.url, fault, after_bytes) as between:
        began = time.monotonic()
        with pytest.raises(SourceUnavailable) as broken:
            database.stage(changing, url=between.url, lake=lake)
        seconds = time.monotonic() - began
    assert isinstance(broken.value, TransientError)
    assert ("said nothing more" in str(broken.value)) == (fault == "stall")
    assert [thread for thread in threading.enumerate() if thread.name.startswith("penstock-reader")] == []
    left = database.staged_files() + [p for p in (lake.settings.home / "extracts").rglob("*") if p.is_file()]
    assert left == []
    batch, wrong = differences(database, changing, database.url)
    assert (wrong, batch.rows_in) == (0, ROWS)
    figures = {"readers": readers, "seconds": round(seconds, 2), "timeout_s": TIMEOUT_S, "columns_differing": wrong}
    sys.stdout.write(json.dumps({"fault": fault, **figures}) + "\n")


def test_a_source_that_answers_in_slices_is_read_whole(database: DatabaseSource, changing: SourceSpec) -> None:
    with tcp_proxy(database.url, "slice") as between:
        batch, wrong = differences(database, changing, between.url)
    assert (wrong, batch.rows_in) == (0, ROWS)


@pytest.mark.parametrize("after_bytes", [0, 200])
def test_a_server_that_stalls_while_it_is_connected_to_is_given_up(
    database: DatabaseSource, after_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "CONNECT_TIMEOUT_S", 2)
    database.run("CREATE TABLE {s}.t (id int)")
    lake = new_lake(database.lake.settings.home, statement_timeout_s=TIMEOUT_S)
    with tcp_proxy(database.url, "stall", after_bytes) as between, pytest.raises(SourceUnavailable):
        database.stage(database.spec("id: int32"), url=between.url, lake=lake)
    assert database.staged_files() == []


def test_a_run_whose_source_breaks_off_publishes_nothing_and_the_next_one_everything(
    database: DatabaseSource, changing: SourceSpec
) -> None:
    assert changing.source == "shop"
    shop = database_shop(database)
    shop.declare((database.folder / "shop.yml").read_text())
    with tcp_proxy(database.url, "reset", 500_000) as between:
        shop.url = between.url
        with pytest.raises(SourceUnavailable):
            shop.ingest()
        assert not shop.pipeline().lake.live(shop.raw)
    shop.url = database.url
    assert shop.ingest().published == ROWS
    assert shop.rows("count(distinct id)") == [(ROWS,)]


# -- TLS --------------------------------------------------------------------------------------------------------------


def authority(folder: Path, name: str) -> tuple[x509.Name, ec.EllipticCurvePrivateKey, Path]:
    """A certificate authority that exists for one test; answers its name, key and the file of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _certificate(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return subject, key, path


def server_certificate(
    folder: Path, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey, Path], names: list[x509.GeneralName]
) -> Path:
    """A server's certificate and key in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    certificate = (
        _certificate(subject, issuer[0], key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer[1], hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )


LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_a_server_that_its_authority_proves_is_read_in_tls_by_every_reader(
    database: DatabaseSource, changing: SourceSpec, tmp_path: Path
) -> None:
    trusted = authority(tmp_path, "trusted authority")
    certificate = server_certificate(tmp_path, trusted, [LOOPBACK])
    with tcp_proxy(database.url, certificate=certificate) as between:
        options = f"?sslmode=verify-full&sslrootcert={quote(str(trusted[2]), safe='')}"
        batch, wrong = differences(database, changing, between.url + options)
        assert between.in_tls >= 2
    assert (wrong, batch.rows_in) == (0, ROWS)


@pytest.mark.parametrize(
    ("mode", "names", "trusts", "said"),
    [
        ("verify-full", [LOOPBACK], "another authority", "certificate"),
        ("verify-ca", [LOOPBACK], "another authority", "certificate"),
        ("verify-full", [x509.DNSName("other.example.org")], "trusted authority", "certificate"),
        ("require", None, "trusted authority", "TLS"),
    ],
)
def test_a_server_that_is_not_proven_is_refused_and_says_what_to_correct(
    database: DatabaseSource, tmp_path: Path, mode: str, names: list[x509.GeneralName] | None, trusts: str, said: str
) -> None:
    database.run("CREATE TABLE {s}.t (id int)")
    authorities = {name: authority(tmp_path, name) for name in ("trusted authority", "another authority")}
    certificate = server_certificate(tmp_path, authorities["trusted authority"], names) if names else None
    with tcp_proxy(database.url, certificate=certificate) as between:
        options = f"?sslmode={mode}&sslrootcert={quote(str(authorities[trusts][2]), safe='')}"
        with pytest.raises(PenstockError) as refused:
            database.stage(database.spec("id: int32"), url=between.url + options)
    message = str(refused.value)
    assert not isinstance(refused.value, TransientError), message
    assert said in message
    assert "sslrootcert" in message
    assert database.staged_files() == []
