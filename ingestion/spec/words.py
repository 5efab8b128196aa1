"""Words that spec files are made of: names, types, zones - each refused with what it must look like."""

from __future__ import annotations

import re
from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict

from common.errors import PenstockError
from common.intervals import zone
from lake.schema import resolve_type


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", text):
        raise ValueError(f"{text!r} must be lower-case letters, digits and underscores, starting with a letter")
    return text


def _type(text: str) -> str:
    try:
        resolve_type(text)
    except PenstockError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from None
    return text


def _zone(text: str) -> str:
    try:
        zone(text)
    except PenstockError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from None
    return text


def _identifier(text: str) -> str:
    if not text or len(text.encode()) > 63 or any(category(character) == "Cc" for character in text):
        raise ValueError("a database identifier has 1 to 63 bytes and no control characters")
    return text


Name = Annotated[str, AfterValidator(_name)]
Identifier = Annotated[str, AfterValidator(_identifier)]
TypeWord = Annotated[str, AfterValidator(_type)]
ZoneName = Annotated[str, AfterValidator(_zone)]


class SpecModel(BaseModel):
    """A part of a spec: frozen, and it refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
