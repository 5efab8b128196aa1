"""A bucket, with storage errors in our words: to list, to read as listed, and - for seeding - to put.

``lake/object_store.py`` says what a bucket URL is and how patient a client may be. This module is everything that
ingestion asks of one: the one place where botocore's errors are told apart, and where each connection that a client
makes is led to an address that ``ingestion/hosts.py`` has judged.

What an object's bytes are checked against: its length and the pinned etag always; its MD5 where the etag is one; the
MD5s of its parts where it was put in parts and the store tells their size; and the checksum that the store keeps with
the object, where it keeps one (botocore compares it).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from common.errors import PenstockError, SettingsError, SourceRefused, SourceUnavailable
from ingestion.hosts import check_host
from ingestion.objects.stores import BLOCK_BYTES, StoredObject, TransferBroken
from lake.object_store import S3Location, parse_s3_url, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_FAILURES = (BotoCoreError, ClientError, HTTPError, OSError)
_REFUSED_STATUS = frozenset({301, 307, 308, 401, 403, 404})
_REFUSED_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidBucketName",
        "InvalidToken",
        "RequestTimeTooSkewed",
    }
)
"""What a store answers, with status 400, when trying again cannot help."""


class Bucket:
    """A bucket and a client for it; safe to share between threads; a context manager that closes its connections.

    Args:
        location: bucket and login.
        source: source name, for error messages.
        connection: connection name, for error messages.
        allowed_hosts: setting of that name.
    """

    def __init__(
        self,
        location: S3Location,
        *,
        source: str | None = None,
        connection: str | None = None,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self.location = location
        self.source = source
        self._connection = connection
        with self._translated():
            self.client = s3_client(location)
        _guard(self.client, allowed_hosts, source, connection)

    @classmethod
    def open(cls, url: str, *, source: str | None = None) -> Self:
        """A bucket from its ``s3://`` URL. Nothing is sent yet.

        Raises:
            SettingsError: the URL is malformed.
        """
        return cls(parse_s3_url(SecretStr(url)), source=source)

    def __str__(self) -> str:
        return str(self.location)

    def check(self) -> None:
        """Prove that the bucket is there and may be listed.

        Raises:
            SourceUnavailable: no answer.
            SourceRefused: wrong keys, no such bucket, or a host that may not be connected to.
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

    def stream(self, found: StoredObject) -> Iterator[bytes]:
        """See :meth:`ingestion.objects.stores.ObjectStore.stream`."""
        with self._translated(found.key):
            part_bytes = self._part_bytes(found)
            answer = self.client.get_object(Bucket=self.location.bucket, Key=found.key, IfMatch=f'"{found.etag}"')
        digest, size_bytes = _Digest(found.etag, part_bytes), 0
        with contextlib.closing(answer["Body"]) as body:
            try:
                for block in body.iter_chunks(BLOCK_BYTES):
                    digest.update(block)
                    size_bytes += len(block)
                    yield block
            except _FAILURES as error:
                raise TransferBroken(
                    f"{found.key} broke off after {size_bytes} of {found.size_bytes} bytes ({type(error).__name__})"
                ) from None
        if size_bytes != found.size_bytes:
            raise TransferBroken(f"{found.key} broke off after {size_bytes} of {found.size_bytes} bytes")
        if not digest.fits:
            raise TransferBroken(f"{found.key} arrived with a wrong checksum")

    def _part_bytes(self, found: StoredObject) -> int | None:
        """Size of the first part of an object that was put in parts, where the store tells it."""
        if not re.fullmatch(r"[0-9a-f]{32}-\d+", found.etag):
            return None
        try:
            head = self.client.head_object(
                Bucket=self.location.bucket, Key=found.key, PartNumber=1, IfMatch=f'"{found.etag}"'
            )
        except ClientError:
            return None
        part_bytes, parts = head["ContentLength"], int(found.etag.rpartition("-")[2])
        # A store that knows no part numbers answers with the whole object.
        fits = part_bytes * (parts - 1) < found.size_bytes <= part_bytes * parts
        return part_bytes if fits and (parts == 1 or part_bytes < found.size_bytes) else None

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
    def _translated(self, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise self._in_our_words(error, key) from None

    def _in_our_words(self, error: Exception, key: str | None) -> PenstockError:
        """The error for a failed request; ``key`` is given when an object is read as it was listed."""
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return SettingsError(
                f"No keys for {self.location}.", source=self.source, remedy="put them into the connection's URL"
            )
        inner = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
        if isinstance(inner, PenstockError):
            return inner
        connection = f"connection {self._connection!r}" if self._connection else "the connection"
        thing = f"object {key} in {self.location}" if key else str(self.location)
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if key and (status == 412 or code in {"PreconditionFailed", "NoSuchKey"}):
                return SourceUnavailable(
                    f"The {thing} changed while it was being read.",
                    source=self.source,
                    remedy="run the interval again",
                )
            problem = f"{thing} answered {status} {code} to {error.operation_name}."
            if status in _REFUSED_STATUS or code in _REFUSED_CODES:
                return SourceRefused(
                    problem, source=self.source, remedy=f"correct keys, bucket, region or rights of {connection}"
                )
            return SourceUnavailable(problem, source=self.source, remedy="try again")
        return SourceUnavailable(
            f"Reading {thing} failed ({type(error).__name__}).",
            source=self.source,
            remedy=f"check that the endpoint of {connection} is right and answers",
        )


class _Digest:
    """Whether bytes are those that an etag was made from, as far as the etag tells."""

    def __init__(self, etag: str, part_bytes: int | None) -> None:
        self._etag = etag
        self._part_bytes = part_bytes
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []
        self._in_part = 0

    def update(self, block: bytes) -> None:
        """Take in the next bytes."""
        if self._part_bytes is None:
            self._md5.update(block)
            return
        rest = memoryview(block)
        while rest:
            piece = rest[: self._part_bytes - self._in_part]
            self._md5.update(piece)
            self._in_part += len(piece)
            rest = rest[len(piece) :]
            if self._in_part == self._part_bytes:
                self._end_part()

    def _end_part(self) -> None:
        self._parts.append(self._md5.digest())
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._in_part = 0

    @property
    def fits(self) -> bool:
        """Whether the etag allows these bytes; True where it tells nothing. Asked once, at the end."""
        if self._part_bytes is not None:
            if self._in_part:
                self._end_part()
            whole = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
            return self._etag == f"{whole}-{len(self._parts)}"
        return not re.fullmatch(r"[0-9a-f]{32}", self._etag) or self._md5.hexdigest() == self._etag


def _guard(client: S3Client, allowed: Sequence[str], source: str | None, connection: str | None) -> None:
    """Have every connection of a client, redirected ones too, go to an address that was judged when it was resolved.

    botocore has no place for this; urllib3 has: the class of a pool's connections.
    """

    class Guarded:
        """Resolves, judges and connects in one step: a second answer of the DNS is never asked for."""

        def _new_conn(self: Any) -> Any:
            name = self._dns_host
            addresses = check_host(name, allowed=allowed, source=source, connection=connection)
            try:
                for position, address in enumerate(addresses):
                    self._dns_host = address
                    try:
                        return super()._new_conn()  # type: ignore[misc]
                    except OSError:
                        if position == len(addresses) - 1:
                            raise
                    except HTTPError:
                        if position == len(addresses) - 1:
                            raise
            finally:
                self._dns_host = name  # TLS still asks for the name, and compares the certificate with it

    plain = type("GuardedConnection", (Guarded, AWSHTTPConnection), {})
    secure = type("GuardedSecureConnection", (Guarded, AWSHTTPSConnection), {})
    manager: Any = client._endpoint.http_session._manager  # type: ignore[attr-defined]  # noqa: SLF001 - pinned version
    manager.pool_classes_by_scheme = {
        "http": type("GuardedPool", (AWSHTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("GuardedSecurePool", (AWSHTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
