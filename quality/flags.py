"""The flag pass: one scan that finds every bad row and says, in bits, which rules it broke.

``rows view -> temporary table penstock_flags(row_number, m0, m1, ...)``, bad rows only. Counts, examples and rejected
rows are then read from that small table, so what is counted and what is rejected cannot differ.

Where most columns are read for the conditions anyway, the pass also keeps the rows that may be rejected as they are, in
a column ``kept``: to fetch them in a second scan costs a third of the first (measured on 16 columns).

Pure text: no Great Expectations, no connection. A mask is a BIGINT of 62 rules; more rules take more masks. Conditions
on single rows share one scan with an OR; duplicates and queries are further branches, united by row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lake.sql import identifier, literal

ROW_NUMBER = "row_number"
"""Zero-based position of a row in the batch: a column of ``{batch}``, and what a row-level query must return."""

ROWS_VIEW = "penstock_rows"
"""The rows under audit with ``row_number``: what ``{batch}`` stands for."""

BATCH_VIEW = "penstock_batch"
"""The rows under audit with exactly the columns of the contract: what GX sees."""

FLAGS_TABLE = "penstock_flags"
"""Bad rows and their masks; temporary, replaced by each batch."""

KEPT = "kept"
"""The whole row of a bad row that may be rejected, as a struct; null where it was not kept."""

BITS_PER_MASK = 62
"""Rules per BIGINT mask (bit 63 is the sign)."""

EXAMPLES = 5
"""Example rows kept per rule."""


@dataclass(frozen=True)
class RowTest:
    """How to find the rows that break one rule. Exactly one of the first three is set.

    Attributes:
        condition: SQL that is true on a bad row.
        duplicates: columns whose values together must not repeat; nulls are equal to each other.
        query: SQL that returns the ``row_number`` of bad rows.
        domain: SQL that is true on rows the rule judges at all; None for all rows.
    """

    condition: str | None = None
    duplicates: tuple[str, ...] = ()
    query: str | None = None
    domain: str | None = None


def flag_statement(tests: Sequence[RowTest], kept: Sequence[str] = (), rejecting: Collection[int] = ()) -> str:
    """Statement that fills the flags table. Test *n* owns bit *n* (see :func:`is_set`).

    Args:
        tests: how to find the bad rows.
        kept: columns to keep of rows that fail a condition of ``rejecting``; none for no such column.
        rejecting: numbers of the tests whose rows may be rejected.
    """
    masks = _mask_count(len(tests))
    conditions = {n: _restricted(test.condition, test.domain) for n, test in enumerate(tests) if test.condition}
    branches = []
    if conditions:
        columns = ", ".join(_mask_of(conditions, mask) for mask in range(masks))
        anyone = " OR ".join(conditions.values())
        keep = _kept(kept, [condition for n, condition in conditions.items() if n in rejecting]) if kept else ""
        branches.append(f"SELECT {ROW_NUMBER}, {columns}{keep} FROM {ROWS_VIEW} WHERE {anyone}")
    for n, test in enumerate(tests):
        if not test.condition:
            columns = ", ".join(f"{_bit(n) if n // BITS_PER_MASK == m else 0}::BIGINT AS m{m}" for m in range(masks))
            keep = f", NULL AS {KEPT}" if kept else ""
            branches.append(f"SELECT {ROW_NUMBER}, {columns}{keep} FROM ({_bad_rows(test)})")
    body = " UNION ALL ".join(branches)
    if len(branches) > 1:
        united = ", ".join(f"bit_or(m{mask}) AS m{mask}" for mask in range(masks))
        united += f", any_value({KEPT}) AS {KEPT}" if kept else ""
        body = f"SELECT {ROW_NUMBER}, {united} FROM ({body}) GROUP BY {ROW_NUMBER}"
    return f"CREATE OR REPLACE TEMP TABLE {FLAGS_TABLE} AS {body}"


def failed_statement(tests: int) -> str:
    """Statement that gives, per mask, the bits of the tests that any row fails."""
    return f"SELECT {', '.join(f'bit_or(m{mask})' for mask in range(_mask_count(tests)))} FROM {FLAGS_TABLE}"


def failed_tests(masks: Sequence[int | None]) -> list[int]:
    """Numbers of the tests whose bits are set; a mask is null where no row is flagged at all."""
    return [
        mask * BITS_PER_MASK + bit
        for mask, bits in enumerate(masks)
        for bit in range(BITS_PER_MASK)
        if (bits or 0) >> bit & 1
    ]


def count_statement(tests: Sequence[int]) -> str:
    """Statement that gives, per test, the number of bad rows, then, per test, the first few ``row_number``."""
    counts = [f"count(*) FILTER (WHERE {is_set(n)})" for n in tests]
    examples = [f"min({ROW_NUMBER}, {EXAMPLES}) FILTER (WHERE {is_set(n)})" for n in tests]
    return f"SELECT {', '.join(counts + examples)} FROM {FLAGS_TABLE}"


def reject_statement(critical: Mapping[int, str]) -> str:
    """Statement that gives the rejected rows and the ids of the rules they broke, in row order.

    Args:
        critical: rule id by test number, of the tests that reject; not empty.
    """
    broken = ", ".join(f"CASE WHEN {is_set(n)} THEN {literal(rule)} END" for n, rule in critical.items())
    anyone = " OR ".join(is_set(n) for n in critical)
    return (
        f"SELECT {ROW_NUMBER}, list_filter([{broken}], lambda rule: rule IS NOT NULL) AS rules "
        f"FROM {FLAGS_TABLE} WHERE {anyone} ORDER BY {ROW_NUMBER}"
    )


def lost_statement(critical: Collection[int]) -> str:
    """Statement that counts the rejected rows that were not kept."""
    return f"SELECT count(*) FROM {FLAGS_TABLE} WHERE ({' OR '.join(map(is_set, critical))}) AND {KEPT} IS NULL"


def kept_statement(critical: Collection[int], path: str) -> str:
    """Statement that writes the rejected rows to a Parquet file, ``file_row_number`` first.

    Without dictionaries, for which DuckDB 1.5.5 takes -0.0 and 0.0 for one value.
    """
    where = " OR ".join(map(is_set, critical))
    rows = f"SELECT {ROW_NUMBER} AS file_row_number, {KEPT}.* FROM {FLAGS_TABLE} WHERE {where}"
    return f"COPY ({rows}) TO {literal(path)} (FORMAT parquet, DICTIONARY_SIZE_LIMIT 0)"


def is_set(test: int) -> str:
    """SQL that is true on a flagged row which fails a test."""
    return f"m{test // BITS_PER_MASK} & {_bit(test)} <> 0"


def _kept(columns: Sequence[str], rejecting: Sequence[str]) -> str:
    row = ", ".join(f"{literal(column)}: {identifier(column)}" for column in columns)
    return f", CASE WHEN {' OR '.join(rejecting) or 'false'} THEN {{{row}}} END AS {KEPT}"


def _bit(test: int) -> int:
    return 1 << (test % BITS_PER_MASK)


def _mask_count(tests: int) -> int:
    return -(-tests // BITS_PER_MASK)


def _mask_of(conditions: Mapping[int, str], mask: int) -> str:
    parts = [
        f"CASE WHEN {condition} THEN {_bit(n)}::BIGINT ELSE 0 END"
        for n, condition in conditions.items()
        if n // BITS_PER_MASK == mask
    ]
    return f"{' | '.join(parts) or '0::BIGINT'} AS m{mask}"


def _restricted(condition: str | None, domain: str | None) -> str:
    return f"(({domain}) AND ({condition}))" if domain else f"({condition})"


def _bad_rows(test: RowTest) -> str:
    if test.query is not None:
        missing = literal(f"the query returned a row without {ROW_NUMBER}")
        number = f"CASE WHEN {ROW_NUMBER} IS NULL THEN error({missing}) ELSE {ROW_NUMBER}::BIGINT END"
        return f"SELECT DISTINCT {number} AS {ROW_NUMBER} FROM ({test.query}\n)"
    columns = [identifier(column) for column in test.duplicates]
    where = f" WHERE {test.domain}" if test.domain else ""
    repeated = f"SELECT {', '.join(columns)} FROM {ROWS_VIEW}{where} GROUP BY {', '.join(columns)} HAVING count(*) > 1"
    same = " AND ".join(f"{ROWS_VIEW}.{column} IS NOT DISTINCT FROM repeated.{column}" for column in columns)
    return f"SELECT {ROW_NUMBER} FROM {ROWS_VIEW} SEMI JOIN ({repeated}) AS repeated ON {same}{where}"
