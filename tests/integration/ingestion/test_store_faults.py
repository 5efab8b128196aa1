"""Laws of faults between a store and us: what was cut, changed or doubled on its way never becomes a row."""

from __future__ import annotations

import gzip
import io
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from common.errors import ObjectCorrupt, SourceRefused, SourceUnavailable
from ingestion.objects.client import Bucket
from ingestion.objects.stores import TransferBroken
from ingestion.spec import SourceSpec
from lake import object_store
from lake.object_store import parse_s3_url
from tests.doubles.s3 import Disturbance, s3_proxy
from tests.doubles.trap import socket_trap
from tests.integration.ingestion.conftest import BucketSource, rejects

CONTENT = "a,b\n" + "".join(f"{n},row {n}\n" for n in range(500))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "READ_TIMEOUT_S", 1)
    monkeypatch.setattr(object_store, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr("ingestion.objects.transfer._PAUSE_S", 0.01)


@pytest.fixture
def faulty(bucket: BucketSource) -> Iterator[tuple[str, Disturbance]]:
    """The bucket's URL through a proxy, and a disturbance of reading objects of the test's own."""
    with s3_proxy(bucket.location.endpoint) as between:
        dials = between.disturb(match=f"{bucket.prefix}/p/")
        yield bucket.url.replace(bucket.location.endpoint, between.endpoint), dials


FAULTS: dict[str, dict[str, Any]] = {
    "cut at once": {"cut_at": 0},
    "cut in the middle": {"cut_at": 1000},
    "cut before the last byte": {"cut_at": -1},
    "shorter than listed": {"shorten": 1},
    "a bit of the first byte": {"flip": 0},
    "a bit in the middle": {"flip": 1500},
    "a bit of the last byte": {"flip": -2},
    "stalled": {"stall_s": 3},
    "slow down": {"status": 503},
    "internal error": {"status": 500},
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_transfer_that_is_disturbed_is_repeated_and_the_rows_are_the_store_s(
    bucket: BucketSource, faulty: tuple[str, Disturbance], fault: str, packed: bool
) -> None:
    url, dials = faulty
    bucket.put(CONTENT, packed=packed)
    spec = bucket.spec(compression="gzip" if packed else "none")
    expected = [(str(n), f"row {n}") for n in range(500)]
    size = len(gzip.compress(CONTENT.encode())) if packed else len(CONTENT)
    for name, value in FAULTS[fault].items():
        at = name in {"cut_at", "flip"} and (value % size if value < 0 else min(value, size - 9))
        setattr(dials, name, at if name in {"cut_at", "flip"} else value)
    dials.times = 1
    staged = bucket.stage(spec, url=url)
    assert dials.disturbed == 1
    assert (bucket.rows(staged), rejects(staged)) == (expected, [])
    bucket.lake.discard(staged)
    if fault in {"stalled", "internal error", "slow down"}:
        return
    dials.times = 1_000_000
    with pytest.raises(SourceUnavailable, match=r"broke off|wrong checksum"):
        bucket.stage(spec, url=url)
    assert bucket.staged_files() == bucket.left_behind() == []


def test_a_store_that_is_busy_is_asked_a_bounded_number_of_times(
    bucket: BucketSource, faulty: tuple[str, Disturbance]
) -> None:
    url, dials = faulty
    bucket.put(CONTENT)
    dials.status = 503
    with pytest.raises(SourceUnavailable, match="503 SlowDown"):
        bucket.stage(url=url)
    assert dials.disturbed == object_store.MAX_ATTEMPTS


def test_a_stall_is_noticed_within_the_time_a_read_may_take(
    bucket: BucketSource, faulty: tuple[str, Disturbance]
) -> None:
    url, dials = faulty
    bucket.put(CONTENT)
    dials.stall_s = 4
    before = time.process_time()
    with pytest.raises(SourceUnavailable, match="ReadTimeoutError"):
        bucket.stage(url=url)
    assert dials.disturbed == 3
    assert time.process_time() - before < 3  # it waits, it does not spin


def test_every_bit_flip_and_every_cut_of_an_object_is_detected(bucket: BucketSource) -> None:
    body = gzip.compress(os.urandom(64))
    key = f"{bucket.prefix}/p/every"
    injected = detected = 0
    with s3_proxy(bucket.location.endpoint) as between:
        dials = between.disturb(match="nothing")
        location = parse_s3_url(SecretStr(bucket.url.replace(bucket.location.endpoint, between.endpoint)))
        with Bucket(location) as store:
            store.put(key, body)
            [found] = store.objects(key)
            assert b"".join(store.stream(found)) == body
            dials.match = key
            for at in range(len(body)):
                for fault in ("flip", "cut_at"):
                    dials.flip = dials.cut_at = None
                    setattr(dials, fault, at)
                    injected += 1
                    try:
                        b"".join(store.stream(found))
                    except TransferBroken:
                        detected += 1
    assert (detected, injected) == (2 * len(body), 2 * len(body))


# -- listings ---------------------------------------------------------------------------------------------------------


def test_an_object_that_is_listed_twice_is_one(bucket: BucketSource, faulty: tuple[str, Disturbance]) -> None:
    url, dials = faulty
    keys = [bucket.put(f"a,b\n{n},x\n", part=f"p{n}") for n in range(3)]
    once = bucket.stage()
    dials.match = "list-type=2"

    def doubled(page: bytes) -> bytes:
        entries = re.findall(rb"<Contents>.*?</Contents>", page, re.DOTALL)
        return page.replace(b"".join(entries), b"".join([*entries, *reversed(entries)])) if entries else page

    dials.rewrite = doubled
    twice = bucket.stage(url=url)
    assert dials.disturbed
    assert bucket.rows(twice) == bucket.rows(once) == [("0", "x"), ("1", "x"), ("2", "x")]
    assert twice.source_state == once.source_state
    assert [key for key, _, _ in twice.source_state["objects"]] == keys


def test_a_page_of_a_listing_that_fails_is_asked_for_again(
    bucket: BucketSource, faulty: tuple[str, Disturbance]
) -> None:
    url, dials = faulty
    bucket.put("a,b\n1,x\n")
    dials.match, dials.status, dials.times = "list-type=2", 500, 1
    assert bucket.rows(bucket.stage(url=url)) == [("1", "x")]
    assert dials.disturbed == 1


# -- parts ------------------------------------------------------------------------------------------------------------


def upload_in_parts(bucket: BucketSource, key: str, parts: list[bytes], *, finish: bool = True) -> None:
    where: Any = {"Bucket": bucket.location.bucket, "Key": key}
    upload = {**where, "UploadId": bucket.client.create_multipart_upload(**where)["UploadId"]}
    done: Any = [
        {"PartNumber": n, "ETag": bucket.client.upload_part(**upload, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, 1)
    ]
    if finish:
        bucket.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})


def test_parts_of_an_upload_that_was_never_finished_are_no_object(bucket: BucketSource) -> None:
    bucket.put("a,b\n1,x\n", part="p1")
    upload_in_parts(bucket, bucket.key(part="p2"), [b"a,b\n2,y\n"], finish=False)
    staged = bucket.stage()
    assert bucket.rows(staged) == [("1", "x")]
    assert len(staged.source_state["objects"]) == 1


@pytest.mark.parametrize("fault", ["cut_at", "flip"])
def test_an_object_put_in_parts_is_compared_part_by_part(
    bucket: BucketSource, faulty: tuple[str, Disturbance], fault: str
) -> None:
    url, dials = faulty
    first = b"a,b\n" + b"1,x\n" * (5 << 18)
    upload_in_parts(bucket, bucket.key(), [first, b"2,y\n"])
    staged = bucket.stage(url=url)
    assert staged.rows_staged == (5 << 18) + 1
    assert "-2" in staged.source_state["objects"][0][1]
    bucket.lake.discard(staged)
    setattr(dials, fault, len(first) + (0 if fault == "cut_at" else 2))
    with pytest.raises(SourceUnavailable, match=r"broke off|wrong checksum"):
        bucket.stage(url=url)
    assert bucket.staged_files() == bucket.left_behind() == []


def test_a_parquet_object_that_arrives_damaged_is_refused(
    bucket: BucketSource, faulty: tuple[str, Disturbance]
) -> None:
    url, dials = faulty
    packed = io.BytesIO()
    pq.write_table(pa.table({"a": [str(n) for n in range(2000)], "b": ["x"] * 2000}), packed)
    bucket.put(packed.getvalue())
    spec: SourceSpec = bucket.spec()
    layout = spec.tables[0].objects
    assert layout is not None
    table = spec.tables[0].model_copy(update={"objects": layout.model_copy(update={"format": "parquet"})})
    spec = spec.model_copy(update={"tables": (table,)})
    assert bucket.stage(spec, url=url).rows_staged == 2000
    dials.flip = 700
    with pytest.raises(SourceUnavailable, match=r"wrong checksum|FlexibleChecksumError"):
        bucket.stage(spec, url=url)
    dials.flip = None
    bucket.put(packed.getvalue()[:-1] + b"?")  # torn in the store itself: the etag is that of the torn bytes
    with pytest.raises(ObjectCorrupt, match="Parquet"):
        bucket.stage(spec, url=url)


# -- where connections go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_never_followed(bucket: BucketSource, faulty: tuple[str, Disturbance], status: int) -> None:
    url, dials = faulty
    bucket.put("a,b\n1,x\n")
    with socket_trap() as (port, caught):
        dials.status, dials.code = status, "PermanentRedirect"
        for place, region in (
            (f"http://127.0.0.1:{port}/x", "eu-west-1"),
            (f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}/#"),
        ):
            dials.headers = {"Location": place, "x-amz-bucket-region": region}
            for match in ("list-type=2", f"{bucket.prefix}/p/"):
                dials.match = match
                with pytest.raises((SourceRefused, SourceUnavailable)):
                    bucket.stage(url=url)
        assert caught == []
    assert dials.disturbed >= 4


def test_a_bucket_at_a_forbidden_or_unlisted_host_is_never_connected_to(
    bucket: BucketSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr("socket.socket.connect", lambda _, address: connected.append(address))
        refuse_all(bucket)
    assert connected == []


def refuse_all(bucket: BucketSource) -> None:
    for host in ("169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "[fe80::1]", "0.0.0.0"):  # noqa: S104
        url = bucket.url.replace(bucket.location.endpoint, f"http://{host}")
        with pytest.raises(SourceRefused, match="forbidden"):
            bucket.stage(url=url)
    store = Bucket(bucket.location, allowed_hosts=("*.example.org",))
    with store, pytest.raises(SourceRefused, match="allowed_hosts"):
        store.check()
