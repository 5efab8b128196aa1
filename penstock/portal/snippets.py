"""How to ask each door for a dataset: texts that can be copied as they are."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from common.settings import Settings
from penstock.portal.questions import Asked


@dataclass(frozen=True)
class Snippet:
    """One door.

    Attributes:
        door: its name.
        text: what to copy.
        note: what it needs.
    """

    door: str
    text: str
    note: str = ""


def snippets(dataset: Mapping[str, Any], request: Request, asked: Asked, settings: Settings) -> list[Snippet]:
    """Every door to a dataset.

    Args:
        dataset: its entry in the catalog.
        request: knows under which address people reach the server.
        asked: filter and order of the page, which the HTTP door takes over.
        settings: name the schema of the BI database.
    """
    name, base = dataset["name"], str(request.base_url).rstrip("/")
    columns = [each["name"] for each in dataset["columns"]][:3]
    query = urlencode([*asked.api, ("format", "csv")])
    rows = shlex.quote(f"{base}/v1/datasets/{name}/rows?{query}")
    query_text = f'{{ dataset(name: "{name}") {{ description columns {{ name type }} }} }}'
    statement = f'{{"sql": "select * from {name} limit 10"}}'
    return [
        Snippet(
            "HTTP",
            f'curl -H "Authorization: Bearer $TOKEN" \\\n  {rows}',
            "The filter and order above go along. Also format=json, arrow and parquet.",
        ),
        Snippet(
            "SQL over HTTP",
            f'curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
            f"  {base}/v1/sql -d {shlex.quote(statement)}",
            "One SELECT of your own over the datasets of your role; needs the scope sql.",
        ),
        Snippet(
            "Python",
            f'import penstock\n\npenstock.table("{name}").pl()  # a Polars frame; also .arrow() and .df()\n'
            f'penstock.connect().sql("select * from {name} limit 10")  # DuckDB, read only',
            "Where the releases are at hand: here or in object storage. It reads whole releases, without roles.",
        ),
        Snippet(
            "PostgreSQL",
            f"psql \"$BI_URL\" -c 'select * from {settings.bi_schema}.{_quoted(name)} limit 10'",
            "The BI database, for Metabase, Superset, Tableau, Excel and every other client of PostgreSQL.",
        ),
        Snippet(
            "GraphQL",
            f'curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
            f"  {base}/graphql -d " + shlex.quote(json.dumps({"query": query_text})),
        ),
        Snippet(
            "SQL file",
            f"SELECT {', '.join(map(_quoted, columns))}\nFROM {_quoted(name)}\nLIMIT 10;",
            "For penstock query, duckdb on the release's file, or a notebook.",
        ),
    ]


def _quoted(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and name.islower() else f'"{name}"'
