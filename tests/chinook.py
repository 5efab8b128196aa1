"""Chinook: a database that nobody here made, the same data as scripts for PostgreSQL and MySQL.

The scripts lie beside the checkout, in ``../shared/data/chinook``; this tree holds none of their rows.
"""

from __future__ import annotations

from typing import Any

import pytest

from common.settings import Settings, process_environment
from lake.lake import Lake
from lake.views import lake_views
from tests.architecture.source_tree import ROOT
from tests.door import Door

TABLES, ROWS = 11, 15_607

Contents = dict[str, tuple[list[tuple[str, str]], list[tuple[Any, ...]]]]
"""Columns with their types, and sorted rows, by table."""


def chinook_script(name: str) -> bytes:
    """One of the scripts. Continuous integration must have them; elsewhere a test without them is passed over."""
    path = ROOT.parent / "shared" / "data" / "chinook" / name
    if not path.exists():
        missing = f"the Chinook sample database is not beside the checkout: put its scripts into {path.parent}"
        (pytest.fail if process_environment().get("CI") else pytest.skip)(missing)
    return path.read_bytes()


def described_and_read(door: Door) -> None:
    """What a user does: init, validate, one run; each must succeed."""
    for arguments in (
        ("init", "chinook", "--owner", "me@example.org"),
        ("validate", "--connect"),
        ("run", "--source", "chinook", "--from", "2026-01-01", "--to", "2026-01-02", "--no-build"),
    ):
        answer = door.run(*arguments)
        assert answer.code == 0, answer.out + answer.err


def in_the_lake(door: Door) -> Contents:
    """Every raw table as ``penstock query --lake`` shows it."""
    lake = Lake(Settings.load({}, home=door.folder / "state"))
    found: Contents = {}
    for table in lake.tables("raw"):
        with lake_views(lake, f"select * from {table}") as connection:
            relation = connection.sql(f"select * from {table}")
            columns = list(zip(relation.columns, map(str, relation.types), strict=True))
            found[table.name.removeprefix("chinook__")] = (columns, sorted(relation.fetchall(), key=repr))
    return found
