"""Fault 18: secrets planted in every place of the configuration are in nothing that is written, printed or sent.

One day through all stages with everything switched on - lineage, telemetry, messages, a release in object storage, the
BI database, the HTTP door - beside a source that fails. Every secret is a canary. Then all that was left behind is
searched, each container by what it holds: Parquet, DuckDB and SQLite by their values, compressed files unpacked.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import duckdb
import psutil
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from lake.sql import literal
from penstock.embedded import EmbeddedServices
from tests.canaries import Search
from tests.command_line import Answer, CommandLine
from tests.integration.penstock.collector import collecting
from tests.receivers import json_receiver

ROOT = Path(__file__).resolve().parents[2]
DAY, AFTER = "2013-02-12", "2013-02-13"

SHOP = """
source: shop
kind: postgresql
connection: shop
owner: shop@example.com
description: A shop whose database does not answer.
tables:
  - name: orders
    schema: public
    description: Orders.
    mode: snapshot
    primary_key: [id]
    columns:
      - {name: id, type: int32, nullable: false, description: Number of the order.}
"""

SUITE = """
suite: raw/shop__orders
description: Orders.
expectations: []
"""


def _canary(place: str) -> str:
    return f"canary/{place}+6f1d2b"


@dataclass(frozen=True)
class Left:
    """Everything that one day left behind."""

    home: Path
    canaries: Mapping[str, str]
    answers: list[Answer]
    sent: list[bytes]
    commands: list[str]


@pytest.fixture(scope="module")
def left(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Left:
    base = tmp_path_factory.mktemp("canaries")
    home, sources = base / "state", base / "sources"
    shutil.copytree(ROOT / "ingestion" / "sources", sources)
    shutil.copytree(ROOT / "quality" / "suites", base / "suites")
    (base / "suites" / "raw" / "shop__orders.yml").write_text(SUITE)
    places = ("shop", "lineage", "message", "cache", "telemetry", "elsewhere", "bi")
    canaries = {place: _canary(place) for place in places}
    for name, url in services.connections.items():
        secret = unquote(urlsplit(url).password or "")
        if secret:
            canaries[f"connection {name}"] = secret
    with collecting() as collector, json_receiver() as receiver:
        lineage_url = f"http://127.0.0.1:{receiver.port}"
        extra = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(canaries['telemetry'], safe='')}",
            "PENSTOCK_SOURCES": str(sources),
            "PENSTOCK_SUITES": str(base / "suites"),
            "PENSTOCK_LOG_FORMAT": "json",
            "PENSTOCK_LINEAGE_URL": lineage_url,
            "PENSTOCK_LINEAGE_API_KEY": canaries["lineage"],
            "PENSTOCK_NOTIFY_URLS": receiver.url(quote(canaries["message"], safe="")),
            "PENSTOCK_CACHE_URL": f"redis://:{quote(canaries['cache'], safe='')}@127.0.0.1:1/0",
            "SOMEBODY_ELSES_TOKEN": canaries["elsewhere"],
        }
        unreachable = f"postgresql://reader:{quote(canaries['shop'], safe='')}@127.0.0.1:1/shop"
        connections = {
            **services.connections,
            "shop": unreachable,
            "bi": f"postgresql://bi:{quote(canaries['bi'], safe='')}@127.0.0.1:1/bi",
        }
        command = CommandLine(home, connections, extra)
        commands: list[str] = []
        answers = [_run(command, commands, "run", "--from", DAY, "--to", AFTER, "--json")]
        (sources / "shop.yml").write_text(SHOP)
        later = (
            ("ingest", "shop", "--day", DAY),
            ("validate", "--connect"),
            ("incidents", "check"),
            ("bi", "publish"),
            ("doctor",),
            ("query", "--lake", "select * from ops.incidents", "--json"),
        )
        answers += [_run(command, commands, *arguments) for arguments in later]
        sent = [*collector.bodies, *(json.dumps(each).encode() for each in receiver.messages)]
        assert any("/canary/message" in unquote(path) for path in receiver.paths)
    return Left(home, canaries, answers, sent, commands)


def _run(command: CommandLine, seen: list[str], *arguments: str) -> Answer:
    """Run a command; what the process list shows of it meanwhile is kept."""
    process = command.start(*arguments)
    with contextlib.suppress(psutil.Error):
        for each in psutil.Process(os.getpid()).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                seen.append(" ".join(each.cmdline()))
    out, err = process.communicate(timeout=180)
    return Answer(process.wait(), out, err)


def test_the_day_worked_and_the_broken_source_was_told_of(left: Left) -> None:
    run, ingest, validate, *_ = left.answers
    assert {"raw.flightops__flights", "refined.flights"} <= {each["table"] for each in json.loads(run.out)["tables"]}
    assert ingest.code != 0
    assert "shop" in ingest.err
    assert validate.code != 0
    assert left.sent
    assert any(body for body in left.sent if b"shop" in body)


def test_no_canary_is_in_anything_that_was_left_behind_printed_or_sent(
    left: Left, figures: Callable[..., None]
) -> None:
    search = Search(left.canaries)
    search.folder(left.home)
    for number, answer in enumerate(left.answers):
        search.look((answer.out + answer.err).encode(), f"output of command {number}")
    for body in left.sent:
        search.look(body, "what was sent")
    search.look("\n".join(left.commands).encode(), "the process list")
    figures(
        secrets_found=len(search.found),
        canaries=len(left.canaries),
        commands=len(left.answers),
        searched_bytes=search.searched_bytes,
    )
    assert search.found == []
    assert search.searched_bytes > 20_000_000


@pytest.mark.parametrize("form", ["text", "url", "base64", "parquet", "duckdb", "sqlite", "gzip"])
def test_a_canary_would_be_found_in_every_container(form: str, tmp_path: Path) -> None:
    canary = _canary("planted")
    path = tmp_path / "file"
    match form:
        case "text":
            path.write_text(f"password={canary}")
        case "url":
            path.write_text(f"postgresql://a:{quote(canary, safe='')}@b")
        case "base64":
            path.write_bytes(base64.b64encode(f"Basic x:{canary}, and so on".encode()))
        case "parquet":
            pq.write_table(pa.table({"a": [f"{canary} {number}" for number in range(1000)]}), path, compression="zstd")
        case "duckdb":
            with duckdb.connect(str(path)) as connection:
                connection.execute(f"CREATE TABLE t AS SELECT {literal(canary)} AS a FROM range(100000)")
        case "sqlite":
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("CREATE TABLE t (a)")
                database.execute("INSERT INTO t VALUES (?)", [canary])
                database.commit()
        case _:
            path.write_bytes(gzip.compress(canary.encode()))
    search = Search({"planted": canary})
    search.folder(tmp_path)
    assert {place for place, _ in search.found} == {"planted"}
