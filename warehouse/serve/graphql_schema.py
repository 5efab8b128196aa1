"""The types of GraphQL: the catalog and the datasets of :mod:`warehouse.serve.app`, in the same words.

One document is answered from one release. Filters, sorting, measures and cursors are written as in the HTTP API, and
rows come as a list of objects, as there: what columns a dataset has depends on role and release, a schema does not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import strawberry
from strawberry.schema.config import StrawberryConfig

from warehouse.metrics_layer import metrics
from warehouse.metrics_layer import question as metric_question
from warehouse.serve.answers import Found, Threads, find
from warehouse.serve.catalog import dataset_entry, difference, lineage_entry, release_entry
from warehouse.serve.facts import DatasetFacts, Facts
from warehouse.serve.gate import Asked
from warehouse.serve.graphql_types import (
    ROWS,
    ChangedDataset,
    ChangedInterval,
    Column,
    DatasetRows,
    Dimension,
    FailedRule,
    Freshness,
    Groups,
    Lineage,
    Metric,
    Page,
    Quality,
    Release,
    Rows,
    StateCount,
)
from warehouse.serve.metric_routes import metric_entry
from warehouse.serve.opened import Follower
from warehouse.serve.policy import Shown
from warehouse.serve.problems import Problem
from warehouse.serve.query import MAX_FILTERS, MAX_PAGE_ROWS, Question, aggregate_question, rows_question

_Value = TypeVar("_Value")


@dataclass
class Asking:
    """One document on its way.

    Attributes:
        asked: who asks, and the release that answers.
        follower, facts, threads: as of the HTTP API.
        parts: JSON texts of rows; in the answer stands :attr:`mark` and a number until they are put in. So numbers
            come as DuckDB writes them, with all their digits.
        lasting: whether the answer holds only what never changes while the release is the same.
    """

    asked: Asked
    follower: Follower
    facts: Facts
    threads: Threads
    parts: list[str] = field(default_factory=list)
    mark: str = field(default_factory=lambda: secrets.token_hex(16))
    lasting: bool = True

    async def changing(self, work: Callable[[], _Value]) -> _Value:
        """Do in a thread what may be answered otherwise in a moment."""
        self.lasting = False
        return await asyncio.get_running_loop().run_in_executor(self.threads.exports, work)

    async def known(self, name: str) -> DatasetFacts:
        """Facts on a dataset."""
        return await self.changing(lambda: self.facts.dataset(name))

    async def find(self, question: Question, limit: int, *, paged: bool) -> Found:
        """Rows."""
        if not 1 <= limit <= MAX_PAGE_ROWS:
            raise Problem(
                "bad_parameter", f"limit: {limit} is not from 1 to {MAX_PAGE_ROWS:,}.", remedy="ask for fewer rows"
            )
        found = await find(self.asked.release, self.threads, question, limit=limit, paged=paged)
        self.asked.rows = (self.asked.rows or 0) + found.rows
        return found

    def part(self, text: str) -> str:
        """What stands for a text until it is put in."""
        self.parts.append(text)
        return f"{self.mark}{len(self.parts) - 1}"


Info = strawberry.Info[Asking, None]
Filters = Annotated[
    list[str] | None, strawberry.argument(description="column:operator:value each, as in the HTTP API; all must hold.")
]
Sort = Annotated[list[str] | None, strawberry.argument(description="Columns, - before one that falls.")]


@strawberry.type
class Dataset:
    """One dataset as the caller's role sees it."""

    shown: strawberry.Private[Shown]
    name: str
    description: str
    filtered: bool
    row_count: int | None
    columns: list[Column]
    quality: Quality

    @strawberry.field
    async def owners(self, info: Info) -> list[str]:
        """Who answers for it."""
        return list((await info.context.known(self.name)).owners)

    @strawberry.field
    async def lineage(self, info: Info) -> Lineage:
        """What it is made of, and what is made of it."""
        asked = info.context.asked
        found = lineage_entry(self.name, await info.context.known(self.name), asked.release.shown(asked.who.role))
        return Lineage(upstream=found["upstream"], downstream=found["downstream"])

    @strawberry.field
    async def freshness(self, info: Info) -> Freshness:
        """How new it is."""
        facts = await info.context.known(self.name)
        found = dataset_entry(info.context.asked.release, self.shown, facts)["freshness"]
        intervals = [StateCount(state=state, intervals=count) for state, count in found.pop("intervals").items()]
        return Freshness(**found, intervals=intervals)

    @strawberry.field
    async def rows(
        self,
        info: Info,
        select: list[str] | None = None,
        filter: Filters = None,  # noqa: A002 - the caller's word
        sort: Sort = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Rows: chosen, filtered, sorted, by pages."""
        question = rows_question(
            self.shown,
            select=_joined(select),
            filters=_filters(filter),
            sort=_joined(sort),
            release=info.context.asked.release.id,
            cursor=cursor,
            paged=True,
        )
        found = await info.context.find(question, limit, paged=True)
        return Page(complete=found.complete, next=found.next, rows=Rows(info.context.part(found.text)))

    @strawberry.field
    async def aggregate(
        self,
        info: Info,
        group: list[str] | None = None,
        measure: Annotated[
            list[str] | None, strawberry.argument(description="count, or function:column, as in the HTTP API.")
        ] = None,
        filter: Filters = None,  # noqa: A002 - the caller's word
        sort: Sort = None,
        limit: int = 1000,
    ) -> Groups:
        """Measures by groups."""
        question = aggregate_question(
            self.shown,
            group=_joined(group),
            measures=measure or (),
            filters=_filters(filter),
            sort=_joined(sort),
        )
        found = await info.context.find(question, limit, paged=False)
        return Groups(complete=found.complete, rows=Rows(info.context.part(found.text)))


@strawberry.type
class Query:
    """Everything is of one release: the current one, or the one of ``?release=`` in the address."""

    @strawberry.field
    async def release(self, info: Info) -> Release:
        """The release that answers."""
        asked = info.context.asked
        return await info.context.changing(lambda: _release(release_entry(asked.release.release, _shown(info))))

    @strawberry.field
    async def releases(self, info: Info) -> list[Release]:
        """All releases, the oldest first."""
        found = await info.context.changing(info.context.follower.all)
        return [_release(release_entry(each, _shown(info))) for each in found]

    @strawberry.field
    async def difference(self, info: Info, before: str, after: str) -> list[ChangedDataset]:
        """How one release differs from another, by dataset and interval."""
        role, follower = info.context.asked.who.role, info.context.follower
        old = await info.context.changing(lambda: follower.get(before))
        new = await info.context.changing(lambda: follower.get(after))
        found = difference(old.release, new.release, {**old.shown(role), **new.shown(role)})
        return [
            ChangedDataset(**{**each, "intervals": [ChangedInterval(**part) for part in each["intervals"]]})
            for each in found["datasets"]
        ]

    @strawberry.field
    async def datasets(self, info: Info) -> list[Dataset]:
        """Every dataset that the caller's role may see."""
        return [_dataset(info, shown) for _, shown in sorted(_shown(info).items())]

    @strawberry.field
    async def dataset(self, info: Info, name: str) -> Dataset:
        """One dataset."""
        return _dataset(info, info.context.asked.release.dataset(info.context.asked.who.role, name))

    @strawberry.field
    async def metrics(self, info: Info) -> list[Metric]:
        """Metrics that are defined on datasets of the role."""
        found = [metric_entry(each) for each in metrics(info.context.asked.release.release, _shown(info))]
        return [
            Metric(**{**each, "dimensions": [Dimension(**dimension) for dimension in each["dimensions"]]})
            for each in found
        ]

    @strawberry.field
    async def metric(
        self,
        info: Info,
        names: list[str],
        by: list[str] | None = None,
        grain: str | None = None,
        filter: Filters = None,  # noqa: A002 - the caller's word
        sort: Sort = None,
        limit: int = 1000,
    ) -> Groups:
        """Metrics of one dataset by groups."""
        wanted = metric_question(
            info.context.asked.release.release,
            _shown(info),
            names,
            by=by or (),
            grain=grain,
            filters=_filters(filter),
            sort=_joined(sort),
        )
        found = await info.context.find(wanted, limit, paged=False)
        return Groups(complete=found.complete, rows=Rows(info.context.part(found.text)))


def _shown(info: Info) -> dict[str, Shown]:
    asked = info.context.asked
    return dict(asked.release.shown(asked.who.role))


def _release(entry: dict[str, Any]) -> Release:
    datasets = [DatasetRows(name=name, rows=rows) for name, rows in entry.pop("datasets").items()]
    return Release(**entry, datasets=datasets)


def _dataset(info: Info, shown: Shown) -> Dataset:
    entry = dataset_entry(info.context.asked.release, shown, DatasetFacts())
    quality = entry["quality"]
    return Dataset(
        shown=shown,
        name=shown.name,
        description=entry["description"],
        filtered=shown.filtered,
        row_count=entry["rows"],
        columns=[Column(**each) for each in entry["columns"]],
        quality=Quality(**{**quality, "not_passed": [FailedRule(**each) for each in quality["not_passed"]]}),
    )


def _joined(names: list[str] | None) -> str | None:
    """Names as the HTTP API takes them. No column can be meant by a name with a comma, there as here."""
    return ",".join(names) if names else None


def _filters(given: list[str] | None) -> list[str]:
    if given and len(given) > MAX_FILTERS:
        raise Problem("bad_parameter", f"There are more than {MAX_FILTERS} filters.", remedy="ask with fewer")
    return given or []


def make_schema() -> strawberry.Schema:
    """The schema."""
    return strawberry.Schema(Query, config=StrawberryConfig(scalar_map={Rows: ROWS}))
