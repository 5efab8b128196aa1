"""Commands about metrics: which there are, and what they say."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json

metric_app = typer.Typer(no_args_is_help=True, help="Metrics as the release defines them.")

Of = Annotated[str, typer.Option("--release", help="current, an id such as r000012, or 'as of <time>'.")]


@metric_app.command("list")
def metric_list(release: Of = "current", as_json: Json = False) -> None:
    """The metrics of a release, with unit, dataset and dimensions."""
    from dataclasses import asdict

    import penstock
    from penstock.show import print_table

    reader = penstock.reader(release, settings=load_settings())
    found = reader.metrics()
    if as_json:
        print_json({"release": reader.release.id, "metrics": [asdict(metric) for metric in found]})
        return
    rows = [
        {
            "metric": metric.name,
            "unit": metric.unit,
            "kind": metric.kind,
            "dataset": metric.dataset,
            "dimensions": ", ".join(each.name for each in metric.dimensions),
            "description": metric.description,
        }
        for metric in found
    ]
    print_table(
        f"Metrics of {reader.release.id}", rows, ["metric", "unit", "kind", "dataset", "dimensions", "description"]
    )


@metric_app.command("query")
def metric_query(
    names: Annotated[list[str], typer.Argument(help="One metric, or several of the same dataset.")],
    by: Annotated[list[str] | None, typer.Option("--by", help="Dimension to group by; may be repeated.")] = None,
    grain: Annotated[
        str | None, typer.Option("--grain", help="Group by time: day, week, month, quarter, year.")
    ] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="dimension:operator:value; may be repeated, all must hold.")
    ] = None,
    sort: Annotated[str | None, typer.Option("--sort", help="Columns by commas, - before one that falls.")] = None,
    release: Of = "current",
    as_json: Json = False,
) -> None:
    """Metrics by groups."""
    import penstock
    from penstock.show import print_table

    figures = penstock.metric(
        names,
        by=by or (),
        grain=grain,
        filters=filters or (),
        sort=sort,
        release=release,
        settings=load_settings(),
    )
    relation = figures.relation()
    rows = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    if as_json:
        print_json({"release": figures.release.id, "columns": relation.columns, "rows": rows})
    else:
        print_table(f"{', '.join(names)} in {figures.release.id}", rows, relation.columns)
