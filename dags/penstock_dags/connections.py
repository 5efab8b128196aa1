"""Airflow connection -> the connection URL that Penstock's settings understand.

A team that keeps its credentials in Airflow (or in a secrets backend behind it) defines a connection whose id is the
connection name in the source's spec; it then wins over every other place. Without one, ``common/settings.py`` resolves
the name by itself. Passwords go from Airflow's encrypted store into a ``SecretStr`` and nowhere else.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlencode

from common.errors import SettingsError


class AirflowConnection(Protocol):
    """The part of ``airflow.sdk.Connection`` that is read here."""

    conn_id: str
    conn_type: str | None
    host: str | None
    schema: str | None
    login: str | None
    password: str | None
    port: int | None

    @property
    def extra_dejson(self) -> dict[str, object]:
        """The extra field as a mapping."""


def airflow_connections(names: set[str]) -> dict[str, str]:
    """URLs of those connections that Airflow knows, by name. Works inside a running task only.

    Raises:
        SettingsError: a connection of a type that is no source.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    found: dict[str, str] = {}
    for name in sorted(names):
        try:
            found[name] = connection_url(Connection.get(name))
        except AirflowNotFoundException:
            continue
    return found


async def airflow_connections_in_trigger(names: set[str]) -> dict[str, str]:
    """The same for a trigger, in whose process nothing may block.

    Raises:
        SettingsError: a connection of a type that is no source.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    found: dict[str, str] = {}
    for name in sorted(names):
        try:
            found[name] = connection_url(await Connection.async_get(name))
        except AirflowNotFoundException:
            continue
    return found


def airflow_address() -> str | None:
    """URL of this Airflow's REST API with login and password, from the connection ``airflow``; None if there is none.

    Works inside a running task only.

    Raises:
        SettingsError: a field is missing.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        known: AirflowConnection = Connection.get("airflow")
    except AirflowNotFoundException:
        return None
    host = known.host or _missing(known, "host")
    scheme = known.schema or "http"
    login, password = quote(known.login or _missing(known, "login"), safe=""), quote(known.password or "", safe="")
    return f"{scheme}://{login}:{password}@{host}" + (f":{known.port}" if known.port else "")


def connection_url(connection: AirflowConnection) -> str:
    """One Airflow connection as a URL: ``postgresql:..``, ``mysql:..``, ``s3://KEY:SECRET@bucket?..``, ``file:///..``.

    A database is of type ``postgres`` or ``mysql`` with the database in the schema field; the TLS options of a MySQL
    (``ssl_mode``, ``ssl_ca``, ...) may stand in the extra field. A bucket is of type ``aws`` (or ``s3``) with the
    bucket in the schema field and ``endpoint_url`` and ``region_name`` in the extra field. A folder is of type ``fs``
    with its absolute ``path`` in the extra field. A queue is of type ``nats``; ``{"tls": true}`` may stand in the extra
    field.

    Raises:
        SettingsError: another type, or a field that is missing.
    """
    kind = (connection.conn_type or "").lower().replace("-", "_")
    login, password = quote(connection.login or "", safe=""), quote(connection.password or "", safe="")
    if kind in {"postgres", "postgresql"}:
        host = connection.host or _missing(connection, "host")
        database = connection.schema or _missing(connection, "schema (the database)")
        return f"postgresql://{login}:{password}@{host}:{connection.port or 5432}/{quote(database, safe='')}"
    if kind in {"mysql", "mariadb"}:
        host = connection.host or _missing(connection, "host")
        database = connection.schema or _missing(connection, "schema (the database)")
        query = urlencode({key: str(value) for key, value in connection.extra_dejson.items() if key.startswith("ssl_")})
        url = f"mysql://{login}:{password}@{host}:{connection.port or 3306}/{quote(database, safe='')}"
        return url + (f"?{query}" if query else "")
    if kind in {"aws", "s3"}:
        bucket = connection.schema or _missing(connection, "schema (the bucket)")
        extra = connection.extra_dejson
        options = {"endpoint": extra.get("endpoint_url"), "region": extra.get("region_name")}
        query = urlencode({key: str(value) for key, value in options.items() if value})
        return f"s3://{login}:{password}@{bucket}" + (f"?{query}" if query else "")
    if kind == "nats":
        host = connection.host or _missing(connection, "host")
        user = f"{login}:{password}@" if connection.password else f"{login}@" if login else ""
        scheme = "tls" if connection.extra_dejson.get("tls") else "nats"
        return f"{scheme}://{user}{host}:{connection.port or 4222}"
    if kind == "fs":
        path = str(connection.extra_dejson.get("path") or "")
        return f"file://{quote(path)}" if path.startswith("/") else _missing(connection, "absolute path in its extra")
    raise SettingsError(
        f"Airflow connection {connection.conn_id!r} is of type {connection.conn_type!r}, which is no kind of source.",
        remedy="make it of type postgres, mysql, aws, nats or fs, or delete it and set the URL in Penstock's settings",
    )


def _missing(connection: AirflowConnection, field: str) -> str:
    raise SettingsError(
        f"Airflow connection {connection.conn_id!r} has no {field}.", remedy="fill that field of the connection"
    )
