"""The routes of metrics: what they are is the release's to say (:mod:`warehouse.metrics_layer`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from starlette.responses import Response

from warehouse.metrics_layer import Metric, metrics, question
from warehouse.serve.answers import Threads, page, stream, wanted_format
from warehouse.serve.documents import EXAMPLE_PAGE, FORMS, Filters, Form, Metrics, Of, Page, Sort, problems
from warehouse.serve.gate import asked_of
from warehouse.serve.query import MAX_PAGE_ROWS


def metric_entry(metric: Metric) -> dict[str, Any]:
    """One metric as a role sees it: all but its SQL."""
    entry = asdict(metric)
    del entry["sql"]
    return {**entry, "made_of": list(metric.made_of), "time_grains": list(metric.time_grains)}


def metric_routes(app: FastAPI, threads: Threads) -> None:
    """Add the routes of metrics.

    Args:
        app: where.
        threads: do the work.
    """

    @app.get("/v1/metrics", response_model=Metrics, responses=problems(404), tags=["metrics"])
    async def listed(request: Request, release: Of = None) -> Any:  # noqa: ARG001 - taken by the gate
        """Metrics that are defined on datasets of the role."""
        asked = asked_of(request)
        found = metrics(asked.release.release, asked.release.shown(asked.who.role))
        return {"release": asked.release.id, "metrics": [metric_entry(each) for each in found]}

    @app.get(
        "/v1/metrics/{names}",
        response_model=Page,
        responses={**problems(404, 406, 422), 200: {"content": FORMS, "description": EXAMPLE_PAGE}},
        tags=["metrics"],
    )
    async def asked_for(
        request: Request,
        names: Annotated[
            str, Path(max_length=2000, description="Metrics of one dataset, by commas.", examples=["flights"])
        ],
        by: Annotated[
            str | None, Query(max_length=2000, description="Dimensions, by commas.", examples=["origin_code"])
        ] = None,
        grain: Annotated[str | None, Query(max_length=20, description="Of time, to group by.")] = None,
        filters: Filters = None,
        sort: Sort = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS, description="Groups.")] = 1000,
        release: Of = None,  # noqa: ARG001 - taken by the gate
        form: Form = None,
    ) -> Response:
        """Metrics by groups: a ratio is one of sums, whatever it is grouped by."""
        asked = asked_of(request)
        kind = wanted_format(asked, form)
        wanted = question(
            asked.release.release,
            asked.release.shown(asked.who.role),
            names.split(","),
            by=by.split(",") if by else (),
            grain=grain,
            filters=filters or (),
            sort=sort,
        )
        if kind == "json":
            return await page(asked, threads, wanted, limit=limit, dataset="metrics", with_cursor=False)
        return await stream(asked, threads, wanted, kind, limit=limit, dataset="metrics")
