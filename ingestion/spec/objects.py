"""Where a table's objects lie, and how their bytes become rows."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ingestion.spec.words import SpecModel

ENCODINGS = {
    "utf-8": "utf-8",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "latin-1": "latin-1",
    **{f"iso-8859-{n}": f"iso-8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in (1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)},
    **{f"cp{n}": f"cp{n}" for n in (437, 850, 852, 858, 866)},
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "macintosh": "mac-roman",
    "shift-jis": "cp932",
    "euc-jp": "euc-jp",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "euc-kr": "cp949",
}
"""Encodings by name -> Python's codec. Only such in which a character's bytes do not depend on those before it."""


def _encoding(text: str) -> str:
    name = text.lower().replace("_", "-")
    if name not in ENCODINGS:
        raise ValueError(f"encoding {text!r} is not known; use one of {', '.join(ENCODINGS)}")
    return name


class Objects(SpecModel):
    """Where a table's objects lie and how to read them."""

    path: str = Field(description="Key template; {key} stands for the partition key, other {names} for any segment.")
    format: Literal["csv", "tsv", "jsonl", "parquet"] = "csv"
    compression: Literal["none", "gzip", "zstd", "zip"] = "none"
    members: str = Field(default="*", min_length=1, description="Pattern of the zip members that are read.")
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1, description="Default ',', of tsv a tab.")
    quote: str = Field(default='"', max_length=1, description="The quote; empty if values are never quoted.")
    null_tokens: tuple[str, ...] = ("",)
    header: bool = Field(default=True, description="Whether the first line names the columns; else: the spec's order.")
    max_object_bytes: int = Field(default=1 << 30, gt=0, description="Largest object, uncompressed, that is read.")
    max_record_bytes: int = Field(
        default=16 << 20, gt=0, le=256 << 20, description="Longest record that is read; a longer one is set apart."
    )
    max_members: int = Field(default=1000, gt=0, le=100_000, description="Most members that an archive may have.")
    max_ratio: int = Field(
        default=1000, gt=1, description="Most bytes that one byte may unpack to, beyond the first 16 MiB."
    )
    on_vanished: Literal["refuse", "keep", "drop"] = Field(
        default="refuse", description="What a run does when an object is gone that live rows were read from."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, character in (("delimiter", self.separator), ("quote", self.quote)):
            if not character.isascii() or (character not in {"", "\t"} and not character.isprintable()):
                raise ValueError(f"{name} must be a printable ASCII character or a tab")
            if character.isalnum():
                raise ValueError(f"{name} must be neither a letter, a digit nor the quote")
        if self.separator == self.quote:
            raise ValueError("delimiter must be neither a letter, a digit nor the quote")
        self._check_path()
        self._check_format()
        return self

    def _check_path(self) -> None:
        if self.path.count("{key}") != 1:
            raise ValueError("path must contain {key} exactly once: it is how an object names its interval")
        if self.path.startswith("/") or ".." in self.path:
            raise ValueError("path must be a plain object key: no leading slash, no '..'")
        if not re.fullmatch(r"(?:[A-Za-z0-9_=./-]|\{[a-z_]+\})+", self.path):
            raise ValueError("path may hold letters, digits, '_', '=', '.', '/', '-' and {names}")

    def _check_format(self) -> None:
        given = self.model_fields_set
        text_only = given & {"delimiter", "quote", "null_tokens", "header"}
        if self.format not in {"csv", "tsv"} and text_only:
            raise ValueError(f"{min(text_only)!r} belongs to format csv or tsv")
        if self.format == "parquet":
            if self.compression != "none":
                raise ValueError("format parquet is compressed inside: leave out 'compression'")
            if given & {"encoding", "max_record_bytes"}:
                raise ValueError("'encoding' and 'max_record_bytes' belong to formats of text")
        zip_only = given & {"members", "max_members"}
        if self.compression != "zip" and zip_only:
            raise ValueError(f"{min(zip_only)!r} belongs to 'compression: zip'")

    @property
    def separator(self) -> str:
        """What stands between two values of a line."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")

    @property
    def codec(self) -> str:
        """Python's name of the encoding."""
        return ENCODINGS[self.encoding]

    @property
    def prefix(self) -> str:
        """The part of the path before its first placeholder: what is listed."""
        return self.path.split("{", 1)[0]

    def key_pattern(self) -> re.Pattern[str]:
        """Matches an object key; group ``key`` is its partition key."""
        pattern = re.escape(self.path).replace(r"\{key\}", r"(?P<key>[0-9]{4}-[0-9]{2}-[0-9]{2})")
        return re.compile(re.sub(r"\\\{[a-z_]+\\\}", r"[^/]+", pattern))
