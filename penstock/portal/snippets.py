"""How to ask each door for a dataset: texts that can be copied as they are."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request

from common.settings import Settings
from lake.sql import identifier
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


def snippets(
    dataset: Mapping[str, Any], request: Request, asked: Asked, settings: Settings, role: str
) -> list[Snippet]:
    """Every door to a dataset.

    Args:
        dataset: its entry in the catalog.
        request: knows under which address people reach the server.
        asked: filter and order of the page, which the HTTP door takes over.
        settings: name the schemas of the BI database.
        role: of the reader, which has a schema there.
    """
    name, base = dataset["name"], str(request.base_url).rstrip("/")
    table = ".".join(map(_quoted, name.split(".")))
    columns = ", ".join(_quoted(each["name"]) for each in dataset["columns"][:3])
    query = urlencode([*asked.api, ("format", "csv")])
    statement = json.dumps({"sql": f"select * from {table} limit 10"})
    document = json.dumps({"query": f"{{ dataset(name: {json.dumps(name)}) {{ rows(limit: 10) {{ next rows }} }} }}"})
    schema = f"{settings.bi_schema}_{role}" if settings.bi_roles else settings.bi_schema
    bearer = 'curl -H "Authorization: Bearer $TOKEN"'
    as_json = f'{bearer} -H "Content-Type: application/json"'
    return [
        Snippet(
            "HTTP",
            f"{bearer} \\\n  {shlex.quote(f'{base}/v1/datasets/{quote(name)}/rows?{query}')}",
            "The filter and the order above go along. Also format=json, arrow and parquet.",
        ),
        Snippet(
            "SQL over HTTP",
            f"{as_json} \\\n  {base}/v1/sql -d {shlex.quote(statement)}",
            "One SELECT of your own over the datasets of your role; needs the scope sql.",
        ),
        Snippet("GraphQL", f"{as_json} \\\n  {base}/graphql -d {shlex.quote(document)}"),
        Snippet(
            "Python",
            f"import penstock\n\npenstock.table({json.dumps(name)}).pl()  # a Polars frame; also .arrow() and .df()\n"
            f"penstock.connect().sql({json.dumps(f'select * from {table} limit 10')})  # DuckDB, read only",
            "Where the releases are at hand: here or in object storage. It reads whole releases, without roles.",
        ),
        Snippet(
            "Arrow Flight SQL",
            "import adbc_driver_flightsql.dbapi as flight_sql\n\n"
            "options = {\n"
            '    "adbc.flight.sql.authorization_header": f"Bearer {token}",\n'
            '    "adbc.flight.sql.client_option.tls_root_certs": open("certificate.pem").read(),\n}\n'
            "with flight_sql.connect(address, db_kwargs=options, autocommit=True) as connection:\n"
            "    cursor = connection.cursor()\n"
            f"    cursor.execute({json.dumps(f'select * from {table}')})\n"
            "    rows = cursor.fetch_arrow_table()",
            "For a million rows and more. penstock serve prints its address.",
        ),
        Snippet(
            "PostgreSQL",
            f'psql "$BI_URL" -c {shlex.quote(f"select * from {_quoted(schema)}.{_quoted(name)} limit 10")}',
            "The BI database: Metabase, Superset, Tableau, Excel, any client. A login: penstock bi login.",
        ),
        Snippet(
            "SQL file",
            f"SELECT {columns}\nFROM {table}\nLIMIT 10;",
            "For penstock query, DuckDB on the release's file, or a notebook.",
        ),
    ]


def _quoted(name: str) -> str:
    """An identifier of SQL, quoted where it must be."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name)
    return name if plain else identifier(name)
