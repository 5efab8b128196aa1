"""Laws of ``penstock init``: what it writes is valid, reads every row, keeps secrets, and never costs a file."""

from __future__ import annotations

import gzip
import json
import re
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.command_line import Answer
from tests.door import Door
from tests.integration.ingestion.conftest import BucketSource, DatabaseSource

TABLES = """
CREATE DOMAIN {s}.address AS text;
CREATE TABLE {s}."OrderItem" ("OrderId" bigint PRIMARY KEY, "UpdatedAt" timestamptz NOT NULL, "Tags" text[],
    "Price" numeric(12,3), "Mail" {s}.address, ds int, "Note One" text, note_one text);
CREATE INDEX ON {s}."OrderItem" ("UpdatedAt");
CREATE TABLE {s}.visits (created_at timestamp NOT NULL, contact text);
CREATE INDEX ON {s}.visits (created_at);
CREATE TABLE {s}.readings (at timestamptz NOT NULL, sensor int NOT NULL, value float8, PRIMARY KEY (at, sensor));
CREATE TABLE {s}.members (code text NOT NULL UNIQUE, name text, updated_at timestamptz);
CREATE VIEW {s}.latest AS SELECT * FROM {s}.readings;
CREATE TABLE {s}.parts (id int, made_on date NOT NULL, PRIMARY KEY (made_on, id)) PARTITION BY RANGE (made_on);
CREATE TABLE {s}.parts_2013 PARTITION OF {s}.parts FOR VALUES FROM ('2013-01-01') TO ('2014-01-01');
INSERT INTO {s}."OrderItem" SELECT i, '2013-01-01'::timestamptz + i * interval '1 minute', ARRAY['a', NULL],
    i / 8.0, 'ann@example.org', 1, 'x', 'y' FROM generate_series(1, 1000) i;
INSERT INTO {s}.visits SELECT '2013-01-01'::timestamp + i * interval '1 minute', 'bob' || i || '@example.org'
    FROM generate_series(1, 1000) i;
INSERT INTO {s}.readings SELECT '2013-01-01'::timestamptz + i * interval '1 minute', 1, i
    FROM generate_series(1, 1000) i;
INSERT INTO {s}.members VALUES ('a', 'Ann', NULL);
INSERT INTO {s}.parts SELECT i, '2013-01-01' FROM generate_series(1, 1000) i;
"""


@pytest.fixture
def shop(database: DatabaseSource) -> Door:
    """The command line beside a schema with tables of every kind."""
    for statement in TABLES.strip().split(";\n"):
        database.run(statement)
    database.run("ANALYZE")
    return Door(database.folder, {"shop": database.url})


def init(shop: Door, database: DatabaseSource, *more: str, stdin: str | None = None) -> Answer:
    """``penstock init shop`` for the test's schema."""
    return shop.run("init", "shop", "--schema", database.schema, "--owner", "me@example.org", *more, stdin=stdin)


def modes(answer: Answer) -> dict[str, tuple[str, str]]:
    """Mode and column by table."""
    return {line["table"]: (line["mode"], line["by"]) for line in json.loads(answer.out)["tables"]}


def test_what_init_writes_is_valid_fits_the_source_and_brings_in_every_row(
    shop: Door, database: DatabaseSource
) -> None:
    answer = init(shop, database, "--snapshot-rows", "500", "--json")
    assert answer.code == 0, answer.err
    assert modes(answer) == {
        "latest": ("snapshot", ""),
        "members": ("snapshot", ""),
        "order_item": ("incremental", "updated_at"),
        "parts": ("incremental", "made_on"),
        "readings": ("incremental", "at"),
        "visits": ("window", "created_at"),
    }
    keys = {line["table"]: line["key"] for line in json.loads(answer.out)["tables"]}
    assert keys == {
        "latest": "",
        "members": "code",
        "order_item": "order_id",
        "parts": "made_on, id",
        "readings": "at, sensor",
        "visits": "",
    }
    checked = shop.run("validate", "--connect", "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out) == []
    done = shop.run("run", "--source", "shop", "--from", "2013-01-01", "--to", "2013-01-02", "--no-build", "--json")
    assert done.code == 0, done.err
    rows = {line["table"]: (line["rows_in"], line["published"]) for line in json.loads(done.out)["tables"]}
    assert rows == {
        "raw.shop__latest": (1000, 1000),
        "raw.shop__members": (1, 1),
        "raw.shop__order_item": (1000, 1000),
        "raw.shop__parts": (1000, 1000),
        "raw.shop__readings": (1000, 1000),
        "raw.shop__visits": (1000, 1000),
    }
    assert shop.run("validate").code == 0, "the suites are such that the gate can run them"


def test_every_suggestion_stands_beside_its_reason(shop: Door, database: DatabaseSource) -> None:
    text = init(shop, database, "--print", "--snapshot-rows", "500").out
    for reason in (
        "# incremental: 1,000 rows estimated; updated_at is not null, indexed and named like a change time\n",
        "# snapshot: 1 rows estimated, small enough to be read whole",
        "# snapshot: rows not known, read whole: a view has no index that would find an interval",
        "# no primary key: of a unique index\n",
        "{name: source_ds, source_name: ds, type: int32, nullable: true}",
        '{name: note_one, source_name: "Note One", type: string, nullable: true}  # one of several of this name',
        "{name: note_one_2, source_name: note_one, type: string, nullable: true}  # one of several of this name",
        '{name: price, source_name: Price, type: "decimal(12,3)", nullable: true}\n',
        "{name: name, type: string, nullable: true, pii: suspected}  # the name of somebody, by the table it is in",
        "type: string, nullable: true, pii: suspected}  # 200 of 200 sampled values look like e-mail addresses",
    ):
        assert reason in text, reason
    assert "parts_2013" not in text, "a partition is no table of its own"
    assert not list(database.folder.rglob("*.yml")), "--print writes nothing"


def test_a_table_too_large_for_a_snapshot_says_what_it_lacks(shop: Door, database: DatabaseSource) -> None:
    answer = init(shop, database, "--table", "members", "--print", "--snapshot-rows", "0")
    assert "# snapshot: 1 rows estimated, read whole: updated_at may be null and leads no index" in answer.out


def test_values_and_passwords_are_in_no_file_and_no_output(shop: Door, database: DatabaseSource) -> None:
    answer = init(shop, database, "--url", "-", "--connection", "other", stdin=database.url + "\n")
    assert answer.code == 0, answer.err
    assert "read -rs PENSTOCK_CONNECTIONS__OTHER && export PENSTOCK_CONNECTIONS__OTHER" in answer.out
    password = urlsplit(database.url).password
    written = "".join(path.read_text() for path in database.folder.rglob("*.yml"))
    assert "connection: other\n" in written
    for secret in (password, "ann@", "bob7@", "Ann"):
        assert secret
        assert secret not in answer.out + answer.err + written


def test_a_spec_that_is_there_is_never_lost(shop: Door, database: DatabaseSource) -> None:
    assert init(shop, database).code == 0
    spec = shop.spec
    spec.write_text(spec.read_text().replace("owner: ", "owner: you, not "))
    before = spec.read_text()
    refused = init(shop, database)
    assert (refused.code, spec.read_text()) == (2, before)
    assert "--force" in refused.err
    forced = init(shop, database, "--force")
    assert forced.code == 0
    assert "-owner: you, not " in forced.out
    assert "you, not" not in spec.read_text()


@pytest.mark.parametrize(
    ("url", "arguments", "code", "said"),
    [
        ("postgresql://u:secret@127.0.0.1:1/x", (), 3, "SourceUnavailable"),
        ("{wrong}", (), 3, "SourceRefused"),
        ("{url}", ("--schema", "no_such_schema"), 1, "EmptyBatch"),
        ("{url}", ("--table", "no_such_table"), 2, "UnknownName"),
        ("ftp://u:secret@example.org/x", (), 2, "begin it with postgresql://"),
        ("{url}", ("--time-zone", "Mars/Olympus"), 2, "Unknown time zone"),
    ],
)
def test_a_source_that_cannot_be_described_says_why_and_leaves_nothing(
    database: DatabaseSource, url: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    database.run("CREATE TABLE {s}.t (id int PRIMARY KEY)")
    parts = urlsplit(database.url)
    wrong = database.url.replace(f":{parts.password}@", ":secret@")
    command = Door(database.folder, {"shop": url.format(url=database.url, wrong=wrong)})
    answer = command.run("init", "shop", "--owner", "me", *(arguments or ("--schema", database.schema)))
    assert (answer.code, len(answer.errors)) == (code, 1), answer.err
    assert said in answer.err
    assert "Remedy:" in answer.err
    assert "secret" not in answer.err
    assert not list(database.folder.rglob("*.yml"))


def test_a_name_that_is_none_and_a_connection_that_is_not_there_are_usage(database: DatabaseSource) -> None:
    command = Door(database.folder, {"shop": database.url})
    for arguments, said in ((("init", "My-Shop"), "is no name"), (("init", "other"), "No connection named 'other'")):
        answer = command.run(*arguments)
        assert (answer.code, said in answer.err) == (2, True), answer.err


def test_tables_that_may_not_be_read_are_left_out_and_named(shop: Door, database: DatabaseSource) -> None:
    database.admin.execute(f'REVOKE SELECT ON "{database.schema}".visits FROM "{database.role}"')
    answer = init(shop, database, "--exclude", "latest")
    assert answer.code == 0
    text = (database.folder / "sources" / "shop.yml").read_text()
    assert f"# left out: {database.schema}.visits: this role may not SELECT from it\n" in text
    assert f"# left out: {database.schema}.latest: excluded by --exclude\n" in text
    assert not re.search(r"name: (visits|latest)", text)


def test_a_bucket_is_described_by_its_keys_and_a_few_objects_and_then_read_in_full(bucket: BucketSource) -> None:
    for day in ("2013-01-01", "2013-01-02"):
        for part in ("north", "south"):
            bucket.put(f"id,mail,price\n1,ann@example.org,1.50\n2,NA,{part == 'north'}\n", day=day, part=part)
    bucket.client.put_object(Bucket=bucket.location.bucket, Key=f"{bucket.prefix}/readme.txt", Body=b"hello")
    command = Door(bucket.folder, {"shop": bucket.url})
    answer = command.run("init", "shop", "--prefix", bucket.prefix, "--owner", "me@example.org")
    assert answer.code == 0, answer.err
    text = (bucket.folder / "sources" / "shop.yml").read_text()
    assert f'path: "{bucket.prefix}/{{part}}/{{key}}.csv"' in text
    assert "# append: 4 objects of 2013-01-01 to 2013-01-02; the types are those of 6 sampled rows" in text
    assert "{name: mail, type: string, nullable: true, pii: suspected}" in text
    assert "readme.txt: its key does not name one day" in text
    assert "ann@" not in text + answer.out
    checked = command.run("validate", "--connect")
    assert checked.code == 0, checked.out + checked.err
    done = command.run("run", "--source", "shop", "--from", "2013-01-01", "--to", "2013-01-03", "--no-build", "--json")
    assert done.code == 0, done.err
    (line,) = json.loads(done.out)["tables"]
    assert (line["intervals"], line["rows_in"], line["published"]) == (2, 8, 8)


def test_a_folder_of_every_format_is_described_and_then_read_in_full(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    rows = {"Id": [1, 2], "Made On": [date(2013, 1, 1), date(2013, 1, 2)], "price": [1.5, None]}
    for folder in ("tabs", "lines", "columns"):
        (exports / folder).mkdir(parents=True)
    tabs = "Id\tMade On\tprice\n1\t2013-01-01\t1.5\n2\t2013-01-02\t\n"
    (exports / "tabs" / "2013-01-01.tsv.gz").write_bytes(gzip.compress(tabs.encode()))
    lines = '{"Id": 1, "Made On": "2013-01-01", "price": 1.5}\n{"Id": 2, "Made On": "2013-01-02", "price": null}\n'
    (exports / "lines" / "2013-01-01.jsonl.zst").write_bytes(pa.compress(lines.encode(), "zstd", asbytes=True))
    pq.write_table(pa.table(rows), exports / "columns" / "2013-01-01.parquet")
    door = Door(tmp_path, {"shop": f"file://{exports}"})
    answer = door.run("init", "shop", "--owner", "me@example.org", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["left_out"] == []
    assert door.run("validate", "--connect").code == 0
    done = door.run("run", "--source", "shop", "--from", "2013-01-01", "--to", "2013-01-02", "--no-build", "--json")
    assert (done.code, [line["published"] for line in json.loads(done.out)["tables"]]) == (0, [2, 2, 2]), done.err
    for table in ("tabs", "lines", "columns"):
        asked = door.run(
            "query", "--lake", f"select id, made_on, price, typeof(made_on) as t from raw.shop__{table}", "--json"
        )
        assert json.loads(asked.out) == [
            {"id": 1, "made_on": "2013-01-01", "price": 1.5, "t": "DATE"},
            {"id": 2, "made_on": "2013-01-02", "price": None, "t": "DATE"},
        ]
