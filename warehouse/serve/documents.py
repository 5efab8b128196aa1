"""The documents that the API answers with, and the examples of its OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from warehouse.serve.formats import MEDIA_TYPES
from warehouse.serve.problems import STATUS
from warehouse.serve.query import MAX_FILTERS

Of = Annotated[
    str | None,
    Query(alias="release", pattern=r"^r\d{6,12}$", description="An earlier release; the current one by default."),
]

Filters = Annotated[
    list[str] | None,
    Query(
        alias="filter",
        max_length=MAX_FILTERS,
        description="`column:operator:value`, may be repeated; all must hold. Operators: eq, ne, lt, le, gt, ge, in "
        "(values separated by commas), starts_with, contains, is_null (true or false).",
        examples=[["origin_code:eq:JFK", "flights:ge:10"]],
    ),
]
Sort = Annotated[
    str | None,
    Query(max_length=2000, description="Columns, by commas, `-` before one that falls.", examples=["-flights"]),
]
Form = Annotated[
    Literal["json", "csv", "arrow", "parquet"] | None, Query(alias="format", description="Wins over Accept.")
]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProblemDocument(_Document):
    """RFC 9457, with a code that never changes and what to do."""

    type: str = Field(examples=["urn:penstock:problem:unknown_dataset"])
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    instance: str = Field(description="The request's id, as in the server's log.")


class Health(_Document):
    """The server's state."""

    status: Literal["ok"]
    release: str


class Column(_Document):
    """One column of a dataset."""

    name: str
    type: str
    description: str
    masked: bool


class Freshness(_Document):
    """How new a dataset is."""

    release: str
    built_at: str | None
    published_at: str | None
    newest_interval: str | None
    intervals: dict[str, int]


class FailedRule(_Document):
    """A rule that did not pass."""

    rule: str
    severity: str


class Quality(_Document):
    """What the gate said when the release was built."""

    judged: bool
    passed: bool | None
    rules: int
    not_passed: list[FailedRule]


class Dataset(_Document):
    """One dataset of the catalog."""

    name: str = Field(examples=["mart_daily_route_performance"])
    description: str
    owners: list[str]
    rows: int | None = Field(description="Null where the role does not see all rows.")
    columns: list[Column]
    filtered: bool
    freshness: Freshness
    quality: Quality


class Datasets(_Document):
    """The catalog."""

    release: str
    datasets: list[Dataset]


class Lineage(_Document):
    """Where a dataset comes from and goes."""

    dataset: str
    upstream: list[str]
    downstream: list[str]


class Page(_Document):
    """Rows of one release."""

    release: str
    dataset: str
    complete: bool = Field(description="Whether these are the last rows.")
    next: str | None = Field(default=None, description="Cursor of the next page; of rows only.")
    rows: list[dict[str, Any]]


class Dimension(_Document):
    """What a metric can be grouped and filtered by."""

    name: str
    label: str
    description: str
    data_type: str


class MetricEntry(_Document):
    """A figure that is defined once."""

    name: str
    label: str
    description: str
    unit: str
    kind: str
    made_of: list[str] = Field(description="Metrics that a ratio or derived one is made of.")
    dataset: str
    data_type: str
    dimensions: list[Dimension]
    time_dimension: str | None
    time_grains: list[str] = Field(description="Grains of time, from fine to coarse.")


class Metrics(_Document):
    """The metrics of a release."""

    release: str
    metrics: list[MetricEntry]


class ReleaseEntry(_Document):
    """One release."""

    id: str
    current: bool
    parent: str | None
    built_at: str | None
    published_at: str | None
    version: str | None
    datasets: dict[str, int | None]


class Releases(_Document):
    """All releases."""

    releases: list[ReleaseEntry]


class ChangedInterval(_Document):
    """An interval whose number of rows differs."""

    key: str
    rows_before: int
    rows_after: int


class ChangedDataset(_Document):
    """A dataset in two releases."""

    name: str
    change: Literal["added", "removed", "changed", "unchanged"]
    rows_before: int | None
    rows_after: int | None
    intervals: list[ChangedInterval]


class Difference(_Document):
    """How two releases differ."""

    before: str
    after: str
    datasets: list[ChangedDataset]


EXAMPLE_PAGE = "Rows, in the form that was asked for."
_BINARY = {"schema": {"type": "string", "format": "binary"}}
FORMS: dict[str, Any] = {
    MEDIA_TYPES["json"]: {
        "example": {
            "release": "r000012",
            "dataset": "mart_daily_route_performance",
            "complete": True,
            "next": None,
            "rows": [{"origin_code": "JFK", "flights": 297}],
        }
    },
    "text/csv": {"schema": {"type": "string"}, "example": '"origin_code","flights"\r\n"JFK",297\r\n'},
    MEDIA_TYPES["arrow"]: _BINARY,
    MEDIA_TYPES["parquet"]: _BINARY,
}
_ALWAYS = (400, 401, 403, 405, 408, 413, 414, 429, 500, 503)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of a route for its description: those that every route has, and these."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*_ALWAYS, *statuses}):
        codes = ", ".join(code for code, of in STATUS.items() if of == status)
        found[status] = {
            "description": f"Problem: {codes}",
            "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
        }
    return found
