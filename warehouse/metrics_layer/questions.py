"""Which metrics a role has, and the SELECT that answers for them.

A metric whose dataset or one of whose columns the role does not see, or sees masked, is not there for that role, nor is
a dimension. What is asked goes over the role's own SELECT of the dataset, so its row filter holds as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lake.sql import identifier
from warehouse.metrics_layer.compiled import truncated
from warehouse.serve.problems import Problem
from warehouse.serve.query import Question, clause, conditions, sort_keys

if TYPE_CHECKING:
    import duckdb

    from warehouse.releases import Release
    from warehouse.serve.policy import Shown


@dataclass(frozen=True)
class Dimension:
    """What a metric can be grouped and filtered by.

    Attributes:
        name: in questions and answers.
        label: for people.
        description: what it is; empty where nothing is said.
        data_type: DuckDB type.
    """

    name: str
    label: str
    description: str
    data_type: str


@dataclass(frozen=True)
class Metric:
    """A figure that is defined once.

    Attributes:
        name: in questions and answers.
        label: for people.
        description: what is counted.
        unit: ``flights``, ``min``, ``share`` (0 to 1) and so on; empty where nothing is said.
        kind: ``simple``, ``ratio`` or ``derived``.
        made_of: names of the metrics that a ratio or derived one is made of.
        dataset: the table it is of.
        data_type: DuckDB type of its value.
        dimensions: what it can be grouped and filtered by, the time dimension included.
        time_dimension: the dimension that ``grain`` is of; None where there is none.
        time_grains: grains of time, from fine to coarse.
        sql: the expression over the dataset's columns.
    """

    name: str
    label: str
    description: str
    unit: str
    kind: str
    made_of: tuple[str, ...]
    dataset: str
    data_type: str
    dimensions: tuple[Dimension, ...]
    time_dimension: str | None
    time_grains: tuple[str, ...]
    sql: str = field(repr=False)


def everything(release: Release, connection: duckdb.DuckDBPyConnection) -> dict[str, Shown]:
    """The datasets that a release has metrics of, as its owner sees them: for readers without a role.

    Args:
        release: the release.
        connection: to its file.
    """
    from warehouse.serve.opened import describe
    from warehouse.serve.policy import DatasetRule, Role, shown_to

    measured = {each["dataset"] for each in (release.manifest.get("metrics") or {"datasets": {}})["datasets"].values()}
    tables = {name: table for name, table in describe(connection)[0].items() if name in measured}
    return shown_to(connection, Role(datasets={"*": DatasetRule(columns="all")}), tables, salt="")


def metrics(release: Release, shown: Mapping[str, Shown] | None = None) -> list[Metric]:
    """The metrics of a release, by name.

    Args:
        release: it carries its own definitions; one from before there were any has none.
        shown: the datasets of a role; all by default.
    """
    return [metric for metric, _ in _of(release, shown).values()]


def question(
    release: Release,
    shown: Mapping[str, Shown],
    names: str | Sequence[str],
    *,
    by: Sequence[str] = (),
    grain: str | None = None,
    filters: Sequence[str] = (),
    sort: str | None = None,
) -> Question:
    """The SELECT for metrics of one dataset, by groups.

    Args:
        release: whose definitions hold.
        shown: the datasets of the role, as of that release.
        names: one metric or several.
        by: dimensions to group by; one group of all rows by default.
        grain: of the time dimension, to group by too; its column is called like it: ``month``.
        filters: ``dimension:operator:value`` each, as in :func:`warehouse.serve.query.rows_question`; all must hold.
        sort: names of the result by commas, ``-`` before one that falls; the groups by default.

    Returns:
        SQL, columns and bound values; groups first, then metrics.

    Raises:
        Problem: ``unknown_metric``, ``unknown_column`` (no such dimension), ``bad_parameter`` (metrics of several
            datasets, a grain that there is not, a name twice), ``bad_filter``, ``wrong_type``.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    found = _chosen(release, shown, wanted)
    first, dimensions = found[0]
    types = {each.name: each.data_type for each in first.dimensions}
    fields: list[str] = []
    columns: list[tuple[str, str]] = []
    for name in by:
        if name not in types:
            raise _unknown_dimension(name, first)
        fields.append(identifier(name))
        columns.append((name, types[name]))
    if grain is not None:
        if grain not in first.time_grains or first.time_dimension is None:
            grains = ", ".join(first.time_grains) or "none"
            raise Problem("bad_parameter", f"{first.name} has no grain {grain[:40]!r}.", remedy=f"use one of: {grains}")
        fields.append(f"{truncated(identifier(first.time_dimension), grain)} AS {identifier(grain)}")
        columns.append((grain, types[first.time_dimension] if grain == "hour" else "DATE"))
    groups = [name for name, _ in columns]
    for metric, _ in found:
        fields.append(f"{metric.sql} AS {identifier(metric.name)}")
        columns.append((metric.name, metric.data_type))
    names_given = [name for name, _ in columns]
    if len(set(names_given)) != len(names_given):
        raise Problem("bad_parameter", "A metric or dimension is asked for twice.", remedy="name each once")
    source = f"({shown[first.dataset].select()}) AS shown"
    used = {*by, *(each.partition(":")[0] for each in filters), first.time_dimension if grain else None}
    made = [f"{sql} AS {identifier(name)}" for name, sql in dimensions.items() if name in used]
    if made:
        source = f"(SELECT *, {', '.join(made)} FROM {source}) AS shown"
    where, parameters = conditions(filters, types)
    # by position: a name would mean the column of the dataset, where it has one of that name
    grouped = f" GROUP BY {', '.join(str(position + 1) for position in range(len(groups)))}" if groups else ""
    keys = sort_keys(sort, dict(columns))
    keys += [(name, False) for name in groups if name not in dict(keys)]
    order = tuple(f"{identifier(name)} {'DESC' if falls else 'ASC'} NULLS LAST" for name, falls in keys)
    sql = f"SELECT {', '.join(fields)} FROM {source}{clause(where)}{grouped}"
    return Question(sql, tuple(columns), parameters, order)


_Found = Mapping[str, tuple[Metric, Mapping[str, str]]]
"""Metric by name, with the SQL of those of its dimensions that are no columns."""


def _chosen(
    release: Release, shown: Mapping[str, Shown], names: Sequence[str]
) -> list[tuple[Metric, Mapping[str, str]]]:
    if not names:
        raise Problem("bad_parameter", "No metric is asked for.", remedy="name one at least")
    there = _of(release, shown, names)
    found = []
    for name in names:
        if name not in there:
            known = ", ".join(_of(release, shown)) or "none"
            raise Problem("unknown_metric", f"There is no metric {name[:80]!r} for you.", remedy=f"use one of: {known}")
        found.append(there[name])
    datasets = {metric.dataset: metric.name for metric, _ in found}
    if len(datasets) > 1:
        told = ", ".join(f"{name} is of {dataset}" for dataset, name in datasets.items())
        raise Problem("bad_parameter", f"The metrics are of several datasets: {told}.", remedy="ask for each apart")
    return found


def _unknown_dimension(name: str, metric: Metric) -> Problem:
    known = ", ".join(each.name for each in metric.dimensions) or "none"
    return Problem(
        "unknown_column", f"{metric.name} has no dimension {name[:80]!r} for you.", remedy=f"use one of: {known}"
    )


def _of(release: Release, shown: Mapping[str, Shown] | None, wanted: Sequence[str] | None = None) -> _Found:
    said: Mapping[str, Any] = release.manifest.get("metrics") or {"datasets": {}, "metrics": []}
    found = {}
    for metric in sorted(said["metrics"], key=lambda each: str(each["name"])):
        if wanted is not None and metric["name"] not in wanted:
            continue
        model = said["datasets"][metric["model"]]
        seen = None if shown is None else shown.get(model["dataset"])
        if shown is not None and (seen is None or not _plain(metric["columns"], seen)):
            continue
        dimensions = [each for each in model["dimensions"] if seen is None or _can_group(each, seen)]
        time = next((each for each in dimensions if each["name"] == model["time_dimension"]), None)
        types = dict(seen.columns) if seen else {}
        found[metric["name"]] = (
            Metric(
                name=metric["name"],
                label=metric["label"],
                description=metric["description"],
                unit=metric["unit"],
                kind=metric["kind"],
                made_of=tuple(metric["made_of"]),
                dataset=model["dataset"],
                data_type=metric["type"],
                dimensions=tuple(
                    Dimension(each["name"], each["label"], each["description"], types.get(each["name"], each["type"]))
                    for each in dimensions
                ),
                time_dimension=time["name"] if time else None,
                time_grains=tuple(time["grains"]) if time else (),
                sql=metric["sql"],
            ),
            {each["name"]: each["sql"] for each in dimensions if each["sql"] != identifier(each["name"])},
        )
    return found


def _plain(columns: Sequence[str], seen: Shown) -> bool:
    """Whether a role sees these columns as they are."""
    return {*columns} <= {name for name, _ in seen.columns} - seen.masked


def _can_group(dimension: Mapping[str, Any], seen: Shown) -> bool:
    """Whether a role can group by it: by a masked column too, but not by what is made of one."""
    if _plain(dimension["columns"], seen):
        return True
    is_column = dimension["sql"] == identifier(dimension["name"]) and not dimension["grains"]
    return is_column and dimension["name"] in dict(seen.columns)
