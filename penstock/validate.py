"""``penstock validate --connect``: every spec held against its live source; all problems at once, none of them guessed.

A run finds the same problems one at a time, at the first table that has one. Here each source is opened once and only
its catalog is read (a bucket: its listing, and the first line of its newest object), so the check costs no more on a
large source than on a small one. An *error* would refuse a run; a *warning* lets it pass, and slowly or blindly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from common.errors import PenstockError, SourceSchemaError, SpecError, UnknownName
from common.settings import Settings
from ingestion.databases.catalog import CatalogTable
from ingestion.databases.inspection import Inspection, inspecting
from ingestion.objects.sniff import SAMPLE_BYTES, first_bytes, sniff_csv, unpacked
from ingestion.objects.stores import ObjectStore, StoredObject, open_store
from ingestion.spec import SourceSpec, TableSpec, load_source
from lake.lake import Lake
from quality.suite import load_suite


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        source, table: where.
        severity: ``error`` would refuse a run, ``warning`` would not.
        error: name of the error class a run would end with; empty for a warning.
        problem: one sentence.
        remedy: what to do.
        exit_code: of that error; 0 for a warning.
    """

    source: str
    table: str
    severity: Literal["error", "warning"]
    error: str
    problem: str
    remedy: str
    exit_code: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)


def check_sources(
    settings: Settings, names: Sequence[str], *, progress: Callable[[str, int, int, str], None]
) -> list[Finding]:
    """Hold specs against their sources.

    Args:
        settings: folders and connections.
        names: only these sources; all if there are none.
        progress: told of every source.

    Raises:
        UnknownName: there is no source of a name.
        SpecError: there is no spec at all.

    Returns:
        Every problem of every source, in the order of the specs.
    """
    paths = sorted(settings.sources.glob("*.yml"))
    known = [path.stem for path in paths]
    for name in names:
        if name not in known:
            raise UnknownName(
                f"There is no source {name!r}.", source=name, remedy=f"use one of {', '.join(known) or '(none yet)'}"
            )
    if not paths:
        raise SpecError(f"No source spec (*.yml) in {settings.sources}.", remedy="write one with: penstock init")
    chosen = [path for path in paths if not names or path.stem in names]
    findings: list[Finding] = []
    for done, path in enumerate(chosen, start=1):
        findings += _check_source(settings, path)
        progress("validate", done, len(chosen), path.stem)
    return findings


def exit_code(findings: Sequence[Finding]) -> int:
    """0 without errors; else the highest exit code among them: 3 not reached, 2 a wrong spec, 1 it does not fit."""
    return max((finding.exit_code for finding in findings), default=0)


def _check_source(settings: Settings, path: Path) -> list[Finding]:
    try:
        spec = load_source(path)
    except SpecError as error:
        return [_error(path.stem, "", error)]
    findings = [finding for table in spec.tables for finding in _check_suite(settings, spec, table)]
    try:
        url = settings.connection(spec.connection)
        if spec.kind == "objects":
            hosts = settings.allowed_hosts
            store = open_store(url, source=spec.source, connection=spec.connection, allowed_hosts=hosts)
            with closing(store):
                store.check()
                for table in spec.tables:
                    findings += _check_objects(store, spec, table)
        else:
            with inspecting(spec, url, Lake(settings)) as database:
                schemas = {table.schema_name for table in spec.tables}
                catalog = database.introspection.catalog(database.session, schemas)
                for table in spec.tables:
                    found = catalog.table(table.schema_name, table.in_source)
                    findings += _check_table(database, spec, table, found)
    except PenstockError as error:
        findings.append(_error(spec.source, "", error))
    return findings


def _check_suite(settings: Settings, spec: SourceSpec, table: TableSpec) -> Iterator[Finding]:
    try:
        load_suite(settings.suites / "raw" / f"{spec.raw(table.name).name}.yml")
    except SpecError as error:
        yield _error(spec.source, table.name, error)


def _check_table(
    database: Inspection, spec: SourceSpec, table: TableSpec, found: CatalogTable | None
) -> Iterator[Finding]:
    def mismatch(problem: str, remedy: str) -> Finding:
        return _error(spec.source, table.name, SourceSchemaError(problem, remedy=remedy))

    def warning(problem: str, remedy: str) -> Finding:
        return Finding(spec.source, table.name, "warning", "", problem, remedy, 0)

    name = f"{table.schema_name}.{table.in_source}"
    if found is None:
        yield mismatch(
            f"The database has no table {name} that this role can see.",
            "correct schema and source_name, create the table, or grant USAGE on its schema",
        )
        return
    columns = {column.name: column for column in found.columns}
    if not found.readable:
        yield mismatch(f"This role may not SELECT from {name}.", f"GRANT SELECT ON {name}")
    for column in table.columns:
        actual = columns.get(column.in_source)
        if actual is None:
            yield mismatch(
                f"Column {column.in_source} is not in {name}, or this role may not read it.",
                "restore the column, grant SELECT on it, or take it out of the spec",
            )
            continue
        if database.dialect.expression(actual, column) is None:
            word = database.introspection.suggested_type(actual)
            yield mismatch(
                f"Column {column.in_source} is {actual.type}, declared {column.type}, which cannot hold every value.",
                f"declare it as {word}" if word else "cast it in a view",
            )
        if actual.nullable and not column.nullable and found.kind == "table":
            yield warning(
                f"Column {column.in_source} is declared 'nullable: false' and the database allows nulls.",
                "a rule of the suite should say what happens to them",
            )
    added = [each for each in columns if each not in {column.in_source for column in table.columns}]
    if added:
        listed = ", ".join(added)
        if table.on_drift.added == "reject":
            yield mismatch(f"The spec does not name {listed}, and 'on_drift' refuses that.", "add them to the spec")
        else:
            yield warning(f"Columns that the spec does not name are not read: {listed}.", "add them to the spec")
    yield from (warning(*pair) for pair in _key_and_index(table, found, set(columns)))


def _key_and_index(table: TableSpec, found: CatalogTable, columns: set[str]) -> Iterator[tuple[str, str]]:
    """What the database does not promise of the key, and does not find by the cursor."""
    key = {table.column(name).in_source for name in table.primary_key}
    unique = [set(found.primary_key), *(set(index.columns) for index in found.indexes if index.unique)]
    if key and key <= columns and not any(each and each <= key for each in unique):
        yield (
            f"The key ({', '.join(table.primary_key)}) is unique by no index of the database.",
            "make sure that the suite has a rule on its uniqueness",
        )
    if table.interval_column is not None:
        source_name = table.column(table.interval_column).in_source
        if source_name in columns and not found.leads_an_index(source_name):
            yield (
                f"No index begins with {source_name}, so every interval reads the whole table.",
                f"create an index on {source_name}",
            )


def _check_objects(store: ObjectStore, spec: SourceSpec, table: TableSpec) -> Iterator[Finding]:
    layout = table.objects
    if layout is None:
        return
    pattern = layout.key_pattern()
    newest: StoredObject | None = None
    for each in store.objects(layout.prefix):
        if pattern.fullmatch(each.key) and (newest is None or each.modified_at >= newest.modified_at):
            newest = each
    if newest is None:
        problem = f"No object of {store} matches {layout.path}."
        yield Finding(spec.source, table.name, "warning", "", problem, "correct 'path', or wait for the objects", 0)
        return
    if layout.format not in {"csv", "tsv"} or not layout.header or layout.compression == "zip":
        return
    body = unpacked(first_bytes(store, newest, SAMPLE_BYTES)).decode(layout.codec, errors="replace").encode()
    found = sniff_csv([(body, newest.size_bytes <= SAMPLE_BYTES)], delimiter=layout.separator)
    names = [] if isinstance(found, str) else found.names
    missing = [column.in_source for column in table.columns if column.in_source not in names]
    if missing:
        told = found if isinstance(found, str) else f"it has {', '.join(names)}"
        error = SourceSchemaError(
            f"The newest object, {newest.key}, has no column {', '.join(missing)} ({told[:200]}).",
            remedy="correct the object's header, or the columns and 'delimiter' in the spec",
        )
        yield _error(spec.source, table.name, error)


def _error(source: str, table: str, error: PenstockError) -> Finding:
    name = type(error).__name__
    return Finding(source, error.table or table, "error", name, error.problem, error.remedy or "", error.exit_code)
