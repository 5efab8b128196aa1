"""What the OpenAPI description says beside the routes: who must show which scope, and an example of every answer."""

from __future__ import annotations

from typing import Any

from warehouse.serve.admission import needed_scope

_AT = "2026-11-26T06:12:44.000000+00:00"
_MART = "mart_daily_route_performance"
_WEATHER = "raw.stations__weather"
_COLUMN = {"name": "origin_code", "type": "VARCHAR", "description": "IATA code of the origin.", "masked": False}
_FRESHNESS = {
    "release": "r000012",
    "built_at": _AT,
    "published_at": _AT,
    "newest_interval": "2013-12-31",
    "intervals": {"published": 365},
}
_DATASET = {
    "name": _MART,
    "description": "Routes by day. Grain: one row per route and day.",
    "owners": ["flights@example.com"],
    "rows": 12000,
    "columns": [_COLUMN],
    "filtered": False,
    "freshness": _FRESHNESS,
    "quality": {"judged": True, "passed": True, "rules": 9, "not_passed": []},
}
_RELEASE = {
    "id": "r000011",
    "current": True,
    "parent": "r000010",
    "built_at": _AT,
    "published_at": _AT,
    "version": "0.1.0",
    "datasets": {_MART: 12000},
}
_ROWS = {"rows_in": 2160, "published": 2159, "quarantined": 1, "rejected": 0, "deduplicated": 0}
_TABLE_OF_RUN = {
    "table": _WEATHER,
    "stage": "ingest",
    "batches": 30,
    "refused": 0,
    **_ROWS,
    "started_at": _AT,
    "ended_at": _AT,
    "reasons": [],
}
_RUN = {
    "id": "run-4f1d2a9be0c1",
    "state": "published",
    "started_at": _AT,
    "ended_at": _AT,
    "release_id": "r000012",
    "batches": 30,
    "refused": 0,
    **_ROWS,
    "cpu_s": 14.2,
    "wall_s": 20.9,
    "tables": [_TABLE_OF_RUN],
    "failures": [],
}
_WAITING = {"table": _WEATHER, "interval": "2013-02-12", "rules": "wind_speed_is_possible", "rows": 1}
_QUARANTINED = {
    "partition_key": "2013-02-12",
    "stage": "ingest",
    "rules": "wind_speed_is_possible",
    "reason": "No wind blows at 1,048 mph.",
    "row": '{"origin": "EWR", "wind_speed": 1048.36058}',
    "position": "row 3",
    "batch_id": "6a3f",
    "attempt_id": "0b1c",
    "run_id": "run-4f1d2a9be0c1",
    "quarantined_at": _AT,
    "row_id": "f00d",
    "form": "typed",
    "discarded_at": None,
    "discarded_by": None,
    "discard_reason": None,
}
_INCIDENT = {
    "id": "i000012",
    "state": "open",
    "kind": "source",
    "severity": "critical",
    "cause": "source:stations",
    "subject": "source stations does not answer",
    "reason": "The source did not answer.",
    "command": "penstock doctor",
    "owner": "weather@example.com",
    "part_of": "",
    "acknowledged_by": "",
    "acknowledged_at": None,
    "first_seen_at": _AT,
    "last_seen_at": _AT,
    "resolved_at": None,
    "occurrences": 3,
    "intervals": ["2013-02-13"],
    "tables": ["source.stations"],
    "affected": ["refined.weather", "fct_weather_hourly"],
}
_WISH = {
    "targets": [_WEATHER],
    "start": "2013-02-12",
    "end": "2013-02-14",
    "mode": "only-missing",
    "newest_first": False,
    "parallel": 2,
    "max_per_hour": None,
    "stop_on_failure": False,
}
_PLAN = {
    "wish": _WISH,
    "sources": {"stations": [{"first": "2013-02-13", "last": "2013-02-13", "tables": ["weather"]}]},
    "ingest": [
        {
            "table": _WEATHER,
            "keys": ["2013-02-13"],
            "states": {"missing": 1},
            "rows_expected": 72,
            "work_s_expected": 1.4,
        }
    ],
    "refine": [],
    "models": ["fct_weather_hourly"],
    "releases": 1,
    "work_s_expected": 21.0,
}
_BACKFILL = {
    "id": "20261126-0805-4f1d",
    "state": "running",
    "wish": _WISH,
    "started_at": _AT,
    "summary": None,
    "sources": {"stations": {"done": 1, "failed": 0, "total": 2}},
}
_GRAPHQL = {"data": {"dataset": {"rowCount": 12000, "rows": {"rows": [{"flights": 297}], "next": None}}}}

EXAMPLES: dict[tuple[str, str], Any] = {
    ("get", "/health"): {"status": "ok", "release": "r000012"},
    ("get", "/v1/datasets"): {"release": "r000012", "datasets": [_DATASET]},
    ("get", "/v1/datasets/{name}"): _DATASET,
    ("get", "/v1/datasets/{name}/lineage"): {
        "dataset": _MART,
        "upstream": ["raw.flightops__flights", "refined.flights"],
        "downstream": [],
    },
    ("get", "/v1/metrics"): {
        "release": "r000012",
        "metrics": [
            {
                "name": "flights",
                "label": "Flights",
                "description": "Flights that were scheduled.",
                "unit": "flights",
                "kind": "simple",
                "made_of": [],
                "dataset": _MART,
                "data_type": "HUGEINT",
                "dimensions": [
                    {"name": "origin_code", "label": "Origin", "description": "IATA code.", "data_type": "VARCHAR"}
                ],
                "time_dimension": "scheduled_on",
                "time_grains": ["day", "week", "month"],
            }
        ],
    },
    ("get", "/v1/releases"): {"releases": [_RELEASE]},
    ("get", "/v1/releases/{release_id}"): _RELEASE,
    ("post", "/v1/releases/{release_id}/rollback"): _RELEASE,
    ("get", "/v1/releases/{before_id}/diff/{after_id}"): {
        "before": "r000011",
        "after": "r000012",
        "datasets": [
            {
                "name": _MART,
                "change": "changed",
                "rows_before": 11960,
                "rows_after": 12000,
                "intervals": [{"key": "2013-12-31", "rows_before": 0, "rows_after": 40}],
            }
        ],
    },
    ("get", "/v1/runs"): {"runs": [_RUN]},
    ("get", "/v1/runs/{run_id}"): _RUN,
    ("get", "/v1/quarantine"): {"quarantine": [_WAITING]},
    ("get", "/v1/quarantine/{table}/rows"): {"table": _WEATHER, "rows": [_QUARANTINED]},
    ("get", "/v1/incidents"): {"incidents": [_INCIDENT]},
    ("post", "/v1/backfills/plan"): _PLAN,
    ("post", "/v1/backfills"): {"id": "20261126-0805-4f1d", "started": True, "plan": _PLAN},
    ("get", "/v1/backfills"): {"backfills": [_BACKFILL]},
    ("get", "/v1/backfills/{backfill_id}"): _BACKFILL,
    ("post", "/v1/backfills/{backfill_id}/{action}"): {**_BACKFILL, "state": "paused"},
    ("get", "/graphql"): _GRAPHQL,
    ("post", "/graphql"): _GRAPHQL,
}
"""Method and route -> its answer; data routes have theirs in every form beside their code."""


def described(document: dict[str, Any]) -> dict[str, Any]:
    """A description with security and examples. Side effects: the document is changed."""
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of an OpenID issuer, or of 'penstock token issue'. Each route names its scope.",
        }
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["security"] = [] if path == "/health" else [{"bearer": [needed_scope(method.upper(), path)]}]
            example = EXAMPLES.get((method, path))
            if example is not None:
                operation["responses"]["200"]["content"]["application/json"]["example"] = example
    return document
