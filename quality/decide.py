"""Every rule's outcome -> the verdict: which rows are rejected, and whether the batch is refused.

What refuses a batch, and nothing else:

* a rule that raised, whatever its severity and the suite's policy: an answer nobody has is not a pass;
* a critical batch-level rule that failed;
* more rejected rows than the budget, or a critical row-level rule below its own ``mostly``;
* one rejected row, where the policy is ``refuse``;
* no row left, when there were some.

Under the policy ``warn`` only the first of these refuses. GX's own ``success`` of the suite is not used: one failed
``info`` rule makes it False, an empty suite True.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from common.verdict import REJECTS_SCHEMA, RuleResult, Signed, Verdict
from quality.flags import kept_statement, lost_statement, reject_statement
from quality.suite import Suite

if TYPE_CHECKING:
    from quality.audit import Audit

UNNOTICED_ROWS, UNNOTICED_SHARE = 100, 0.1
"""Without a budget a batch is refused when more rows than both are rejected: small tables and single bad rows pass, an
extract that is broken does not drain into quarantine."""


def find_rejects(connection: duckdb.DuckDBPyConnection, suite: Suite, audit: Audit) -> pa.Table:
    """The rows that critical rules reject, read off the flags table; none where the policy is ``warn``."""
    critical = _rejecting(suite, audit)
    if not critical:
        return REJECTS_SCHEMA.empty_table()
    return connection.execute(reject_statement(critical)).to_arrow_table().cast(REJECTS_SCHEMA)


def keep_rejected_rows(connection: duckdb.DuckDBPyConnection, suite: Suite, audit: Audit, path: Path) -> bool:
    """Write the rejected rows themselves to a Parquet file, where the flag pass has kept every one of them.

    Returns:
        Whether it did.
    """
    critical = _rejecting(suite, audit)
    if not critical or not audit.keeps_rows:
        return False
    lost = connection.execute(lost_statement(critical)).fetchone()
    if lost is None or lost[0]:
        return False  # broke only a rule on duplicates, or a query
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(kept_statement(critical, str(path)))
    return True


def _rejecting(suite: Suite, audit: Audit) -> dict[int, str]:
    """Rule ids by test number, of rules that reject rows of this batch."""
    if suite.policy == "warn":
        return {}
    return {
        judgement.test: judgement.result.rule
        for judgement in audit.judgements
        if judgement.test is not None and _rejects_rows(judgement.result)
    }


def _rejects_rows(result: RuleResult) -> bool:
    return result.severity == "critical" and result.row_level and not result.error and bool(result.rows_unexpected)


def decide(suite: Suite, audit: Audit, rejects: pa.Table | None, seconds: float, rejected_before: int = 0) -> Verdict:
    """The verdict.

    Args:
        suite: for policy and budget.
        audit: every rule's outcome.
        rejects: the rejected rows; None where rows cannot be rejected.
        seconds: time the audit took.
        rejected_before: rows of the batch that were rejected before they could be staged.
    """
    from quality.results import suite_json

    results = tuple(judgement.result for judgement in audit.judgements)
    rejected = None if rejects is None else rejects.num_rows + rejected_before
    reasons = tuple(_reasons(suite, results, audit.rows_checked + rejected_before, rejected))
    return Verdict(
        suite=suite.name,
        passed=not reasons,
        results=results,
        rows_checked=audit.rows_checked,
        rejects=REJECTS_SCHEMA.empty_table() if rejects is None else rejects,
        reasons=reasons,
        seconds=seconds,
        policy=suite.policy,
        policy_signed=Signed(suite.policy_by, suite.policy_reason) if suite.policy_by else None,
        validation_json=suite_json(suite.name, [(judgement.plan, judgement.gx) for judgement in audit.judgements]),
    )


def _reasons(suite: Suite, results: Sequence[RuleResult], rows: int, rejected: int | None) -> Iterator[str]:
    """Why a batch is refused.

    Args:
        suite: for policy and budget, and which rules state ``mostly``.
        results: one per rule.
        rows: rows that came in.
        rejected: rows rejected, here or before; None where rows cannot be rejected.
    """
    own_budget = {rule.id for rule in suite.expectations if rule.mostly is not None}
    for result in results:
        named = suite.named(result.rule)
        if result.error:
            yield f"{named} could not be judged: {result.error}"
        elif suite.policy != "warn" and result.severity == "critical" and not result.passed:
            if not result.row_level:
                yield f"{named} failed: observed {json.dumps(result.observed, default=str)[:200]}"
            elif rejected is None or result.rule in own_budget:
                yield f"{named} failed on {result.rows_unexpected} of {rows} rows"
    if not rejected or suite.policy == "warn":
        return
    if suite.policy == "refuse":
        broken = ", ".join(suite.named(r.rule) for r in results if _rejects_rows(r)) or "the columns' types"
        yield f"{rejected} of {rows} rows break {broken}, and the policy of {suite.origin} is refuse"
    yield from _over_budget(suite, rows, rejected)
    if rejected == rows:
        yield f"all {rows} rows rejected"


def _over_budget(suite: Suite, rows: int, rejected: int) -> Iterator[str]:
    if suite.budget is None:
        if rejected > UNNOTICED_ROWS and rejected > UNNOTICED_SHARE * rows:
            yield (
                f"{rejected} of {rows} rows rejected, more than {UNNOTICED_ROWS} and {UNNOTICED_SHARE:.0%}, the limit "
                "of a suite without a budget"
            )
        return
    most, share = suite.budget.max_rejected_rows, suite.budget.max_rejected_share
    if most is not None and rejected > most:
        yield f"{rejected} rows rejected, more than max_rejected_rows = {most}"
    if share is not None and rejected > share * rows:
        yield f"{rejected} of {rows} rows rejected, more than max_rejected_share = {share}"
