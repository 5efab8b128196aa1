"""One tree of errors; two questions answered by the class: retry or stop, and which exit code.

::

    PenstockError
    ├── TransientError        retry with backoff                           exit 3
    │   ├── SourceUnavailable     the source did not answer
    │   ├── StoreUnavailable      the lake's or release store did not answer
    │   ├── CommitConflict        another writer kept winning the same interval
    │   │   └── Overtaken             another run published the interval since this one began to read it
    │   └── LeaseHeld             another build holds the warehouse lease
    ├── TerminalError         retrying cannot help                         exit 3
    │   ├── SourceRefused         wrong password, no permission
    │   ├── StateCorrupt          stored state contradicts itself
    │   ├── DiskFull              a local disk has no room for what is written
    │   ├── BuildFailed           a dbt model or test failed to run
    │   └── UsageError            the caller must change something         exit 2
    │       ├── SettingsError         a setting or connection is missing or wrong
    │       ├── SpecError             a source spec or suite is not valid
    │       ├── UnknownName           no such source, table, release
    │       └── IntervalError         malformed, empty or future interval
    └── DataRejected          the data broke its contract; nothing published  exit 1
        ├── GateRefused           a gate's verdict was not PASS
        ├── GateCrashed           a gate could not run (which is a refusal)
        ├── SourceSchemaError     source and spec disagree (table, column, header, type)
        ├── ObjectCorrupt         truncated or undecodable object
        ├── VolumeRefused         far fewer rows than are live, or too many gone from the source at once
        ├── EmptyBatch            no rows where the spec promises some
        └── Unreconciled          two stages that should hold the same rows do not

Every message says what is wrong, where (source, table, interval) and ends with the remedy. Secrets never enter a
message: connection errors are rebuilt from host, port and user by the code that catches the driver's error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class PenstockError(Exception):
    """Root of every error Penstock raises on purpose.

    Args:
        problem: one sentence, what is wrong.
        source: source name, where known.
        table: table name, where known.
        interval: partition key or range, where known.
        remedy: what the reader should do now.
    """

    exit_code: ClassVar[int] = 3
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        table: str | None = None,
        interval: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.source = source
        self.table = table
        self.interval = interval
        self.remedy = remedy
        super().__init__(str(self))

    def locate(self, *, source: str | None = None, table: str | None = None, interval: str | None = None) -> None:
        """Say where it happened, as far as the raiser did not know: its caller often knows more."""
        self.source = self.source or source
        self.table = self.table or table
        self.interval = self.interval or interval

    @property
    def where(self) -> dict[str, str]:
        """Source, table and interval, as far as they are known."""
        named = (("source", self.source), ("table", self.table), ("interval", self.interval))
        return {label: value for label, value in named if value}

    def __str__(self) -> str:
        """``problem [source=.. table=.. interval=..] Remedy: ..``"""
        where = " ".join(f"{label}={value}" for label, value in self.where.items())
        parts = [self.problem.rstrip()]
        if where:
            parts.append(f"[{where}]")
        if self.remedy:
            parts.append(f"Remedy: {self.remedy}")
        return " ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by state, so that an error crosses a process boundary with its fields."""
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(kind: type[PenstockError], state: dict[str, object]) -> PenstockError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    Exception.__init__(error, str(error))
    return error


@contextmanager
def located(*, source: str | None = None, table: str | None = None, interval: str | None = None) -> Iterator[None]:
    """Every :class:`PenstockError` that leaves this block says where it happened (:meth:`PenstockError.locate`)."""
    try:
        yield
    except PenstockError as error:
        error.locate(source=source, table=table, interval=interval)
        raise


class TransientError(PenstockError):
    """Trying again later may succeed."""

    retryable = True


class SourceUnavailable(TransientError):
    """The source did not answer, or the connection broke."""


class StoreUnavailable(TransientError):
    """The lake's or the releases' storage did not answer."""


class CommitConflict(TransientError):
    """Other writers kept changing the same interval until the retries were used up."""


class Overtaken(CommitConflict):
    """Another run has published the interval since this one began to read it: what was read may be older."""


class LeaseHeld(TransientError):
    """Another process is building or publishing this warehouse."""


class TerminalError(PenstockError):
    """Trying again cannot help."""


class SourceRefused(TerminalError):
    """The source answered and said no: wrong password, no permission, no such database or bucket."""


class StateCorrupt(TerminalError):
    """Stored state contradicts itself, or a file the catalog names is missing or damaged."""


class DiskFull(TerminalError):
    """A local disk has no room for what is written; the message names the path and the bytes."""


class BuildFailed(TerminalError):
    """dbt could not build a model; the message names each failing node."""


class UsageError(TerminalError):
    """The caller must change something."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting or connection is missing or malformed."""


class SpecError(UsageError):
    """A source spec or suite file is not valid; the message names file and line."""


class UnknownName(UsageError):
    """No source, table or release of that name; the message lists those there are."""


class IntervalError(UsageError):
    """An interval that is malformed, empty, reversed, or not over yet."""


class DataRejected(PenstockError):
    """The data broke its contract. Nothing was published."""

    exit_code = 1


class GateRefused(DataRejected):
    """A gate's verdict was not PASS."""


class GateCrashed(DataRejected):
    """A gate could not run. No verdict means no publish."""


class SourceSchemaError(DataRejected):
    """Source and spec disagree: missing table or column, changed type, wrong header."""


class ObjectCorrupt(DataRejected):
    """An object is truncated or cannot be decoded."""


class VolumeRefused(DataRejected):
    """A batch has far fewer rows than those it would replace, or too many rows are gone from the source at once."""


class EmptyBatch(DataRejected):
    """The source has no rows for an interval in which the spec promises some."""


class Unreconciled(DataRejected):
    """Source, lake and warehouse do not hold the same rows; the message names interval and columns."""
