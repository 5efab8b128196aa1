"""What every place with releases can be asked, on a local disk or in object storage: which there are, and one to read.

A reader names what it wants - ``current``, an id, ``as of <time>`` - and gets exactly one release, opened by its own
path. What the pointer named at a time is read off its moves, so a rollback counts: asked for a time at which an earlier
release was current again, that one is given.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from common.errors import StateCorrupt, UnknownName, UsageError

if TYPE_CHECKING:
    from warehouse.releases import Release
    from warehouse.serve.policy import Shown

CURRENT = "current"
_ID = re.compile(r"r\d{6,}")
_AS_OF = re.compile(r"as\s+of\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_TRIES = 20
"""How often a reader of the current release takes a newer one because its own was retired while it was opened."""


@dataclass(frozen=True, order=True)
class Move:
    """The pointer came to name a release.

    Attributes:
        at: when, UTC.
        release: its id.
    """

    at: datetime
    release: str


class Shelf(ABC):
    """A place with releases.

    Attributes:
        follow_s: how often who follows the pointer should look at it, in s.
    """

    follow_s = 0.2

    @abstractmethod
    def current_id(self) -> str | None:
        """The id that the pointer names now; None before the first publish."""

    @abstractmethod
    def current(self) -> Release | None:
        """The release that the pointer names now; None before the first publish.

        Raises:
            StateCorrupt: it is not there, or damaged.
        """

    @abstractmethod
    def all(self) -> list[Release]:
        """Published releases that are kept, oldest first."""

    @abstractmethod
    def moves(self) -> list[Move]:
        """Where the pointer was moved to and when, oldest first; releases that are gone included."""

    @abstractmethod
    def on_disk(self, release: Release) -> Release:
        """The same release with the folder in which its file lies on this disk, fetched if need be.

        Raises:
            FileNotFoundError: it was removed in the meantime.
            StateCorrupt, StoreUnavailable: it cannot be read.
        """

    @abstractmethod
    def _connect(self, release: Release) -> duckdb.DuckDBPyConnection:
        """A hardened read-only connection to a release.

        Raises:
            FileNotFoundError: it was removed in the meantime.
            StateCorrupt, StoreUnavailable: it cannot be read.
        """

    def shown(self, release: Release, connection: duckdb.DuckDBPyConnection) -> Mapping[str, Shown]:
        """The datasets that metrics may be asked of, as whoever reads here sees them: everything.

        Args:
            release: the release.
            connection: to it, as :meth:`open` gave it.
        """
        from warehouse.metrics_layer import everything

        return everything(release, connection)

    def get(self, release_id: str) -> Release:
        """The published release of that id.

        Raises:
            UnknownName: no such release, or one that is no longer kept; the message lists those there are.
        """
        releases = self.all()
        for release in releases:
            if release.id == release_id:
                return release
        raise self._absent(release_id, releases)

    def find(self, wanted: str | None = None) -> Release:
        """The release that a reader's words mean.

        Args:
            wanted: ``current`` (the default), an id such as ``r000012``, or ``as of`` and a time as in ISO 8601; a
                time without a zone is UTC.

        Raises:
            UnknownName: nothing has been published yet (then), or that release is no longer kept.
            UsageError: none of the three.
        """
        if wanted is None or wanted.strip().lower() == CURRENT:
            current = self.current()
            if current is None:
                raise UnknownName("Nothing has been published yet.", remedy="run 'penstock run' or 'make demo'")
            return current
        if _ID.fullmatch(wanted.strip()):
            return self.get(wanted.strip())
        if as_of := _AS_OF.fullmatch(wanted.strip()):
            return self.get(self._current_at(parse_time(as_of[1])))
        if re.fullmatch(r"\S+", wanted):
            raise self._absent(wanted, self.all())
        raise UsageError(
            f"{wanted!r} names no release.", remedy="write 'current', an id such as r000012, or 'as of <ISO 8601 time>'"
        )

    def open(self, wanted: str | None = None) -> tuple[Release, duckdb.DuckDBPyConnection]:
        """A release and a connection that reads it and nothing else, until it is closed.

        Raises:
            UnknownName: see :meth:`find`; also where the release was removed while it was being opened.
            StateCorrupt: its file is damaged.
            StoreUnavailable: the store does not answer.
        """
        for _ in range(_TRIES):
            pointed_at = self.current_id()
            try:
                release = self.find(wanted)
                return release, self._connect(release)
            except (FileNotFoundError, StateCorrupt) as error:
                # Retired while we looked? Where the pointer has moved on, its new release is the answer.
                if wanted in {None, CURRENT} and self.current_id() != pointed_at:
                    continue
                if isinstance(error, StateCorrupt):
                    raise
                break
        release = self.find(wanted)  # of one that was removed it says what there is
        raise StateCorrupt(
            f"Release {release.id} cannot be opened: its files are not there.",
            remedy="roll back to another release: 'penstock rollback'",
        )

    def connect(self, wanted: str | None = None) -> duckdb.DuckDBPyConnection:
        """A read-only connection to a release, the current one by default (see :meth:`open`)."""
        return self.open(wanted)[1]

    def _current_at(self, at: datetime) -> str:
        before = [move for move in self.moves() if move.at <= at]
        if not before:
            raise UnknownName(
                f"Nothing had been published by {at.isoformat()} (there are: {_names(self.all())}).",
                remedy="see 'penstock releases'",
            )
        return before[-1].release

    def _absent(self, release_id: str, releases: Iterable[Release]) -> UnknownName:
        known = _names(releases)
        if any(move.release == release_id for move in self.moves()):
            return UnknownName(
                f"Release {release_id!r} is no longer kept (there are: {known}).",
                remedy="read one of these; PENSTOCK_KEEP_RELEASES says how many are kept",
            )
        return UnknownName(
            f"There is no release {release_id!r} (there are: {known}).", remedy="see 'penstock releases'"
        )


def _names(releases: Iterable[Release]) -> str:
    return ", ".join(release.id for release in releases) or "none yet"


def parse_time(text: str) -> datetime:
    """A time as in ISO 8601; without a zone it is UTC.

    Raises:
        UsageError: it is none.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{text!r} is no time.", remedy="write it as 2026-11-26T08:30:00Z; without a zone it is UTC"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
