"""Settings: resolved once, late, typed, frozen. The only module that reads the environment.

Order of precedence: arguments, ``PENSTOCK_*`` environment variables, ``penstock.toml`` in the working folder (or the
file named by ``PENSTOCK_CONFIG``), defaults. A laptop needs none of them: state lives under ``.penstock/``, the catalog
is SQLite, and connections come from the embedded services' own private file. Production sets URLs; the code is the
same.

A secret is a ``SecretStr``: printing it shows stars. It is opened only where a client is made from it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from common.connections import from_environment, joined
from common.errors import SettingsError
from common.notify_routes import NotifyRoute, QuietHours, routes_given

_PREFIX = "PENSTOCK_"
_CONNECTION_PREFIX = "PENSTOCK_CONNECTIONS__"


class Settings(BaseModel):
    """Everything Penstock can be told from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default=Path(".penstock"), description="State folder: catalog, lake, warehouse, services, logs.")
    lake_uri: str = Field(
        default="", description="Root of the lake: a folder or s3://bucket/prefix. Default <home>/lake."
    )
    catalog_uri: SecretStr = Field(
        default=SecretStr(""), description="SQLAlchemy URL of the Iceberg catalog. Default SQLite <home>/catalog.db."
    )
    warehouse: Path = Field(default=Path(), description="Folder of candidates and releases. Default <home>/warehouse.")
    sources: Path = Field(default=Path(), description="Folder of source specs. Default: the bundled ingestion/sources.")
    suites: Path = Field(default=Path(), description="Folder of gate suites. Default: the bundled quality/suites.")
    dashboards: Path = Field(default=Path(), description="Folder of dashboards. Default: the bundled notebooks.")
    memory_limit_mb: int = Field(default=768, ge=128, description="Memory limit of each DuckDB engine, in MB.")
    threads: int = Field(default=2, ge=1, description="Threads of each DuckDB engine that reads files.")
    gate_timeout_s: float = Field(default=1800.0, gt=0, description="Longest time the gate may judge one batch, in s.")
    statement_timeout_s: float = Field(default=900.0, gt=0, description="Longest time one source query may take, in s.")
    parallel_reads: int = Field(
        default=2, ge=1, le=16, description="Connections that read the chunks of one large table at once."
    )
    snapshot_hold_s: float = Field(
        default=3600.0,
        ge=0,
        description="Longest time that Airflow holds a PostgreSQL snapshot for the tasks of a run, in s; 0 never.",
    )
    keep_releases: int = Field(default=10, ge=1, description="Published releases kept; the current one always is.")
    sweep_grace_h: float = Field(
        default=24.0, ge=0, description="Hours for which files that nothing names stay; longer than any batch takes."
    )
    releases_uri: str = Field(
        default="", description="Where releases also go, and readers find them: s3://bucket/prefix. Default: nowhere."
    )
    release_cache_mb: int = Field(
        default=10240, ge=1, description="Room for releases that were fetched from there, in MB."
    )
    backup_uri: str = Field(
        default="", description="Where backups go: s3://bucket/prefix or a folder. Default: nowhere."
    )
    backup_data: bool = Field(
        default=False, description="Whether backups also hold the data files of a lake that is in object storage."
    )
    keep_backups: int = Field(default=14, ge=1, description="Backups that the DAG keeps; the newest always is.")
    bi_schema: str = Field(default="marts", description="Schema of the BI database that holds the current release.")
    bi_readers: tuple[str, ...] = Field(
        default=("penstock_reader",), description="Roles of the BI database that may SELECT from it, and nothing else."
    )
    bi_roles: tuple[str, ...] = Field(
        default=("*",), description="Roles of the policy that have a schema of the BI database; * is all of them."
    )
    keep_quality_pages: int = Field(default=10, ge=1, description="Runs whose quality pages are kept.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="The only hosts that sources may lead to: names, *.patterns, addresses, networks."
    )
    warehouse_queue: str = Field(
        default="warehouse", min_length=1, description="Queue of the Airflow tasks that build and publish."
    )
    warehouse_pod_template: Path | None = Field(
        default=None, description="Pod template of those tasks under Airflow's KubernetesExecutor."
    )
    lineage_url: str = Field(
        default="", description="Server that also gets the OpenLineage events, e.g. http://lineage.example.com:5000."
    )
    lineage_api_key: SecretStr = Field(default=SecretStr(""), description="Sent to it as a bearer token.")
    policy: Path = Field(default=Path(), description="Who may see what. Default <home>/policy.yml.")
    token_issuers: tuple[str, ...] = Field(
        default=(), description="OpenID issuers whose tokens are believed; behind a space, the address of its keys."
    )
    token_audience: str = Field(default="penstock", min_length=1, description="What tokens must be meant for.")
    token_role_claim: str = Field(default="role", min_length=1, description="Claim of a token that names its roles.")
    login_client_id: str = Field(
        default="", description="Id of the portal at an OpenID issuer: people sign in there. Empty: they paste a token."
    )
    login_client_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of that client; a public client has none."
    )
    login_issuer: str = Field(default="", description="Issuer to sign in at. Default the first of token_issuers.")
    login_scopes: str = Field(
        default="openid read sql operate", min_length=1, description="Scopes that a sign-in asks for, by spaces."
    )
    portal_url: str = Field(
        default="", description="Where browsers see the portal; sign-in needs it but on this machine."
    )
    requests_per_min: int = Field(default=6000, ge=1, description="Requests that one subject may send in a minute.")
    sql_timeout_s: float = Field(default=10.0, gt=0, description="Longest time one guarded statement may take, in s.")
    sql_memory_limit_mb: int = Field(default=512, ge=64, description="Memory of one guarded statement, in MB.")
    cache_url: SecretStr = Field(default=SecretStr(""), description="Redis in which servers share answers.")
    flight_certificate: Path | None = Field(
        default=None, description="Certificate of the Flight door, PEM, with its chain; one is made for development."
    )
    flight_key: Path | None = Field(default=None, description="Its private key, PEM.")
    notify_urls: SecretStr = Field(
        default=SecretStr(""), description="Apprise URLs that are told of every incident, separated by commas."
    )
    notify: Mapping[str, NotifyRoute] = Field(
        default_factory=dict, description="Routes by name, [notify.<name>]: which incidents are told where."
    )
    notify_quiet_hours: QuietHours | None = Field(
        default=None, description="Daily span in which only critical incidents are told: 22:00-07:00 Europe/Berlin."
    )
    notify_remind_after_s: int = Field(
        default=86_400, ge=0, description="After how long an open incident is told again, in s; 0 never."
    )
    incident_reopen_within_s: int = Field(
        default=86_400,
        ge=0,
        description="A cause that is back so soon after it was resolved is the same incident, in s.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Log lines for people, or for a collector.")
    otlp_endpoint: str = Field(
        default="", description="Collector of traces and metrics; OTEL_EXPORTER_OTLP_ENDPOINT by default, else none."
    )
    connections: Mapping[str, SecretStr] = Field(
        default_factory=dict,
        description="Connection URLs by name: PENSTOCK_CONNECTIONS__<NAME>, or joined from parts.",
    )

    @field_validator("allowed_hosts", "bi_readers", "bi_roles", "token_issuers", mode="before")
    @classmethod
    def _split(cls, names: Any) -> Any:
        """A variable holds them separated by commas."""
        return tuple(name.strip() for name in names.split(",") if name.strip()) if isinstance(names, str) else names

    @field_validator("notify_quiet_hours", mode="before")
    @classmethod
    def _parse_quiet_hours(cls, given: Any) -> Any:
        return (QuietHours.parse(given) if given else None) if isinstance(given, str) else given

    @property
    def lake_connection(self) -> str:
        """Name of the connection that holds the credentials of an s3:// lake."""
        return "lake"

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Resolve the settings.

        Args:
            environment: environment variables; the process's own by default.
            overrides: values that win over everything else.

        Raises:
            SettingsError: an unknown or malformed setting, naming it and where it came from.
        """
        environment = os.environ if environment is None else environment  # noqa: TID251 - the one place
        values = _from_file(environment)
        connections = _connections(values.pop("connections", {}), environment)
        values["notify"] = routes_given(values.get("notify"), environment)
        for variable, value in environment.items():
            if variable.startswith(_PREFIX) and variable.removeprefix(_PREFIX).lower() in cls.model_fields:
                values[variable.removeprefix(_PREFIX).lower()] = value
        if environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            values.setdefault("otlp_endpoint", environment["OTEL_EXPORTER_OTLP_ENDPOINT"])
        if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
            values["otlp_endpoint"] = ""
        overridden = overrides.pop("connections", {})
        connections |= {name: _plain(url) for name, url in overridden.items()}
        values |= {key: value for key, value in overrides.items() if value is not None}
        try:
            settings = cls(**values, connections=connections)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
            )
            raise SettingsError(
                f"Invalid settings: {problems}.", remedy="correct penstock.toml or the PENSTOCK_* variable of that name"
            ) from None
        return settings._with_defaults()

    def _with_defaults(self) -> Settings:
        home = self.home.expanduser().absolute()
        root = Path(__file__).resolve().parent.parent
        lake_uri = self.lake_uri or str(home / "lake")
        return self.model_copy(
            update={
                "home": home,
                "lake_uri": lake_uri if "://" in lake_uri else str(Path(lake_uri).expanduser().absolute()),
                "catalog_uri": self.catalog_uri
                if self.catalog_uri.get_secret_value()
                else SecretStr(f"sqlite:///{home / 'catalog.db'}"),
                "warehouse": _or_default(self.warehouse, home / "warehouse"),
                "policy": _or_default(self.policy, home / "policy.yml"),
                "sources": _or_default(self.sources, root / "ingestion" / "sources"),
                "suites": _or_default(self.suites, root / "quality" / "suites"),
                "dashboards": _or_default(self.dashboards, root / "notebooks"),
            }
        )

    @property
    def embedded_connections_path(self) -> Path:
        """Where the embedded services leave their connection URLs (readable by their owner only)."""
        return self.home / "services" / "connections.json"

    def connection(self, name: str) -> SecretStr:
        """The URL of a connection by name.

        Raises:
            SettingsError: no such connection anywhere; the message names every place that was tried.
        """
        if name.lower() in self.connections:
            return self.connections[name.lower()]
        try:
            embedded = json.loads(self.embedded_connections_path.read_text())
        except FileNotFoundError:
            embedded = {}
        if name in embedded:
            return SecretStr(embedded[name])
        raise SettingsError(
            f"No connection named {name!r}: not in {_CONNECTION_PREFIX}{name.upper()}, not in penstock.toml "
            f"[connections], and no embedded service of that name has been started under {self.home}.",
            remedy=f"set {_CONNECTION_PREFIX}{name.upper()}=<url> or its parts, or start the embedded services with "
            "'make up'",
        )


def process_environment(**extra: str) -> dict[str, str]:
    """A copy of this process's environment with ``extra`` on top, for child processes."""
    return {**os.environ, **extra}  # noqa: TID251 - the one place


def _plain(url: str | SecretStr) -> str:
    return url.get_secret_value() if isinstance(url, SecretStr) else url


def _connections(in_file: Any, environment: Mapping[str, str]) -> dict[str, Any]:
    """URLs by name, joined from parts where they are given so; of one connection the environment's parts win."""
    if not isinstance(in_file, Mapping):
        raise SettingsError(
            "'connections' of the settings file is no table.", remedy="write [connections] or [connections.<name>]"
        )
    found: dict[str, Any] = {name.lower(): given for name, given in in_file.items()}
    variables = {
        variable.removeprefix(_CONNECTION_PREFIX): value
        for variable, value in environment.items()
        if variable.startswith(_CONNECTION_PREFIX)
    }
    for name, given in from_environment(variables).items():
        before = found.get(name)
        found[name] = _merged(before, given) if isinstance(before, Mapping) and isinstance(given, Mapping) else given
    return {name: joined(name, given) if isinstance(given, Mapping) else given for name, given in found.items()}


def _merged(in_file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of the file under those of the environment, whose password takes the place of either form of the file's."""
    kept = dict(in_file)
    if given.keys() & {"password", "password_file"}:
        kept = {part: value for part, value in kept.items() if part not in {"password", "password_file"}}
    before = kept.get("options")
    if isinstance(before, Mapping) and "options" in given:
        return {**kept, **given, "options": {**before, **given["options"]}}
    return {**kept, **given}


def _or_default(path: Path, default: Path) -> Path:
    return default if path == Path() else path.expanduser().absolute()


def _from_file(environment: Mapping[str, str]) -> dict[str, Any]:
    named = environment.get("PENSTOCK_CONFIG")
    path = Path(named) if named else Path("penstock.toml")
    if not path.exists():
        if named:
            raise SettingsError(f"PENSTOCK_CONFIG names {path}, which does not exist.", remedy="correct the path")
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.", remedy="correct the file at that line") from None


def decode_url_part(text: str | None) -> str:
    """Percent-decode one part of a URL; None becomes the empty string."""
    return unquote(text or "")
