"""What a gate says of a batch, in a form that every stage, the lake and the ledger can read.

``quality`` makes verdicts; ``lake`` stores them and obeys them; nobody else decides. A verdict names rejected rows by
their position in the staged file, so that the rows themselves are never copied through Python objects.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    REJECTS_SCHEMA: pa.Schema
    """Rejected rows: zero-based position in the staged file, and ids of the critical rules the row broke."""

Severity = Literal["critical", "warning", "info"]
"""critical: reject the row (row-level rule) or the batch (batch-level rule). warning, info: report only."""

Policy = Literal["quarantine", "refuse", "warn"]
"""quarantine: rows that break critical rules are rejected, the others go on. refuse: one such row refuses the batch.
warn: failing rules are reported only.
"""


@cache
def _rejects_schema() -> pa.Schema:
    import pyarrow as pa  # 60 MB: only who judges or publishes needs it, not who extracts

    return pa.schema(
        [
            pa.field("row_number", pa.int64(), nullable=False),
            pa.field("rules", pa.list_(pa.string()), nullable=False),
        ]
    )


def __getattr__(name: str) -> Any:
    if name == "REJECTS_SCHEMA":
        return _rejects_schema()
    raise AttributeError(name)


@dataclass(frozen=True)
class RuleResult:
    """One expectation's outcome on one batch.

    Attributes:
        rule: stable id of the rule inside its suite.
        expectation: Great Expectations' name of it, e.g. ``expect_column_values_to_not_be_null``.
        severity: see :data:`Severity`.
        row_level: whether it judges single rows (True) or the batch as a whole (False).
        passed: Great Expectations' own success, ``mostly`` included.
        observed: the observed value, JSON-compatible: a count, a ratio, a list of names.
        rows_unexpected: rows that broke a row-level rule; None for batch-level rules.
        why: the reason written in the suite.
        error: set when the expectation raised; then ``passed`` is False.
    """

    rule: str
    expectation: str
    severity: Severity
    row_level: bool
    passed: bool
    observed: Any = None
    rows_unexpected: int | None = None
    why: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Signed:
    """Who decided something that a gate would not have, and why."""

    by: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A gate's judgement of one batch.

    Attributes:
        suite: suite name, e.g. ``raw/flightops__flights``.
        passed: whether the suite lets the batch be published (its good rows, if some are rejected).
        results: one per rule, in suite order.
        rows_checked: rows the gate read.
        rejects: the rejected rows (:data:`REJECTS_SCHEMA`), one row each.
        reasons: why ``passed`` is False, in words; empty when it passed.
        seconds: time the audit took.
        policy: the suite's policy.
        policy_signed: who chose the policy and why, where it is one that needs a name.
        accepted: who published a refused batch all the same, and why.
        rejected_rows: Parquet file with exactly the rejected rows and their ``file_row_number``, where the gate has
            kept them: to look them up in the staged files then is not needed. It is the gate's until its next audit.
        validation_json: Great Expectations' own result of the suite, as its own JSON; the lake keeps it as it is.
    """

    suite: str
    passed: bool
    results: tuple[RuleResult, ...]
    rows_checked: int
    rejects: pa.Table = field(default_factory=lambda: _rejects_schema().empty_table())
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0
    policy: Policy = "quarantine"
    policy_signed: Signed | None = None
    accepted: Signed | None = None
    validation_json: str = ""
    rejected_rows: str = field(default="", compare=False)

    @property
    def publishable(self) -> bool:
        """Whether the batch may be published: the suite lets it, or a person answers for it."""
        return self.passed or self.accepted is not None

    @property
    def is_judged(self) -> bool:
        """Whether every rule could be judged. A verdict with holes is no verdict: nobody can accept it."""
        return not any(result.error for result in self.results)

    def accept(self, signed: Signed) -> Verdict:
        """The verdict of a batch that a person lets pass; the same verdict if it passed, or if a rule was not judged.

        Rejected rows stay rejected.
        """
        return self if self.passed or not self.is_judged else replace(self, accepted=signed)

    @property
    def rows_rejected(self) -> int:
        """Rows that go to quarantine."""
        return int(self.rejects.num_rows)

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """Rules that did not pass, whatever their severity, and row-level rules that ``mostly`` let pass with some
        rows unexpected are not among them: see :attr:`noticed`.
        """
        return tuple(result for result in self.results if not result.passed)

    @property
    def noticed(self) -> tuple[RuleResult, ...]:
        """Everything worth showing: failed rules, and rules that passed with some unexpected rows."""
        return tuple(result for result in self.results if not result.passed or result.rows_unexpected)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form, without what is kept elsewhere: rejected rows, Great Expectations' own result."""
        return {
            "suite": self.suite,
            "passed": self.passed,
            "rows_checked": self.rows_checked,
            "rows_rejected": self.rows_rejected,
            "reasons": list(self.reasons),
            "policy": self.policy,
            "policy_signed": asdict(self.policy_signed) if self.policy_signed else None,
            "accepted": asdict(self.accepted) if self.accepted else None,
            "seconds": round(self.seconds, 3),
            "results": [asdict(result) for result in self.results],
        }
