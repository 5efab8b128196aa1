r"""Quarantined rows as texts that people edit, and back: JSON lines or CSV, each row with its id.

Every value travels as text and becomes typed in one place (:func:`typed_rows`), so both formats give the same row.
In JSON lines ``row`` is the quarantined JSON itself; what is left out of it stays as it was. In CSV a null is ``\N``,
and a text that begins with a backslash has one more before it.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from ingestion.objects.text_types import exact_cast
from lake.paths import WHOLE
from lake.quarantine import TYPED
from lake.schema import PARTITION_COLUMN, Column
from lake.sql import identifier, literal

if TYPE_CHECKING:
    import duckdb

Texts = dict[str, str | None]

_HEAD = ("row_id", "partition_key", "rules", "reason")
_NULL = "\\N"
_OBJECT_LINE = re.compile(r"(?P<key>.*) line (?P<line>\d+)(?: byte \d+)?", re.DOTALL)


@dataclass(frozen=True)
class Candidate:
    """One quarantined row as it is to be tried.

    Attributes:
        waiting: the row of quarantine.
        values: text of every column.
        edited: whether the values are other than those that came.
    """

    waiting: Mapping[str, Any]
    values: Texts
    edited: bool

    @property
    def row_id(self) -> str:
        """The row's id."""
        return str(self.waiting["row_id"])


def texts_of(waiting: Mapping[str, Any], columns: Sequence[Column]) -> Texts:
    """The values of a quarantined row, null where it has none of that name."""
    found = _loads(waiting["row"])
    values = {column.name: _text(found.get(column.name)) if isinstance(found, dict) else None for column in columns}
    if waiting["form"] != TYPED:
        if values.get(PARTITION_COLUMN, "") is None and waiting["partition_key"] != WHOLE:
            values[PARTITION_COLUMN] = str(waiting["partition_key"])
        place = _OBJECT_LINE.fullmatch(str(waiting["position"]))
        if place and values.get("object_key", "") is None:
            values |= {"object_key": place["key"], "object_line": place["line"]}
    return values


def is_row(waiting: Mapping[str, Any], columns: Sequence[Column]) -> bool:
    """Whether what came has columns of the table and no other; text that is no record has none."""
    found = _loads(waiting["row"])
    return isinstance(found, dict) and bool(found) and found.keys() <= {column.name for column in columns}


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


# -- files -------------------------------------------------------------------------------------------------------------


def write_file(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> int:
    """Write quarantined rows as JSON lines, or as CSV if the file's name ends so; returns how many."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n") if path.suffix == ".csv" else None
        if table:
            table.writerow([*(f"_{name}" for name in _HEAD), *(column.name for column in columns)])
        for row in rows:
            values = texts_of(row, columns)
            if table:
                table.writerow([*(row[name] for name in _HEAD), *map(_cell, values.values())])
            else:
                handle.write(_line(row, values, columns))
            written += 1
    return written


def _line(row: Mapping[str, Any], values: Texts, columns: Sequence[Column]) -> str:
    head = json.dumps({name: row[name] for name in (*_HEAD, "position")}, ensure_ascii=False)[:-1]
    if is_row(row, columns):
        return f'{head}, "row": {row["row"]}}}\n'
    return f'{head}, "record": {row["row"]}, "row": {json.dumps(values, ensure_ascii=False)}}}\n'


def _cell(value: str | None) -> str:
    return _NULL if value is None else "\\" + value if value.startswith("\\") else value


def read_file(path: Path, columns: Sequence[Column]) -> dict[str, Texts]:
    """The values that a file gives, by row id; only of the columns it names.

    Raises:
        UsageError: it is not such a file; the message names the line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            records = _csv_records(handle) if path.suffix == ".csv" else _json_records(handle)
            found: dict[str, Texts] = {}
            for line, row_id, values in records:
                unknown = sorted(values.keys() - {column.name for column in columns})
                if unknown:
                    raise _no_file(path, line, f"there is no column {unknown[0]!r}")
                if row_id in found:
                    raise _no_file(path, line, f"row {row_id} stands twice")
                found[row_id] = values
    except _Problem as problem:
        raise _no_file(path, problem.line, str(problem)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy="give a file that export has written") from None
    return found


class _Problem(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def _no_file(path: Path, line: int, problem: str) -> UsageError:
    return UsageError(
        f"{path}, line {line}: {problem}.", remedy="edit what 'penstock quarantine export' writes, and keep the row ids"
    )


def _json_records(lines: Iterable[str]) -> Iterable[tuple[int, str, Texts]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _loads(line)
            row_id, row = record["row_id"], record["row"]
            if not isinstance(row, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise _Problem(number, "not an object with 'row_id' and 'row'") from None
        yield number, str(row_id), {name: _text(value) for name, value in row.items()}


def _csv_records(lines: Iterable[str]) -> Iterable[tuple[int, str, Texts]]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
        if "_row_id" not in header:
            raise _Problem(1, "no column '_row_id'")
        names = [name for name in header if name not in {f"_{head}" for head in _HEAD}]
        for cells in rows:
            if len(cells) != len(header):
                raise _Problem(rows.line_num, f"{len(cells)} values, the header has {len(header)}")
            given = dict(zip(header, cells, strict=True))
            values = {name: None if given[name] == _NULL else _unescaped(given[name]) for name in names}
            yield rows.line_num, given["_row_id"], values
    except csv.Error as error:
        raise _Problem(rows.line_num, str(error)) from None


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("\\") else cell


# -- texts to types ----------------------------------------------------------------------------------------------------


def typed_rows(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    required: Sequence[str],
    candidates: Sequence[Candidate],
    *,
    belongs: str,
) -> dict[int, str]:
    """Make ``repaired``, the candidates typed, ``_n`` numbering them; answers by number what cannot be a row, and why.

    Args:
        connection: where to.
        columns: all columns of the table.
        required: columns that may not be null.
        candidates: the rows.
        belongs: SQL that is null for a row of the right interval, else says why it is not.
    """
    import pyarrow as pa

    texts = {
        column.name: pa.array([c.values[column.name] for c in candidates], pa.large_string()) for column in columns
    }
    connection.register("repaired_text", pa.table({**texts, "_n": pa.array(range(len(candidates)), pa.int64())}))
    made = ", ".join(f"{_cast(column)} AS {identifier(column.name)}" for column in columns)
    problems = [
        f"CASE WHEN t.{identifier(c.name)} IS NOT NULL AND v.{identifier(c.name)} IS NULL "
        f"THEN {literal(f'{c.name} is not a valid {c.type}')} END"
        for c in columns
    ]
    problems += [f"CASE WHEN t.{identifier(n)} IS NULL THEN {literal(f'{n} is null')} END" for n in required]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE repaired AS SELECT v.*, concat_ws('; ', {', '.join(problems)}, ({belongs})) "
        f"AS _problem FROM (SELECT _n, {made} FROM repaired_text) AS v JOIN repaired_text AS t USING (_n)"
    )
    connection.unregister("repaired_text")
    return dict(connection.execute("SELECT _n, _problem FROM repaired WHERE _problem <> ''").fetchall())


def _cast(column: Column) -> str:
    """SQL of a column's value, null where the text is not exactly one; what a typed row was told as always is."""
    name = identifier(column.name)
    if column.type == "binary":
        return (
            f"CASE WHEN starts_with({name}, '\\x') THEN TRY(unhex(substr({name}, 3))) ELSE TRY(from_base64({name})) END"
        )
    plain = f"TRY_CAST({name} AS {column.duckdb})"
    return f"CASE WHEN {plain}::VARCHAR = {name} THEN {plain} ELSE {exact_cast(column)} END"
