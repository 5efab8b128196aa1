"""What the doctor looks at in the lake: metadata, data files, receipts, orphans, intervals that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from itertools import groupby

from common.errors import PenstockError, StateCorrupt, StoreUnavailable
from ingestion.extract_record import left_records
from lake.batches import Receipt
from lake.catalog import LiveFile, find_table, live_files
from lake.deletes import NEVER_THE_SAME
from lake.evolution import stored_columns
from lake.inventory import Inventory, named_by, take_inventory
from lake.lake import Lake, checksum_of
from lake.paths import WHOLE, TableId, attempt_of, engine_path
from lake.sql import parquet_relation
from lake.sweep import Progress
from penstock.doctor import Finding
from penstock.interval_state import interval_states
from penstock.ledger import raw_tables
from penstock.maintenance import all_tables
from penstock.pipeline import Pipeline
from penstock.status import lake_tables


def lake_findings(pipeline: Pipeline, *, deep: bool, progress: Progress) -> Iterator[Finding]:
    """Damage of tables, then what lies about."""
    lake = pipeline.lake
    inventory = take_inventory(lake, keep_files=[attempt for _, attempt in left_records(pipeline.settings.home)])
    tables = all_tables(pipeline)
    declared = set(lake_tables(pipeline))
    for number, table in enumerate(tables, start=1):
        yield from _table(pipeline, table, inventory, is_declared=table in declared, deep=deep)
        progress("doctor", number, len(tables), str(table))
    orphans = [file for files in inventory.orphans.values() for file in files]
    if orphans:
        size_bytes = sum(file.size_bytes for file in orphans)
        yield Finding(
            "orphans",
            "notice",
            f"{len(orphans)} files with {size_bytes} bytes, of {', '.join(sorted(inventory.orphans))}",
            "Nothing names them: killed work, replaced batches, expired snapshots left them; no reader sees them",
            "penstock maintain sweep",
        )
    if inventory.unclaimed:
        yield Finding(
            "unclaimed_files",
            "notice" if tables else "damage",
            f"{len(inventory.unclaimed)} files, such as {inventory.unclaimed[0].location}",
            "No table of the catalog owns them"
            + ("" if tables else ", and the catalog has no table at all: it may be lost, or another one is configured"),
            "put the right catalog back (PENSTOCK_CATALOG_URI), or remove the files by hand if nobody needs them",
        )


def _table(
    pipeline: Pipeline, table: TableId, inventory: Inventory, *, is_declared: bool, deep: bool
) -> Iterator[Finding]:
    lake = pipeline.lake
    try:
        loaded = find_table(lake.catalog, table)
        if loaded is None:
            return
        named_by(loaded)
        live = sorted(live_files(loaded), key=lambda file: (file.key, file.location))
    except (StateCorrupt, StoreUnavailable, OSError) as error:
        yield Finding(
            "metadata_damaged",
            "damage",
            str(table),
            f"Iceberg's metadata cannot be read, so no row of the table can: {error}",
            "put the missing file back from a copy of the lake",
        )
        return
    for key, several in groupby(live, key=lambda file: file.key):
        files = list(several)
        problems = [
            problem for file in files if (problem := _problem_of(lake, table, file, inventory.sizes, deep=deep))
        ]
        receipt = _receipt(lake, table, key, files) if is_declared else None
        if not problems and deep and receipt is not None and len(loaded.metadata.schemas) == 1:
            problems = _unlike_receipt(lake, table, files, receipt)
        if problems:
            yield _damaged(pipeline, table, key, problems, receipt)
        elif is_declared and receipt is None:
            yield Finding(
                "receipt_lost",
                "damage",
                f"{table} {key}",
                "Its rows are there and their account is not: what was judged, quarantined and dropped is unknown",
                _command(pipeline, table, key),
            )


def _problem_of(lake: Lake, table: TableId, file: LiveFile, sizes: Mapping[str, int], *, deep: bool) -> str:
    """What is wrong with a live file; empty if nothing is."""
    expected = int(file.data_file.file_size_in_bytes)
    size_bytes = sizes.get(file.location)
    if size_bytes is None:
        size_bytes = lake.storage.size(file.location)  # committed since the lake was listed
    if size_bytes is None:
        return f"{file.location} is missing"
    if size_bytes != expected:
        return f"{file.location} has {size_bytes} bytes, not {expected}"
    if deep and file.rows:
        try:
            rows = int(_checksum(lake, table, [file]).split(":")[0])
        except PenstockError as error:
            return f"{file.location} cannot be read ({error.problem[:120]})"
        if rows != file.rows:
            return f"{file.location} has {rows} rows, not {file.rows}"
    return ""


def _checksum(lake: Lake, table: TableId, files: Sequence[LiveFile]) -> str:
    """Checksum of files' rows, every value read, with the columns of the table's current schema."""
    import duckdb

    loaded = lake.load(table)
    paths = [engine_path(file.location) for file in files if file.rows]
    try:
        with lake.connect() as connection:
            columns, field_ids = stored_columns(loaded.schema(), ())
            return checksum_of(connection, parquet_relation(paths, columns, field_ids))
    except duckdb.Error as error:
        raise StateCorrupt(str(error), remedy="run its interval again") from None


def _unlike_receipt(lake: Lake, table: TableId, files: Sequence[LiveFile], receipt: Receipt) -> list[str]:
    """Rows that are not those that were published, where the receipt has the checksum of exactly these rows."""
    untouched = not (receipt.quarantined or receipt.carried or receipt.replayed or receipt.staged_id)
    if not untouched or not receipt.checksum:
        return []
    found = _checksum(lake, table, files)
    return [] if found == receipt.checksum else [f"its rows have checksum {found}, published were {receipt.checksum}"]


def _receipt(lake: Lake, table: TableId, key: str, files: Sequence[LiveFile]) -> Receipt | None:
    attempts = [attempt for file in files if (attempt := attempt_of(file.location))]
    try:
        return lake.read_receipt(table, key, attempts[-1]) if attempts else None
    except StateCorrupt:
        return None


# -- what mends it -----------------------------------------------------------------------------------------------------


def _damaged(pipeline: Pipeline, table: TableId, key: str, problems: Sequence[str], receipt: Receipt | None) -> Finding:
    where, told = f"{table} {key}", "; ".join(problems)
    of = table
    if table.namespace == "quarantine":
        of = TableId(*table.name.split("__", 1))
        attempt = pipeline.lake.live_attempts(of, key).get(key) if of in lake_tables(pipeline) else None
        if attempt is None or not any(attempt in problem for problem in problems):
            return Finding(
                "data_damaged",
                "notice",
                where,
                f"Rows of a batch that is no longer live, which count for nothing: {told}",
                "penstock maintain compact",
            )
        receipt = pipeline.lake.find_receipt(of, key, attempt)
    if of not in lake_tables(pipeline) or _merges(pipeline, of):
        return Finding(
            "data_damaged",
            "damage",
            where,
            f"Rows that were published cannot be read: {told}. They are not only the source's of today",
            "put the file back from a copy of the lake",
        )
    meaning = f"Rows that were published cannot be read: {told}"
    command = _command(pipeline, of, key)
    if receipt is None or receipt.staged_id == NEVER_THE_SAME:
        return Finding("data_damaged", "damage", where, meaning, command)
    return Finding(
        "data_damaged",
        "damage",
        where,
        meaning,
        f"penstock doctor --repair --yes, then {command}",
        "have the next run of the interval do its work again; until then it stays as it is",
        partial(_forget, pipeline.lake, of, receipt),
    )


def _forget(lake: Lake, table: TableId, receipt: Receipt) -> None:
    """Write the receipt so that nobody takes the interval's work for done: the rows and their account stay."""
    lake.write_receipt(table, replace(receipt.came_anew(NEVER_THE_SAME), code="", source_state={}))


def _merges(pipeline: Pipeline, table: TableId) -> bool:
    """Whether a batch of the table is merged with live rows, which then must be readable."""
    for spec in pipeline.sources().values():
        for each in spec.tables:
            if spec.raw(each.name) == table:
                return each.merge_rule() is not None
    return False


def _command(pipeline: Pipeline, table: TableId, key: str) -> str:
    day = key if key != WHOLE else (pipeline.clock() - timedelta(days=1)).date().isoformat()
    if table.namespace == "refined":
        return f"penstock refine --day {day} --table {table.name}"
    source, _, name = table.name.partition("__")
    return f"penstock ingest {source} --day {day} --table {name}"


# -- holes -------------------------------------------------------------------------------------------------------------


def hole_findings(pipeline: Pipeline) -> Iterator[Finding]:
    """Intervals of raw tables that should be there and are not, in spans of neighbouring days."""
    try:
        begun = [table for table in raw_tables(pipeline) if pipeline.lake.snapshot_id(table) is not None]
        states = interval_states(pipeline, map(str, begun)) if begun else []
    except (StateCorrupt, StoreUnavailable, OSError):
        return  # a receipt or a table is lost: told above, and until it is mended nobody knows
    for table in states:
        for first, last, days, reason in table.spans("missing", "failed"):
            yield Finding(
                "hole",
                "notice",
                f"{table.table} {first}" + (f" to {last}, {days} days" if days > 1 else ""),
                f"Rows are not there that should be: {reason}",
                _command(pipeline, TableId.parse(table.table), WHOLE)
                if first == WHOLE
                else f"penstock backfill run {table.table} --from {first} --to {_day_after(last)}",
            )


def _day_after(key: str) -> str:
    return (date.fromisoformat(key) + timedelta(days=1)).isoformat()
