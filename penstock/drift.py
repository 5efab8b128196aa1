"""``penstock drift``: schema drift as receipts and refusals have it; on demand the sources as they are now.

Nothing is remembered apart from them: a finding is listed while the batch that has it is live, or its refusal is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from common.errors import DataRejected, located
from ingestion.spec import SourceSpec, TableSpec
from lake.paths import refusal_folder
from penstock.pipeline import Pipeline

_SAME = ("table", "kind", "column", "declared", "observed", "policy", "outcome")


def recorded(pipeline: Pipeline, sources: Iterable[SourceSpec]) -> list[dict[str, Any]]:
    """Each finding once per table, with the first and the last interval that had it and how many did."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for spec, table in _tables(sources):
        for key, finding in sorted(_kept(pipeline, spec, table), key=lambda each: each[0]):
            line = {"table": str(spec.raw(table.name)), **finding}
            same = tuple(str(line[name]) for name in _SAME)
            entry = found.setdefault(same, line | {"first": key, "intervals": 0, "_keys": set()})
            entry["last"] = key
            entry["_keys"].add(key)
            entry["intervals"] = len(entry["_keys"])
    return [{name: value for name, value in entry.items() if name != "_keys"} for entry in found.values()]


def _kept(pipeline: Pipeline, spec: SourceSpec, table: TableSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Partition key and finding, of live batches and of refused ones."""
    lake, raw = pipeline.lake, spec.raw(table.name)
    for receipt in lake.receipts(raw):
        for finding in receipt.drift:
            yield receipt.key, finding
    for path in lake.storage.list_files(refusal_folder(pipeline.settings.lake_uri, raw)):
        refusal = lake.storage.read_json(path)
        for finding in refusal.get("drift", ()):
            if finding["outcome"] == "refused":
                yield refusal["key"], finding


def live(pipeline: Pipeline, sources: Iterable[SourceSpec]) -> list[dict[str, Any]]:
    """What each table's source differs in from its spec now; a table that is not there says so in ``problem``.

    Raises:
        SourceUnavailable, SourceRefused: a source cannot be asked.
    """
    lines: list[dict[str, Any]] = []
    for spec in sources:
        with located(source=spec.source), pipeline.reading(spec.source) as reader:
            for table in spec.tables:
                name = str(spec.raw(table.name))
                try:
                    lines += [{"table": name, **finding.to_dict()} for finding in reader.drift(table)]
                except DataRejected as error:
                    lines.append({"table": name, "problem": str(error)})
    return lines


def to_write(lines: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The lines that make the specs agree with the sources, by table, each once."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.get("write") and line["write"] not in found.setdefault(line["table"], []):
            found[line["table"]].append(line["write"])
    return {table: written for table, written in found.items() if written}


def _tables(sources: Iterable[SourceSpec]) -> Iterator[tuple[SourceSpec, TableSpec]]:
    for spec in sources:
        for table in spec.tables:
            yield spec, table
