"""Which objects an interval has now, and what became of those its live rows were read from.

A listing tells what is there, at least once: pages overlap when keys are added meanwhile, and stores repeat themselves.
So an object is known by its key, whatever the number of times it is listed; if its versions differ the newest counts.

The live batch's receipt has the objects it was read from, with etag and size. Against it an object is *new*, *changed*,
*the same*, or has *vanished*. A vanished object is no news like the others: a bucket's own rules may have deleted what
was read long ago, and reading the interval again would delete its rows. What happens then is the table's
``on_vanished``: ``refuse`` (nothing is published), ``keep`` (its rows stay exactly as they are) or ``drop``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import ObjectCorrupt, VolumeRefused
from ingestion.objects.stores import StoredObject
from ingestion.spec import Objects
from lake.batches import Receipt
from lake.paths import is_plain_key

Entry = tuple[str, str, int]
"""Key, etag and size, as a receipt has them."""

_SHOWN = 5


def by_partition_key(found: Iterable[StoredObject], layout: Objects) -> dict[str, list[StoredObject]]:
    """The listed objects that the layout's path describes, by partition key, each once, in the order of their keys.

    Raises:
        ObjectCorrupt: such an object has a name that means something else to a file system or an HTTP library.
    """
    pattern = layout.key_pattern()
    objects: dict[str, tuple[str, StoredObject]] = {}
    for entry in found:
        match = pattern.fullmatch(entry.key)
        if not match:
            continue
        if not is_plain_key(entry.key):
            raise ObjectCorrupt(
                f"The object {entry.key!r} has a name that could lead elsewhere.",
                remedy="delete it, or name it plainly",
            )
        known = objects.get(entry.key)
        if known is None or entry.modified_at >= known[1].modified_at:
            objects[entry.key] = (match["key"], entry)
    by_key: dict[str, list[StoredObject]] = {}
    for partition_key, entry in sorted(objects.values()):
        by_key.setdefault(partition_key, []).append(entry)
    return by_key


@dataclass(frozen=True)
class Comparison:
    """An interval's objects against those of its live batch."""

    objects: tuple[StoredObject, ...]
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    vanished: tuple[Entry, ...] = ()
    is_first: bool = True

    @classmethod
    def of(cls, objects: Iterable[StoredObject], live: Receipt | None) -> Comparison:
        """Compare with the live batch, if there is one."""
        now = tuple(objects)
        if live is None or live.source_state.get("kind") != "objects":
            return cls(now)
        before = {
            str(key): (str(key), str(etag), int(size))
            for kind in ("objects", "kept")
            for key, etag, size in live.source_state.get(kind, ())
        }
        keys = {each.key for each in now}
        return cls(
            now,
            new=tuple(each.key for each in now if each.key not in before),
            changed=tuple(
                each.key for each in now if each.key in before and before[each.key][1:] != (each.etag, each.size_bytes)
            ),
            vanished=tuple(entry for key, entry in sorted(before.items()) if key not in keys),
            is_first=False,
        )

    def state(self, layout: Objects) -> dict[str, Any]:
        """What a receipt says of the source: objects read, and vanished ones whose rows are kept."""
        state: dict[str, Any] = {
            "kind": "objects",
            "objects": [[each.key, each.etag, each.size_bytes] for each in self.objects],
        }
        if self.vanished and layout.on_vanished == "keep":
            state["kept"] = [list(entry) for entry in self.vanished]
        return state

    def warnings(self, layout: Objects) -> tuple[str, ...]:
        """What the reader of a receipt should know."""
        if self.is_first or not (self.new or self.changed or self.vanished):
            return ()
        counts = f"{len(self.new)} new, {len(self.changed)} changed, {len(self.vanished)} vanished"
        found = [f"objects since the live batch: {counts}"]
        if self.vanished:
            done = "their rows are kept" if layout.on_vanished == "keep" else "their rows are dropped"
            found.append(f"objects have vanished and {done}: {self._named()}")
        return tuple(found)

    def refuse_vanished(self, layout: Objects, where: dict[str, str]) -> None:
        """Let nothing pass that would delete rows nobody gave up.

        Raises:
            VolumeRefused: objects have vanished, and the policy is ``refuse``.
        """
        if self.vanished and layout.on_vanished == "refuse":
            raise VolumeRefused(
                f"Objects that the live rows were read from have vanished: {self._named()}. Nothing was published.",
                **where,
                remedy="bring them back, or say in the spec what shall become of their rows: 'on_vanished: keep' or "
                "'on_vanished: drop'",
            )

    def _named(self) -> str:
        names = ", ".join(key for key, _, _ in self.vanished[:_SHOWN])
        more = len(self.vanished) - _SHOWN
        return f"{names} and {more} more" if more > 0 else names
