"""Laws of refusing objects: a wrong header, damage, no answer - the day is unread, nothing is left."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from common.errors import (
    DataRejected,
    EmptyBatch,
    IntervalError,
    ObjectCorrupt,
    SourceRefused,
    SourceSchemaError,
    SourceUnavailable,
)
from common.intervals import day_interval
from ingestion.objects import csv_files
from tests.integration.ingestion.conftest import BucketSource

DAY = day_interval("2013-01-01")


def refuses(bucket: BucketSource, kind: type[Exception], match: str, **options: Any) -> str:
    """Staging fails with this error, and nothing is left anywhere. Returns the message."""
    with pytest.raises(kind, match=match) as refused:
        bucket.stage(**options)
    assert bucket.left_behind() == []
    assert bucket.staged_files() == []
    message = str(refused.value)
    assert "source=shop" in message
    assert "Remedy: " in message
    return message


# -- headers ----------------------------------------------------------------------------------------------------------


def test_an_added_column_is_passed_over_with_a_warning_or_refused_as_the_spec_says(bucket: BucketSource) -> None:
    bucket.put("b,new,a,\nx,1,2,3\n")
    staged = bucket.stage()
    assert bucket.rows(staged) == [("2", "x")]
    assert len(staged.warnings) == 1
    assert "new" in staged.warnings[0]
    bucket.lake.discard(staged)
    refuses(bucket, SourceSchemaError, "wrong header: b, new, a", spec=bucket.spec(drift="added: reject"))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\n",
        b"a\n",
        b"a,c\n",
        b"A,b\n",
        b"a,b,a\n",
        b"a,b,x,x\n",
        b"a b\n",
        b'a,"b\n',
        b"a;b\n",
        b"\xff\xfea\0,\0b\0\n",
        b"1,x\n",
    ],
)
def test_a_wrong_header_is_refused_and_nothing_is_read(bucket: BucketSource, header: bytes) -> None:
    bucket.put("a,b\n1,x\n", part="first")
    key = bucket.put(header + b"2,y\n" if header else b"", part="second")
    message = refuses(bucket, SourceSchemaError, "wrong header")
    assert key in message
    assert "expected a, b" in message


# -- damaged objects --------------------------------------------------------------------------------------------------

# mtime=0: the time of packing would stand in the bytes, and so in the names of the tests below.
PACKED = gzip.compress(b"a,b\n" + b"".join(b"%d,row\n" % n for n in range(20_000)), mtime=0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (PACKED[:-9], "truncated gzip"),
        (PACKED[: len(PACKED) // 2], "truncated gzip"),
        (PACKED[:5], "truncated gzip"),
        (b"", "truncated gzip"),
        (PACKED + PACKED[:100], "truncated gzip"),
        (b"a,b\n1,x\n", "not valid gzip"),
        (PACKED[:-8] + b"\0" * 8, "not valid gzip"),  # its checksum is wrong
        (PACKED[:2000] + b"\xaa" * 50 + PACKED[2050:], "not valid gzip"),
        (PACKED + b"rubbish", "not valid gzip"),
        (zlib.compress(b"a,b\n"), "not valid gzip"),
    ],
)
def test_a_damaged_gzip_is_refused_whole(bucket: BucketSource, body: bytes, says: str) -> None:
    bucket.put(gzip.compress(b"a,b\n1,x\n"), part="a good one")
    bucket.put(body, part="b")
    assert bucket.key(part="b") in refuses(bucket, ObjectCorrupt, says, spec=bucket.spec(compression="gzip"))


def test_a_gzip_bomb_stops_before_it_fills_the_disk(bucket: BucketSource, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b"a,b\n" + b"1,x\n" * 10_000_000)
    bucket.put(bomb)
    fed = 0
    real = csv_files.Scan.feed

    def count(scan: csv_files.Scan, block: bytes) -> None:
        nonlocal fed
        fed += len(block)
        real(scan, block)

    monkeypatch.setattr(csv_files.Scan, "feed", count)
    spec = bucket.spec(compression="gzip", more="      max_object_bytes: 3000000\n")
    refuses(bucket, ObjectCorrupt, "larger than 3000000 bytes", spec=spec)
    assert fed <= 3_000_000


def test_an_object_that_changes_between_listing_and_reading_is_not_read(bucket: BucketSource) -> None:
    bucket.put("a,b\n1,x\n", part="p1")
    bucket.put("a,b\n2,y\n", part="p2")
    spec = bucket.spec()
    with bucket.open(spec) as reader:
        before = reader.known_state(spec.table("orders"), DAY)
        bucket.put("a,b\n3,z\n", part="p2")
        with pytest.raises(SourceUnavailable, match="changed while it was being read"):
            reader.stage(spec.table("orders"), DAY, code="code")
        assert bucket.staged_files() == bucket.left_behind() == []
        bucket.client.delete_object(Bucket=bucket.location.bucket, Key=bucket.key(part="p2"))
        with pytest.raises(SourceUnavailable, match="changed while it was being read"):
            reader.stage(spec.table("orders"), DAY, code="code")
    assert before is not None
    assert len(before["objects"]) == 2
    assert bucket.rows(bucket.stage()) == [("1", "x")]


def test_the_known_state_changes_exactly_when_an_object_does(bucket: BucketSource) -> None:
    bucket.put("a,b\n1,x\n")
    spec = bucket.spec()
    table = spec.table("orders")

    def state() -> Any:
        with bucket.open(spec) as reader:
            return reader.known_state(table, DAY)

    first = state()
    staged = bucket.stage(spec)
    assert staged.source_state == json.loads(json.dumps(first)) == first == state()
    bucket.put("a,b\n1,x\n")
    assert state() == first  # the same bytes again are the same object
    bucket.put("a,b\n1,y\n")
    assert state() != first
    bucket.put("a,b\n1,x\n")
    bucket.put("a,b\n", part="q")
    assert state() != first


# -- no answer, no entry, nothing there -------------------------------------------------------------------------------


def test_a_day_without_objects_is_an_error_that_says_where_it_looked(bucket: BucketSource) -> None:
    bucket.put("a,b\n1,x\n", day="2013-01-02")
    assert "{part}/{key}.csv" in refuses(bucket, EmptyBatch, "No object of")


def test_a_day_that_is_not_over_yet_is_refused(bucket: BucketSource) -> None:
    refuses(bucket, IntervalError, "not over yet", day="2026-01-02")


def test_a_wrong_key_or_bucket_is_refused_and_no_secret_shows(bucket: BucketSource) -> None:
    secret = bucket.location.secret_key.get_secret_value()
    canary = "CanarySecret0123456789"
    bucket.put("a,b\n1,x\n")
    for url, says in (
        (bucket.url.replace(secret, canary), "SignatureDoesNotMatch"),
        (bucket.url.replace(bucket.location.access_key, "NOBODY"), "InvalidAccessKeyId"),
        (bucket.url.replace("@stations", "@no-such-bucket"), "NoSuchBucket|AccessDenied"),
    ):
        message = refuses(bucket, SourceRefused, says, url=url)
        assert canary not in message
        assert secret not in message


def test_an_endpoint_that_does_not_answer_is_told_apart_from_a_refusal(bucket: BucketSource) -> None:
    url = bucket.url.replace(bucket.location.endpoint, "http://127.0.0.1:9")
    message = refuses(bucket, SourceUnavailable, "failed", url=url)
    assert bucket.location.secret_key.get_secret_value() not in message


def test_one_bad_object_leaves_the_day_as_a_whole_unread(bucket: BucketSource) -> None:
    bucket.put("a,b\n1,x\n", part="p1")
    bucket.put("wrong\n", part="p2")
    with pytest.raises(DataRejected):
        bucket.stage()
    assert bucket.staged_files() == bucket.left_behind() == []
