"""Source against spec, kind by kind: each step looks at one kind of drift or two, and at the policy for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ingestion.drift.findings import Comparison, Finding, Fit, Kind, Observed, Outcome, Suspect
from ingestion.drift.words import alike, common_type, holds, lake_name, new_column, nullability, yaml_line
from ingestion.spec import ColumnSpec, TableSpec
from lake.evolution import promotable


def compare(
    table: TableSpec,
    observed: Sequence[Observed],
    *,
    fit: Callable[[Observed, ColumnSpec], Fit],
    keys: Sequence[Sequence[str]] = (),
) -> Comparison:
    """What a source's columns differ in from a table's spec, and what its policies make of it.

    Args:
        table: the spec.
        observed: the source's columns in their order.
        fit: whether a source column has the type that a spec column declares.
        keys: column sets that name one row in the source, the primary key first; none if there are none or the source
            does not say.
    """
    return _Comparing(table, observed, fit, keys).result()


class _Comparing:
    """One comparison as it grows; each step looks at one kind or two."""

    def __init__(
        self,
        table: TableSpec,
        observed: Sequence[Observed],
        fit: Callable[[Observed, ColumnSpec], Fit],
        keys: Sequence[Sequence[str]],
    ) -> None:
        self._table, self._observed, self._fit, self._keys = table, list(observed), fit, keys
        self._by_name = {column.name: column for column in observed}
        self._findings: list[Finding] = []
        self._suspects: list[Suspect] = []
        self._lake = {column.name: column for column in table.columns}
        self._read: dict[str, ColumnSpec] = {}
        self._told: dict[str, ColumnSpec] = {}
        self._doubtful_key: tuple[str, ...] = ()
        self._required = {*table.primary_key, table.interval_column, table.version_column}

    def result(self) -> Comparison:
        missing = [column for column in self._table.columns if column.in_source not in self._by_name]
        present = [column for column in self._table.columns if column.in_source in self._by_name]
        named = {column.in_source for column in self._table.columns}
        added = [column for column in self._observed if column.name not in named]
        taken: set[str] = set()
        for column in missing:
            taken |= self._gone(column, missing, added)
        for column in present:
            self._typed(column, self._by_name[column.in_source])
        for new in added:
            if new.name not in taken:
                self._added(new)
        self._order(present)
        self._key()
        if not self._read:
            self._findings = [replace(f, outcome="refused") if f.kind == "dropped" else f for f in self._findings]
        order = {name: n for n, name in enumerate(self._lake)}
        read = tuple(sorted(self._read.values(), key=lambda column: order[column.name]))
        return Comparison(
            tuple(self._findings),
            self._table.model_copy(update={"columns": tuple(self._lake.values())}),
            self._table.model_copy(update={"columns": read}),
            self._table.model_copy(update={"columns": (*read, *self._told.values())}),
            tuple(self._suspects),
            self._doubtful_key,
        )

    def _find(
        self,
        kind: Kind,
        column: str,
        declared: str,
        observed: str,
        words: str,
        *,
        outcome: Outcome,
        write: str = "",
        remedy: str = "",
    ) -> None:
        policy = getattr(self._table.on_drift, kind)
        self._findings.append(Finding(kind, column, declared, observed, words, policy, outcome, write, remedy))

    # -- columns that are gone, perhaps under another name ---------------------------------------------------------

    def _gone(self, column: ColumnSpec, missing: Sequence[ColumnSpec], added: Sequence[Observed]) -> set[str]:
        """A column that the source does not have. Returns the names that may be its new one."""
        name = column.in_source
        candidates = [other for other in added if self._may_be(column, other, missing, added)]
        if not candidates:
            self._dropped(column)
            return set()
        found = ", ".join(other.name for other in candidates)
        guess = f"column {name} is gone and {found} may be its new name (a guess)"
        first = candidates[0]
        renamed = column.model_copy(update={"source_name": first.name})
        rivals = [
            other for other in missing if other is not column and self._may_be(other, first, missing, added)
        ]  # another missing column that the same name could be
        clear = len(candidates) == 1 and not rivals and alike(name, first.name) and self._in_place(column, first)
        remedy = (
            f"if it is, write {yaml_line(renamed)} into the spec; if it is not, take {column.name} out of the spec "
            "or restore it in the source"
        )
        if self._table.on_drift.renamed == "evolve" and clear:
            self._find("renamed", column.name, name, found, guess, outcome="evolved", write=yaml_line(renamed))
            self._typed(renamed, first)
        else:
            if self._table.on_drift.renamed == "evolve":
                guess += ", which is not clear enough to follow"
            self._find(
                "renamed", column.name, name, found, guess, outcome="refused", write=yaml_line(renamed), remedy=remedy
            )
        return {other.name for other in candidates}

    def _may_be(
        self, column: ColumnSpec, other: Observed, missing: Sequence[ColumnSpec], added: Sequence[Observed]
    ) -> bool:
        if self._fit(other, column) != "exact":
            return False
        if alike(column.in_source, other.name):
            return True
        gap = [each for each in added if self._in_place(column, each)]
        sharing = [each for each in missing if self._in_place(each, other)]
        return gap == [other] and sharing == [column]

    def _in_place(self, column: ColumnSpec, other: Observed) -> bool:
        """Whether a source column stands between the neighbours that the spec gives a missing one."""
        positions = {each.name: n for n, each in enumerate(self._observed)}
        at = list(self._table.columns).index(column)
        before = [positions[c.in_source] for c in self._table.columns[:at] if c.in_source in positions]
        after = [positions[c.in_source] for c in self._table.columns[at + 1 :] if c.in_source in positions]
        low, high = (before[-1] if before else -1), (after[0] if after else len(positions))
        return low < positions[other.name] < high

    def _dropped(self, column: ColumnSpec) -> None:
        words = f"column {column.in_source} is not in the source"
        has = ", ".join(each.name for each in self._observed)[:200]
        evolve = self._table.on_drift.dropped == "evolve"
        remedy = (
            "restore the column in the source, or take it out of the spec: the lake keeps it and reads null from now on"
        )
        if evolve and (column.name in self._required or not column.nullable):
            words += ", and it may not be null"
            remedy = "restore the column in the source, or declare it 'nullable: true' if it is neither key nor cursor"
            evolve = False
        self._find(
            "dropped",
            column.name,
            f"{column.in_source} {column.type}",
            "",
            f"{words} (which has {has})",
            outcome="evolved" if evolve else "refused",
            write=f"(take out {yaml_line(column)})",
            remedy=remedy,
        )

    # -- columns that are there: type and nulls --------------------------------------------------------------------

    def _typed(self, column: ColumnSpec, found: Observed) -> None:
        """A column that the source has, under whatever name; it is read unless its type is another."""
        fit = self._fit(found, column)
        said = f"{column.in_source} is {found.type}, declared {column.type}"
        if fit == "exact":
            self._read[column.name] = column
            if found.word is not None and holds(column.type, found.word):
                refused = self._table.on_drift.narrowed == "reject"
                narrower = column.model_copy(update={"type": found.word})
                self._find(
                    "narrowed",
                    column.name,
                    column.type,
                    found.type,
                    f"{said}: every value fits",
                    outcome="refused" if refused else "nothing to do",
                    remedy=f"set on_drift: {{narrowed: evolve}}, or declare {yaml_line(narrower)} in a new table",
                )
        elif fit == "wider":
            self._widened(column, found, said)
        else:
            self._flipped(column, found, said)
        self._nulls(column, found)

    def _widened(self, column: ColumnSpec, found: Observed, said: str) -> None:
        policy = self._table.on_drift.widened
        words = f"{said}: values may not fit"
        common = common_type(column.type, found.word)
        wider = column.model_copy(update={"type": common}) if common else None
        write = yaml_line(wider) if wider and promotable(column.type, wider.type) else ""
        remedy = f"write {write} into the spec, or set on_drift: {{widened: evolve}}"
        if not write:
            remedy = f"restore the type, or read it into a new column of the lake: {new_column(column, found.word)}"
        outcome: Outcome = "refused"
        if policy == "evolve" and wider and write:
            outcome = "evolved"
            self._lake[column.name] = self._read[column.name] = wider
        elif policy == "evolve":
            words += f", and what is stored as {column.type} cannot become {common or found.type}"
        elif policy == "quarantine" and found.word is not None:
            outcome = "quarantined"
            seen = column.model_copy(update={"type": found.word})
            self._read[column.name] = seen
            self._suspects.append(Suspect("widened", seen, column.type, f"does not fit {column.type}"))
        self._find("widened", column.name, column.type, found.type, words, outcome=outcome, write=write, remedy=remedy)

    def _flipped(self, column: ColumnSpec, found: Observed, said: str) -> None:
        words = f"{said}: another type"
        outcome: Outcome = "refused"
        if self._table.on_drift.narrowed == "quarantine":
            if column.name in self._required or not column.nullable:
                words += ", so every row would go to quarantine"
            else:
                outcome = "quarantined"
                reason = f"is {found.type}, declared {column.type}"
                self._suspects.append(Suspect("narrowed", column, column.type, reason))
                self._told[column.name] = column
        write = new_column(column, found.word)
        remedy = f"restore the type in the source, or read it into a new column of the lake: {write}"
        self._find("narrowed", column.name, column.type, found.type, words, outcome=outcome, write=write, remedy=remedy)

    def _nulls(self, column: ColumnSpec, found: Observed) -> None:
        if found.nullable is None or found.nullable == column.nullable:
            return
        policy = self._table.on_drift.nullability
        changed = column.model_copy(update={"nullable": found.nullable})
        words = (
            f"{column.in_source} may hold nulls, declared 'nullable: false'"
            if found.nullable
            else f"{column.in_source} holds no nulls, declared 'nullable: true'"
        )
        outcome: Outcome = "refused" if policy == "reject" else "nothing to do"
        if found.nullable and policy == "quarantine" and column.name != self._table.interval_column:
            outcome = "quarantined"
            self._suspects.append(Suspect("nullability", column, column.type, "is null, declared 'nullable: false'"))
        self._find(
            "nullability",
            column.name,
            nullability(column.nullable),
            nullability(found.nullable),
            words,
            outcome=outcome,
            write="" if found.nullable and column.name in self._required else yaml_line(changed),
            remedy=f"write {yaml_line(changed)} into the spec, or set on_drift: {{nullability: evolve}}",
        )

    # -- columns that are new, the order, the key ------------------------------------------------------------------

    def _added(self, found: Observed) -> None:
        policy = self._table.on_drift.added
        words = f"column {found.name or '(without a name)'} ({found.type}) is not in the spec"
        name = lake_name(found.name)
        usable = name is not None and name not in self._lake
        word = found.word or "string"
        line = ColumnSpec.model_construct(
            name=name if name and usable else "a_name_of_its_own",
            source_name=found.name if name != found.name or not usable else None,
            type=word,
            nullable=found.nullable is not False,
        )
        write = yaml_line(line) if found.name else ""
        outcome: Outcome = "refused"
        if policy == "ignore":
            outcome = "ignored"
        elif policy == "evolve" and usable and found.word is not None and name is not None:
            outcome = "evolved"
            # Older rows read null there, whatever the source says of its own.
            column = ColumnSpec(name=name, source_name=line.source_name, type=found.word, nullable=True)
            self._lake[name] = self._read[name] = column
            write = yaml_line(column)
        elif policy == "evolve":
            words += ", and " + (
                "no type word holds its values" if usable else "its name is none that the lake can have"
            )
        elif policy == "quarantine":
            outcome = "quarantined"
            shown = found.name
            while shown in self._lake or shown in self._told:
                shown += "_new"
            told = ColumnSpec.model_construct(name=shown, source_name=found.name, type="string", nullable=True)
            self._told[shown] = told
            self._suspects.append(Suspect("added", told, "", "is not in the spec"))
        self._find(
            "added",
            found.name,
            "",
            f"{found.name} {found.type}",
            words,
            outcome=outcome,
            write=write,
            remedy=f"write {write} into the spec, or set on_drift: {{added: ignore}}"
            if write
            else "give the column a name in the source, or set on_drift: {added: ignore}",
        )

    def _order(self, present: Sequence[ColumnSpec]) -> None:
        declared = [column.in_source for column in present]
        seen = [column.name for column in self._observed if column.name in set(declared)]
        if seen == declared:
            return
        refused = self._table.on_drift.reordered == "reject"
        self._find(
            "reordered",
            "",
            ", ".join(declared),
            ", ".join(seen),
            f"the columns stand in the order {', '.join(seen)}; declared {', '.join(declared)}",
            outcome="refused" if refused else "nothing to do",
            remedy="put the columns of the spec into that order, or set on_drift: {reordered: evolve}",
        )

    def _key(self) -> None:
        in_source = {c.name: c.in_source for c in (*self._table.columns, *self._read.values())}
        declared = [in_source[name] for name in self._table.primary_key]
        if not declared or not self._keys or set(declared) in [set(key) for key in self._keys]:
            return
        by_source = {column.in_source: name for name, column in self._read.items()}
        key = list(self._keys[0])
        # Columns of which some already name one row name one row together.
        certain = any(set(each) <= set(declared) for each in self._keys)
        policy = self._table.on_drift.key_changed
        names = [by_source.get(column, column) for column in key]
        if policy == "evolve" and not certain:
            self._doubtful_key = self._table.primary_key
        elif policy == "quarantine" and not certain:
            first = self._read.get(self._table.primary_key[0], self._table.columns[0])
            self._suspects.append(Suspect("key_changed", first, "", "has the key of another row"))
        outcomes: dict[str, Outcome] = {"reject": "refused", "evolve": "evolved", "quarantine": "quarantined"}
        self._find(
            "key_changed",
            ", ".join(self._table.primary_key),
            ", ".join(declared),
            ", ".join(key),
            f"the source's key is ({', '.join(key)}), declared ({', '.join(declared)})",
            outcome="nothing to do" if certain and policy != "reject" else outcomes[policy],
            write=f"primary_key: [{', '.join(names)}]",
            remedy=f"write primary_key: [{', '.join(names)}] into the spec and run the published intervals again, or "
            "set on_drift: {key_changed: evolve} to go on with the declared key as long as it names one row",
        )
