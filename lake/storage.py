"""Small files of the lake (receipts, refusals) and deletion of data files, on local disk or S3, through pyarrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from common.errors import StateCorrupt, StoreUnavailable
from common.files import sync_file
from common.settings import Settings
from lake.engine import lake_credentials
from lake.paths import engine_path


class Storage:
    """Read, write, list and delete whole files by location."""

    def __init__(self, settings: Settings) -> None:
        credentials = lake_credentials(settings)
        self._files: fs.FileSystem
        if credentials is None:
            self._files = fs.LocalFileSystem()
        else:
            endpoint = urlsplit(credentials.endpoint)
            self._files = fs.S3FileSystem(
                access_key=credentials.access_key or None,
                secret_key=credentials.secret_key.get_secret_value() or None,
                endpoint_override=endpoint.netloc or None,
                scheme="http" if endpoint.scheme == "http" else "https",
                region=credentials.region,
                connect_timeout=5,
                request_timeout=60,
            )

    def _path(self, location: str) -> str:
        return engine_path(location).removeprefix("s3://")

    def write_json(self, location: str, value: Any) -> None:
        """Write one JSON document. Side effects: parent folders are made; an existing file is replaced."""
        path = self._path(location)
        try:
            self._make_folder(path)
            with self._files.open_output_stream(path) as stream:
                stream.write(json.dumps(value, default=str).encode())
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
            with self._files.open_input_stream(self._path(location)) as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            raise StateCorrupt(f"{location} is missing.", remedy="re-run the interval it belongs to") from None
        except ValueError:
            raise StateCorrupt(f"{location} is not valid JSON.", remedy="re-run the interval it belongs to") from None
        except OSError as error:
            raise StoreUnavailable(f"Cannot read {location}: {error}.", remedy="check the lake's storage") from None

    def list_files(self, folder: str) -> list[str]:
        """Paths of the files directly or indirectly in ``folder``, sorted; empty if there is no such folder."""
        selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        prefix = "s3://" if folder.startswith("s3://") else "file://"
        return sorted(prefix + info.path for info in self._files.get_file_info(selector) if info.is_file)

    def prepare_folder(self, location: str) -> None:
        """Make the folder that a data file is about to be written into (no-op on an object store)."""
        self._make_folder(self._path(location))

    def size(self, location: str) -> int | None:
        """A file's size in bytes; None if it is not there."""
        found = self._files.get_file_info(self._path(location))
        return int(found.size) if found.is_file else None

    def flush(self, location: str) -> int:
        """Have a file that was just written outlive a power cut (an object store has done so); its size in bytes."""
        if isinstance(self._files, fs.LocalFileSystem):
            sync_file(Path(self._path(location)))
        return self.size(location) or 0

    def delete(self, location: str) -> None:
        """Delete a file if it is there."""
        path = self._path(location)
        if self._files.get_file_info(path).type is not fs.FileType.NotFound:
            self._files.delete_file(path)

    def _make_folder(self, path: str) -> None:
        if isinstance(self._files, fs.LocalFileSystem):
            self._files.create_dir(path.rsplit("/", 1)[0], recursive=True)
