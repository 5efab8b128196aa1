"""``penstock init``: a live source -> a complete spec and starting suites, asking nothing that can be found out.

::

    connection -> catalog (or listing and sampled objects) -> draft -> spec and suites, read back by their own models
                                                                    -> files that were not there, or --print

Only estimates and a small sample are read, never a whole table. The connection's URL is used and forgotten: the spec
holds its name.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from common.errors import EmptyBatch, SettingsError, SpecError, UsageError, located
from common.intervals import zone
from common.settings import Settings
from ingestion.databases.catalog import Catalog, CatalogTable
from ingestion.databases.inspection import DATABASE_KINDS, Inspection, inspecting, unwritten_source
from ingestion.spec.words import Name
from lake.lake import Lake
from lake.paths import TableId
from penstock.init_draft import DraftSource, DraftTable
from penstock.init_files import files_of, refuse_existing, write_files
from penstock.init_personal import SAMPLE_ROWS
from penstock.init_tables import SNAPSHOT_ROWS, chosen_tables, draft_table, table_names

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class InitRequest:
    """What the caller wants.

    Attributes:
        source: name of the source, and of its file.
        url: its connection; None to take a configured one.
        connection: name of the connection; the source's by default.
        tables, exclude: names, as ``table`` or ``schema.table``; no tables means all.
        schemas: only these; none means all.
        prefix: of a bucket, only keys that begin so.
        owner, time_zone: where they are known better than they can be found out.
        sample: whether values may be looked at, to see which columns look personal.
        snapshot_rows: estimated rows below which a table is read whole.
        force: whether files may be written over.
        dry_run: whether nothing is written.
    """

    source: str
    url: SecretStr | None = None
    connection: str | None = None
    tables: Sequence[str] = ()
    exclude: Sequence[str] = ()
    schemas: Sequence[str] = ()
    prefix: str = ""
    owner: str | None = None
    time_zone: str | None = None
    sample: bool = True
    snapshot_rows: int = SNAPSHOT_ROWS
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class InitReport:
    """What was suggested, and what became of it.

    Attributes:
        draft: the suggestion.
        files: text by path.
        written, kept: files written, and those that were there and stay.
        changes: unified diff of files that were written over.
    """

    draft: DraftSource
    files: dict[Path, str]
    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    changes: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "source": self.draft.source,
            "kind": self.draft.kind,
            "connection": self.draft.connection,
            "tables": [summary_of(table) for table in self.draft.tables],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.draft.left_out],
            "written": list(map(str, self.written)),
            "kept": list(map(str, self.kept)),
        }


def summary_of(table: DraftTable) -> dict[str, Any]:
    """One line about a table."""
    return {
        "table": table.name,
        "rows_estimated": table.rows_estimated,
        "columns": len(table.kept),
        "left_out": len(table.columns) - len(table.kept),
        "key": ", ".join(table.primary_key),
        "mode": table.mode,
        "by": str((table.cursor or table.window or {}).get("column", "")),
        "personal": ", ".join(column.name for column in table.personal),
        "reason": table.reason,
    }


def init(settings: Settings, request: InitRequest, *, progress: Progress) -> InitReport:
    """Describe a live source.

    Args:
        settings: where specs and suites go, and the configured connections.
        request: what is wanted.
        progress: told of every table.

    Raises:
        UsageError: a name is no name, a file is there already, nothing says who owns it.
        SettingsError: no such connection, or its URL is none.
        SourceRefused, SourceUnavailable: the source does not let us in, or does not answer.
        EmptyBatch: the source has nothing to describe.

    Side effects: files are written, unless ``dry_run``.
    """
    source, connection = request.source, request.connection or request.source
    with located(source=source):
        _check_name("source", source)
        _check_name("connection", connection)
        spec_path = settings.sources / f"{source}.yml"
        if not (request.force or request.dry_run):
            refuse_existing(spec_path, source)
        url = request.url if request.url is not None else settings.connection(connection)
        kind = _kind(url)
        if kind == "objects":
            from penstock.init_objects import draft_objects

            draft = draft_objects(request, connection, url, owner=_owner(request, ""), progress=progress)
        else:
            draft = _draft_database(settings, request, kind, connection, url, progress)
        files = files_of(draft, settings.sources, settings.suites)
        if request.dry_run:
            return InitReport(draft, files)
        return InitReport(draft, files, *write_files(files, force=request.force))


def _draft_database(
    settings: Settings, request: InitRequest, kind: str, connection: str, url: SecretStr, progress: Progress
) -> DraftSource:
    spec = unwritten_source(request.source, kind=kind, connection=connection)
    stage = f"init {request.source}"
    progress(stage, 0, 1, "connecting")
    with inspecting(spec, url, Lake(settings)) as database:
        catalog = database.introspection.catalog(database.session, request.schemas or None)
        chosen, left_out = chosen_tables(catalog, request.tables, request.exclude)
        names = table_names(chosen)
        tables: list[DraftTable] = []
        for done, (table, name) in enumerate(zip(chosen, names, strict=True), start=1):
            draft = _draft_table(database, catalog, table, name, request)
            if draft is None:
                left_out.append((f"{table.schema}.{table.name}", "no column of it fits a type word"))
            else:
                TableId("raw", f"{request.source}__{name}")
                tables.append(draft)
            progress(stage, done, len(chosen), name)
    if not tables:
        where = f" in schema {', '.join(request.schemas)}" if request.schemas else ""
        raise EmptyBatch(
            f"Database {catalog.database} has no table{where} that this role may read"
            + (f" (left out: {', '.join(f'{name}: {why}' for name, why in left_out)[:300]})." if left_out else "."),
            remedy="create the tables, grant USAGE on their schema and SELECT on them, or choose another --schema",
        )
    zone_name, zone_remark = _time_zone(request, catalog)
    return DraftSource(
        request.source,
        kind,
        connection,
        zone_name,
        _owner(request, catalog.owner),
        f"Database {catalog.database}, {catalog.server}.",
        tuple(tables),
        remarks={"time_zone": zone_remark, "owner": _owner_remark(request, catalog.owner)},
        left_out=tuple(left_out),
    )


def _draft_table(
    database: Inspection, catalog: Catalog, table: CatalogTable, name: str, request: InitRequest
) -> DraftTable | None:
    def sample(table: CatalogTable, columns: Sequence[str]) -> list[tuple[str | None, ...]]:
        return database.introspection.sample(database.session, table, columns, SAMPLE_ROWS)

    return draft_table(
        table,
        name,
        catalog=catalog,
        introspection=database.introspection,
        sample=sample if request.sample else None,
        snapshot_rows=request.snapshot_rows,
    )


def _check_name(what: str, name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UsageError(
            f"The {what}'s name {name!r} is no name.",
            remedy="use lower-case letters, digits and underscores, starting with a letter: penstock init shop",
        ) from None


def _kind(url: SecretStr) -> str:
    """The kind of source that a URL leads to."""
    with suppress(ValueError):
        scheme = urlsplit(url.get_secret_value()).scheme
        if scheme in DATABASE_KINDS:
            return DATABASE_KINDS[scheme]
        if scheme in {"s3", "file"}:
            return "objects"
    raise SettingsError(
        "The connection's URL is none of a source that Penstock knows.",
        remedy=f"begin it with {', '.join(f'{scheme}://' for scheme in DATABASE_KINDS)} or s3://",
    )


def _time_zone(request: InitRequest, catalog: Catalog) -> tuple[str, str]:
    if request.time_zone:
        return zone(request.time_zone).key, ""
    if catalog.time_zone:
        return catalog.time_zone, "the database's own setting"
    return "UTC", "a guess: the zone whose midnight parts the days of your business, and of times without a zone"


def _owner(request: InitRequest, database_owner: str) -> str:
    owner = request.owner or _git_email() or database_owner
    if not owner:
        raise SpecError("Nothing says who answers for this source.", remedy="say so with --owner you@example.org")
    return owner


def _owner_remark(request: InitRequest, database_owner: str) -> str:
    if request.owner:
        return ""
    return "from git's user.email" if _git_email() else f"the role that owns the database, {database_owner}"


def _git_email() -> str:
    """The address this user signs commits with; empty if there is none."""
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(["git", "config", "user.email"], capture_output=True, text=True, timeout=5, check=False)
        return answer.stdout.strip()
    return ""
