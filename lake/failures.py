"""What does not work: one small file per thing that failed, there until the same thing works again.

::

    ops/failures/<source or table or build>[/<interval>].json

A refused batch leaves its verdict in the lake. A source that does not answer, a build that breaks, a task that is
killed leave nothing, and they happen on whichever machine did the work; so their last word is kept here. The file's
name is what failed, so that a failure that repeats replaces itself, and two machines that fail alike leave one file.

Of a file that is deleted nothing is lost: that it failed, and when, is what ``ops.incidents`` remembers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from common.errors import StateCorrupt
from lake.lake import Lake
from lake.paths import failure_location

_LOG = logging.getLogger(__name__)

Scope = tuple[str, ...]
"""What failed, as segments of a path: ``("raw.shop__orders", "2013-01-01")``, ``("source.shop",)``, ``("build",)``."""


@dataclass(frozen=True)
class Failure:
    """The last failure of one thing.

    Attributes:
        scope: what failed.
        stage: what was done: ``connect``, ``ingest``, ``refine``, ``build``, ``reconcile``, ``task``.
        source: name of the source, empty where there is none.
        table: lake table, or table of the warehouse; empty where it is about none.
        key: partition key; empty where it is about none.
        error: class of the error.
        problem: what is wrong, without secrets.
        remedy: what the error advises; may be empty.
        run_id: the run.
        job: what the run was part of, as lineage names it.
        failed_at: UTC.
    """

    scope: Scope
    stage: str
    source: str
    table: str
    key: str
    error: str
    problem: str
    remedy: str
    run_id: str
    job: str
    failed_at: datetime


def record_failure(lake: Lake, failure: Failure) -> None:
    """Keep a failure; what was kept of the same scope is replaced.

    Raises:
        StoreUnavailable: the store does not take it.
        UnknownName: the scope cannot be part of a path.
    """
    lake.storage.replace_json(failure_location(lake.settings.lake_uri, *failure.scope), asdict(failure))


def known_scopes(lake: Lake) -> set[Scope]:
    """What is failing now; one listing.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    return {_scope(lake, path) for path in _files(lake)}


def failures(lake: Lake) -> list[Failure]:
    """What is failing now.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    found = []
    for path in _files(lake):
        try:
            read = lake.storage.read_json(path)
        except StateCorrupt as error:  # another run has just seen it work again
            _LOG.info("a failure is gone: %s", error)
            continue
        moment = datetime.fromisoformat(read["failed_at"])
        found.append(Failure(**{**read, "scope": tuple(read["scope"]), "failed_at": moment}))
    return found


def forget_failures(lake: Lake, scopes: Iterable[Scope]) -> None:
    """These work again."""
    for scope in scopes:
        lake.storage.delete(failure_location(lake.settings.lake_uri, *scope))


def _files(lake: Lake) -> list[str]:
    listed = lake.storage.list_files(failure_location(lake.settings.lake_uri))
    return [path for path in listed if path.endswith(".json") and not path.rsplit("/", 1)[-1].startswith(".")]


def _scope(lake: Lake, path: str) -> Scope:
    folder = failure_location(lake.settings.lake_uri)
    return tuple(path.removeprefix(f"{folder}/").removesuffix(".json").split("/"))
