"""Doors that follow the current release: what is told to object storage and to the BI database once the pointer moved.

The release is published by then. A door that fails does not take it back: it is reported, keeps what it showed before,
and is brought in step by the next publishing or by its own command. Each door refuses a publisher whose lease is older
than the one it was last changed under.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from common.errors import SettingsError, UnknownName
from common.settings import Settings
from lake.sql import identifier, literal
from penstock.embedded_postgres import scram_verifier
from penstock.psql import run_psql
from transformations.dbt_contracts import contracts, model_meta
from warehouse.bi import BiPublished, BiSchema
from warehouse.bi_roles import BiAccess
from warehouse.lease import Lease, identity, lease
from warehouse.releases import Release, Releases
from warehouse.stored import stored_releases

_LOG = logging.getLogger(__name__)
BI_CONNECTION = "bi"
"""Name of the connection that leads to the BI database; without one there is no such door."""
LEASE_WAIT_S = 60.0
"""How long to wait for a build before the pointer is moved back, or a door is brought in step."""


def bring_in_step(settings: Settings, release: Release, held: Lease) -> None:
    """Show the current release in every door there is.

    Args:
        settings: resolved settings.
        release: the current release.
        held: the lease under which the pointer was moved.

    Side effects: see :func:`publish_to_store` and :func:`publish_to_bi`. What fails is logged with its remedy.
    """
    doors: tuple[tuple[str, str, Callable[[], Any]], ...] = (
        ("store", "Object storage", lambda: publish_to_store(settings, release, held)),
        ("bi", "The BI database", lambda: publish_to_bi(settings, release, held)),
    )
    for command, name, publish in doors:
        try:
            publish()
        except Exception as error:  # noqa: BLE001 - told; the release is published, and what comes next must happen
            _LOG.warning(
                "%s does not show release %s, which is published: %s Then run 'penstock %s publish'.",
                name,
                release.id,
                error,
                command,
            )


def roll_back(settings: Settings, release_id: str | None = None, *, wait_s: float = LEASE_WAIT_S) -> Release:
    """Point back to an earlier release, the one before the current by default, and show it in every door.

    Args:
        settings: resolved settings.
        release_id: the release.
        wait_s: how long to wait for a build, in s.

    Raises:
        UnknownName: no such release, or none before the current one.
        LeaseHeld: a build is at work.
        CommitConflict: the lease was lost.
    """
    with lease(settings.warehouse, wait_s=wait_s) as held:
        release = Releases(settings.warehouse, held).rollback(release_id)
        bring_in_step(settings, release, held)
        return release


def publish_to_store(settings: Settings, release: Release, held: Lease) -> bool:
    """Put the release into object storage and make it current there. Returns False where the settings name none.

    Raises:
        SettingsError, CommitConflict, StateCorrupt, StoreUnavailable: see :meth:`StoredReleases.publish`.
    """
    stored = stored_releases(settings)
    if stored is None:
        return False
    stored.publish(release, fence=held.fence, keep=settings.keep_releases)
    return True


def publish_to_bi(settings: Settings, release: Release, held: Lease, *, take_over: bool = False) -> BiPublished | None:
    """Have the BI database show the release; None where the settings name none.

    Raises:
        PenstockError: see :meth:`BiSchema.publish`.
    """
    schema = bi_schema(settings)
    if schema is None:
        return None
    done = schema.publish(release, fence=held.fence, take_over=take_over)
    for notice in done.notices:
        _LOG.warning("%s", notice)
    return done


def bi_schema(settings: Settings) -> BiSchema | None:
    """The schema of the BI database; None where there is no connection of that name.

    Raises:
        SpecError: the policy file is not valid.
        UnknownName: a role that is to have a schema is not in the policy.

    Side effects: the key of masks is made in the state folder, if there is a policy and no key.
    """
    try:
        url = settings.connection(BI_CONNECTION)
    except SettingsError:
        return None
    return BiSchema(
        partial(run_psql, url.get_secret_value(), timeout_s=settings.statement_timeout_s),
        schema=settings.bi_schema,
        readers=settings.bi_readers,
        warehouse=identity(settings.warehouse),
        access=_bi_access(settings),
    )


def _bi_access(settings: Settings) -> BiAccess | None:
    """Roles of the policy that have a schema of the BI database; None where there is no policy."""
    from warehouse.serve.policy import load_policy, mask_salt

    if not settings.bi_roles or not settings.policy.is_file():
        return None
    policy = load_policy(settings.policy)
    roles = tuple(policy.roles) if settings.bi_roles == ("*",) else settings.bi_roles
    for role in roles:
        if role not in policy.roles:
            raise UnknownName(
                f"PENSTOCK_BI_ROLES names {role!r}, which is no role of the policy.",
                remedy=f"name some of {', '.join(policy.roles) or 'none yet'}, or *",
            )
    return BiAccess(policy, mask_salt(settings.home / "serve"), roles)


def bi_login(settings: Settings, role: str, *, revoke: bool = False) -> str:
    """Let people log in to the BI database as a role of the policy, or no longer.

    Args:
        settings: resolved settings.
        role: a role of the policy that has a schema there.
        revoke: take the login back.

    Returns:
        URL with a new password, which is kept nowhere; empty after a revocation.

    Raises:
        SettingsError: there is no BI database.
        UnknownName: the role has no schema there.
        SourceRefused, SourceUnavailable: the database does not let us, or does not answer.

    Side effects: a password that was made before counts no longer.
    """
    url = settings.connection(BI_CONNECTION).get_secret_value()
    access = _bi_access(settings)
    if access is None or role not in access.roles:
        raise UnknownName(
            f"The role {role!r} has no schema of the BI database.",
            remedy="name one of the policy that PENSTOCK_BI_ROLES lets in",
        )
    name = f"{settings.bi_schema}_{role}"
    quoted, password = identifier(name), secrets.token_urlsafe(24)
    if revoke:
        run_psql(url, [f"ALTER ROLE {quoted} NOLOGIN PASSWORD NULL;\n".encode()])
        return ""
    script = (
        f"ALTER ROLE {quoted} LOGIN CONNECTION LIMIT 40 PASSWORD {literal(scram_verifier(password))};\n"
        f"ALTER ROLE {quoted} SET default_transaction_read_only = on;\n"
        f"ALTER ROLE {quoted} SET search_path = {quoted};\n"
        "DO $penstock$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), "
        f"{literal(name)}); EXCEPTION WHEN insufficient_privilege THEN NULL; END $penstock$;\n"
    )
    run_psql(url, [script.encode()])
    place = urlsplit(url)
    host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname
    options = f"?{place.query}" if place.query else ""
    return f"postgresql://{quote(name, safe='')}:{password}@{host}:{place.port or 5432}{place.path}{options}"


def current_release(settings: Settings) -> Release:
    """The current release of the warehouse folder, which is what doors are to show.

    Raises:
        UnknownName: nothing has been published yet.
    """
    current = Releases(settings.warehouse).current()
    if current is None:
        raise UnknownName("Nothing has been published yet.", remedy="run 'penstock run' or 'make demo'")
    return current


def marked_for_bi() -> Mapping[str, Any]:
    """The models that go to the BI database and their keys, for a release's manifest.

    All marts do, unless their YAML says ``config: {meta: {bi: false}}``. The first column that is both unique and not
    null is the primary key, unless ``bi: {primary_key: [...]}`` names another; ``bi: {indexes: [[...], ...]}`` adds
    indexes, and ``bi: {partition_by: column}`` has only the months of a date written that changed.

    Raises:
        SpecError: a model's YAML is none, or says something else there.
    """
    said, marked = model_meta(), {}
    for name, contract in contracts().items():
        own = said[name].bi
        if own is not None:
            key = [column.name for column in contract.columns if column.unique and column.not_null][:1]
            marked[name] = {
                "primary_key": own.get("primary_key", key),
                "indexes": own.get("indexes", []),
                "partition_by": own.get("partition_by"),
            }
    return marked
