"""S3 by URL: one way to describe a bucket, one way to make a client for it.

A bucket is ``s3://ACCESS_KEY:SECRET_KEY@bucket?endpoint=http://host:port&region=us-east-1``, both keys percent-encoded.
Without keys boto3's own credential chain is used; without an endpoint, AWS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from common.errors import SettingsError, StoreUnavailable
from common.settings import decode_url_part

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
MAX_ATTEMPTS = 4
_KEYS_A_REQUEST = 1000


@dataclass(frozen=True)
class S3Location:
    """A bucket and how to reach it. The secret key shows as stars."""

    bucket: str
    endpoint: str
    region: str
    access_key: str
    secret_key: SecretStr

    def __str__(self) -> str:
        return f"s3://{self.bucket} at {self.endpoint or 'AWS'}"


def parse_s3_url(url: SecretStr) -> S3Location:
    """Read a bucket URL.

    Raises:
        SettingsError: not such a URL; the message does not repeat it, as it may hold a secret.
    """
    try:
        parts = urlsplit(url.get_secret_value())
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        bucket, scheme = parts.hostname or "", parts.scheme
    except ValueError:
        bucket, scheme, query = "", "", {}
    if scheme != "s3" or not bucket or set(query) - {"endpoint", "region"}:
        raise SettingsError(
            "A bucket connection is not a valid URL.",
            remedy="write it as s3://ACCESS_KEY:SECRET_KEY@bucket?endpoint=http://host:port&region=us-east-1, "
            "keys percent-encoded",
        )
    return S3Location(
        bucket=bucket,
        endpoint=query.get("endpoint", [""])[0].rstrip("/"),
        region=query.get("region", ["us-east-1"])[0],
        access_key=decode_url_part(parts.username),
        secret_key=SecretStr(decode_url_part(parts.password)),
    )


def s3_client(location: S3Location) -> S3Client:
    """A boto3 client with bounded waits: connect 5 s, read 60 s, four attempts with backoff.

    Raises:
        SettingsError: the endpoint is no address.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        s3={"addressing_style": "path"} if location.endpoint else {},
    )
    try:
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=location.endpoint or None,
            region_name=location.region,
            aws_access_key_id=location.access_key or None,
            aws_secret_access_key=location.secret_key.get_secret_value() or None,
            config=config,
        )
    except ValueError:
        raise SettingsError(
            f"The endpoint of the bucket {location.bucket} is no valid URL.",
            remedy="write it as ...?endpoint=https://host:port",
        ) from None
    return client


def delete_objects(location: S3Location, locations: Sequence[str]) -> None:
    """Delete objects, each ``s3://bucket/key``; one that is gone already is no matter.

    Raises:
        StoreUnavailable: the store does not answer, or keeps one of them.
    """
    with _told(location):
        client = s3_client(location)
        for first in range(0, len(locations), _KEYS_A_REQUEST):
            several = [urlsplit(each) for each in locations[first : first + _KEYS_A_REQUEST]]
            keys = [{"Key": each.path.lstrip("/")} for each in several]
            answer = client.delete_objects(Bucket=several[0].netloc, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item]  # plain dictionaries are what it takes
            kept = [error for error in answer.get("Errors", ()) if error.get("Code") != "NoSuchKey"]
            if kept:
                raise StoreUnavailable(
                    f"The store keeps {len(kept)} objects ({kept[0].get('Code')}), the first: {kept[0].get('Key')}.",
                    remedy="let the lake's keys delete objects, then try again",
                )


def abort_uploads(location: S3Location, root: str, *, before: datetime, dry_run: bool) -> int:
    """Abort uploads in parts below ``root`` (``s3://bucket/prefix``) that were begun before a moment; how many.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    bucket, prefix = urlsplit(root).netloc, urlsplit(root).path.lstrip("/")
    found = 0
    with _told(location):
        client = s3_client(location)
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] <= before:
                    found += 1
                    if not dry_run:
                        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return found


@contextmanager
def _told(location: S3Location) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(
            f"{location} does not answer ({type(error).__name__}).", remedy="check that it runs, then try again"
        ) from None
