"""Commands that save the state and bring it back: ``penstock backup`` and ``penstock restore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli_options import Json, RunByDefault, load_settings

if TYPE_CHECKING:
    from datetime import datetime

    from common.settings import Settings
    from lake.backup_place import BackupPlace

backup_app = typer.Typer(
    cls=RunByDefault,
    help="Save catalog, lake, quarantine, history and releases to object storage or a folder; read them back; keep the "
    "newest.",
)

Place = Annotated[str, typer.Option("--place", help="s3://bucket/prefix or a folder; PENSTOCK_BACKUP_URI by default.")]


def _place(uri: str) -> tuple[Settings, BackupPlace]:
    from lake.backup_place import open_place

    settings = load_settings()
    return settings, open_place(settings, uri)


@backup_app.command()
def run(
    place: Place = "",
    data: Annotated[
        bool | None,
        typer.Option(
            "--data/--no-data",
            help="Copy data files; by default of a local lake, and of one in object storage if PENSTOCK_BACKUP_DATA.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Copy every file anew, whatever earlier backups have.")] = False,
    as_json: Json = False,
) -> None:
    """Take a backup: what earlier ones have is not copied again; it counts when it is whole."""
    from penstock.backup import take
    from penstock.pipeline import Pipeline
    from penstock.show import progress_bars
    from penstock.show_backup import show_taken

    settings, where = _place(place)
    with progress_bars() as progress:
        taken = take(Pipeline(settings), where, with_data=data, full=full, progress=progress)
    show_taken(taken, where, as_json=as_json)


@backup_app.command("list")
def list_backups(place: Place = "", as_json: Json = False) -> None:
    """Which backups there are, oldest first."""
    from penstock.backup_keep import listed
    from penstock.show_backup import show_backups

    _, where = _place(place)
    show_backups(listed(where), where, as_json=as_json)


@backup_app.command()
def verify(
    backup: Annotated[str | None, typer.Argument(help="Id; the newest by default; 'all' for all of them.")] = None,
    place: Place = "",
    as_json: Json = False,
) -> None:
    """Read every byte of a backup back and compare checksums. Exit code 3 if something is damaged."""
    from penstock.backup_keep import verify as read_back
    from penstock.show import progress_bars
    from penstock.show_backup import show_verified

    _, where = _place(place)
    with progress_bars() as progress:
        found = read_back(where, backup, progress=progress)
    show_verified(found, as_json=as_json)
    found.raise_if_damaged(where)


@backup_app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=1, help="Backups that stay; PENSTOCK_KEEP_BACKUPS by default.")
    ] = None,
    place: Place = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Keep the newest backups; remove the others, and what none of those left needs."""
    from datetime import timedelta

    from penstock.backup_keep import prune as keep_newest
    from penstock.show import progress_bars
    from penstock.show_backup import show_pruned

    settings, where = _place(place)
    grace = timedelta(hours=settings.sweep_grace_h)
    with progress_bars() as progress:
        done = keep_newest(where, keep=keep or settings.keep_backups, grace=grace, dry_run=dry_run, progress=progress)
    show_pruned(done, as_json=as_json)


def restore(
    backup: Annotated[str | None, typer.Argument(help="Id of a backup; the newest, or the one --at needs.")] = None,
    place: Place = "",
    into: Annotated[
        Path | None, typer.Option("--into", help="State folder to restore into; PENSTOCK_HOME by default.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="The state as of then, ISO 8601; without a zone it is UTC.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="Only this raw or refined table, into the lake as a new snapshot.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Move a state that is in the way into <home>/before-restore.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a backup or one of its tables back, whole or not at all; without --yes only say what would be done."""
    from common.errors import UsageError
    from common.settings import Settings
    from penstock.restore import plan
    from penstock.restore import restore as bring_back
    from penstock.restore_plan import chosen_backup
    from penstock.show import progress_bars
    from penstock.show_backup import show_plan, show_restored

    settings, where = _place(place)
    moment = _moment(at) if at else None
    backup_id = chosen_backup(where, backup, moment)
    if table:
        if into or overwrite:
            raise UsageError(
                "One table is restored into the lake it belongs to.",
                table=table,
                remedy="leave out --into and --overwrite; or restore all of the backup into another folder",
            )
        _restore_table(settings, where, backup_id, table, moment, yes=yes, as_json=as_json)
        return
    target = Settings.load(home=into, connections=settings.connections) if into else settings
    if not yes:
        show_plan(plan(target, where, backup_id, at=moment), overwrite=overwrite, as_json=as_json)
        return
    with progress_bars() as progress:
        done = bring_back(target, where, backup_id, at=moment, overwrite=overwrite, progress=progress)
    show_restored(done, as_json=as_json)


def _restore_table(
    settings: Settings,
    where: BackupPlace,
    backup_id: str,
    table: str,
    at: datetime | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    from lake.paths import TableId
    from penstock.pipeline import Pipeline
    from penstock.restore_table import restore_table
    from penstock.restore_table_plan import plan_table
    from penstock.show import progress_bars
    from penstock.show_backup import show_restored_table, show_table_plan

    pipeline, named = Pipeline(settings), TableId.parse(table)
    if not yes:
        show_table_plan(plan_table(pipeline, where, backup_id, named, at=at), as_json=as_json)
        return
    with progress_bars() as progress:
        done = restore_table(pipeline, where, backup_id, named, at=at, progress=progress)
    show_restored_table(done, as_json=as_json)


def _moment(text: str) -> datetime:
    from warehouse.shelf import parse_time

    return parse_time(text)


COMMANDS = (restore,)
