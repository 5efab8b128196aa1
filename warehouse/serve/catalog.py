"""The catalog: which datasets there are for a role, what is in them, where from, and how releases differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from warehouse.releases import Release
from warehouse.serve.facts import DatasetFacts, quality_of
from warehouse.serve.opened import OpenRelease
from warehouse.serve.policy import Shown


def dataset_entry(opened: OpenRelease, shown: Shown, facts: DatasetFacts) -> dict[str, Any]:
    """One dataset as a role sees it."""
    manifest = opened.release.manifest
    described = opened.descriptions[shown.name]
    return {
        "name": shown.name,
        "description": described.text,
        "owners": list(facts.owners),
        "rows": _rows(manifest, shown),
        "columns": [
            {
                "name": name,
                "type": kind,
                "description": described.columns.get(name, ""),
                "masked": name in shown.masked,
            }
            for name, kind in shown.columns
        ],
        "filtered": shown.filtered,
        "freshness": {
            "release": opened.id,
            "built_at": manifest.get("built_at"),
            "published_at": opened.release.published_at or None,
            "newest_interval": facts.newest_interval or None,
            "intervals": dict(facts.intervals or {}),
        },
        "quality": quality_of(manifest, shown.name),
    }


def lineage_entry(name: str, facts: DatasetFacts, role_sees: Collection[str]) -> dict[str, Any]:
    """What a dataset is made of and goes into, by table; of the warehouse's own only those that the role may see."""
    own = {each: each.removeprefix("warehouse.") for each in (*facts.upstream, *facts.downstream)}
    return {
        "dataset": name,
        "upstream": [each for each in facts.upstream if "." in own[each] or own[each] in role_sees],
        "downstream": [each for each in facts.downstream if own[each] in role_sees],
    }


def release_entry(release: Release, shown: Mapping[str, Shown]) -> dict[str, Any]:
    """One release: when, from what, and rows of the datasets that a role sees whole."""
    manifest = release.manifest
    return {
        "id": release.id,
        "current": release.current,
        "parent": manifest.get("parent"),
        "built_at": manifest.get("built_at"),
        "published_at": release.published_at or None,
        "version": manifest.get("version"),
        "datasets": {name: _rows(manifest, each) for name, each in sorted(shown.items())},
    }


def difference(before: Release, after: Release, shown: Mapping[str, Shown]) -> dict[str, Any]:
    """How two releases differ in the datasets of a role.

    Rows and intervals are told of datasets that the role sees whole; of the others only whether anything changed.
    """
    tables = [{each["name"]: each for each in release.manifest.get("tables", ())} for release in (before, after)]
    found = []
    for name, each in sorted(shown.items()):
        old, new = (of.get(name) for of in tables)
        if old is None and new is None:
            continue
        kind = "added" if old is None else "removed" if new is None else "changed"
        if old is not None and new is not None and old["checksum"] == new["checksum"]:
            kind = "unchanged"
        entry: dict[str, Any] = {"name": name, "change": kind, "rows_before": None, "rows_after": None, "intervals": []}
        if not each.filtered:
            entry["rows_before"], entry["rows_after"] = (of["rows"] if of else None for of in (old, new))
            keys = [(of or {}).get("rows_by_key", {}) for of in (old, new)]
            entry["intervals"] = [
                {"key": key, "rows_before": keys[0].get(key, 0), "rows_after": keys[1].get(key, 0)}
                for key in sorted({*keys[0], *keys[1]})
                if keys[0].get(key) != keys[1].get(key)
            ]
        found.append(entry)
    return {"before": before.id, "after": after.id, "datasets": found}


def _rows(manifest: Mapping[str, Any], shown: Shown) -> int | None:
    if shown.filtered:
        return None
    return next((int(each["rows"]) for each in manifest.get("tables", ()) if each["name"] == shown.name), None)
