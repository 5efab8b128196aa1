"""What a gate says of a batch, in a form that every stage, the lake and the ledger can read.

``quality`` makes verdicts; ``lake`` stores them and obeys them; nobody else decides. A verdict names rejected rows by
their position in the staged file, so that the rows themselves are never copied through Python objects.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    REJECTS_SCHEMA: pa.Schema
    """Rejected rows: zero-based position in the staged file, and ids of the critical rules the row broke."""

Severity = Literal["critical", "warning", "info"]
"""critical: reject the row (row-level rule) or the batch (batch-level rule). warning, info: report only."""


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
class Verdict:
    """A gate's judgement of one batch.

    Attributes:
        suite: suite name, e.g. ``raw/flightops__flights``.
        passed: whether the batch may be published (its good rows, if some are rejected).
        results: one per rule, in suite order.
        rows_checked: rows the gate read.
        rejects: the rejected rows (:data:`REJECTS_SCHEMA`), one row each.
        reasons: why ``passed`` is False, in words; empty when it passed.
        seconds: time the audit took.
    """

    suite: str
    passed: bool
    results: tuple[RuleResult, ...]
    rows_checked: int
    rejects: pa.Table = field(default_factory=lambda: _rejects_schema().empty_table())
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0

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
        """JSON-compatible form, without the rejected rows themselves (those are in quarantine)."""
        return {
            "suite": self.suite,
            "passed": self.passed,
            "rows_checked": self.rows_checked,
            "rows_rejected": self.rows_rejected,
            "reasons": list(self.reasons),
            "seconds": round(self.seconds, 3),
            "results": [asdict(result) for result in self.results],
        }
