"""One Airflow for the tests of a module, on real services and with everything that may start a run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.settings import Settings
from penstock.airflow_api import AirflowApi
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.scheduler import Scheduler
from tests.dags.airflow_runs import DAGS, specs_with_events, store_connection
from tests.dags.http_door import Operator, serving
from tests.integration.penstock.collector import Collector, collecting
from tests.nats_server import NatsServer, running_nats


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """What Airflow and its tasks send their spans to."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server with two empty streams."""
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        server.empty_streams()
        yield server


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where backups go."""
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def scheduler(services: EmbeddedServices, bus: NatsServer, collector: Collector, backups: Path) -> Iterator[Scheduler]:
    """Airflow with every DAG unpaused. Only bucket and queue are in the environment; the database is a connection.

    The specs are the bundled ones, with a watch on the bucket from the day of which it has nothing, and a queue.
    """
    # Not pytest's own temporary folder: it has no place for a database that is still being written at the end.
    home = Path(tempfile.mkdtemp(prefix="penstock-airflow-"))
    environment = {
        "PENSTOCK_CONNECTIONS__STATIONS": services.connections["stations"],
        "PENSTOCK_CONNECTIONS__BUS": bus.url,
        "PENSTOCK_SOURCES": str(specs_with_events(home / "sources")),
        "PENSTOCK_BACKUP_URI": str(backups),
        "AIRFLOW__TRACES__OTEL_ON": "True",
        "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    airflow = Scheduler(home, triggers=True, environment=environment)
    try:
        airflow.start()
        api = airflow.api
        api.wait_for_dags(DAGS)
        store_connection(api, services.connections["flightops"])
        for dag_id in DAGS:
            api.unpause(dag_id)
        yield airflow
    finally:
        airflow.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def api(scheduler: Scheduler) -> AirflowApi:
    return scheduler.api


@pytest.fixture(scope="module")
def pipeline(scheduler: Scheduler, services: EmbeddedServices) -> Pipeline:
    home = scheduler.home
    return Pipeline(Settings.load({}, home=home, sources=home / "sources", connections=services.connections))


@pytest.fixture(scope="module")
def operator(scheduler: Scheduler, services: EmbeddedServices) -> Iterator[Operator]:
    """Somebody who operates it all by HTTP. There must be a release."""
    home = scheduler.home
    with serving(home, home / "sources", stations=services.connections["stations"]) as found:
        yield found
