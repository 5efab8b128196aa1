"""The oracle: lake and warehouse as dictionaries, each operation a few assignments, one after the other.

::

    source ─ ingest ─▶ raw + held["raw"] ─ refine ─▶ refined + held["refined"] ─ build ─▶ releases, current

An operation gives the states that the world may be in while it is done: the one before it, one for each commit, and the
one behind it. So the model says what a crash may leave, and what any serial order of several operations ends in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.oracle.world import KEPT, LARGEST, Policy, Row


class Live(NamedTuple):
    """A live row: its version, its amount, and whether it is marked as gone from the source."""

    seq: int
    amount: int | None
    gone: bool = False


Shape = tuple[Any, ...]
"""What a quarantined row's id is made of: the row, and the columns it was told in."""


@dataclass
class Model:
    """What is true; ``None`` for an interval that was never published is a missing key."""

    policy: Policy
    source: dict[int, tuple[str, int, int | None]] = field(default_factory=dict)
    as_text: bool = False
    has_extra: bool = False
    raw: dict[str, dict[int, Live]] = field(default_factory=dict)
    refined: dict[str, dict[int, Live]] = field(default_factory=dict)
    held: dict[str, dict[str, dict[Shape, bool]]] = field(default_factory=lambda: {"raw": {}, "refined": {}})
    """Stage -> day -> quarantined row -> whether it was discarded."""
    repairs: dict[str, dict[str, dict[Shape, int | None]]] = field(default_factory=lambda: {"raw": {}, "refined": {}})
    """Stage -> day -> row -> the amount it was repaired to, None if it was discarded."""
    current: dict[Any, tuple[int, Live]] = field(default_factory=dict)
    ended: list[tuple[int, int, bool]] = field(default_factory=list)
    releases: dict[int, list[Row]] = field(default_factory=dict)
    pointer: int | None = None
    built: tuple[int | None, list[Row]] | None = None
    """The sealed candidate: the release it was built on, and its rows."""

    def copy(self) -> Model:
        """The state as it is now."""
        return copy.deepcopy(self)

    # -- lake ----------------------------------------------------------------------------------------------------------

    def ingest(self, day: str) -> Iterator[Model]:
        """Read an interval: it takes the old one's place, or is merged with what lives by key."""
        yield self
        batch = {id_: Live(seq, amount) for id_, (at, seq, amount) in self.source.items() if at == day}
        bad = {id_ for id_, row in batch.items() if row.amount is not None and (self.as_text or row.amount < 0)}
        if bad and bad == batch.keys():
            return  # no row is left: refused
        after = self.copy()
        here = after.raw.get(day, {})
        good = {id_: row for id_, row in batch.items() if id_ not in bad}
        if self.policy.moves:
            for other in after.raw.values():
                for id_ in good.keys() & other.keys():
                    if other[id_].gone or other[id_].seq < good[id_].seq + (other is here):
                        del other[id_]
                    else:
                        del good[id_]
            good |= here
        elif self.policy.marks:
            good = {id_: row._replace(gone=True) for id_, row in here.items()} | good
        after.raw[day] = good
        shape = (self.as_text, self.has_extra)
        after.held["raw"][day] = {(id_, *batch[id_], *shape): False for id_ in bad}
        if not bad:
            after.repairs["raw"].pop(day, None)
        yield after
        yield from after._reapplied("raw", day)

    def reconcile(self) -> Iterator[Model]:
        """Mark rows whose key the source no longer has, among the intervals that were loaded."""
        yield self
        newest = max((day for day, rows in self.raw.items() if rows), default="")
        recent = {id_ for id_, (at, _, _) in self.source.items() if at > newest}
        after = self.copy()
        for rows in after.raw.values():
            for id_, row in rows.items():
                if id_ not in self.source and id_ not in recent:
                    rows[id_] = row._replace(gone=True)
        yield after

    def sync_history(self) -> Iterator[Model]:
        """Take the live versions into the history; those that were current and are no more end."""
        yield self
        after = self.copy()
        lives = {
            (id_ if self.policy.moves else (day, id_)): (id_, row, day)
            for day, rows in self.raw.items()
            for id_, row in rows.items()
        }
        for key, (id_, held) in self.current.items():
            came = lives.get(key)
            if came is None or came[1] != held:
                after.ended.append((id_, held.seq, came is None or came[1].gone))
        after.current = {key: (id_, row) for key, (id_, row, _) in lives.items() if not row.gone}
        yield after

    def refine(self, day: str) -> Iterator[Model]:
        """Refine an interval from the raw rows that live now."""
        yield self
        if day not in self.raw:
            return
        rows = self.raw[day]
        bad = {id_ for id_, row in rows.items() if row.amount is not None and row.amount > LARGEST}
        if bad and bad == rows.keys():
            return  # refused
        after = self.copy()
        after.refined[day] = {id_: row for id_, row in rows.items() if id_ not in bad}
        after.held["refined"][day] = {(id_, *rows[id_]): False for id_ in bad}
        if not bad:
            after.repairs["refined"].pop(day, None)
        yield after
        yield from after._reapplied("refined", day)

    def _reapplied(self, stage: str, day: str) -> Iterator[Model]:
        known = self.repairs[stage].get(day, {})
        again = {row: known[row] for row, gone in self.held[stage].get(day, {}).items() if row in known and not gone}
        if again:
            yield self._decided(stage, day, again)

    def decide(self, stage: str, decisions: dict[str, dict[Shape, int | None]]) -> Iterator[Model]:
        """Repair and replay waiting rows, and discard those whose amount is None: a commit per interval for each."""
        yield self
        state = self
        for discards in (False, True):
            for day, rows in sorted(decisions.items()):
                chosen = {row: amount for row, amount in rows.items() if (amount is None) == discards}
                if chosen:
                    state = state._decided(stage, day, chosen)
                    yield state

    def _decided(self, stage: str, day: str, decisions: dict[Shape, int | None]) -> Model:
        after = self.copy()
        rows = (after.raw if stage == "raw" else after.refined)[day]
        for row, amount in decisions.items():
            if after.held[stage].get(day, {}).get(row, True):
                continue  # somebody has decided on it before
            id_, seq = row[:2]
            if amount is None:
                after.held[stage][day][row] = True
            elif self._fits(stage, day, id_, Live(seq, amount)):
                rows[id_] = Live(seq, amount, bool(row[3]) if stage == "refined" else False)
                del after.held[stage][day][row]
            else:
                continue
            after.repairs[stage].setdefault(day, {})[row] = amount
        return after

    def _fits(self, stage: str, day: str, id_: int, row: Live) -> bool:
        assert row.amount is not None
        if stage == "refined":
            return row.amount <= LARGEST
        if self.policy.moves and any(id_ in rows for other, rows in self.raw.items() if other != day):
            return False
        there = self.raw[day].get(id_)
        return row.amount >= 0 and (there is None or (self.policy.marks and (there.gone or there == row)))

    # -- warehouse -----------------------------------------------------------------------------------------------------

    def fact(self) -> list[Row]:
        """What a build of now holds."""
        rows = [(day, id_, row) for day, found in self.refined.items() for id_, row in found.items()]
        return sorted(((day, id_, *row) for day, id_, row in rows), key=lambda row: row[:3])

    def publish(self, rows: list[Row]) -> Iterator[Model]:
        """A candidate becomes the current release; then the oldest of more than :data:`KEPT` go."""
        yield self
        after = self.copy()
        after.pointer = max(after.releases, default=0) + 1
        after.releases[after.pointer], after.built = rows, None
        yield after
        kept = after.copy()
        for old in sorted(after.releases)[: max(0, len(after.releases) - KEPT)]:
            del kept.releases[old]
        yield kept

    def rollback(self, position: int) -> Iterator[Model]:
        """Point to one of the releases, counted from the oldest."""
        yield self
        after = self.copy()
        after.pointer = sorted(after.releases)[position]
        yield after

    # -- what can be seen ----------------------------------------------------------------------------------------------

    def seen(self) -> dict[str, Any]:
        """Everything that :meth:`tests.oracle.world.World.seen` reads off the real system."""
        tables = {"raw": self.raw, "refined": self.refined}
        found: dict[str, Any] = {
            stage: sorted(
                ((day, id_, *row) for day, rows in table.items() for id_, row in rows.items()), key=lambda row: row[:3]
            )
            for stage, table in tables.items()
        }
        for stage, table in tables.items():
            found[f"{stage} held"] = sorted(
                (day, *row[:2], gone) for day, rows in self.held[stage].items() for row, gone in rows.items()
            )
            found[f"{stage} days"] = sorted(table)
        found["history"] = sorted(
            [(id_, row.seq, False, False) for id_, row in self.current.values()]
            + [(id_, seq, True, gone) for id_, seq, gone in self.ended]
        )
        found["releases"] = [rows for _, rows in sorted(self.releases.items())]
        found["pointer"] = None if self.pointer is None else sorted(self.releases).index(self.pointer)
        return found
