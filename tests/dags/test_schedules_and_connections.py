"""The parts of ``dags/`` that need no Airflow: specs as schedules, Airflow's connections as URLs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from common.errors import IntervalError, SettingsError, SpecError
from dags.penstock_dags.connections import connection_url
from dags.penstock_dags.snapshot_steps import shares_nothing
from dags.penstock_dags.specs import load_schedules

SPEC = """
source: shop
kind: postgresql
connection: shop
time_zone: America/New_York
schedule: "0 9 * * *"
owner: shop-team
description: Orders.
tables: [{name: orders, mode: incremental}, {name: items, mode: snapshot}]
"""
TWO, ONE = ", {name: items, mode: snapshot}]", "]"


@dataclass
class Known:
    """A connection as Airflow hands it over."""

    conn_type: str | None
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = None
    port: int | None = None
    conn_id: str = "shop"
    extra_dejson: dict[str, object] = field(default_factory=dict)


def write(folder: Path, text: str) -> Path:
    (folder / "shop.yml").write_text(text)
    return folder


def test_a_spec_gives_a_schedule(tmp_path: Path) -> None:
    (schedule,) = load_schedules(write(tmp_path, SPEC))
    assert (schedule.dag_id, schedule.cron, schedule.owner) == ("ingest_shop", "0 9 * * *", "shop-team")
    assert dict(schedule.tables) == {"orders": "incremental", "items": "snapshot"}
    assert schedule.ends_at is None


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "objects"])
def test_only_postgresql_shares_a_snapshot_and_only_with_somebody(tmp_path: Path, kind: str) -> None:
    (several,) = load_schedules(write(tmp_path, SPEC.replace("postgresql", kind)))
    assert several.shares_snapshot == (kind == "postgresql")
    (alone,) = load_schedules(write(tmp_path, SPEC.replace("postgresql", kind).replace(TWO, ONE)))
    assert not alone.shares_snapshot


@pytest.mark.parametrize(
    ("conf", "alone"),
    [({}, False), ({"tables": ["a", "b"]}, False), ({"tables": ["a", "a"]}, True), ({"tables": []}, True)],
)
def test_a_run_that_reads_one_table_shares_nothing(conf: dict[str, list[str]], alone: bool) -> None:
    assert shares_nothing(conf) is alone


def test_the_last_run_of_an_ended_source_starts_on_the_day_after_its_last_key(tmp_path: Path) -> None:
    (schedule,) = load_schedules(write(tmp_path, SPEC + "start_date: 2013-01-01\nend_date: 2014-01-01\n"))
    assert schedule.starts_at.isoformat() == "2013-01-01T00:00:00-05:00"
    assert schedule.ends_at is not None
    assert schedule.ends_at.isoformat() == "2014-01-01T23:59:59-05:00"
    assert schedule.end_day == date(2014, 1, 1)


@pytest.mark.parametrize("cron", ["0 * * * *", "0 9 * * 1", "*/5 9 * * *", "0 25 * * *", "@daily"])
def test_a_schedule_that_is_not_once_a_day_is_refused(tmp_path: Path, cron: str) -> None:
    with pytest.raises(SpecError, match=r"shop\.yml.*calendar day"):
        load_schedules(write(tmp_path, SPEC.replace("0 9 * * *", cron)))


@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *"])
def test_a_time_that_clocks_skip_is_refused_because_airflow_would_skip_a_day(tmp_path: Path, cron: str) -> None:
    with pytest.raises(SpecError, match="put forward"):
        load_schedules(write(tmp_path, SPEC.replace("0 9 * * *", cron)))
    (schedule,) = load_schedules(write(tmp_path, SPEC.replace("0 9 * * *", cron).replace("America/New_York", "UTC")))
    assert schedule.cron == cron


@pytest.mark.parametrize("key", ["source", "connection", "owner", "tables"])
def test_a_spec_without_what_a_schedule_needs_names_file_and_key(tmp_path: Path, key: str) -> None:
    text = "\n".join(line for line in SPEC.splitlines() if not line.startswith(f"{key}:"))
    with pytest.raises(SpecError, match=rf"shop\.yml.*{key}"):
        load_schedules(write(tmp_path, text))


def test_a_day_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntervalError, match="2013-02-30"):
        load_schedules(write(tmp_path, SPEC + "start_date: '2013-02-30'\n"))


def test_a_database_connection_becomes_a_url_with_its_parts_quoted() -> None:
    known = Known("postgres", host="db.example", schema="shop", login="reader", password="p@ss/w:rd", port=5433)
    assert connection_url(known) == "postgresql://reader:p%40ss%2Fw%3Ard@db.example:5433/shop"


def test_a_mysql_connection_becomes_a_url_with_its_tls_options() -> None:
    extra: dict[str, object] = {"ssl_mode": "verify_ca", "ssl_ca": "/etc/ssl/ca.pem", "other": 1}
    known = Known("mysql", host="db.example", schema="my shop", login="reader", password="p@ss", extra_dejson=extra)
    assert connection_url(known) == (
        "mysql://reader:p%40ss@db.example:3306/my%20shop?ssl_mode=verify_ca&ssl_ca=%2Fetc%2Fssl%2Fca.pem"
    )


def test_a_bucket_connection_becomes_a_url_with_endpoint_and_region() -> None:
    extra: dict[str, object] = {"endpoint_url": "http://127.0.0.1:8333", "region_name": "us-east-1", "other": 1}
    known = Known("aws", schema="stations", login="key", password="secret", extra_dejson=extra)
    assert connection_url(known) == ("s3://key:secret@stations?endpoint=http%3A%2F%2F127.0.0.1%3A8333&region=us-east-1")


def test_a_folder_connection_becomes_a_url_with_its_path_quoted() -> None:
    known = Known("fs", extra_dejson={"path": "/data/exports & more/#1"})
    assert connection_url(known) == "file:///data/exports%20%26%20more/%231"


@pytest.mark.parametrize(
    "known",
    [
        Known("http", host="x"),
        Known(None),
        Known("postgres", host="x"),
        Known("mysql", host="x"),
        Known("aws"),
        Known("fs"),
    ],
)
def test_a_connection_that_is_no_source_is_refused_without_its_password(known: Known) -> None:
    known.password = "hunter2"
    with pytest.raises(SettingsError, match="shop") as caught:
        connection_url(known)
    assert "hunter2" not in str(caught.value)
