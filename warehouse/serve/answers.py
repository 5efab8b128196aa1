"""From a question to an answer on the wire: in which form, by which thread, page or stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb
from starlette.responses import Response, StreamingResponse

from warehouse.serve.formats import MEDIA_TYPES, Format, encode, json_rows
from warehouse.serve.gate import Asked
from warehouse.serve.opened import OpenRelease
from warehouse.serve.policy import ROW
from warehouse.serve.problems import Problem
from warehouse.serve.query import Question, make_cursor

QUERY_S = 30.0
"""Longest time until a dataset's answer begins, and between two chunks of it, in s."""

_SENT_BYTES = 1 << 20
"""Most that is handed to the connection at once: what a client does not take is noticed after so much."""

_Value = TypeVar("_Value")
_FORMATS: dict[str, Format] = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
    "application/*": "json",
    "text/*": "csv",
    "*/*": "json",
}


def wanted_format(asked: Asked, parameter: str | None) -> Format:
    """The form that the caller asks for: by ``format=``, else by ``Accept``, else JSON.

    Raises:
        Problem: ``not_acceptable``.
    """
    if parameter is not None:
        return parameter  # type: ignore[return-value]  # checked by the route
    accept = asked.headers.get(b"accept", b"*/*").decode("latin-1")
    weighed = []
    for part in accept.split(","):
        media, *options = (piece.strip().lower() for piece in part.split(";"))
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        if media in _FORMATS and quality not in {"0", "0.0", "0.00", "0.000"}:
            weighed.append((quality, _FORMATS[media]))
    if not weighed:
        raise Problem(
            "not_acceptable",
            "None of the forms of Accept is given here.",
            remedy=f"accept one of {', '.join(media.split(';')[0] for media in MEDIA_TYPES.values())}",
        )
    return max(weighed, key=lambda each: each[0].ljust(5, "0") if each[0] != "1" else "1.0000")[1]


@dataclass(frozen=True)
class Threads:
    """Threads for work that would hold up the loop.

    Attributes:
        queries: short questions; as many at once as there are processors.
        exports: long answers, apart, so that they do not keep short ones waiting.
        statements: those that wait for a statement's own process.
        operations: work on the lake, which may wait for others.
    """

    queries: ThreadPoolExecutor
    exports: ThreadPoolExecutor
    statements: ThreadPoolExecutor
    operations: ThreadPoolExecutor

    @classmethod
    def start(cls, processors: int, statements: int) -> Threads:
        """New threads."""
        return cls(
            ThreadPoolExecutor(processors, "query"),
            ThreadPoolExecutor(processors * 2, "export"),
            ThreadPoolExecutor(statements, "statement"),
            ThreadPoolExecutor(4, "operation"),
        )

    def close(self) -> None:
        """End them; what has not begun does not begin."""
        for pool in (self.queries, self.exports, self.statements, self.operations):
            pool.shutdown(wait=False, cancel_futures=True)


async def in_time(pool: ThreadPoolExecutor, cursor: duckdb.DuckDBPyConnection, work: Callable[[], _Value]) -> _Value:
    """Do a step of a query in a thread, within its time.

    Raises:
        Problem: ``too_slow``; ``wrong_type``, when a value does not fit its column.
    """
    loop = asyncio.get_running_loop()
    too_late = loop.call_later(QUERY_S, cursor.interrupt)
    try:
        with told():
            async with asyncio.timeout(2 * QUERY_S):  # where it waits for others, there is nothing to interrupt
                return await loop.run_in_executor(pool, work)
    except (duckdb.InterruptException, TimeoutError):
        raise too_slow() from None
    finally:
        too_late.cancel()


def too_slow() -> Problem:
    """The problem of a step that took too long."""
    return Problem("too_slow", f"It took longer than {QUERY_S:g} s.", remedy="ask for less")


@contextmanager
def told() -> Iterator[None]:
    """Tell the caller of a question what DuckDB says of it.

    Raises:
        Problem: ``wrong_type``, ``too_much_memory``.
    """
    try:
        yield
    except duckdb.ConversionException as error:
        raise _wrong_type(error) from None
    except (duckdb.OutOfMemoryException, MemoryError):
        raise Problem("too_much_memory", "The question needs too much memory.", remedy="ask for less") from None
    except duckdb.OutOfRangeException:
        raise Problem("wrong_type", "A value, or a sum, is out of range.", remedy="ask for less") from None


def _wrong_type(error: duckdb.Error) -> Problem:
    first = str(error).split("\n", 1)[0].removeprefix("Conversion Error: ")[:200]
    return Problem("wrong_type", first, remedy="write values of the column's type, as the catalog lists it")


@dataclass(frozen=True)
class Found:
    """Rows of a page.

    Attributes:
        text: them, as a JSON list.
        rows: how many.
        complete: whether these are the last ones.
        next: cursor of the next page; None at the end, and where there are no pages.
    """

    text: str
    rows: int
    complete: bool
    next: str | None


async def find(opened: OpenRelease, threads: Threads, question: Question, *, limit: int, paged: bool) -> Found:
    """Rows of one page.

    Args:
        opened: the release that answers.
        threads: do the work.
        question: what is asked; its last column is the row's number where there are pages.
        limit: rows of the page.
        paged: whether there are more pages behind it.

    Raises:
        Problem: see :func:`in_time`.
    """
    cursor = opened.borrow()
    try:
        found = await in_time(threads.queries, cursor, lambda: _find(cursor, opened.id, question, limit, paged=paged))
    except BaseException:
        cursor.close()  # it may still be at work
        raise
    opened.give_back(cursor)
    return found


def _find(cursor: duckdb.DuckDBPyConnection, release: str, question: Question, limit: int, *, paged: bool) -> Found:
    more = f", #{len(question.columns) + 1} AS {ROW}" if paged else ""
    sql = json_rows(question.ordered(limit + 1), question.columns, more=more)
    found = cursor.execute(sql, question.parameters).fetchall()  # of few rows cheaper than Arrow
    complete = len(found) <= limit
    following = make_cursor(release, question.digest, found[limit - 1][1]) if paged and not complete else None
    return Found(f"[{''.join([row[0] for row in found[:limit]])[1:]}]", min(len(found), limit), complete, following)


async def page(
    asked: Asked, threads: Threads, question: Question, *, limit: int, dataset: str, with_cursor: bool
) -> Response:
    """One page of rows as a JSON document."""
    found = await find(asked.release, threads, question, limit=limit, paged=with_cursor)
    document: dict[str, Any] = {"release": asked.release.id, "dataset": dataset, "complete": found.complete}
    if with_cursor:
        document["next"] = found.next
    asked.rows, asked.cacheable = found.rows, True
    body = f'{json.dumps(document)[:-1]}, "rows":{found.text}}}'.encode()
    return Response(body, media_type="application/json")


async def stream(
    asked: Asked, threads: Threads, question: Question, kind: Format, *, limit: int | None, dataset: str
) -> Response:
    """All rows, chunk by chunk; the next chunk is made while one is sent, and no more than that."""
    cursor = asked.release.borrow()
    encoded = None

    def begin() -> Iterator[bytes]:
        nonlocal encoded
        encoded = encode(cursor, question.ordered(limit), question.columns, kind, question.parameters)
        return iter(encoded)

    try:
        chunks = await in_time(threads.exports, cursor, begin)
        first = await in_time(threads.exports, cursor, lambda: next(chunks, None))
    except BaseException:
        cursor.close()
        raise

    async def body() -> AsyncIterator[bytes]:
        chunk = first
        try:
            while chunk is not None:
                following = asyncio.ensure_future(in_time(threads.exports, cursor, lambda: next(chunks, None)))
                try:
                    for start in range(0, len(chunk), _SENT_BYTES):
                        yield chunk[start : start + _SENT_BYTES]
                finally:
                    await asyncio.wait({following})
                chunk = following.result()
            asked.rows = encoded.rows if encoded else None
        finally:
            cursor.close()

    asked.cacheable = True
    extension = {"csv": "csv", "arrow": "arrows", "parquet": "parquet", "json": "json"}[kind]
    headers = {"content-disposition": f'attachment; filename="{dataset}-{asked.release.id}.{extension}"'}
    return StreamingResponse(body(), media_type=MEDIA_TYPES[kind], headers=headers)
