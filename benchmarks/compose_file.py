"""``deploy/compose.yml`` as compose reads it: anchors merged, ``${VARIABLES}`` put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<otherwise>[?-])(?P<default>[^}]*))?\})")


def services(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services by name.

    Args:
        variables: what ``--env-file`` holds.

    Raises:
        KeyError: a variable that must have a value has none.
    """
    services: dict[str, Any] = _interpolated(_described()["services"], variables)
    return services


@cache
def _described() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
    return found


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _interpolated(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, variables) for each in value]
    return _VARIABLE.sub(lambda match: _value(match, variables), value) if isinstance(value, str) else value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    name = match["name"]
    if name is None:
        return "$"  # written as $$
    found = variables.get(name, "")
    if not found and match["otherwise"] != "-":
        raise KeyError(name)
    return found or match["default"]
