"""A bucket -> suggestions: a table for each layout of keys that names a day, its columns from a few sampled objects."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from common.errors import EmptyBatch, UnknownName
from common.intervals import zone
from ingestion.objects.client import Bucket
from ingestion.objects.sniff import (
    SAMPLE_BYTES,
    KeyGroup,
    Sniffed,
    compression_of,
    group_keys,
    sniff_csv,
    unpacked,
)
from ingestion.spec import Objects
from penstock.init_draft import DraftColumn, DraftSource, DraftTable, distinct, lake_name
from penstock.init_personal import personal_by_name, personal_by_values

if TYPE_CHECKING:
    from penstock.init import InitRequest

LISTED_OBJECTS = 100_000
"""How many keys are looked at to find the layouts."""


def draft_objects(
    request: InitRequest,
    connection: str,
    url: SecretStr,
    *,
    owner: str,
    progress: Callable[[str, int, int, str], None],
) -> DraftSource:
    """Describe a bucket.

    Raises:
        SettingsError: the URL is malformed.
        SourceRefused, SourceUnavailable: the bucket does not let us in, or does not answer.
        UnknownName: a table that was asked for is not among those there are.
        EmptyBatch: no key names a day.
    """
    stage = f"init {request.source}"
    progress(stage, 0, 1, "listing")
    left_out: list[tuple[str, str]] = []
    tables: list[DraftTable] = []
    with Bucket.open(url.get_secret_value(), source=request.source) as bucket:
        listed = list(islice(bucket.objects(request.prefix), LISTED_OBJECTS))
        groups, without = group_keys(listed)
        if without:
            example = "its key does not name one day as YYYY-MM-DD"
            left_out.append((without[0] + (f" and {len(without) - 1:,} more" if without[1:] else ""), example))
        names = distinct(lake_name(group.name) for group in groups)
        for asked in (*request.tables, *request.exclude):
            if asked not in names:
                raise UnknownName(
                    f"The bucket has no table {asked!r}.", table=asked, remedy=f"use one of {', '.join(names)}"
                )
        for done, (group, name) in enumerate(zip(groups, names, strict=True), start=1):
            if name in request.exclude or (request.tables and name not in request.tables):
                continue
            drafted = _draft(bucket, group, name, sample=request.sample)
            if isinstance(drafted, str):
                left_out.append((group.path, drafted))
            else:
                tables.append(drafted)
            progress(stage, done, len(groups), name)
        place = str(bucket.location)
    if not tables:
        told = "; ".join(f"{name}: {why}" for name, why in left_out)[:400]
        raise EmptyBatch(
            f"No object under {request.prefix!r} of {place} can be described{f' ({told})' if told else ''}.",
            remedy="choose another --prefix; a key must name its day as YYYY-MM-DD once",
        )
    remarks = {} if request.owner else {"owner": "from git's user.email"}
    if not request.time_zone:
        remarks["time_zone"] = "a guess: the zone on whose clock the day in a key was written"
    return DraftSource(
        request.source,
        "objects",
        connection,
        zone(request.time_zone).key if request.time_zone else "UTC",
        owner,
        f"Objects of {place}.",
        tuple(tables),
        remarks=remarks,
        left_out=tuple(left_out),
        last_day=max(day for group in groups for day in group.days()),
    )


def _draft(bucket: Bucket, group: KeyGroup, name: str, *, sample: bool) -> DraftTable | str:
    """The suggestion for one layout; or, as a text, why there is none."""
    compression = compression_of(group.path)
    plain = group.path.removesuffix(".gz").removesuffix(".zst")
    if not plain.endswith((".csv", ".tsv", ".txt")):
        return "its ending is none of .csv, .tsv and .txt"
    layout: dict[str, Any] = {"path": group.path, "format": "csv", "compression": compression or "none"}
    try:
        Objects.model_validate(layout)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
    bodies = []
    for each in group.samples():
        body = bucket.read(each.key, first_bytes=SAMPLE_BYTES)
        text = unpacked(body)
        bodies.append((text, each.size_bytes <= SAMPLE_BYTES and len(text) < SAMPLE_BYTES))
    found = sniff_csv(bodies)
    if isinstance(found, str):
        return found
    unusual = [column for column in found.names if lake_name(column) != column]
    if unusual:
        return f"its header has names that a column of the lake cannot have: {', '.join(unusual)}"
    layout |= {"delimiter": found.delimiter, "null_tokens": found.null_tokens}
    days, count = group.days(), len(group.objects)
    reason = f"{count:,} objects of {days[0]} to {days[-1]}; the types are those of {found.rows:,} sampled rows"
    return DraftTable(
        name,
        "",
        None,
        "append",
        reason,
        _columns(name, found, sample=sample),
        objects=layout,
        key_remark="no key: objects declare none; name one, if a row has one",
    )


def _columns(table: str, found: Sniffed, *, sample: bool) -> tuple[DraftColumn, ...]:
    columns = []
    for name, word, values in zip(found.names, found.types, found.values, strict=True):
        looks = personal_by_values(values) if sample and word in {"string", "int64"} else ""
        personal = "; ".join(filter(None, (personal_by_name(table, name), looks)))
        columns.append(DraftColumn(name, name, word, nullable=True, personal=personal))
    return tuple(columns)
