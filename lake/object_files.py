"""Whole files in a bucket, written so that nobody who reads them can be told something wrong.

Three moves: a file goes up and is read back and compared; a small document is replaced only if it is still the version
that was looked at (a conditional put); a file comes down under another name and is compared before it gets its own.
No promise of the store beyond the conditional put is relied on: not its checksums, not that an answer arrives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import CommitConflict, StateCorrupt, StoreUnavailable
from common.files import sync_file
from lake.object_store import S3Location, s3_client
from lake.storage import StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_CHUNK_BYTES = 1 << 20
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_LOST_RACE = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


@dataclass(frozen=True)
class FileFacts:
    """How a file is told from any other.

    Attributes:
        size_bytes: its length.
        sha256: of its content, hexadecimal.
    """

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """Of a local file."""
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(path.stat().st_size, found)


@dataclass(frozen=True)
class Document:
    """A small object as it was read.

    Attributes:
        content: its bytes.
        version: the store's tag of this version.
    """

    content: bytes
    version: str


class ObjectFiles:
    """The files below one prefix of a bucket.

    Args:
        location: the bucket.
        prefix: what every key begins with; without slashes at its ends.
    """

    def __init__(self, location: S3Location, prefix: str) -> None:
        self._location, self._prefix = location, prefix
        self._client: S3Client = s3_client(location)

    def __str__(self) -> str:
        return f"s3://{self._location.bucket}/{self._prefix}"

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Errors of the store as ours; one that says "there is none" as FileNotFoundError."""
        from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError, HTTPClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            if {code, status} & _ABSENT:
                raise FileNotFoundError(what) from None
            if {code, status} & _LOST_RACE:
                raise CommitConflict(
                    f"{self}/{what} was changed by somebody else.", remedy="look what is there now and try again"
                ) from None
            raise StoreUnavailable(
                f"{self._location} refused {what}: {code or status}.",
                remedy="check the keys and rights of that connection",
            ) from None
        except FlexibleChecksumError:
            raise StateCorrupt(
                f"{self}/{what} arrived with another checksum than the store has of it.",
                remedy="run the command again; if it stays so, the store is damaged",
            ) from None
        except (BotoCoreError, HTTPClientError) as error:
            raise StoreUnavailable(
                f"{self._location} does not answer ({type(error).__name__}, at {what}).", remedy="check that it runs"
            ) from None

    def upload(self, path: Path, name: str, facts: FileFacts) -> None:
        """Put a file up, then read it back and compare length and checksum.

        Raises:
            StateCorrupt: the store gives back something else.
            StoreUnavailable: it does not answer.
        """
        from boto3.exceptions import S3UploadFailedError

        with self._telling(name):
            try:
                self._client.upload_file(str(path), self._location.bucket, self._key(name))
            except S3UploadFailedError as error:
                if error.__context__ is not None:
                    raise error.__context__ from None
                raise StoreUnavailable(f"{self} did not take {name}.", remedy="check the store") from None
            found = hashlib.sha256()
            size = 0
            for chunk in self._chunks(name):
                found.update(chunk)
                size += len(chunk)
        if FileFacts(size, found.hexdigest()) != facts:
            raise StateCorrupt(
                f"{self}/{name} has {size} bytes that are not those of the file that was put there "
                f"({facts.size_bytes} bytes).",
                remedy="run the command again; if it stays so, the store is damaged",
            )

    def download(self, name: str, path: Path, facts: FileFacts) -> None:
        """Bring a file down and compare it.

        Side effects: ``path`` is written, and removed if it is not what it should be.

        Raises:
            FileNotFoundError: there is none.
            StateCorrupt: it is not the file it should be.
            StoreUnavailable: the store does not answer.
        """
        try:
            with self._telling(name), path.open("xb") as target:
                for chunk in self._chunks(name):
                    target.write(chunk)
            sync_file(path)
            if FileFacts.of(path) != facts:
                raise StateCorrupt(
                    f"{self}/{name} is damaged: its length or checksum is not that of its release.",
                    remedy="put the release up again: 'penstock store publish', or roll back to another",
                )
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def stream(self, name: str) -> Iterator[bytes]:
        """A file's bytes, in pieces.

        Raises:
            FileNotFoundError: there is none.
            StateCorrupt: it arrived with another checksum than the store has of it.
            StoreUnavailable: the store does not answer.
        """
        with self._telling(name):
            yield from self._chunks(name)

    def _chunks(self, name: str) -> Iterator[bytes]:
        body = self._client.get_object(Bucket=self._location.bucket, Key=self._key(name))["Body"]
        yield from body.iter_chunks(_CHUNK_BYTES)

    def read(self, name: str) -> Document | None:
        """A small object; None if there is none.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        try:
            with self._telling(name):
                found = self._client.get_object(Bucket=self._location.bucket, Key=self._key(name))
                return Document(found["Body"].read(), found["ETag"])
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes, before: Document | None) -> None:
        """Put a small object in the place of the version that was read; of none, if none was there.

        Raises:
            CommitConflict: another version is there - or this one, if an answer was lost: read back.
            StoreUnavailable: whether it was written is not known: read back.
        """
        condition = {"IfMatch": before.version} if before else {"IfNoneMatch": "*"}
        try:
            with self._telling(name):
                self._client.put_object(
                    Bucket=self._location.bucket,
                    Key=self._key(name),
                    Body=content,
                    **condition,  # type: ignore[arg-type]
                )
        except FileNotFoundError:  # the version that was to be replaced is gone
            raise CommitConflict(f"{self}/{name} was removed by somebody else.", remedy="try again") from None

    def write(self, name: str, content: bytes) -> None:
        """Put a small object there, whatever was there before.

        Raises:
            StoreUnavailable: whether it was written is not known.
        """
        with self._telling(name):
            self._client.put_object(Bucket=self._location.bucket, Key=self._key(name), Body=content)

    def names(self, folder: str) -> list[str]:
        """Names below a folder, sorted.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return [file.location for file in self.stored(folder)]

    def stored(self, folder: str) -> list[StoredFile]:
        """The files below a folder, by name, sorted, with length and the store's time.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        prefix = self._key(folder) + "/"
        cut = len(prefix) - len(folder) - 1
        with self._telling(folder):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._location.bucket, Prefix=prefix)
            found = [item for page in pages for item in page.get("Contents", ())]
        return sorted(
            (StoredFile(item["Key"][cut:], item["Size"], item["LastModified"]) for item in found),
            key=lambda file: file.location,
        )

    def remove(self, name: str) -> None:
        """Remove a file if it is there.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with self._telling(name):
            self._client.delete_object(Bucket=self._location.bucket, Key=self._key(name))
