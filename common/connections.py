"""A connection given by parts -> the one URL that everything else takes.

A URL is short, but its parts must be percent-encoded by hand, and a password that has a place of its own (a mounted
file, a variable that a secret store fills) cannot stand in it. So parts are joined here, once, and nothing behind the
settings knows that there are two ways to say it. Only databases have parts; a bucket or a folder is given by its URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from common.errors import SettingsError

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")


class ConnectionParts(BaseModel):
    """A database and how to log in to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["postgresql", "mysql", "mariadb"] = Field(description="The database system.")
    host: str = Field(description="Name or address; an IPv6 address without brackets.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Default: the system's own.")
    user: str = Field(min_length=1, description="Role that reads.")
    password: SecretStr | None = Field(default=None, description="Its password, as it is.")
    password_file: Path | None = Field(
        default=None,
        description="File that holds the password; a line end behind it is no part of it.",
    )
    database: str = Field(min_length=1, description="Database on that server.")
    options: Mapping[str, str] = Field(default_factory=dict, description="What a URL has behind its question mark.")

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if _HOST.fullmatch(host):
            return host
        try:
            return f"[{IPv6Address(host)}]"
        except ValueError:
            raise ValueError("no host name or address; port, user and database are parts of their own") from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("both password and password_file are given: leave one out")
        return self

    def url(self) -> SecretStr:
        """The URL, every part percent-encoded.

        Raises:
            OSError, UnicodeDecodeError: the password's file cannot be read.
        """
        password = self.password.get_secret_value() if self.password is not None else None
        if self.password_file is not None:
            password = self.password_file.expanduser().read_text("utf-8").removesuffix("\n").removesuffix("\r")
        login = quote(self.user, safe="") + ("" if password is None else f":{quote(password, safe='')}")
        port = f":{self.port}" if self.port else ""
        query = f"?{urlencode(dict(self.options), quote_via=quote, safe='')}" if self.options else ""
        return SecretStr(f"{self.kind}://{login}@{self.host}{port}/{quote(self.database, safe='')}{query}")


PARTS = frozenset(ConnectionParts.model_fields)


def joined(name: str, parts: Mapping[str, Any]) -> str:
    """The URL of a connection that is given by parts.

    Args:
        name: the connection's, for messages.
        parts: by their names in :class:`ConnectionParts`.

    Raises:
        SettingsError: a part is missing, unknown or wrong; the message names it and repeats no value.
    """
    try:
        return ConnectionParts(**parts).url().get_secret_value()
    except ValidationError as error:
        found = [(".".join(map(str, e["loc"])), e["type"], e["msg"]) for e in error.errors(include_input=False)]
        missing = [part for part, kind, _ in found if kind == "missing"]
        others = [f"{part}: {text}" if part else text for part, kind, text in found if kind != "missing"]
        problems = [f"it lacks {', '.join(missing)}"] if missing else []
        raise SettingsError(
            f"Connection {name!r} is given by parts, but {'; '.join([*problems, *others])}.",
            remedy=f"set PENSTOCK_CONNECTIONS__{name.upper()}__<PART> or [connections.{name}] in penstock.toml; "
            f"the parts are {', '.join(ConnectionParts.model_fields)}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"The password_file of connection {name!r} cannot be read: {parts['password_file']}: {reason}.",
            remedy="correct the path, or let this user read it",
        ) from None


def from_environment(variables: Mapping[str, str]) -> dict[str, str | dict[str, Any]]:
    """Connections by name, each a URL or its parts.

    Args:
        variables: what stands behind ``PENSTOCK_CONNECTIONS__`` -> value: ``SHOP`` holds a URL, ``SHOP__HOST`` a part,
            ``SHOP__OPTIONS__SSLMODE`` an option.

    Raises:
        SettingsError: a connection is given both ways, or a variable names no part.
    """
    urls: dict[str, str] = {}
    parts: dict[str, dict[str, Any]] = {}
    for variable, value in variables.items():
        name, _, part = variable.lower().rpartition("__")
        with_option, _, option = name.rpartition("__options")
        if with_option and not option:
            parts.setdefault(with_option, {}).setdefault("options", {})[part] = value
        elif name and part in PARTS - {"options"}:
            parts.setdefault(name, {})[part] = value
        elif not name or "://" in value:
            urls[variable.lower()] = value
        else:
            raise SettingsError(
                f"PENSTOCK_CONNECTIONS__{variable} names no part of a connection, and holds no URL.",
                remedy=f"the parts are {', '.join(ConnectionParts.model_fields)}; an option is OPTIONS__<NAME>",
            )
    both = sorted(urls.keys() & parts.keys())
    if both:
        raise SettingsError(
            f"Connection {both[0]!r} is given both as a URL and by parts.",
            remedy=f"leave out PENSTOCK_CONNECTIONS__{both[0].upper()}, or all variables that begin so",
        )
    return {**urls, **parts}
