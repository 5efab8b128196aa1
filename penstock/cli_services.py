"""Commands that start and stop what Penstock brings along: services, the demo, a local Airflow."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli_options import load_settings


def demo(
    days: Annotated[int, typer.Option(min=1, max=31, help="Days of January 2013 that Airflow back-fills.")] = 31,
) -> None:
    """Start everything from nothing, let a real Airflow run January 2013, show the result, stop everything."""
    from penstock.demo import run_demo

    raise typer.Exit(run_demo(load_settings(), days=days))


def up() -> None:
    """Start the embedded PostgreSQL and S3 with the demo data, and Airflow; they stay up until 'penstock down'."""
    from penstock.demo import bring_up

    bring_up(load_settings())


def down() -> None:
    """Stop what 'penstock up' started. Data stays."""
    from penstock.demo import bring_down

    bring_down(load_settings())


def clean() -> None:
    """Stop everything and remove the state folder with all its data: lake, warehouse, services."""
    from penstock.demo import remove_all

    remove_all(load_settings())


def services(
    seed: Annotated[bool, typer.Option(help="Fill them with the demo data, if they are empty.")] = True,
) -> None:
    """Start only the embedded PostgreSQL and S3; they stay up until 'penstock down'."""
    from penstock.demo import start_services

    start_services(load_settings(), seed=seed)


COMMANDS = (demo, up, down, clean, services)
