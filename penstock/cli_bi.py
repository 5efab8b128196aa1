"""Commands about doors that follow the current release: the BI database, and object storage."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json

if TYPE_CHECKING:
    from common.errors import SettingsError

bi_app = typer.Typer(no_args_is_help=True, help="The curated tables in a PostgreSQL, for BI tools.")
store_app = typer.Typer(no_args_is_help=True, help="Releases in object storage, for readers elsewhere.")


@bi_app.command("publish")
def bi_publish(
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also replace what another warehouse, or one begun anew, has put there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have the BI database show the current release. Every publish does it; this is for when that failed."""
    from penstock.doors import LEASE_WAIT_S, current_release, publish_to_bi
    from penstock.show import say
    from warehouse.lease import lease

    settings = load_settings()
    with lease(settings.warehouse, wait_s=LEASE_WAIT_S) as held:
        done = publish_to_bi(settings, current_release(settings), held, take_over=take_over)
    if done is None:
        raise _no_bi()
    if as_json:
        print_json(
            {
                "release": done.release,
                "schema": settings.bi_schema,
                "written": done.written,
                "updated": done.updated,
                "carried": done.carried,
                "rows_sent": done.rows_sent,
                "bytes_sent": done.bytes_sent,
                "notices": done.notices,
            }
        )
    else:
        say(
            f"Schema {settings.bi_schema} shows release {done.release}: {len(done.written)} tables written, "
            f"{len(done.updated)} updated by partition, {len(done.carried)} as they were; {done.rows_sent:,} rows sent."
        )


@bi_app.command("status")
def bi_status(as_json: Json = False) -> None:
    """Which release the BI database shows, and whether it is the current one. Exit code 1 if it is not."""
    from penstock.doors import bi_schema, current_release
    from penstock.show import say

    settings = load_settings()
    schema = bi_schema(settings)
    if schema is None:
        raise _no_bi()
    current, live = current_release(settings), schema.live()
    shown = live.release if live else None
    if as_json:
        tables = sorted(live.signatures) if live else []
        print_json({"schema": settings.bi_schema, "release": shown, "current": current.id, "tables": tables})
    elif shown == current.id:
        say(f"Schema {settings.bi_schema} shows release {shown}, the current one.")
    else:
        say(f"Schema {settings.bi_schema} shows {shown or 'nothing yet'}; {current.id} is current: penstock bi publish")
    raise typer.Exit(0 if shown == current.id else 1)


@bi_app.command("login")
def bi_login(
    role: Annotated[str, typer.Argument(help="A role of the policy.")],
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the login back.")] = False,
    as_json: Json = False,
) -> None:
    """Let people log in to the BI database as a role of the policy; print the URL, with a new password kept nowhere."""
    from penstock import doors
    from penstock.show import say

    settings = load_settings()
    if doors.bi_schema(settings) is None:
        raise _no_bi()
    url = doors.bi_login(settings, role, revoke=revoke)
    if as_json:
        print_json({"role": f"{settings.bi_schema}_{role}", "url": url or None})
    elif revoke:
        say(f"Nobody logs in as {settings.bi_schema}_{role} any more.")
    else:
        sys.stdout.write(url + "\n")


@store_app.command("publish")
def store_publish(as_json: Json = False) -> None:
    """Put the current release into object storage. Every publish does it; this is for when that failed."""
    from penstock.doors import LEASE_WAIT_S, current_release, publish_to_store
    from penstock.show import say
    from warehouse.lease import lease

    settings = load_settings()
    with lease(settings.warehouse, wait_s=LEASE_WAIT_S) as held:
        current = current_release(settings)
        if not publish_to_store(settings, current, held):
            raise _no_store()
    if as_json:
        print_json({"release": current.id, "releases_uri": settings.releases_uri})
    else:
        say(f"Release {current.id} is current in {settings.releases_uri}.")


@store_app.command("status")
def store_status(as_json: Json = False) -> None:
    """Which release readers of object storage get, and whether it is the current one. Exit code 1 if it is not."""
    from penstock.doors import current_release
    from penstock.show import say
    from warehouse.stored import stored_releases

    settings = load_settings()
    stored = stored_releases(settings)
    if stored is None:
        raise _no_store()
    current, shown = current_release(settings), stored.current_id()
    kept = [release.id for release in stored.all()]
    if as_json:
        print_json({"releases_uri": settings.releases_uri, "release": shown, "current": current.id, "kept": kept})
    elif shown == current.id:
        say(f"{settings.releases_uri} shows release {shown}, the current one; {len(kept)} are kept there.")
    else:
        say(f"{settings.releases_uri} shows {shown or 'nothing yet'}; {current.id} is current: penstock store publish")
    raise typer.Exit(0 if shown == current.id else 1)


def _no_bi() -> SettingsError:
    from common.errors import SettingsError

    return SettingsError(
        "There is no BI database: no connection is named 'bi'.",
        remedy="set PENSTOCK_CONNECTIONS__BI=postgresql://..., or start the embedded one with 'make up'",
    )


def _no_store() -> SettingsError:
    from common.errors import SettingsError

    return SettingsError(
        "Releases go to no object storage.",
        remedy="set PENSTOCK_RELEASES_URI=s3://bucket/prefix and the connection 'releases'",
    )
