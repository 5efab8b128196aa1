"""A store that gives back less of a file than it has, and says that this is all: no commit rests on it."""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import SecretStr

from common.errors import StateCorrupt, TransientError
from lake.object_store import parse_s3_url
from penstock.embedded import EmbeddedServices
from tests.doubles.s3 import s3_proxy
from tests.integration.lake.lakes import Bench, Row, new_lake
from tests.integration.lake.test_damaged_files import forget

DAY, OTHER = "2013-01-01", "2013-01-02"
OLD: list[Row] = [(1, "old")]
STAYS: list[Row] = [(9, "of another day")]


def test_a_manifest_that_arrives_short_wherever_a_commit_reads_one_takes_no_rows_out_of_the_table(
    services: EmbeddedServices, tmp_path: Path
) -> None:
    """The replaced day and the one beside it are in the same manifests: one read in part would lose the other day."""
    url, prefix = services.connections["stations"], f"lake-{uuid.uuid4().hex[:12]}"
    endpoint = parse_s3_url(SecretStr(url)).endpoint
    clean = Bench(new_lake(tmp_path / "state", url, prefix))
    clean.publish(OLD, DAY)
    clean.publish(STAYS, OTHER)
    live, disturbed = OLD, []
    with s3_proxy(endpoint) as between:
        through = Bench(new_lake(tmp_path / "state", url.replace(endpoint, between.endpoint), prefix))
        for number in range(20):
            forget()
            new: list[Row] = [(1, f"read {number}")]
            between.disturbances.clear()
            cut = between.disturb(match=".avro", operations=("get",), skip=number, times=1, shorten=40)
            try:
                through.publish(new, DAY)
                live = new
            except (StateCorrupt, TransientError):
                disturbed.append(number)
            forget()
            assert clean.rows(lake=clean.open()) == sorted(live + STAYS)
            if not cut.disturbed:
                break
    assert len(disturbed) > 4, "most of what a commit reads it cannot do without"


def test_metadata_that_arrive_short_when_a_table_is_made_are_read_again(
    services: EmbeddedServices, tmp_path: Path
) -> None:
    """The catalog writes the metadata of a new table, then reads what it has written."""
    url, prefix = services.connections["stations"], f"lake-{uuid.uuid4().hex[:12]}"
    endpoint = parse_s3_url(SecretStr(url)).endpoint
    with s3_proxy(endpoint) as between:
        through = Bench(new_lake(tmp_path / "state", url.replace(endpoint, between.endpoint), prefix))
        cut = between.disturb(match="quarantine/raw__shop__orders/metadata/", operations=("get",), times=1, shorten=4)
        through.publish([*OLD, (-1, "rejected")], DAY, rejected=[1])
        assert cut.disturbed == 1
        assert through.rows(lake=through.open()) == OLD
