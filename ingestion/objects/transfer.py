"""One object -> one local file: at the etag it was listed with, every byte checked, decompressed in bounded memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import ObjectCorrupt, SourceUnavailable, TerminalError
from ingestion.objects.csv_files import Scan
from ingestion.spec import Objects

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_BLOCK_BYTES = 1 << 20
_GZIP_SLICE_BYTES = 1 << 14


@dataclass(frozen=True, order=True)
class ObjectInfo:
    """One object as listed."""

    key: str
    etag: str
    size_bytes: int


def fetch(client: S3Client, bucket: str, info: ObjectInfo, layout: Objects, path: Path) -> Scan:
    """Download one object to ``path``, verified and decompressed. Returns what its text looks like.

    Raises:
        SourceUnavailable: it broke off or arrived damaged.
        ObjectCorrupt: it is not what the spec says, or larger than the spec allows.
        TerminalError: the local disk does not take it.
        botocore and connection errors as they are.

    Side effects: one file of at most ``layout.max_object_bytes``.
    """
    answer = client.get_object(Bucket=bucket, Key=info.key, IfMatch=f'"{info.etag}"')
    checked = _checked(answer["Body"].iter_chunks(_BLOCK_BYTES), info)
    plain = _gunzipped(checked, info) if layout.compression == "gzip" else checked
    scan, written = Scan(layout.delimiter), 0
    with path.open("wb") as handle:
        for block in plain:
            written += len(block)
            if written > layout.max_object_bytes:
                raise ObjectCorrupt(
                    f"{info.key} is larger than {layout.max_object_bytes} bytes uncompressed.",
                    remedy="raise max_object_bytes in the spec if that is right",
                )
            scan.feed(block)
            try:
                handle.write(block)
            except OSError as error:
                raise TerminalError(
                    f"Cannot write {len(block)} bytes to {path}: {error.strerror}.", remedy="make room on that disk"
                ) from None
    scan.finish()
    return scan


def _checked(blocks: Iterator[bytes], info: ObjectInfo) -> Iterator[bytes]:
    """Pass the bytes through; at the end compare length and, where the etag is an MD5, the content."""
    md5, size_bytes = hashlib.md5(usedforsecurity=False), 0
    for block in blocks:
        md5.update(block)
        size_bytes += len(block)
        yield block
    if size_bytes != info.size_bytes:
        raise SourceUnavailable(
            f"{info.key} broke off after {size_bytes} of {info.size_bytes} bytes.", remedy="run the interval again"
        )
    is_md5 = len(info.etag) == 32 and all(character in "0123456789abcdef" for character in info.etag)
    if is_md5 and md5.hexdigest() != info.etag:
        raise SourceUnavailable(f"{info.key} arrived with a wrong checksum.", remedy="run the interval again")


def _gunzipped(blocks: Iterator[bytes], info: ObjectInfo) -> Iterator[bytes]:
    """Decompress gzip (one or several members) in bounded memory; a stream that breaks off is an error."""
    member = zlib.decompressobj(31)
    complete = False
    try:
        for block in blocks:
            # In small slices: what a member leaves over is copied, once per member.
            for start in range(0, len(block), _GZIP_SLICE_BYTES):
                data = block[start : start + _GZIP_SLICE_BYTES]
                while data:
                    if member.eof:
                        member = zlib.decompressobj(31)
                    yield member.decompress(data, _BLOCK_BYTES)
                    data = member.unconsumed_tail or member.unused_data
                    complete = member.eof
    except zlib.error:
        raise ObjectCorrupt(
            f"{info.key} is not valid gzip.", remedy="upload the object again; 'compression: none' if it is plain"
        ) from None
    if not complete:
        raise ObjectCorrupt(f"{info.key} is a truncated gzip file.", remedy="upload the complete object again")
