"""From a question to an answer on the wire: in which form, by which thread, page or stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        done, _ = await asyncio.wait({future}, timeout=QUERY_S)
        if not done:
            cursor.interrupt()
            await asyncio.wait({future}, timeout=QUERY_S)
            raise Problem("too_slow", f"It took longer than {QUERY_S:g} s.", remedy="ask for less")
        return future.result()
    except duckdb.ConversionException as error:
        raise _wrong_type(error) from None
    except (duckdb.OutOfMemoryException, MemoryError):
        raise Problem("too_much_memory", "The question needs too much memory.", remedy="ask for less") from None
    except duckdb.OutOfRangeException:
        raise Problem("wrong_type", "A value, or a sum, is out of range.", remedy="ask for less") from None


def _wrong_type(error: duckdb.Error) -> Problem:
    first = str(error).split("\n", 1)[0].removeprefix("Conversion Error: ")[:200]
    return Problem("wrong_type", first, remedy="write values of the column's type, as the catalog lists it")


async def page(
    asked: Asked, threads: Threads, question: Question, *, limit: int, dataset: str, with_cursor: bool
) -> Response:
    """One page of rows as a JSON document."""
    opened = asked.release
    cursor = opened.borrow()
    try:
        body, rows = await in_time(
            threads.queries, cursor, lambda: _page(cursor, opened, question, limit, dataset, with_cursor=with_cursor)
        )
    except BaseException:
        cursor.close()  # it may still be at work
        raise
    opened.give_back(cursor)
    asked.rows, asked.cacheable = rows, True
    return Response(body, media_type="application/json")


def _page(
    cursor: duckdb.DuckDBPyConnection,
    opened: OpenRelease,
    question: Question,
    limit: int,
    dataset: str,
    *,
    with_cursor: bool,
) -> tuple[bytes, int]:
    more = f", #{len(question.columns) + 1} AS {ROW}" if with_cursor else ""
    sql = json_rows(question.ordered(limit + 1), question.columns, more=more)
    found = cursor.execute(sql, question.parameters).fetchall()  # of few rows cheaper than Arrow
    document: dict[str, Any] = {"release": opened.id, "dataset": dataset, "complete": len(found) <= limit}
    if with_cursor:
        document["next"] = None
        if len(found) > limit:
            document["next"] = make_cursor(opened.id, question.digest, found[limit - 1][1])
    text = "".join([row[0] for row in found[:limit]])
    return f'{json.dumps(document)[:-1]}, "rows":[{text[1:]}]}}'.encode(), min(len(found), limit)


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
