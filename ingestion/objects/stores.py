"""What a place that holds objects can do, whatever it is: list them, and hand out one exactly as it was listed.

::

    s3://KEY:SECRET@bucket?endpoint=..     client.Bucket      boto3, any endpoint
    file:///data/exports                   folder.Folder      a folder of this machine

Everything above - which objects are an interval's, decompressing, decoding, converting - is the same code for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

BLOCK_BYTES = 1 << 20
"""How much of an object is handed out at once, at most."""


class TransferBroken(Exception):
    """Bytes were lost or changed on their way; asking for the object again may bring it whole."""


@dataclass(frozen=True, order=True)
class StoredObject:
    """One object as a listing shows it.

    Attributes:
        key: its name in the store.
        etag: the store's tag of its content, without quotes. In a bucket the MD5 for objects put in one piece; in a
            folder size, time of change and inode.
        size_bytes: its length.
        modified_at: when it was last put, UTC.
    """

    key: str
    etag: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """A bucket or a folder that objects are read from."""

    def check(self) -> None:
        """Prove that it is there and may be listed.

        Raises:
            SourceUnavailable: no answer.
            SourceRefused: it says no, or is not there.
        """
        ...

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key begins with ``prefix``. A store may name one twice.

        Raises:
            SourceUnavailable, SourceRefused: as :meth:`check`.
        """
        ...

    def stream(self, found: StoredObject) -> Iterator[bytes]:
        """The bytes of one object as it was listed, in blocks of at most :data:`BLOCK_BYTES`.

        Raises:
            TransferBroken: it broke off or arrived damaged.
            SourceUnavailable: no answer, or it is not the object any more that was listed.
            SourceRefused: as :meth:`check`.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def open_store(
    url: SecretStr, *, source: str | None = None, connection: str | None = None, allowed_hosts: Sequence[str] = ()
) -> ObjectStore:
    """The store that a connection's URL names. Nothing is sent or read yet.

    Raises:
        SettingsError: the URL is malformed; the message does not repeat it.
    """
    if urlsplit(url.get_secret_value()).scheme == "file":
        from ingestion.objects.folder import Folder

        return Folder.open(url.get_secret_value(), source=source)
    from ingestion.objects.client import Bucket
    from lake.object_store import parse_s3_url

    return Bucket(parse_s3_url(url), source=source, connection=connection, allowed_hosts=allowed_hosts)
