"""Rows on their way to a caller: made batch by batch as they are taken, in bounded memory, each batch within its time.

A caller that takes slowly holds up nobody but itself: gRPC stops asking for batches, and DuckDB stops making them. What
such a caller holds is an open query, so how many there may be at once, of one caller and of all, is bounded.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import contextmanager
from typing import TypeVar

import duckdb
import pyarrow as pa

from warehouse.serve import answers
from warehouse.serve.formats import exact_rows
from warehouse.serve.opened import OpenRelease
from warehouse.serve.problems import Problem
from warehouse.serve.query import Question

_BATCH_ROWS = 65_536
_MESSAGE_BYTES = 4 << 20
"""Most that is sent in one message: the ADBC driver takes 16 MiB by default."""

_Value = TypeVar("_Value")


class Streams:
    """Counts answers that are under way; safe to use from many threads.

    Args:
        most: at once.
        most_of_one: at once of one subject.
    """

    def __init__(self, most: int = 64, most_of_one: int = 16) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._guard = threading.Lock()
        self._open: Counter[str] = Counter()

    def begin(self, subject: str) -> None:
        """One more.

        Raises:
            Problem: ``busy``: those there are must end first.
        """
        with self._guard:
            if self._open.total() >= self._most or self._open[subject] >= self._most_of_one:
                raise Problem("busy", "Too many answers are under way.", remedy="read those to their end first")
            self._open[subject] += 1

    def end(self, subject: str) -> None:
        """One less."""
        with self._guard:
            self._open[subject] -= 1
            if not self._open[subject]:
                del self._open[subject]


def dataset_rows(
    pool: ThreadPoolExecutor, opened: OpenRelease, question: Question, limit: int | None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Rows of a question: their columns, and batches that are computed as they are taken.

    Raises:
        Problem: ``too_slow``, ``too_much_memory``, ``wrong_type``; of a later batch when that is taken.
    """
    cursor = opened.borrow()
    sql = exact_rows(question.ordered(limit), question.columns)
    try:
        reader = _within(pool, cursor, lambda: cursor.execute(sql, question.parameters).to_arrow_reader(_BATCH_ROWS))
    except BaseException:
        cursor.close()
        raise
    return reader.schema, _taken(pool, cursor, reader)


def ipc_rows(content: bytes) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Rows of an Arrow stream that is there already, of a size that is bounded elsewhere."""
    reader = pa.ipc.open_stream(content)
    return reader.schema, iter(reader)


def table_rows(table: pa.Table) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Rows of a table."""
    return table.schema, iter(table.to_batches())


def in_messages(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that any client takes."""
    for batch in batches:
        pieces = min(batch.num_rows, batch.nbytes // _MESSAGE_BYTES + 1)
        if batch.num_rows:
            step = -(-batch.num_rows // pieces)
            for start in range(0, batch.num_rows, step):
                yield batch.slice(start, step)


def _taken(
    pool: ThreadPoolExecutor, cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader
) -> Iterator[pa.RecordBatch]:
    with _closing(cursor):
        while (batch := _within(pool, cursor, lambda: next(reader, None))) is not None:
            yield batch


@contextmanager
def _closing(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    try:
        yield
    finally:
        cursor.close()


def _within(pool: ThreadPoolExecutor, cursor: duckdb.DuckDBPyConnection, work: Callable[[], _Value]) -> _Value:
    """Do a step of a query in one of the server's threads for long answers, within its time."""
    future = pool.submit(work)
    with answers.told():
        try:
            return future.result(answers.QUERY_S)
        except NotInTime:
            future.cancel()
            cursor.interrupt()
            raise answers.too_slow() from None
