"""What a comparison of source and spec yields, and the refusal of a batch because of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn

from common.errors import SourceSchemaError
from ingestion.spec import ColumnSpec, TableSpec
from lake.lake import Lake
from lake.paths import TableId, engine_path, new_attempt, refusal_folder

Kind = Literal["added", "dropped", "renamed", "widened", "narrowed", "nullability", "reordered", "key_changed"]
Outcome = Literal["refused", "evolved", "quarantined", "ignored", "nothing to do"]
Fit = Literal["exact", "wider", "other"]
"""Whether every value of a source column has the declared type, some may, or none has."""

KINDS: tuple[Kind, ...] = (
    "added",
    "dropped",
    "renamed",
    "widened",
    "narrowed",
    "nullability",
    "reordered",
    "key_changed",
)


@dataclass(frozen=True)
class Observed:
    """One column as the source has it.

    Attributes:
        name: its name in the source.
        type: its type as the source spells it; ``text`` where the source has no types.
        word: the type word that holds its every value; None if no word does.
        nullable: whether the source allows nulls; None where it does not say.
    """

    name: str
    type: str = "text"
    word: str | None = "string"
    nullable: bool | None = None


@dataclass(frozen=True)
class Finding:
    """One difference between source and spec.

    Attributes:
        kind: one of :data:`KINDS`.
        column: name in the lake, or in the source for a column that is new; empty for the order.
        declared, observed: both sides, in words.
        words: the difference in a sentence without its full stop.
        policy: what the spec says of this kind.
        outcome: what was done.
        write: the line that makes the spec agree with the source; empty if there is none.
        remedy: what to do about a refusal.
    """

    kind: Kind
    column: str
    declared: str
    observed: str
    words: str
    policy: str
    outcome: Outcome = "nothing to do"
    write: str = ""
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)

    @property
    def warning(self) -> str:
        """What people should be told; empty where nothing follows from the difference."""
        if self.outcome in {"nothing to do", "ignored"}:
            return ""
        then = {
            "evolved": "the lake follows",
            "quarantined": "rows that do not fit go to quarantine",
            "refused": "refused",
        }[self.outcome]
        write = f"; write into the spec: {self.write}" if self.write else ""
        return f"schema drift, {self.kind}: {self.words}; {then}{write}"


@dataclass(frozen=True)
class Suspect:
    """What a row may not hold, where a policy says quarantine.

    Attributes:
        kind: the drift: ``added`` and ``narrowed`` (a value at all), ``widened`` (one that does not fit the declared
            type), ``nullability`` (a null), ``key_changed`` (the key of another row).
        column: the column as the source has it; for a key its first column.
        declared: the declared type word.
        reason: for the reader of the quarantine.
    """

    kind: Kind
    column: ColumnSpec
    declared: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What follows from a comparison.

    Attributes:
        findings: every difference.
        lake: the table with all columns the lake is to have: those declared, as they have evolved.
        read: the table with the columns that can be read, under their names and with their types in the source.
        told: ``read`` and the columns for which a row may go to quarantine: what is told of a rejected row.
        suspects: what rows may not hold.
        doubtful_key: the declared key, if only a look at the rows can tell whether it still names one; else empty.
    """

    findings: tuple[Finding, ...]
    lake: TableSpec
    read: TableSpec
    told: TableSpec
    suspects: tuple[Suspect, ...] = ()
    doubtful_key: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of a run should know."""
        return warnings_of(self.findings)

    @cached_property
    def records(self) -> tuple[dict[str, Any], ...]:
        """The findings for a receipt."""
        return tuple(finding.to_dict() for finding in self.findings)

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings because of which the batch is refused."""
        return tuple(finding for finding in self.findings if finding.outcome == "refused")


def warnings_of(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What people should be told: a line for each finding that has consequences, one for all columns not read."""
    ignored = [finding.column or "(without a name)" for finding in findings if finding.outcome == "ignored"]
    lines = [finding.warning for finding in findings if finding.warning]
    if ignored:
        lines.append(f"schema drift, added: columns that the spec does not name are not read: {', '.join(ignored)}")
    return tuple(lines)


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in their order: the objects of one batch mostly differ from the spec in the same way."""
    return tuple(dict.fromkeys(findings))


def refuse(
    lake: Lake, raw: TableId, key: str, findings: Sequence[Finding], *, problem: str, where: dict[str, str]
) -> NoReturn:
    """Refuse a batch for its schema.

    Args:
        lake: where the refusal is kept.
        raw: the raw table.
        key: partition key of the batch.
        findings: all of them; those refused say why and what to do.
        problem: what differs, as the beginning of the message.
        where: source, table and interval.

    Raises:
        SourceSchemaError: always.

    Side effects: the findings are kept beside the gate's refusals, for ``penstock drift``.
    """
    refused = [finding for finding in findings if finding.outcome == "refused"]
    account = {
        "table": str(raw),
        "key": key,
        "refused_at": lake.clock().isoformat(),
        "drift": [finding.to_dict() for finding in findings],
    }
    location = f"{refusal_folder(lake.settings.lake_uri, raw)}/{key}-{new_attempt()}.json"
    lake.storage.write_json(location, account)
    raise SourceSchemaError(
        f"{problem}: {'; '.join(finding.words for finding in refused)}. Nothing was published.",
        **where,
        remedy=f"{'; '.join(dict.fromkeys(finding.remedy for finding in refused))}. "
        f"docs/drift.md says what each policy does. The account: {engine_path(location)}",
    )
