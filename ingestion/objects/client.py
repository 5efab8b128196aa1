"""A bucket to list, read and put by name, with storage errors in our words.

``lake/object_store.py`` says what a bucket URL is and how patient a client may be; this module is the little that
seeding and health checks need on top: whole small objects, listings with etags, one error tree. Bulk reading with its
checks is ``objects.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from pydantic import SecretStr

from common.errors import PenstockError, SettingsError, SourceRefused, SourceUnavailable
from lake.object_store import S3Location, parse_s3_url, s3_client

_REFUSALS = frozenset({400, 401, 403, 404})


@dataclass(frozen=True, order=True)
class StoredObject:
    """One object as a listing shows it.

    Attributes:
        key: its name in the bucket.
        etag: the store's tag of its content, without quotes; the MD5 for objects put in one piece.
        size_bytes: its length.
        modified_at: when it was last put, UTC.
    """

    key: str
    etag: str
    size_bytes: int
    modified_at: datetime


class Bucket:
    """A bucket and a client for it; safe to share between threads; a context manager that closes its connections.

    Args:
        location: bucket and login.
        source: source name, for error messages.
    """

    def __init__(self, location: S3Location, *, source: str | None = None) -> None:
        self.location = location
        self.source = source
        with self._translated():
            self.client = s3_client(location)

    @classmethod
    def open(cls, url: str, *, source: str | None = None) -> Self:
        """A bucket from its ``s3://`` URL. Nothing is sent yet.

        Raises:
            SettingsError: the URL is malformed.
        """
        return cls(parse_s3_url(SecretStr(url)), source=source)

    def check(self) -> None:
        """Prove that the bucket is there and may be listed.

        Raises:
            SourceUnavailable: no answer.
            SourceRefused: wrong keys, or no such bucket.
        """
        with self._translated():
            self.client.list_objects_v2(Bucket=self.location.bucket, MaxKeys=1)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key begins with ``prefix``, in the order of their keys, page by page.

        Raises:
            SourceUnavailable, SourceRefused: as :meth:`check`.
        """
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.location.bucket, Prefix=prefix)
        with self._translated():
            for page in pages:
                for found in page.get("Contents", ()):
                    yield StoredObject(found["Key"], found["ETag"].strip('"'), found["Size"], found["LastModified"])

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        """Store one object whole, replacing what was there; answers its etag.

        Raises:
            SourceUnavailable, SourceRefused: as :meth:`check`; the object is then old or new, never a mixture.
        """
        with self._translated():
            stored = self.client.put_object(Bucket=self.location.bucket, Key=key, Body=body, ContentType=content_type)
            return stored["ETag"].strip('"')

    def read(self, key: str, *, first_bytes: int | None = None) -> bytes:
        """One object's bytes in memory: all of them, or no more than the first ``first_bytes``.

        Raises:
            SourceUnavailable, SourceRefused: as :meth:`check`, and when there is no such object.
        """
        with self._translated():
            body = self.client.get_object(Bucket=self.location.bucket, Key=key)["Body"]
            with contextlib.closing(body):
                return body.read(first_bytes)

    def delete(self, key: str) -> None:
        """Remove one object; one that is not there is no error.

        Raises:
            SourceUnavailable, SourceRefused: as :meth:`check`.
        """
        with self._translated():
            self.client.delete_object(Bucket=self.location.bucket, Key=key)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise self._in_our_words(error) from None

    def _in_our_words(self, error: BotoCoreError | ClientError) -> PenstockError:
        if isinstance(error, NoCredentialsError):
            return SettingsError(
                f"No keys for {self.location}.", source=self.source, remedy="put them into the connection's URL"
            )
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "unknown")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            problem = f"{self.location} answered {status} {code} to {error.operation_name}."
            if status in _REFUSALS:
                return SourceRefused(problem, source=self.source, remedy="check keys, bucket and object name")
            return SourceUnavailable(problem, source=self.source, remedy="try again")
        return SourceUnavailable(
            f"{self.location} does not answer ({type(error).__name__}).",
            source=self.source,
            remedy="check that the store is up and the endpoint is right",
        )
