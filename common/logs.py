"""Log lines: for people as they always were, or one JSON object a line that says which work it is about.

::

    common/work.py: what is being done -> context ─┐
    logging.getLogger(...).info(...)               ├─> {"time": ..., "run_id": ..., "table": ..., "trace_id": ...}

Text is the default, and then nothing here touches logging at all. With JSON everything that goes to standard error is
such an object, progress and the last error too, so that a collector need not know two formats.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

Format = Literal["text", "json"]

_PACKAGES = ("common", "dags", "ingestion", "lake", "penstock", "quality", "transformations", "warehouse")
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")
_context: ContextVar[Mapping[str, str]] = ContextVar("penstock_work", default=MappingProxyType({}))
_handler: logging.Handler | None = None
_run: dict[str, str] = {}
_mirror: Callable[[Mapping[str, str]], None] | None = None


def context() -> Mapping[str, str]:
    """What is being done: run id, source, table, interval, stage, trace id - as far as it is known."""
    return {**_run, **_context.get()}


def about(fields: Mapping[str, str] | None = None) -> None:
    """What lines say that belong to no piece of work: the run of this process. Without fields it is forgotten."""
    if fields is None:
        _run.clear()
    else:
        _run.update(fields)


def enter(fields: Mapping[str, str]) -> Token[Mapping[str, str]]:
    """From now on work is about this as well; empty fields say nothing."""
    token = _context.set({**_context.get(), **{name: value for name, value in fields.items() if value}})
    if _mirror is not None:
        _mirror(context())
    return token


def leave(token: Token[Mapping[str, str]]) -> None:
    """What was entered is done."""
    _context.reset(token)
    if _mirror is not None:
        _mirror(context())


def mirror(shown: Callable[[Mapping[str, str]], None] | None) -> None:
    """Also give the context to somebody else's logging, whenever it changes; None ends that."""
    global _mirror  # noqa: PLW0603 - logging is the process's own
    _mirror = shown


def masked(text: str) -> str:
    """A text without the passwords of URLs in it: messages are made without any, and this is for those that are not."""
    return _PASSWORD.sub(r"\1:***@", text)


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, what is being done, and the record's own ``work``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
            **context(),
            **getattr(record, "work", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"error": record.exc_info[0].__name__, "stack": masked(self.formatException(record.exc_info))}
        return json.dumps(line, default=str)


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - as every handler of the library: a line that cannot be written stops nothing
            self.handleError(record)


def configure(form: Format) -> None:
    """Have this process write its log lines like that; ``text`` leaves logging as it is without us.

    Side effects: with ``json`` the root logger gets a handler and our own packages log from INFO on.
    """
    global _handler  # noqa: PLW0603 - logging is the process's own
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
        _handler = None
    level = logging.NOTSET
    if form == "json":
        _handler = _StandardError()
        _handler.setFormatter(JsonFormatter())
        root.addHandler(_handler)
        level = logging.INFO
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)


def is_json() -> bool:
    """Whether log lines are JSON."""
    return _handler is not None


def say(text: str, *, level: int = logging.INFO, exc_info: bool = False, work: Mapping[str, Any] | None = None) -> None:
    """One line on standard error, as text as it is.

    Args:
        text: the line.
        level: of the log record, where lines are JSON.
        exc_info: whether that also has the error being handled, with its stack.
        work: more fields of it.
    """
    if is_json():
        told = text.removeprefix("penstock: ")
        logging.getLogger("penstock").log(level, "%s", told, exc_info=exc_info, extra={"work": work or {}})
    else:
        sys.stderr.write(f"{text}\n")
