"""The table of types in docs/types.md: one dataclass per proven case, rendered from the very cases the tests prove.

::

    postgresql.py, mysql.py: CASES, CASTS, REFUSED  ->  test_<engine>_types.py proves each of them on a real server
                                                    ->  section(engine)  ->  docs/types.md, between its two marks

The page is no second list that somebody keeps in step: a test compares it with what is rendered here. Rewrite it with
``python -m tests.integration.ingestion.types.table --write``.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lake.schema import resolve_type

ENGINES = {"postgresql": ("PostgreSQL",), "mariadb": ("MariaDB", "MySQL")}
"""Module of the cases, which is also the name of the marks in the page, and what people call the engines."""

PAGE = Path(__file__).parents[4] / "docs" / "types.md"

_PARQUET = {
    "bool": "BOOLEAN",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "BYTE_ARRAY (String)",
    "binary": "BYTE_ARRAY",
    "date": "INT32 (Date)",
    "time": "INT64 (Time, us)",
    "timestamp": "INT64 (Timestamp, us)",
    "timestamptz": "INT64 (Timestamp, us, UTC)",
}


@dataclass(frozen=True)
class TypeCase:
    """A column type under a type word, with values of which each is proven to arrive, or to be set apart.

    Attributes:
        source: the column's type as the page shows it; empty if only MySQL has it.
        word: the declared type word.
        kept: values, in the database's own notation, that arrive exactly as ``printed`` prints them. A null is always
            tried as well.
        apart: values without an exact form: their rows go to quarantine.
        reason: what quarantine says of them.
        nulls: values that become null (only where a cast is declared).
        ddl: the type in ``CREATE TABLE``, where that is not ``source``; ``{s}`` stands for the test's schema.
        printed: the database's SQL that prints ``v`` for the comparison, where that is not its plain text.
        note: what a reader of the page should know.
        mysql: the type as MySQL spells it, where that is more than MariaDB's without a display width; None if MySQL
            has no such type.
    """

    source: str
    word: str
    kept: tuple[str, ...]
    apart: tuple[str, ...] = ()
    reason: str = ""
    nulls: tuple[str, ...] = ()
    ddl: str = ""
    printed: str = ""
    note: str = ""
    mysql: str | None = ""

    def __str__(self) -> str:
        return f"{self.source or self.mysql} as {self.word}"

    @property
    def in_mysql(self) -> str:
        """The type as MySQL spells it; empty if it has none."""
        return "" if self.mysql is None else self.mysql or mysql_spelling(self.source)

    @property
    def values(self) -> int:
        """How many values are tried, the null included."""
        return len(self.kept) + len(self.apart) + len(self.nulls) + 1

    def ddl_in(self, schema: str) -> str:
        """The type as ``CREATE TABLE`` wants it; ``schema`` is quoted already."""
        return (self.ddl or self.source).replace("{s}", schema)


def mysql_spelling(source: str) -> str:
    """A type of MariaDB's as MySQL spells it: without its display width, unless that says something."""
    if source == "tinyint(1)" or source.endswith("zerofill"):
        return source
    return re.sub(r"^(\w*int|year)\(\d+\)", r"\1", source)


@dataclass(frozen=True)
class Refusal:
    """A column type that a type word cannot hold, and the same in SQL where that differs."""

    source: str
    word: str
    ddl: str = ""

    def __str__(self) -> str:
        return f"{self.source} as {self.word}"


def parquet_type(word: str) -> str:
    """Parquet's physical type, with its logical type in parentheses."""
    if not word.startswith("decimal"):
        return _PARQUET[word]
    precision = int(word.removeprefix("decimal(").split(",")[0])
    physical = "INT32" if precision <= 9 else "INT64" if precision <= 18 else "FIXED_LEN_BYTE_ARRAY"
    return f"{physical} ({word.capitalize()})"


def section(engine: str) -> str:
    """The engine's part of the page, Markdown."""
    cases = importlib.import_module(f"tests.integration.ingestion.types.{engine}")
    exact, casts, refused = cases.CASES, cases.CASTS, cases.REFUSED
    names = ENGINES[engine]
    parts = [
        *(account(name, (*exact, *casts)) for name in names),
        "### Exact",
        _table(names, exact),
        "### By `policy: cast`",
        _table(names, casts),
        "### Refused",
        f"These pairs of {names[0]} type and type word are refused before a row is read (`SourceSchemaError`), with "
        "both types and the remedy:",
        _refusals(refused),
    ]
    return "\n\n".join(part for part in parts if part)


def account(engine: str, cases: Sequence[TypeCase]) -> str:
    """What becomes of the values of all cases that an engine has the types of."""
    every = [case for case in cases if spelled(case, engine)]
    tried = sum(case.values for case in every)
    apart = sum(len(case.apart) for case in every)
    nulls = sum(len(case.nulls) for case in every)
    return (
        f"{engine}: {tried} values in {len(every)} cases: {tried - apart - nulls} arrive as the database prints them, "
        f"{apart} are set apart with their key and the reason, {nulls} become null by a declared cast. Values lost or "
        "changed without a word: 0."
    )


def spelled(case: TypeCase, engine: str) -> str:
    """The type as an engine spells it; empty if it has none."""
    return case.in_mysql if engine == "MySQL" else case.source


def rendered(page: str) -> str:
    """The page with every engine's part as it should be."""
    for engine in ENGINES:
        begin, end = f"<!-- begin {engine} -->", f"<!-- end {engine} -->"
        mark = re.compile(f"{begin}.*{end}", re.DOTALL)
        if not mark.search(page):
            raise ValueError(f"docs/types.md has no marks for {engine}")
        text = f"{begin}\n\n{section(engine)}\n\n{end}"
        page = mark.sub(lambda _, text=text: text, page)  # type: ignore[misc]
    return page


def _table(engines: Sequence[str], cases: Sequence[TypeCase]) -> str:
    lines = [
        f"| {' | '.join(engines)} | type word | Iceberg | Parquet | DuckDB | kept | set apart | "
        "values that do not fit, and notes |",
        "|---" * len(engines) + "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        iceberg, duckdb = resolve_type(case.word)
        cells = [
            *(_code(spelling) if spelling else "none" for spelling in (spelled(case, name) for name in engines)),
            _code(case.word),
            str(iceberg).replace(" ", ""),
            parquet_type(case.word),
            duckdb,
            str(len(case.kept)),
            str(len(case.apart)),
            _notes(case),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _notes(case: TypeCase) -> str:
    notes = []
    if case.apart:
        notes.append(f"{_examples(case.apart)}: {case.reason.removeprefix('v ')}")
    if case.nulls:
        notes.append(f"{_examples(case.nulls)}: null")
    return "; ".join([*notes, *([case.note] if case.note else [])])


def _examples(values: Sequence[str]) -> str:
    shown = [_code(value if len(value) <= 30 else f"{value[:24]}...") for value in values[:4]]
    return ", ".join([*shown, *(["..."] if len(values) > 4 else [])])


def _refusals(refused: Sequence[Refusal]) -> str:
    words: dict[str, list[str]] = {}
    for pair in refused:
        words.setdefault(pair.source, []).append(_code(pair.word))
    return "\n".join(f"- {_code(source)} as {', '.join(found)}" for source, found in words.items())


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else "the empty text"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.integration.ingestion.types.table --write")
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
