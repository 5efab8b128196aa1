"""Warehouses of one table with one number in it: releases without a build, for the laws of the pointer."""

from __future__ import annotations

from pathlib import Path

import duckdb

from warehouse.releases import Candidate, Release, Releases


def make_candidate(releases: Releases, number: int, *, seal: bool = True) -> Candidate:
    """A candidate whose table ``answer`` holds ``number``, and whose manifest says so."""
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute("CREATE TABLE answer AS SELECT ? AS number", [number])
    if seal:
        releases.seal(candidate, {"number": number})
    return candidate


def make_release(releases: Releases, number: int) -> Release:
    """A published release that answers ``number``."""
    return releases.publish(make_candidate(releases, number))


def answer(releases: Releases, release_id: str | None = None) -> int:
    """What a reader that connects now is told."""
    with releases.connect(release_id) as connection:
        row = connection.execute("SELECT number FROM answer").fetchone()
    assert row is not None
    return int(row[0])


def leftovers(warehouse: Path) -> set[str]:
    """Everything in a warehouse folder that is neither a published release nor of the warehouse itself."""
    published = {release.folder for release in Releases(warehouse).all()}
    found = {path for folder in ("releases", "candidates") for path in (warehouse / folder).glob("*")}
    found |= {path for path in warehouse.iterdir() if path.is_symlink() or path.is_file()}
    kept = {warehouse / name for name in ("current", "fence", "lease.lock", "lease.json", "moves.jsonl", "identity")}
    return {path.relative_to(warehouse).as_posix() for path in found - kept if path.resolve() not in published}
