"""Small files of the lake (receipts, refusals) and deletion of data files: S3 through Arrow, local disk by itself.

Arrow takes 60 MB, and with NumPy a quarter of a second of CPU: an extract into a local lake does without it.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from common.errors import StateCorrupt, StoreUnavailable
from common.files import sync_file, write_atomic
from common.settings import Settings
from lake.engine import lake_credentials
from lake.paths import engine_path

if TYPE_CHECKING:
    from pyarrow import fs


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
        """
        path = self._path(location)
        try:
            self._make_folder(path)
            content = text.encode()
            if self._objects is None:
                Path(path).write_bytes(content)
                return
            with self._objects.open_output_stream(path) as stream:
                stream.write(content)
        except OSError as error:
            raise StoreUnavailable(
                f"Cannot write {location}: {error}.", remedy="check the lake's storage and its free space"
            ) from None

    def replace_json(self, location: str, value: Any) -> None:
        """Write one JSON document that others may read meanwhile, and that outlives a power cut once it is there.

        Raises:
            StoreUnavailable: the store does not take it.

        Side effects: parent folders are made; readers see the old document or the new one (an object store's way).
        """
        if self._objects is not None:
            self.write_json(location, value)
            return
        try:
            write_atomic(Path(self._path(location)), json.dumps(value, default=str))
        except OSError as error:
            raise StoreUnavailable(
                f"Cannot write {location}: {error}.", remedy="check the lake's storage and its free space"
            ) from None

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

    def flush(self, location: str) -> int:
        """Have a file that was just written outlive a power cut (an object store has done so); its size in bytes."""
        if self._objects is None:
            sync_file(Path(self._path(location)))
        return self.size(location) or 0

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
