"""Where a table's objects lie, and how their bytes become rows."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from ingestion.spec.words import SpecModel


class Objects(SpecModel):
    """Where a table's objects lie and how to read them."""

    path: str = Field(description="Key template; {key} stands for the partition key, other {names} for any segment.")
    format: Literal["csv"] = "csv"
    compression: Literal["none", "gzip"] = "none"
    encoding: Literal["utf-8"] = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    null_tokens: tuple[str, ...] = ("",)
    header: Literal[True] = True
    max_object_bytes: int = Field(default=1 << 30, gt=0, description="Largest object, uncompressed, that is read.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.delimiter.isascii() or (self.delimiter != "\t" and not self.delimiter.isprintable()):
            raise ValueError("delimiter must be a printable ASCII character or a tab")
        if self.delimiter.isalnum() or self.delimiter == '"':
            raise ValueError("delimiter must be neither a letter, a digit nor the quote")
        if self.path.count("{key}") != 1:
            raise ValueError("path must contain {key} exactly once: it is how an object names its interval")
        if self.path.startswith("/") or ".." in self.path:
            raise ValueError("path must be a plain object key: no leading slash, no '..'")
        if not re.fullmatch(r"(?:[A-Za-z0-9_=./-]|\{[a-z_]+\})+", self.path):
            raise ValueError("path may hold letters, digits, '_', '=', '.', '/', '-' and {names}")
        return self

    @property
    def prefix(self) -> str:
        """The part of the path before its first placeholder: what is listed."""
        return self.path.split("{", 1)[0]

    def key_pattern(self) -> re.Pattern[str]:
        """Matches an object key; group ``key`` is its partition key."""
        pattern = re.escape(self.path).replace(r"\{key\}", r"(?P<key>\d{4}-\d{2}-\d{2})")
        return re.compile(re.sub(r"\\\{[a-z_]+\\\}", r"[^/]+", pattern))
