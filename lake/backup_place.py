"""Where backups lie: a folder or a bucket, asked the same way.

Files are put there once under a name of their own and never replaced; each is read back and compared before it counts.
A document that publishes something is created only if there is none of its name: by a conditional put in a bucket, by a
link in a folder. Nothing else is promised or needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import CommitConflict, SettingsError, StateCorrupt, StoreUnavailable
from common.files import sync_file, sync_folder, write_atomic
from common.settings import Settings
from lake.object_files import FileFacts, ObjectFiles
from lake.object_store import parse_s3_url
from lake.paths import path_below
from lake.storage import StoredFile

CONNECTION = "backup"
"""Name of the connection that holds keys and endpoint of a bucket of backups."""


class BackupPlace(ABC):
    """Files below one root, by names joined with ``/``. Safe to use from several threads."""

    @abstractmethod
    def upload(self, path: Path, name: str, facts: FileFacts) -> None:
        """Put a file there, then read it back and compare.

        Raises:
            StateCorrupt: what is read back is something else.
            StoreUnavailable: the place does not answer or is full.
        """

    @abstractmethod
    def facts(self, name: str) -> FileFacts | None:
        """Length and checksum of a file, all of it read; None if there is none.

        Raises:
            StoreUnavailable: the place does not answer.
        """

    @abstractmethod
    def download(self, name: str, path: Path, facts: FileFacts) -> None:
        """Bring a file to ``path``, which is written anew, and compare.

        Raises:
            StateCorrupt: there is none, or not the one it should be; the message names it.
            StoreUnavailable: the place does not answer.
        """

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A small file; None if there is none.

        Raises:
            StoreUnavailable: the place does not answer.
        """

    @abstractmethod
    def create(self, name: str, content: bytes) -> None:
        """Write a small file, if there is none of that name. It is there whole or not at all.

        Raises:
            CommitConflict: there is one; perhaps this one, if an answer was lost: read it.
            StoreUnavailable: whether it was written is not known: read it.
        """

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a small file, or write it anew.

        Raises:
            StoreUnavailable: the place does not answer.
        """

    @abstractmethod
    def stored(self, folder: str) -> list[StoredFile]:
        """The files below a folder, by name, dated by the place's own clock.

        Raises:
            StoreUnavailable: the place does not answer.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file if it is there.

        Raises:
            StoreUnavailable: the place does not answer.
        """

    def damaged(
        self, name: str, what: str = "its length or checksum is not that of the file that was put there"
    ) -> str:
        """The sentence that names a damaged object."""
        return f"{self}/{name} is damaged: {what}."


REMEDY = "restore another backup; then take one with 'penstock backup run --full', which copies every file anew"


class FolderPlace(BackupPlace):
    """Backups in a folder, which had better be another disk's.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def _path(self, name: str) -> Path:
        return path_below(self._root, name)

    def upload(self, path: Path, name: str, facts: FileFacts) -> None:
        """See :class:`BackupPlace`."""
        target = self._path(name)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        with _told(self, name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary)
            sync_file(temporary)
            if FileFacts.of(temporary) != facts:
                temporary.unlink()
                raise StateCorrupt(self.damaged(name), remedy="run the command again")
            temporary.replace(target)
            sync_folder(target.parent)

    def facts(self, name: str) -> FileFacts | None:
        """See :class:`BackupPlace`."""
        try:
            with _told(self, name):
                return FileFacts.of(self._path(name))
        except FileNotFoundError:
            return None

    def download(self, name: str, path: Path, facts: FileFacts) -> None:
        """See :class:`BackupPlace`."""
        try:
            with _told(self, name):
                shutil.copyfile(self._path(name), path)
        except FileNotFoundError:
            raise StateCorrupt(self.damaged(name, "it is missing"), remedy=REMEDY) from None
        sync_file(path)
        if FileFacts.of(path) != facts:
            path.unlink()
            raise StateCorrupt(self.damaged(name), remedy=REMEDY)

    def read(self, name: str) -> bytes | None:
        """See :class:`BackupPlace`."""
        try:
            with _told(self, name):
                return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> None:
        """See :class:`BackupPlace`."""
        target = self._path(name)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        with _told(self, name):
            write_atomic(temporary, content)
            try:
                os.link(temporary, target)
                sync_folder(target.parent)
            except FileExistsError:
                raise CommitConflict(f"{self}/{name} is there already.", remedy="look what it is") from None
            finally:
                temporary.unlink()

    def write(self, name: str, content: bytes) -> None:
        """See :class:`BackupPlace`."""
        with _told(self, name):
            write_atomic(self._path(name), content)

    def stored(self, folder: str) -> list[StoredFile]:
        """See :class:`BackupPlace`."""
        found = []
        with _told(self, folder):
            for path in sorted(self._path(folder).rglob("*")):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if path.is_file():
                        name = path.relative_to(self._root).as_posix()
                        found.append(StoredFile(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)))
        return found

    def remove(self, name: str) -> None:
        """See :class:`BackupPlace`."""
        with _told(self, name):
            self._path(name).unlink(missing_ok=True)


class BucketPlace(BackupPlace):
    """Backups below one prefix of a bucket.

    Args:
        files: the prefix.
    """

    def __init__(self, files: ObjectFiles) -> None:
        self._files = files

    def __str__(self) -> str:
        return str(self._files)

    def upload(self, path: Path, name: str, facts: FileFacts) -> None:
        """See :class:`BackupPlace`."""
        self._files.upload(path, name, facts)

    def facts(self, name: str) -> FileFacts | None:
        """See :class:`BackupPlace`."""
        found, size = hashlib.sha256(), 0
        try:
            for chunk in self._files.stream(name):
                found.update(chunk)
                size += len(chunk)
        except FileNotFoundError:
            return None
        return FileFacts(size, found.hexdigest())

    def download(self, name: str, path: Path, facts: FileFacts) -> None:
        """See :class:`BackupPlace`."""
        path.unlink(missing_ok=True)
        try:
            self._files.download(name, path, facts)
        except FileNotFoundError:
            raise StateCorrupt(self.damaged(name, "it is missing"), remedy=REMEDY) from None
        except StateCorrupt:
            raise StateCorrupt(self.damaged(name), remedy=REMEDY) from None

    def read(self, name: str) -> bytes | None:
        """See :class:`BackupPlace`."""
        found = self._files.read(name)
        return found.content if found else None

    def create(self, name: str, content: bytes) -> None:
        """See :class:`BackupPlace`."""
        self._files.replace(name, content, None)

    def write(self, name: str, content: bytes) -> None:
        """See :class:`BackupPlace`."""
        self._files.write(name, content)

    def stored(self, folder: str) -> list[StoredFile]:
        """See :class:`BackupPlace`."""
        return self._files.stored(folder)

    def remove(self, name: str) -> None:
        """See :class:`BackupPlace`."""
        self._files.remove(name)


@contextlib.contextmanager
def _told(place: BackupPlace, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreUnavailable(
            f"{place} does not take or give {name}: {error.strerror or error}.",
            remedy="check that the folder is there and has free space",
        ) from None


def open_place(settings: Settings, uri: str = "") -> BackupPlace:
    """Where backups go.

    Args:
        settings: name it, and the connection ``backup`` for a bucket.
        uri: another place than the settings'.

    Raises:
        SettingsError: none is named; it is no ``s3://bucket/prefix`` and no folder outside of the state folder; or the
            connection leads to another bucket.
    """
    uri = uri or settings.backup_uri
    if not uri:
        raise SettingsError(
            "There is no place for backups.",
            remedy="set PENSTOCK_BACKUP_URI, or give one by --place: s3://bucket/prefix, or a folder of another disk",
        )
    if "://" not in uri:
        root = Path(uri).expanduser().absolute()
        if root == settings.home or settings.home in root.parents:
            raise SettingsError(
                f"The folder for backups, {root}, lies in the state folder: it would be lost with it.",
                remedy="name a folder of another disk, or s3://bucket/prefix",
            )
        return FolderPlace(root)
    place = urlsplit(uri)
    if place.scheme != "s3" or not place.netloc or place.query or place.fragment or "@" in place.netloc:
        raise SettingsError(
            "The place for backups is no place in a bucket.",
            remedy=f"write it as s3://bucket/prefix; keys and endpoint belong to the connection named '{CONNECTION}'",
        )
    location = parse_s3_url(settings.connection(CONNECTION))
    if location.bucket != place.netloc:
        raise SettingsError(
            f"backup_uri names the bucket {place.netloc!r}, the connection '{CONNECTION}' the bucket "
            f"{location.bucket!r}.",
            remedy="correct one of them",
        )
    return BucketPlace(ObjectFiles(location, place.path.strip("/")))
