"""Laws of hostile objects: names that lead elsewhere, links that lead out, bombs - refused within declared limits."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from common.errors import ObjectCorrupt, SettingsError, SourceRefused, SourceUnavailable
from common.intervals import day_interval
from ingestion.objects import transfer
from ingestion.objects.folder import Folder
from ingestion.objects.listing import by_partition_key
from ingestion.objects.reader import ObjectReader
from ingestion.objects.stores import StoredObject
from ingestion.spec import Objects
from tests.integration.ingestion.folders import DAY, FolderSource

LIMIT_BYTES = 20_000_000


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path)


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members:
            with archive.open(zipfile.ZipInfo(name), "w") as handle:
                handle.write(content)
    return packed.getvalue()


# -- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "../x.csv",
    "a/../../x.csv",
    "/etc/passwd",
    "..",
    ".",
    "a//b.csv",
    "C:/x.csv",
    "a\\..\\x.csv",
    "./x.csv",
    "x" * 2000,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_zip_with_a_member_that_leads_elsewhere_is_refused_whole(source: FolderSource, name: str) -> None:
    source.put(zipped([("good.csv", b"a,b\n1,x\n"), (name, b"a,b\n2,y\n")]))
    with pytest.raises(ObjectCorrupt, match="leads elsewhere"):
        source.stage(source.spec(compression="zip", members="good.csv"))
    assert source.left_behind() == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zipped([("a.csv", b"a,b\n"), ("A.csv", b"a,b\n")]), "stands twice"),
        (zipped([("a.csv", zipped([("b.csv", b"a,b\n")]))]), "an archive itself"),
        (zipped([("a.csv", gzip.compress(b"a,b\n"))]), "an archive itself"),
        (zipped([("a.txt", b"a,b\n")]), "has no member"),
        (zipped([(f"{n}.csv", b"a,b\n") for n in range(6)]), "has 6 members, more than 5"),
        (zipped([("a.csv", b"a,b\n")]).replace(b"a.csv", b"a\0csv"), "leads elsewhere"),
        (b"PK\x05\x06" + bytes(18), "has no member"),
        (b"not a zip", "not valid zip"),
    ],
)
def test_a_zip_that_nobody_made_by_accident_is_refused(source: FolderSource, content: bytes, says: str) -> None:
    source.put(content)
    with pytest.raises(ObjectCorrupt, match=says):
        source.stage(source.spec(compression="zip", members="*csv", max_members=5))
    assert source.left_behind() == []


def test_an_encrypted_member_is_refused(source: FolderSource) -> None:
    packed = bytearray(zipped([("a.csv", b"a,b\n1,x\n")]))
    entry = packed.index(b"PK\x01\x02")
    packed[entry + 8] |= 1
    source.put(bytes(packed))
    with pytest.raises(ObjectCorrupt, match="encrypted"):
        source.stage(source.spec(compression="zip"))


@pytest.mark.parametrize("segment", ["..", ".", "a\0b", "x" * 1100])
def test_a_listed_key_that_means_something_else_to_a_library_is_refused_and_not_asked_for(segment: str) -> None:
    layout = Objects(path="x/{part}/{key}.csv")
    listed = [StoredObject(f"x/{segment}/{DAY}.csv", "e", 1, datetime(2013, 1, 1, tzinfo=UTC))]
    with pytest.raises(ObjectCorrupt, match="lead elsewhere"):
        by_partition_key(listed, layout)


def test_names_that_only_look_dangerous_are_names(source: FolderSource) -> None:
    parts = ["%2e%2e", "..%2f", "...", "~", "$HOME", "a\\b", "A", "a", " "]
    for number, part in enumerate(parts):
        source.put(f"a,b\n{number},x\n", part=part)
    staged = source.stage()
    assert sorted(source.rows(staged, "object_key", "a")) == sorted(
        (f"{part}/{DAY}.dat", str(number)) for number, part in enumerate(parts)
    )


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_link_inside_the_folder_is_its_file_and_a_linked_folder_is_not_entered_twice(source: FolderSource) -> None:
    path = source.put("a,b\n1,x\n")
    (source.folder / "q").mkdir()
    (source.folder / source.key("q")).symlink_to(path)
    (source.folder / "r").symlink_to(source.folder / "p", target_is_directory=True)
    staged = source.stage()
    assert source.rows(staged, "object_key") == [(source.key("p"),), (source.key("q"),)]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing", "itself", "relative"])
def test_a_link_that_leads_out_of_the_folder_is_refused(source: FolderSource, kind: str) -> None:
    source.put("a,b\n1,x\n")
    outside = source.home / "outside"
    outside.mkdir()
    (outside / f"{DAY}.dat").write_text("a,b\nsecret,x\n")
    (source.folder / "q").mkdir()
    link = source.folder / source.key("q")
    match kind:
        case "file":
            link.symlink_to(outside / f"{DAY}.dat")
        case "folder":
            (source.folder / "r").symlink_to(outside, target_is_directory=True)
        case "nothing":
            link.symlink_to("/no/such/file")
        case "itself":
            link.symlink_to(link)
        case _:
            link.symlink_to(f"../../outside/{DAY}.dat")
    with pytest.raises(SourceRefused, match="leads out of the folder"):
        source.stage()
    assert source.left_behind() == []


def test_a_file_that_is_swapped_for_a_link_after_it_was_listed_is_not_read(source: FolderSource) -> None:
    secret = source.home / "secret"
    secret.write_text("a,b\nsecret,x\n")
    path = source.put("a,b\npublic,x\n")
    spec = source.spec()
    with ObjectReader(spec, SecretStr(source.url), source.lake) as reader:
        reader.known_state(spec.tables[0], day_interval(DAY))
        path.unlink()
        path.symlink_to(secret)
        with pytest.raises(SourceUnavailable, match="changed while it was being read"):
            reader.stage(spec.tables[0], day_interval(DAY), code="code")
    assert source.left_behind() == []


@pytest.mark.parametrize("change", ["replace", "append", "truncate", "delete", "pipe"])
def test_a_file_that_changes_while_it_is_read_is_noticed(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = source.put("a,b\n" + "1,x\n" * 1000)
    monkeypatch.setattr("ingestion.objects.folder.BLOCK_BYTES", 100)
    store = Folder.open(source.url)
    [found] = store.objects()
    blocks = store.stream(found) if change != "pipe" else iter(())
    read = [next(blocks, b"")]
    match change:
        case "replace":
            path.write_text("a,b\n" + "2,x\n" * 1000)
        case "append":
            with path.open("a") as handle:
                handle.write("3,x\n")
        case "truncate":
            os.truncate(path, 50)
        case "delete":
            path.unlink()
        case _:
            path.unlink()
            os.mkfifo(path)
            blocks = store.stream(found)
    if change == "delete":  # its bytes are still those that were listed
        assert len(b"".join([*read, *blocks])) == found.size_bytes
        with pytest.raises(SourceUnavailable, match="changed"):
            next(store.stream(found))
        return
    with pytest.raises(SourceUnavailable, match="changed while it was being read"):
        read.extend(blocks)


def test_a_file_is_known_by_size_time_and_inode(source: FolderSource) -> None:
    path = source.put("a,b\n1,x\n")
    store = Folder.open(source.url)

    def etag() -> str:
        [found] = store.objects()
        return found.etag

    first = etag()
    assert etag() == first
    os.utime(path, ns=(1, 1))
    assert etag() != first
    second = etag()
    other = path.with_name("other")
    other.write_text("a,b\n1,y\n")
    os.utime(other, ns=(1, 1))
    other.replace(path)
    assert etag() != second


@pytest.mark.parametrize(
    "url",
    [
        "file://host/data",
        "file:data",
        "file:///x?y=1",
        "file:///x#y",
        "file:///a%00b",
        "ftp://127.0.0.1/y",
        "http://127.0.0.1/y",
    ],
)
def test_what_is_no_folder_or_bucket_is_refused_by_its_url(source: FolderSource, url: str) -> None:
    with pytest.raises(SettingsError):
        source.stage(url=url)


def test_a_folder_that_is_not_there_is_refused(source: FolderSource) -> None:
    with pytest.raises(SourceRefused, match="cannot be listed: No such file"):
        source.stage(url="file:///no/such/folder")


# -- bombs ------------------------------------------------------------------------------------------------------------


def zstd(blocks: Iterator[bytes]) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        for block in blocks:
            stream.write(block)
    return packed.getvalue().to_pybytes()


def bomb(kind: str) -> bytes:
    """Some kilobytes that unpack to 400 MB."""
    block, times = b"1,x\n" * (1 << 18), 400
    match kind:
        case "gzip":
            packed = io.BytesIO()
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
                stream.write(b"a,b\n")
                for _ in range(times):
                    stream.write(block)
            return packed.getvalue()
        case "zstd":
            return zstd(iter([b"a,b\n"] + [block] * times))
        case "zip":
            return zipped([(f"{n}.csv", b"a,b\n" + block * 20) for n in range(20)])
        case "zip that lies":
            honest = zipped([("a.csv", b"a,b\n" + block * 40)])
            at = honest.index(b"PK\x01\x02") + 24
            return honest[:at] + struct.pack("<L", 8) + honest[at + 4 :]
        case _:
            array = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 100_000]))
            packed = io.BytesIO()
            pq.write_table(pa.table({"a": array, "b": array}), packed)
            return packed.getvalue()


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zip", "zip that lies", "parquet"])
def test_a_bomb_stops_at_the_declared_limit_and_never_a_byte_beyond(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source.put(bomb(kind))
    peak_bytes = 0
    real = transfer._Sink.write

    def watched(sink: Any, block: bytes) -> None:
        nonlocal peak_bytes
        real(sink, block)
        files = [path.stat().st_size for path in (source.home / "state" / "tmp").rglob("*.part")]
        peak_bytes = max(peak_bytes, sum(files))

    monkeypatch.setattr(transfer._Sink, "write", watched)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    layout: dict[str, Any] = {"format": "parquet"} if kind == "parquet" else {"compression": kind.partition(" ")[0]}
    with pytest.raises(ObjectCorrupt, match=r"larger than|is damaged|times its size"):
        source.stage(source.spec(max_object_bytes=LIMIT_BYTES, **layout))
    assert peak_bytes <= LIMIT_BYTES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000
    assert source.left_behind() == []


def test_a_ratio_that_no_table_has_stops_early(source: FolderSource) -> None:
    source.put(bomb("zstd"))
    with pytest.raises(ObjectCorrupt, match="unpacks to more than 50 times its size"):
        source.stage(source.spec(compression="zstd", max_ratio=50))


def test_a_million_members_are_not_even_listed(source: FolderSource) -> None:
    entries = 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 46 * entries, 0, 0)
    source.put(b"PK\x03\x04" + bytes(100) + end)
    with pytest.raises(ObjectCorrupt, match="has 65535 members"):
        source.stage(source.spec(compression="zip"))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 46 * entries, 0, 0)
    source.put(b"PK\x03\x04" + bytes(100) + end)
    with pytest.raises(ObjectCorrupt, match="directory of 46000000 bytes"):
        source.stage(source.spec(compression="zip"))


def test_an_object_larger_than_allowed_is_not_even_begun(source: FolderSource) -> None:
    source.put("a,b\n" + "1,x\n" * 1000)
    with pytest.raises(ObjectCorrupt, match="larger than 1000 bytes"):
        source.stage(source.spec(max_object_bytes=1000))


@pytest.mark.parametrize(("line", "says"), [("x", "more than 100 records"), ("1,x", "More than 100 rows .* b is not")])
def test_a_million_broken_records_end_the_reading(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    monkeypatch.setattr("ingestion.objects.rows.MAX_BROKEN", 100)
    monkeypatch.setattr("ingestion.objects.convert.MAX_BROKEN", 100)
    source.put("a,b\n" + f"{line}\n" * 101)
    with pytest.raises(ObjectCorrupt, match=says):
        source.stage(source.spec("a: string, b: int32"))
    assert source.left_behind() == []
