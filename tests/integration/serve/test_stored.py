"""A server elsewhere: HTTP, guarded SQL and Flight from releases in a real object store, followed as published."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from common.files import remove_folder
from common.settings import Settings
from lake.object_store import parse_s3_url, s3_client
from penstock.embedded import EmbeddedServices
from penstock.serve import PipelineFacts, server_options
from tests.integration.serve.served import POLICY, Served, publish, served_by
from tests.integration.serve.test_flight import open_door
from warehouse.releases import Releases
from warehouse.serve.server import Service
from warehouse.stored import StoredReleases, stored_releases


@pytest.fixture
def builder(services: EmbeddedServices, tmp_path: Path) -> Iterator[tuple[StoredReleases, Settings]]:
    """A builder's way to the store, and the settings of a server that has nothing but the store."""
    name = f"served-{uuid.uuid4().hex[:8]}"
    location = parse_s3_url(SecretStr(services.s3_url))
    client = s3_client(location)
    client.create_bucket(Bucket=name)
    url = services.s3_url.replace(f"@{location.bucket}", f"@{name}")
    place = {"releases_uri": f"s3://{urlsplit(url).hostname}/w", "connections": {"releases": url}}
    stored = stored_releases(Settings.load({}, home=tmp_path / "builder", **place))
    assert stored is not None
    yield stored, Settings.load({}, home=tmp_path / "server", **place)
    for page in client.list_objects_v2(Bucket=name).get("Contents", []):
        client.delete_object(Bucket=name, Key=page["Key"])
    client.delete_bucket(Bucket=name)


def served_release(served: Served, release: str) -> None:
    """Wait until a release is served."""
    deadline = time.monotonic() + 60
    while served.get("/health").json().get("release") != release:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_without_a_warehouse_follows_the_object_store(
    builder: tuple[StoredReleases, Settings], tmp_path: Path
) -> None:
    stored, settings = builder
    warehouse = tmp_path / "builder" / "warehouse"
    stored.publish(publish(warehouse, 1), fence=1, keep=2)
    settings.policy.parent.mkdir(parents=True)
    settings.policy.write_text(POLICY)
    served = served_by(Service(server_options(settings), PipelineFacts(settings)), settings.home)
    door = open_door(served)
    try:
        assert {row["version"] for row in served.rows("/v1/datasets/routes/rows")} == {1}
        assert [each["id"] for each in served.get("/v1/releases").json()["releases"]] == ["r000001"]
        assert served.get("/v1/datasets/routes").json()["rows"] == 400
        info = door.sql("select max(version) as v from routes")
        assert info.to_pylist() == [{"v": 1}]
        second = publish(warehouse, 2)
        stored.publish(second, fence=2, keep=2)
        served_release(served, second.id)
        assert served.sql("select max(version) as v from routes").json() == {"release": second.id, "rows": [{"v": 2}]}
        assert set(door.get("routes")["version"].to_pylist()) == {2}
        pinned = door.get({"dataset": "routes", "release": "r000001"})
        assert set(pinned["version"].to_pylist()) == {1}
        # What the cache has dropped is fetched again where a process of its own must open it.
        for entry in (settings.home / "cache" / "releases").glob("r*"):
            remove_folder(entry)
        assert door.sql("select max(version) as v from routes").to_pylist() == [{"v": 2}]
        stored.publish(Releases(warehouse).rollback("r000001"), fence=3, keep=2)
        served_release(served, "r000001")
        assert {row["version"] for row in served.rows("/v1/datasets/routes/rows")} == {1}
        third = publish(warehouse, 3)
        stored.publish(third, fence=4, keep=1)
        served_release(served, third.id)
        answer = served.get("/v1/datasets/routes/rows", release=second.id)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_release")
    finally:
        door.server.close()
        served.service.close()
