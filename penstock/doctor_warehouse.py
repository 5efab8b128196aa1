"""What the doctor looks at in the warehouse folder and the state folder: releases, pointer, lease, leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from common.errors import StateCorrupt
from penstock.doctor import Finding
from penstock.maintenance import scratch
from penstock.pipeline import Pipeline
from warehouse.checkup import point_to_newest_whole, problem_of, published, retire
from warehouse.lease import is_held, lease
from warehouse.leftovers import left_over, remove_left_over
from warehouse.releases import Releases


def warehouse_findings(warehouse: Path, *, deep: bool) -> Iterator[Finding]:
    """Damage of releases, pointer and lease; then what killed builds left."""
    if not warehouse.is_dir():
        return
    yield from _releases(warehouse, deep=deep)
    try:
        is_held(warehouse)
    except StateCorrupt as error:
        yield Finding(
            "lease_damaged", "damage", str(warehouse / "lease.json"), "Nobody can build or publish", str(error)
        )
        return
    for each in left_over(warehouse):
        yield Finding(
            "left_over",
            "notice",
            str(each.path),
            f"{each.why[0].upper()}{each.why[1:]}; nobody reads it ({each.size_bytes} bytes)",
            "penstock maintain retain",
            "remove it",
            partial(_remove_left_over, warehouse),
        )


def _releases(warehouse: Path, *, deep: bool) -> Iterator[Finding]:
    current = Releases(warehouse).current_id()
    problems = {folder.name: problem_of(folder, deep=deep) for folder in published(warehouse)}
    whole = [release for release, problem in problems.items() if not problem]
    if current is not None and problems.get(current, "its folder is gone"):
        to = f"point to {whole[-1]}, the newest that is whole" if whole else "remove the pointer: no release is whole"
        yield Finding(
            "current_release_damaged",
            "damage",
            f"release {current}",
            f"Whoever connects gets an error: {problems.get(current, 'its folder is gone')}",
            "penstock doctor --repair --yes, then penstock build and penstock publish",
            f"{to}, and remove what is left of {current}",
            partial(_point_to_newest_whole, warehouse),
        )
    elif current is None and problems:
        yield Finding(
            "pointer_lost",
            "damage",
            str(warehouse / "current"),
            f"There are releases ({', '.join(problems)}) and nothing says which is current",
            "penstock doctor --repair --yes",
            f"point to {whole[-1]}, the newest that is whole" if whole else "",
            partial(_point_to_newest_whole, warehouse) if whole else None,
        )
    for release, problem in problems.items():
        if problem and release != current:
            yield Finding(
                "release_damaged",
                "damage",
                f"release {release}",
                f"Nobody can go back to it: {problem}",
                "penstock doctor --repair --yes",
                f"remove {release}; it is not the current one",
                partial(retire, warehouse, release),
            )


def _point_to_newest_whole(warehouse: Path) -> None:
    point_to_newest_whole(warehouse)


def _remove_left_over(warehouse: Path) -> None:
    with lease(warehouse) as held:
        remove_left_over(warehouse, held)


def home_findings(pipeline: Pipeline) -> Iterator[Finding]:
    """Records of killed extracts and scratch files that are older than the grace."""
    for each in scratch(pipeline):
        yield Finding(
            "left_over",
            "notice",
            str(each.path),
            f"It is {each.why}; nobody holds it ({each.size_bytes} bytes)",
            "penstock maintain retain",
        )
