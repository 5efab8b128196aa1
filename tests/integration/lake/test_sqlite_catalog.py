"""The SQLite catalog is the library's: what one of the two writes the other reads, moves and loses races to."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

from common.errors import StoreUnavailable
from common.settings import Settings
from lake.catalog import open_catalog
from lake.lake import Lake
from lake.pins import pinned_locations
from lake.remembering import LeanTransaction
from lake.sql_catalog import SqlalchemyCatalog
from lake.sqlite_catalog import SqliteCatalog
from tests.integration.lake.lakes import TABLE, Bench


def library(bench: Bench) -> SqlCatalog:
    """The library's own catalog on the bench's file."""
    ours = bench.lake.catalog
    return SqlCatalog(ours.name, **ours.properties)


def test_the_library_reads_and_changes_what_ours_has_made(local: Bench) -> None:
    local.publish([(1, "a")])
    assert isinstance(local.lake.catalog, SqliteCatalog)
    theirs = library(local)
    assert theirs.list_namespaces() == [("raw",)]
    assert theirs.list_tables("raw") == local.lake.catalog.list_tables("raw") == [("raw", "shop__orders")]
    table = theirs.load_table(str(TABLE))
    assert table.metadata == local.lake.load(TABLE).metadata
    seen = local.lake.load(TABLE)
    with table.transaction() as transaction:
        transaction.set_properties({"owner": "they"})
    assert local.lake.load(TABLE).properties["owner"] == "they"
    with pytest.raises(CommitFailedException), LeanTransaction(seen) as late:
        late.set_properties({"owner": "we"})
    local.publish([(2, "b")])
    assert theirs.load_table(str(TABLE)).metadata == local.lake.load(TABLE).metadata


def test_what_is_rarely_asked_is_answered_by_the_library(local: Bench) -> None:
    local.publish([(1, "a")])
    ours: Catalog = local.lake.catalog
    ours.rename_table("raw.shop__orders", "raw.shop__renamed")
    assert ours.list_tables("raw") == [("raw", "shop__renamed")]
    ours.drop_table("raw.shop__renamed")
    assert not ours.table_exists("raw.shop__renamed")
    assert ours.list_namespaces() == [("raw",)]


def test_any_other_url_of_a_database_is_the_library_s(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}?timeout=9"
    bench = Bench(Settings.load({}, home=tmp_path / "state", catalog_uri=url))
    assert isinstance(bench.lake.catalog, SqlalchemyCatalog)
    bench.publish([(1, "a")])
    bench.publish([(2, "b")], "2013-01-02")
    assert bench.rows() == [(1, "a"), (2, "b")]
    assert bench.lake.tables("raw") == [TABLE]


@pytest.mark.parametrize("options", ["", "?timeout=9"])
def test_every_catalog_says_where_all_tables_are_at_one_moment(tmp_path: Path, options: str) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}{options}"
    bench = Bench(Settings.load({}, home=tmp_path / "state", catalog_uri=url))
    bench.publish([(1, "a"), (-1, "b")], rejected=[1])
    found = {table: bench.lake.load(table).metadata_location for table in (TABLE, TABLE.quarantine)}
    assert pinned_locations(bench.lake) == (found, [])
    asked_one_by_one = Lake(bench.settings)
    asked_one_by_one.__dict__["catalog"] = library(bench)  # as a REST catalog is: it has no such question
    assert pinned_locations(asked_one_by_one) == (found, [])
    elsewhere = Lake(bench.settings.model_copy(update={"lake_uri": str(tmp_path / "elsewhere")}))
    assert pinned_locations(elsewhere) == ({}, sorted(map(str, found))), "tables that lie outside of the lake are told"


def test_a_file_that_is_no_database_is_told_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"no database, but long enough to be taken for one" * 50)
    settings = Settings.load({}, home=tmp_path / "state", catalog_uri=f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        open_catalog(settings)
