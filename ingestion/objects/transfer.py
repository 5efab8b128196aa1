"""One object -> local files: at the etag it was listed with, every byte checked, unpacked and in UTF-8, within limits.

::

    store.stream -> (gunzip | unzstd) -> UTF-8 -> one file, never more than max_object_bytes
    store.stream -> a file -> zip members -> UTF-8 -> one file after the other, all of them within max_object_bytes

The limit is compared before a block is written, so what a bomb leaves on the disk is the limit and nothing more. An
object that broke off or arrived damaged is asked for again; one that is damaged in the store is refused.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import ObjectCorrupt, SourceUnavailable, TerminalError
from ingestion.objects.archives import Archive, gunzipped, unzstd
from ingestion.objects.csv_files import Scan
from ingestion.objects.encodings import Transcoder
from ingestion.objects.stores import ObjectStore, StoredObject, TransferBroken
from ingestion.spec import Objects

_ATTEMPTS = 3
_PAUSE_S = 0.2
_RATIO_FREE_BYTES = 16 << 20


@dataclass(frozen=True)
class Part:
    """One file of rows on the local disk: an object, or a member of an archive.

    Attributes:
        name: the object's key; of a member ``<key>!/<member>``.
        path: the file. Text is in UTF-8, without byte order mark.
        text: what became of its encoding.
        scan: what its bytes say, of a file of lines with values.
    """

    name: str
    path: Path
    text: Transcoder
    scan: Scan


def fetch(store: ObjectStore, found: StoredObject, layout: Objects, path: Path) -> Iterator[Part]:
    """Download one object and hand out its parts, one after the other, each in ``path``.

    Args:
        store: where it is.
        found: which object, as it was listed.
        layout: how it is packed, and its limits.
        path: a local file that is written anew for each part; take what you need before the next.

    Raises:
        SourceUnavailable: it broke off or arrived damaged, three times; or it changed.
        ObjectCorrupt: it is not what the spec says, or larger than the spec allows.
        TerminalError: the local disk does not take it.

    Side effects: at most ``layout.max_object_bytes`` of files at ``path``, and for an archive as many bytes beside it.
    """
    if found.size_bytes > layout.max_object_bytes:
        raise _too_large(found.key, layout)
    if layout.compression != "zip":
        yield _whole(store, found, layout, path)
        return
    archive_path = path.with_suffix(".zip")
    _whole(store, found, layout, archive_path, unpack=False)
    budget = layout.max_object_bytes
    try:
        with Archive(archive_path, found.key, layout) as archive:
            for member in archive.members:
                name = f"{found.key}!/{member.filename}"
                sink = _Sink(path, name, layout, packed_bytes=member.compress_size, budget_bytes=budget)
                yield _received(archive.read(member), sink, layout)
                budget -= sink.written_bytes
    finally:
        archive_path.unlink(missing_ok=True)


def _whole(store: ObjectStore, found: StoredObject, layout: Objects, path: Path, *, unpack: bool = True) -> Part:
    """The object in one file, asked for again when it arrived damaged."""
    for attempt in range(1, _ATTEMPTS + 1):
        sink = _Sink(path, found.key, layout, packed_bytes=found.size_bytes, budget_bytes=layout.max_object_bytes)
        raw = store.stream(found)
        plain = _unpacked(raw, found.key, layout) if unpack else raw
        try:
            return _received(plain, sink, layout, raw=raw, text=unpack and layout.format != "parquet")
        except TransferBroken as error:
            if attempt == _ATTEMPTS:
                raise SourceUnavailable(f"{error}, {attempt} times.", remedy="run the interval again") from None
            # With jitter: readers that a busy store cut off together shall not come back together.
            time.sleep(_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
    raise AssertionError("unreachable")


def _unpacked(raw: Iterator[bytes], key: str, layout: Objects) -> Iterator[bytes]:
    match layout.compression:
        case "gzip":
            return gunzipped(raw, key)
        case "zstd":
            return unzstd(raw, key)
        case _:
            return raw


def _received(
    plain: Iterator[bytes], sink: _Sink, layout: Objects, *, raw: Iterator[bytes] | None = None, text: bool = True
) -> Part:
    """Write the blocks, as UTF-8 if they are text."""
    transcoder = Transcoder(layout.codec if text else "utf-8", sink.name)
    scan = Scan(layout.separator, layout.quote)
    blocks = transcoder.utf8(plain) if text else plain
    has_values = text and layout.format in {"csv", "tsv"}
    with sink:
        while True:
            try:
                block = next(blocks, None)
            except ObjectCorrupt:
                for _ in raw or ():  # was it damaged on its way, or is it like that in the store?
                    pass
                raise
            if block is None:
                break
            sink.write(block)
            if has_values:
                scan.feed(block)
    scan.finish()
    return Part(sink.name, sink.path, transcoder, scan)


class _Sink:
    """A file that takes no more than it may."""

    def __init__(self, path: Path, name: str, layout: Objects, *, packed_bytes: int, budget_bytes: int) -> None:
        self.path = path
        self.name = name
        self.written_bytes = 0
        self._layout = layout
        self._packed_bytes = packed_bytes
        self._budget_bytes = budget_bytes

    def __enter__(self) -> None:
        self._handle = self.path.open("wb")

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def write(self, block: bytes) -> None:
        """Take a block, or refuse it before a byte of it is written."""
        size_bytes = self.written_bytes + len(block)
        if size_bytes > self._budget_bytes:
            raise _too_large(self.name, self._layout)
        if size_bytes > _RATIO_FREE_BYTES and size_bytes > self._packed_bytes * self._layout.max_ratio:
            raise ObjectCorrupt(
                f"{self.name} unpacks to more than {self._layout.max_ratio} times its size.",
                remedy="raise max_ratio in the spec if that is right",
            )
        try:
            self._handle.write(block)
            self._handle.flush()
        except OSError as error:
            raise TerminalError(
                f"Cannot write {len(block)} bytes to {self.path}: {error.strerror}.", remedy="make room on that disk"
            ) from None
        self.written_bytes = size_bytes


def _too_large(name: str, layout: Objects) -> ObjectCorrupt:
    return ObjectCorrupt(
        f"{name} is larger than {layout.max_object_bytes} bytes uncompressed.",
        remedy="raise max_object_bytes in the spec if that is right",
    )
