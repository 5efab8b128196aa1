"""A lake and a shelf of releases on the real S3, each with a way through a proxy that can be told to fail."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from lake import commit as commits
from lake import object_store
from lake.object_store import parse_s3_url, s3_client
from penstock.embedded import EmbeddedServices
from tests.campaign.campaign import Campaign
from tests.doubles.s3 import Operation, S3Proxy, s3_proxy
from tests.integration.lake.lakes import TABLE, Bench, Row, new_lake
from tests.integration.warehouse.test_stored_releases import Store
from warehouse.releases import Releases

ALL: tuple[Operation, ...] = get_args(Operation)
OLD: list[Row] = [(7, "old")]
NEW: list[Row] = [(1, "a"), (2, None)]
"""Rows of the one partition before and after; a third row goes to quarantine."""

REQUESTS_OF_A_PUBLISH = 78
"""Requests from the first look at the catalog to the last one of the commit: where a disturbance is drawn."""


@dataclass(frozen=True)
class LakeWorld:
    """A lake with one published batch.

    Attributes:
        clean: without anything between.
        through: settings of a process that goes through the proxy.
        home: the state folder.
        prefix: of the lake's objects.
    """

    clean: Bench
    through: Any
    home: Path
    prefix: str

    def publish(self) -> None:
        """What the trial disturbs: a batch of three rows, one of them rejected."""
        Bench(self.through).publish([*NEW, (-1, "x")], rejected=[2])

    def rows(self) -> list[Row]:
        """What a reader sees who has never read before."""
        return self.clean.rows(lake=self.clean.open())

    def commits_per_batch(self) -> int:
        """The most commits that any batch has."""
        snapshots = self.clean.open().load(TABLE).metadata.snapshots
        ids = [each.summary.get("penstock.batch_id") for each in snapshots if each.summary is not None]
        return max(Counter(ids).values())


def lake_world(campaign: Campaign, between: S3Proxy, seed: int) -> LakeWorld:
    """A lake of the trial's own."""
    url = campaign.services.connections["stations"]
    endpoint = parse_s3_url(SecretStr(url)).endpoint
    home, prefix = campaign.folder / f"lake-{seed}", f"lake-{uuid.uuid4().hex[:12]}"
    clean = Bench(new_lake(home, url, prefix))
    clean.publish(OLD)
    return LakeWorld(clean, new_lake(home, url.replace(endpoint, between.endpoint), prefix), home, prefix)


@contextmanager
def proxied(services: EmbeddedServices) -> Iterator[S3Proxy]:
    """A proxy before the services' S3; clients lose their patience soon meanwhile."""
    endpoint = parse_s3_url(SecretStr(services.connections["stations"])).endpoint
    with s3_proxy(endpoint) as between, pytest.MonkeyPatch.context() as patched:
        patched.setattr(commits, "COMMIT_ATTEMPTS", 5)
        patched.setattr(object_store, "READ_TIMEOUT_S", 5)
        yield between


def store_world(campaign: Campaign, seed: int) -> Store:
    """Releases in a bucket of the trial's own, none yet."""
    url = campaign.services.s3_url
    location = parse_s3_url(SecretStr(url))
    bucket = f"releases-{uuid.uuid4().hex[:12]}"
    s3_client(location).create_bucket(Bucket=bucket)
    folder = campaign.folder / f"store-{seed}"
    return Store(url.replace(f"@{location.bucket}", f"@{bucket}"), Releases(folder / "warehouse"), folder)
