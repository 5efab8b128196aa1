"""Small files of the lake (receipts, refusals) and deletion of data files: S3 through Arrow, local disk by itself.

Arrow takes 60 MB, and with NumPy a quarter of a second of CPU: an extract into a local lake does without it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from common.disk import disk_full, is_disk_full
from common.errors import PenstockError, StateCorrupt, StoreUnavailable
from common.files import sync_file, write_atomic
from common.settings import Settings
from lake.engine import lake_credentials
from lake.object_store import abort_uploads, delete_objects
from lake.paths import engine_path

if TYPE_CHECKING:
    from pyarrow import fs


@dataclass(frozen=True)
class StoredFile:
    """A file that is there.

    Attributes:
        location: as Iceberg names it.
        size_bytes: its length.
        modified_at: when it was written, UTC, by the store's clock.
    """

    location: str
    size_bytes: int
    modified_at: datetime


class Storage:
    """Read, write, list and delete whole files by location."""

    def __init__(self, settings: Settings) -> None:
        self._credentials = lake_credentials(settings)

    @cached_property
    def _objects(self) -> fs.FileSystem | None:
        """The object store; None for a lake on the local disk."""
        if self._credentials is None:
            return None
        from pyarrow import fs

        endpoint = urlsplit(self._credentials.endpoint)
        return fs.S3FileSystem(
            access_key=self._credentials.access_key or None,
            secret_key=self._credentials.secret_key.get_secret_value() or None,
            endpoint_override=endpoint.netloc or None,
            scheme="http" if endpoint.scheme == "http" else "https",
            region=self._credentials.region,
            connect_timeout=5,
            request_timeout=60,
        )

    def _path(self, location: str) -> str:
        return engine_path(location).removeprefix("s3://")

    def write_json(self, location: str, value: Any) -> None:
        """Write one JSON document. Side effects: parent folders are made; an existing file is replaced."""
        self.write_text(location, json.dumps(value, default=str))

    def write_text(self, location: str, text: str) -> None:
        """Write one file, in UTF-8. Side effects: parent folders are made; an existing file is replaced.

        Raises:
            StoreUnavailable: the store does not take it.
            DiskFull: the disk has no room.
        """
        path, content = self._path(location), text.encode()
        try:
            self._make_folder(path)
            if self._objects is None:
                _write_whole(Path(path), content)
                return
            with self._objects.open_output_stream(path) as stream:
                stream.write(content)
        except OSError as error:
            raise _unwritten(location, error, len(content)) from None

    def replace_json(self, location: str, value: Any) -> None:
        """Write one JSON document that others may read meanwhile, and that outlives a power cut once it is there.

        Raises:
            StoreUnavailable: the store does not take it.
            DiskFull: the disk has no room.

        Side effects: parent folders are made; readers see the old document or the new one (an object store's way).
        """
        if self._objects is not None:
            self.write_json(location, value)
            return
        content = json.dumps(value, default=str).encode()
        try:
            write_atomic(Path(self._path(location)), content)
        except OSError as error:
            raise _unwritten(location, error, len(content)) from None

    def read_json(self, location: str) -> Any:
        """Read one JSON document.

        Raises:
            StateCorrupt: the document is missing or not JSON.
            StoreUnavailable: the store does not answer.
        """
        try:
            path = self._path(location)
            if self._objects is None:
                return json.loads(Path(path).read_bytes())
            with self._objects.open_input_stream(path) as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            raise StateCorrupt(f"{location} is missing.", remedy="re-run the interval it belongs to") from None
        except ValueError:
            raise StateCorrupt(f"{location} is not valid JSON.", remedy="re-run the interval it belongs to") from None
        except OSError as error:
            raise StoreUnavailable(f"Cannot read {location}: {error}.", remedy="check the lake's storage") from None

    def list_files(self, folder: str) -> list[str]:
        """Paths of the files directly or indirectly in ``folder``, sorted; empty if there is no such folder."""
        if self._objects is None:
            return sorted(f"file://{path}" for path in Path(self._path(folder)).rglob("*") if path.is_file())
        from pyarrow import fs

        selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        return sorted(f"s3://{info.path}" for info in self._objects.get_file_info(selector) if info.is_file)

    def list_stored(self, folder: str) -> list[StoredFile]:
        """The files directly or indirectly in ``folder`` with size and time; one that goes meanwhile is left out.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        found: list[StoredFile] = []
        try:
            if self._objects is None:
                for path in Path(self._path(folder)).rglob("*"):
                    with suppress(FileNotFoundError):
                        if path.is_file():
                            status = path.stat()
                            moment = datetime.fromtimestamp(status.st_mtime, UTC)
                            found.append(StoredFile(f"file://{path}", status.st_size, moment))
                return found
            from pyarrow import fs

            selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
            there = [info for info in self._objects.get_file_info(selector) if info.is_file]
            return [StoredFile(f"s3://{info.path}", info.size, _in_utc(info.mtime)) for info in there]
        except OSError as error:
            raise StoreUnavailable(f"Cannot list {folder}: {error}.", remedy="check the lake's storage") from None

    def now(self, probe: str) -> datetime:
        """The time by the store's own clock, by which it also dates its files. Side effects: ``probe`` is written.

        Raises:
            StoreUnavailable: the store does not take it.
        """
        self.write_text(probe, "")
        path = self._path(probe)
        if self._objects is None:
            return datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
        return _in_utc(self._objects.get_file_info(path).mtime)

    def delete_many(self, locations: Sequence[str]) -> None:
        """Delete files, a thousand with one request where the store can; one that is gone already is no matter.

        Raises:
            StoreUnavailable: the store does not do it; some may be deleted.
        """
        try:
            if self._credentials is not None:
                delete_objects(self._credentials, locations)
                return
            for location in locations:
                Path(self._path(location)).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"Cannot delete files: {error}.", remedy="check the lake's storage") from None

    def abort_uploads(self, root: str, *, older_than: timedelta, now: datetime, dry_run: bool) -> int:
        """Abort uploads in parts that nobody finished (an object store keeps and charges their parts); how many.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if self._credentials is None:
            return 0
        return abort_uploads(self._credentials, root, before=now - older_than, dry_run=dry_run)

    def prepare_folder(self, location: str) -> None:
        """Make the folder that a data file is about to be written into (no-op on an object store)."""
        self._make_folder(self._path(location))

    def size(self, location: str) -> int | None:
        """A file's size in bytes; None if it is not there."""
        path = self._path(location)
        if self._objects is None:
            return Path(path).stat().st_size if Path(path).is_file() else None
        found = self._objects.get_file_info(path)
        return int(found.size) if found.is_file else None

    def written_at(self, location: str) -> datetime | None:
        """When a file was written, UTC, by the store's clock; None if it is not there.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        path = self._path(location)
        try:
            if self._objects is None:
                return datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
            return _in_utc(self._objects.get_file_info(path).mtime)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"Cannot look at {location}: {error}.", remedy="check the lake's storage") from None

    def flush(self, location: str) -> int:
        """Have a file that was just written outlive a power cut (an object store has done so); its size in bytes."""
        if self._objects is None:
            sync_file(Path(self._path(location)))
        return self.size(location) or 0

    def copy(self, location: str, target: str) -> None:
        """Write a file under another name; in an object store by the store itself.

        Raises:
            StoreUnavailable: the store does not do it.
            DiskFull: the disk has no room.

        Side effects: parent folders are made.
        """
        source, path = self._path(location), self._path(target)
        try:
            if self._objects is None:
                self._make_folder(path)
                shutil.copyfile(source, path)
            else:
                self._objects.copy_file(source, path)
        except OSError as error:
            raise _unwritten(target, error, self.size(location) or 0) from None

    def delete(self, location: str) -> None:
        """Delete a file if it is there."""
        path = self._path(location)
        if self._objects is None:
            Path(path).unlink(missing_ok=True)
        elif self.size(location) is not None:
            self._objects.delete_file(path)

    def _make_folder(self, path: str) -> None:
        if self._objects is None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)


def _write_whole(path: Path, content: bytes) -> None:
    if path.exists():  # somebody may rest on what it says: the old document until the new one is whole
        write_atomic(path, content)
        return
    try:
        path.write_bytes(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _unwritten(location: str, error: OSError, size_bytes: int) -> PenstockError:
    if is_disk_full(error):
        return disk_full(error, Path(engine_path(location)), needed_bytes=size_bytes)
    return StoreUnavailable(f"Cannot write {location}: {error}.", remedy="check the lake's storage")


def _in_utc(moment: datetime | None) -> datetime:
    """When an object was written; a store that does not say so is taken to have just done it."""
    return datetime.now(UTC) if moment is None else moment.astimezone(UTC)
