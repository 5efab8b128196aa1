"""From everything that is wrong to what is wrong first: one cause per thing that somebody has to mend.

::

    problems ─▶ those of one thing are one ─▶ a source whose every table fails ─▶ what follows from another ─▶ causes
                                              fails itself                        is named by it, not beside it

A source that cannot be reached makes its tables late, what is refined from them late, and the marts stale: five or
fifty symptoms, one cause. Which follows from which is read off the declared lineage (specs, refined tables, models),
and only of *symptoms*. That nothing new came (``freshness``) follows from whatever keeps it from coming. A hole
(``missing``) follows from what is wrong upstream with those very days, and never from what is wrong today. A refused
batch follows from nothing: somebody has to look at it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from common.notify_routes import SEVERITIES, Severity
from lake.paths import WHOLE

Kind = Literal["source", "refused", "volume", "drift", "freshness", "missing", "failure", "task"]

KEEPS_ROWS_BACK: frozenset[Kind] = frozenset({"source", "refused", "volume", "drift", "failure", "task", "freshness"})
"""Kinds for which nothing new comes downstream, if they are critical."""

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: what sort of thing.
        node: where: ``source.shop``, ``raw.shop__orders``, ``refined.orders``, a model, ``build``.
        severity: how grave.
        reason: what is wrong, in a sentence.
        seen: moments at which it failed, was refused or became overdue.
        intervals: partition keys it is about.
        command: what to run next.
        source_of: of a failing table, the source that fails instead if all its tables do; empty where that cannot be.
        unreachable: whether it is the source that fails, whatever the other tables do.
    """

    kind: Kind
    node: str
    severity: Severity
    reason: str
    seen: tuple[datetime, ...] = ()
    intervals: tuple[str, ...] = ()
    command: str = ""
    source_of: str = ""
    unreachable: bool = False

    @property
    def key(self) -> str:
        """What makes two problems the same cause."""
        return f"{self.kind}:{self.node}"


@dataclass(frozen=True)
class Cause:
    """A problem that is its own cause.

    Attributes:
        key: ``<kind>:<node>``.
        kind, severity, reason, seen, intervals, command: as of :class:`Problem`.
        subject: what is wrong, in a few words.
        owner: who answers for it.
        affected: tables and models made from what is broken, in the order of their names.
    """

    key: str
    kind: str
    subject: str
    severity: Severity
    owner: str
    reason: str
    command: str
    seen: tuple[datetime, ...] = ()
    intervals: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """What is made from what, as declared.

    Attributes:
        parents: node -> nodes it is made from, one step.
        owners: node -> who answers for it; nodes without an entry have their parents' owner.
        commands: source -> what to run once it is mended.
    """

    parents: Mapping[str, frozenset[str]]
    owners: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _children(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for node, parents in self.parents.items():
            for parent in parents:
                found[parent].add(node)
        return {node: frozenset(children) for node, children in found.items()}

    def above(self, node: str) -> set[str]:
        """Everything a node is made from, directly or not."""
        return _reached(node, self.parents)

    def below(self, node: str) -> tuple[str, ...]:
        """Everything that is made from a node, directly or not, by name."""
        return tuple(sorted(_reached(node, self._children)))

    def owner(self, node: str) -> str:
        """Who answers for a node, or for the first thing it is made from."""
        if node in self.owners:
            return self.owners[node]
        return next((self.owners[each] for each in sorted(self.above(node)) if each in self.owners), "")

    def tables_of(self, source: str) -> frozenset[str]:
        """Tables read from a source."""
        return self._children.get(source, frozenset())


def _reached(node: str, edges: Mapping[str, frozenset[str]]) -> set[str]:
    seen: set[str] = set()
    pending = [node]
    while pending:
        for following in edges.get(pending.pop(), ()):
            if following not in seen:
                seen.add(following)
                pending.append(following)
    return seen


def find_causes(problems: Iterable[Problem], lineage: Lineage) -> tuple[list[Cause], dict[str, str]]:
    """What is wrong first.

    Args:
        problems: everything that is wrong, in any order, perhaps several of one thing.
        lineage: what is made from what.

    Returns:
        The causes, by key; and of each problem that follows from another one, which from which, by key.
    """
    merged = _merged(_of_sources(list(problems), lineage))
    roots = {key: each for key, each in merged.items() if each.kind in KEEPS_ROWS_BACK and each.severity == "critical"}
    consequences = {}
    for key, each in merged.items():
        cause = None
        if each.kind == "freshness":
            cause = _kept_back(each, roots, lineage)
        elif each.kind == "missing":
            cause = _lacking_upstream(each, merged, lineage)
        if cause is not None:
            consequences[key] = cause
    causes = [_cause(each, lineage) for key, each in sorted(merged.items()) if key not in consequences]
    return causes, consequences


def _of_sources(problems: Sequence[Problem], lineage: Lineage) -> list[Problem]:
    """The same, where a table's failure is its source's if that cannot be reached or all its tables fail alike."""
    failing: dict[tuple[str, Kind], set[str]] = defaultdict(set)
    for each in problems:
        if each.source_of:
            failing[each.source_of, each.kind].add(each.node)
    found = []
    for each in problems:
        tables = lineage.tables_of(each.source_of)
        all_fail = len(tables) > 1 and failing[each.source_of, each.kind] >= tables
        if each.source_of and (each.unreachable or all_fail):
            command = lineage.commands.get(each.source_of, each.command)
            found.append(replace(each, kind="source", node=each.source_of, severity="critical", command=command))
        else:
            found.append(each)
    return found


def _merged(problems: Sequence[Problem]) -> dict[str, Problem]:
    """One problem per key: the reason of the newest, every moment and interval of all."""
    by_key: dict[str, list[Problem]] = defaultdict(list)
    for each in problems:
        by_key[each.key].append(each)
    merged = {}
    for key, same in by_key.items():
        newest = max(same, key=lambda each: max(each.seen, default=_NEVER))
        merged[key] = replace(
            newest,
            severity=min((each.severity for each in same), key=SEVERITIES.index),
            seen=tuple(sorted({moment for each in same for moment in each.seen})),
            intervals=_days({key for each in same for key in each.intervals}),
        )
    return merged


def _days(keys: set[str]) -> tuple[str, ...]:
    """Days in their order; that a table is whole is worth saying only where there are none."""
    return tuple(sorted(keys - {WHOLE} or keys))


def _kept_back(symptom: Problem, roots: Mapping[str, Problem], lineage: Lineage) -> str | None:
    """Key of what keeps new rows back: the nearest to the source, itself never."""
    above = lineage.above(symptom.node)
    here = [
        (len(lineage.above(root.node)), key)
        for key, root in roots.items()
        if key != symptom.key and (root.node in above or (root.node == symptom.node and root.kind != "freshness"))
    ]
    return min(here)[1] if here else None


def _lacking_upstream(hole: Problem, problems: Mapping[str, Problem], lineage: Lineage) -> str | None:
    """Key of what is wrong upstream, if something is with each of these days."""
    above = lineage.above(hole.node)
    there = {
        key: each for key, each in problems.items() if each.node in above and set(each.intervals) & set(hole.intervals)
    }
    known = {day for each in there.values() for day in each.intervals}
    if not there or not known.issuperset(hole.intervals):
        return None
    return min((len(lineage.above(each.node)), key) for key, each in there.items())[1]


def _cause(problem: Problem, lineage: Lineage) -> Cause:
    return Cause(
        key=problem.key,
        kind=problem.kind,
        subject=_subject(problem),
        severity=problem.severity,
        owner=lineage.owner(problem.node),
        reason=problem.reason,
        command=problem.command,
        seen=problem.seen,
        intervals=problem.intervals,
        affected=lineage.below(problem.node),
    )


def _subject(problem: Problem) -> str:
    name = problem.node.removeprefix("source.")
    days = ""
    if problem.intervals and problem.intervals != (WHOLE,):
        first, last = problem.intervals[0], problem.intervals[-1]
        days = f" ({first})" if first == last else f" ({len(problem.intervals)} intervals, {first} to {last})"
    return {
        "source": f"source {name} fails",
        "refused": f"{name} is refused",
        "volume": f"{name} has an unusual number of rows",
        "drift": f"{name} differs from its spec",
        "freshness": f"{name} is late",
        "missing": f"{name} has holes",
        "failure": f"{name} fails",
        "task": f"{name} died without a word",
    }[problem.kind] + days
