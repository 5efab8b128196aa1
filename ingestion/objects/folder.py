"""A folder of this machine as an object store: a file's key is its path below the folder.

A file's etag is ``<size>-<mtime in ns>-<inode>``, in hexadecimal: cheap for any number of files, and new whenever a
file is written again or replaced. It is compared on the open file before the first and after the last byte, so a file
that changes while it is read is noticed. What it cannot tell: a file that was touched or copied counts as changed,
although its bytes are the same; a program that rewrites a file in place and puts its time back goes unseen.

Links: a link to a file inside the folder is that file. A link that leads out is refused, whatever it leads to: the
folder is all that was granted. A linked folder inside is not entered, as its files are listed under their own names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from common.errors import SettingsError, SourceRefused, SourceUnavailable
from ingestion.objects.stores import BLOCK_BYTES, StoredObject
from lake.paths import path_below

_REMEDY = "check that the folder of the connection is there and may be read"


class Folder:
    """One folder, read only.

    Args:
        root: the folder, absolute.
        source: source name, for error messages.
    """

    def __init__(self, root: Path, *, source: str | None = None) -> None:
        self.root = root
        self.source = source

    @classmethod
    def open(cls, url: str, *, source: str | None = None) -> Self:
        """A folder from its ``file:///`` URL, special characters percent-encoded. Nothing is read yet.

        Raises:
            SettingsError: the URL is malformed.
        """
        try:
            parts = urlsplit(url)
            path = unquote(parts.path, errors="strict")
        except ValueError:
            parts, path = urlsplit(""), ""
        if (
            parts.scheme != "file"
            or parts.netloc not in {"", "localhost"}
            or parts.query
            or parts.fragment
            or not path.startswith("/")
            or "\0" in path
        ):
            raise SettingsError(
                "A folder connection is not a valid URL.",
                source=source,
                remedy="write it as file:///data/exports, special characters percent-encoded",
            )
        return cls(Path(path), source=source)

    def __str__(self) -> str:
        return f"folder {self.root}"

    def check(self) -> None:
        """See :meth:`ingestion.objects.stores.ObjectStore.check`."""
        try:
            with os.scandir(self.root) as entries:
                next(entries, None)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise SourceRefused(
                f"The {self} cannot be listed: {error.strerror}.", source=self.source, remedy=_REMEDY
            ) from None
        except OSError as error:
            raise self._unavailable(str(self), error) from None

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """See :meth:`ingestion.objects.stores.ObjectStore.objects`; in the order of the keys' segments.

        Raises:
            SourceRefused: a link leads out of the folder, or a name is not UTF-8.
        """
        self.check()
        yield from self._below(self.root, self.root.resolve(), "", prefix)

    def _below(self, folder: Path, real_root: Path, above: str, prefix: str) -> Iterator[StoredObject]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            return  # removed since its name was read: what lay in it has vanished
        except OSError as error:
            raise self._unavailable(f"folder {folder}", error) from None
        for entry in entries:
            key = f"{above}{entry.name}"
            if not (key.startswith(prefix) or prefix.startswith(f"{key}/")):
                continue
            self._check_name(key)
            if entry.is_symlink() and not self._leads_inside(Path(entry.path), real_root):
                raise SourceRefused(
                    f"{key} in {self} is a link that leads out of the folder.",
                    source=self.source,
                    remedy="put the file itself there, or name its own folder in the connection",
                )
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(Path(entry.path), real_root, f"{key}/", prefix)
            elif key.startswith(prefix):
                try:
                    state = entry.stat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(state.st_mode):
                    modified_at = datetime.fromtimestamp(state.st_mtime, UTC)
                    yield StoredObject(key, _etag(state), state.st_size, modified_at)

    def stream(self, found: StoredObject) -> Iterator[bytes]:
        """See :meth:`ingestion.objects.stores.ObjectStore.stream`."""
        path = path_below(self.root, found.key)
        try:
            if not self._leads_inside(path, self.root.resolve()):
                raise self._changed(found)
            # Not blocking: what is a pipe by now must not hold the run up before it is noticed.
            descriptor = os.open(path.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb", buffering=0) as handle:
                self._compare(found, handle.fileno())
                while block := handle.read(BLOCK_BYTES):
                    yield block
                self._compare(found, handle.fileno())
        except FileNotFoundError:
            raise self._changed(found) from None
        except OSError as error:
            raise self._unavailable(f"{found.key} in {self}", error) from None

    def close(self) -> None:
        """Nothing is held."""

    def _compare(self, found: StoredObject, descriptor: int) -> None:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or _etag(state) != found.etag:
            raise self._changed(found)

    def _changed(self, found: StoredObject) -> SourceUnavailable:
        return SourceUnavailable(
            f"The object {found.key} in {self} changed while it was being read.",
            source=self.source,
            remedy="run the interval again",
        )

    def _unavailable(self, thing: str, error: OSError) -> SourceUnavailable:
        return SourceUnavailable(f"Reading {thing} failed: {error.strerror}.", source=self.source, remedy=_REMEDY)

    def _check_name(self, key: str) -> None:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise SourceRefused(
                f"{key.encode('utf-8', 'backslashreplace').decode()} in {self} has a name that is not UTF-8.",
                source=self.source,
                remedy="rename the file",
            ) from None

    @staticmethod
    def _leads_inside(path: Path, real_root: Path) -> bool:
        try:
            return path.resolve(strict=True).is_relative_to(real_root)
        except RuntimeError:  # a link to itself
            return False
        except FileNotFoundError:  # a link to nothing: as long as that nothing is inside
            return path.resolve().is_relative_to(real_root)


def _etag(state: os.stat_result) -> str:
    return f"{state.st_size:x}-{state.st_mtime_ns:x}-{state.st_ino:x}"
