"""What a task has used is kept, and what it tells is sent, as for a command: :func:`accounted` around its work.

Airflow writes task logs as JSON by structlog, with its own fields. Its context is given ours, so that a line of a task
says run, table, interval, stage and trace as a line of the command line does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_FIELDS = ("run_id", "source", "table", "interval", "stage", "step", "trace_id", "span_id")


def accounted(step: Callable[P, R]) -> Callable[P, R]:
    """The work of a task, accounted for however it ends."""

    @functools.wraps(step)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        from common import logs, work

        logs.mirror(_to_structlog)
        work.begin(step.__name__)
        try:
            answer = step(*args, **kwargs)
        except BaseException as error:
            work.end(error)
            raise
        work.end()
        return answer

    return told


def _to_structlog(context: Mapping[str, str]) -> None:
    from structlog.contextvars import bind_contextvars, unbind_contextvars

    unbind_contextvars(*_FIELDS)
    bind_contextvars(**{f: context[f] for f in _FIELDS if f in context})
