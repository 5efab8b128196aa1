"""A release with canaries where nobody may look, and the policy that hides them."""

from __future__ import annotations

from pathlib import Path

import duckdb

from warehouse.releases import Release, Releases
from warehouse.serve.policy import DatasetRule, Role, Shown, Table, shown_to

CANARY = "CANARY-5d21"
HIDDEN_AMOUNT = 77777
"""An amount that stands only in a row that the filter hides."""

RULE = DatasetRule(columns="all", hide=("hidden",), rows="code = 'open'")


def make_release(warehouse: Path) -> Release:
    """A release with ``visible`` (three columns, one hidden; rows filtered) and ``secret``."""
    releases = Releases(warehouse)
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(
            f"CREATE TABLE visible AS SELECT * FROM (VALUES ('open', 1, '{CANARY}'), ('open', 3, '{CANARY}'), "
            f"('shut', {HIDDEN_AMOUNT}, '{CANARY}')) AS v(code, amount, hidden)"
        )
        connection.execute(f"CREATE TABLE secret AS SELECT '{CANARY}' AS word")
    releases.seal(candidate, {"tables": []})
    return releases.publish(candidate)


def views_of(release: Release) -> dict[str, str]:
    """What a role that may see ``visible`` sees of it, as guarded SELECTs."""
    return {name: each.guarded() for name, each in shown(release).items()}


def shown(release: Release) -> dict[str, Shown]:
    """The datasets of that role."""
    tables = {
        "visible": Table("visible", (("code", "VARCHAR"), ("amount", "INTEGER"), ("hidden", "VARCHAR"))),
        "secret": Table("secret", (("word", "VARCHAR"),)),
    }
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{release.database}' AS warehouse (READ_ONLY)")
        return shown_to(connection, Role(datasets={"visible": RULE}), tables, salt="salt")
