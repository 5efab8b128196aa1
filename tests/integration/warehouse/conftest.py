"""One PostgreSQL and one S3 for the tests of doors, each test with a database and a prefix of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from lake.object_store import parse_s3_url, s3_client
from penstock.embedded import EmbeddedServices
from tests.integration.warehouse.bench import Bench, drop_bench, make_bench


@pytest.fixture
def bench(services: EmbeddedServices, tmp_path: Path) -> Iterator[Bench]:
    """An empty warehouse and an empty BI database."""
    name = f"bi_{uuid.uuid4().hex[:8]}"
    yield make_bench(services.postgres_url, name, tmp_path / "warehouse")
    drop_bench(services.postgres_url, name)


@pytest.fixture(scope="module")
def bucket(services: EmbeddedServices) -> Iterator[str]:
    """URL of a bucket of the module's own."""
    name = f"releases-{uuid.uuid4().hex[:8]}"
    location = parse_s3_url(SecretStr(services.s3_url))
    client = s3_client(location)
    client.create_bucket(Bucket=name)
    yield services.s3_url.replace(f"@{location.bucket}", f"@{name}")
    client.delete_bucket(Bucket=name)
