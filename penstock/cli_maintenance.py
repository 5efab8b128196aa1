"""Commands that keep the state in order: ``penstock maintain`` and ``penstock doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli_options import Json, load_settings

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

maintain_app = typer.Typer(
    help="Give back what nobody needs: old releases and snapshots, small files, files that nothing names.",
    no_args_is_help=True,
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")]


def _pipeline() -> Pipeline:
    from penstock.pipeline import Pipeline

    return Pipeline(load_settings())


@maintain_app.command()
def sweep(
    dry_run: DryRun = False,
    grace: Annotated[
        float | None,
        typer.Option(min=0, help="Hours that files stay; PENSTOCK_SWEEP_GRACE_H by default. 0: nobody uses the lake."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete files of the lake that nothing names: noted by one sweep, deleted by one a grace later."""
    from penstock.maintenance import sweep_lake
    from penstock.show import progress_bars
    from penstock.show_maintenance import show_sweep

    with progress_bars() as progress:
        done = sweep_lake(_pipeline(), grace_h=grace, dry_run=dry_run, progress=progress)
    show_sweep(done, as_json=as_json)


@maintain_app.command()
def expire(
    keep: Annotated[int, typer.Option(min=1, help="Snapshots of each table that stay.")] = 10,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take old snapshots out of every table, but none that a kept release names."""
    from penstock.maintenance import expire as expire_all
    from penstock.show import progress_bars
    from penstock.show_maintenance import show_expired

    with progress_bars() as progress:
        done = expire_all(_pipeline(), keep=keep, dry_run=dry_run, progress=progress)
    show_expired(done, dry_run=dry_run, as_json=as_json)


@maintain_app.command()
def retain(
    keep: Annotated[
        int | None, typer.Option(min=1, help="Releases that stay; PENSTOCK_KEEP_RELEASES by default.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove the oldest releases, and what killed builds and extracts have left in the state folder."""
    from penstock.maintenance import retain as retain_all
    from penstock.show_maintenance import show_retained

    show_retained(retain_all(_pipeline(), keep=keep, dry_run=dry_run), as_json=as_json)


@maintain_app.command()
def compact(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Merge small files of the histories, and drop files of quarantine whose rows count for nothing."""
    from penstock.maintenance import compact_tables
    from penstock.show import progress_bars
    from penstock.show_maintenance import show_compacted

    with progress_bars() as progress:
        done = compact_tables(_pipeline(), dry_run=dry_run, progress=progress)
    show_compacted(done, dry_run=dry_run, as_json=as_json)


@maintain_app.command("all")
def everything(dry_run: DryRun = False, as_json: Json = False) -> None:
    """All of it: retain, compact, expire, sweep. Exit code 3 if a step failed; the others are done."""
    from penstock.maintenance import maintain
    from penstock.show import progress_bars
    from penstock.show_maintenance import show_maintenance

    with progress_bars() as progress:
        done = maintain(_pipeline(), dry_run=dry_run, progress=progress)
    show_maintenance(done, as_json=as_json)
    raise typer.Exit(3 if done.errors else 0)


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also read every row, and compare checksums.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Say what a repair would do; do it with --yes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: only say it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --repair: do it.")] = False,
    as_json: Json = False,
) -> None:
    """Find what is damaged or left over, what it means and what mends it. Exit code 1 if something is damaged."""
    from common.errors import UsageError
    from penstock.doctor import examine
    from penstock.doctor import repair as do_repairs
    from penstock.show import progress_bars
    from penstock.show_maintenance import show_findings

    if ((dry_run or yes) and not repair) or (dry_run and yes):
        raise UsageError("--dry-run or --yes goes with --repair.", remedy="write --repair --dry-run, or --repair --yes")
    pipeline = _pipeline()
    with progress_bars() as progress:
        findings = examine(pipeline, deep=deep, progress=progress)
    outcomes = do_repairs(findings) if yes else []
    show_findings(findings, outcomes, would=repair and not yes, as_json=as_json)
    left = examine(_pipeline(), deep=deep) if outcomes else findings
    raise typer.Exit(1 if any(each.severity == "damage" for each in left) else 0)


COMMANDS = (doctor,)
