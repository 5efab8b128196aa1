"""Laws of the ids under which lineage events name a task of Airflow: they are those of Airflow's own provider."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openlineage.client.uuid import generate_static_uuid

from dags.penstock_dags.lineage_ids import dated_uuid, task_parent

DUE, LATER = datetime(2013, 1, 2, 14, tzinfo=UTC), datetime(2013, 1, 2, 15, 30, tzinfo=UTC)
TASK = SimpleNamespace(dag_id="ingest_shop", task_id="ingest", run_id="manual__1", try_number=2, map_index=3)


@given(st.integers(0, 4_000_000_000_000_000), st.integers(-12, 14), st.text(st.characters(codec="utf-8")))
def test_an_id_is_what_openlineages_own_client_makes_of_the_same(microseconds: int, hours: int, text: str) -> None:
    moment = datetime(1970, 1, 2, tzinfo=timezone(timedelta(hours=hours))) + timedelta(microseconds=microseconds)
    assert dated_uuid(moment, text) == str(generate_static_uuid(moment, text.encode()))


@pytest.mark.parametrize(("logical", "date"), [(DUE, DUE), (None, LATER)], ids=["with a date", "by key"])
def test_a_task_and_its_run_are_called_as_airflows_provider_calls_them(
    logical: datetime | None, date: datetime
) -> None:
    dag_run = SimpleNamespace(logical_date=logical, run_after=LATER, clear_number=1)
    parent = task_parent(TASK, dag_run, "lineage")
    assert (parent.namespace, parent.job) == ("lineage", "ingest_shop.ingest")
    assert parent.run_id == str(generate_static_uuid(date, b"lineage.ingest_shop.ingest.2.3"))
    assert parent.root is not None
    assert (parent.root.namespace, parent.root.job) == ("lineage", "ingest_shop")
    assert parent.root.run_id == str(generate_static_uuid(date, b"lineage.ingest_shop.1"))
