"""The types of GraphQL that only hold values."""

from __future__ import annotations

from typing import NewType

import strawberry

Rows = NewType("Rows", str)
ROWS = strawberry.scalar(
    name="Rows", description="A list of objects, a value per column. Numbers are exact: read them with all digits."
)


@strawberry.type
class Column:
    """One column as the caller sees it."""

    name: str
    type: str
    description: str
    masked: bool


@strawberry.type
class StateCount:
    """How many intervals are in a state."""

    state: str
    intervals: int


@strawberry.type
class Freshness:
    """How new a dataset is."""

    release: str
    built_at: str | None
    published_at: str | None
    newest_interval: str | None
    intervals: list[StateCount]


@strawberry.type
class FailedRule:
    """A rule that did not pass."""

    rule: str
    severity: str


@strawberry.type
class Quality:
    """What the gate said when the release was built."""

    judged: bool
    passed: bool | None
    rules: int
    not_passed: list[FailedRule]


@strawberry.type
class Lineage:
    """Where a dataset comes from and goes, by table."""

    upstream: list[str]
    downstream: list[str]


@strawberry.type
class Page:
    """Rows of a dataset, a page of them."""

    complete: bool
    next: str | None
    rows: Rows


@strawberry.type
class Groups:
    """Measures by groups."""

    complete: bool
    rows: Rows


@strawberry.type
class DatasetRows:
    """Rows of a dataset in a release; null where the role does not see all of them."""

    name: str
    rows: int | None


@strawberry.type
class Release:
    """One release."""

    id: str
    current: bool
    parent: str | None
    built_at: str | None
    published_at: str | None
    version: str | None
    datasets: list[DatasetRows]


@strawberry.type
class ChangedInterval:
    """An interval whose number of rows differs."""

    key: str
    rows_before: int
    rows_after: int


@strawberry.type
class ChangedDataset:
    """A dataset in two releases."""

    name: str
    change: str
    rows_before: int | None
    rows_after: int | None
    intervals: list[ChangedInterval]


@strawberry.type
class Dimension:
    """What a metric can be grouped and filtered by."""

    name: str
    label: str
    description: str
    data_type: str


@strawberry.type
class Metric:
    """A figure that is defined once."""

    name: str
    label: str
    description: str
    unit: str
    kind: str
    made_of: list[str]
    dataset: str
    data_type: str
    dimensions: list[Dimension]
    time_dimension: str | None
    time_grains: list[str]
