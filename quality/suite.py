"""Suite files: which expectations a table must meet, and what happens when it does not.

``quality/suites/<stage>/<table>.yml`` -> :class:`Suite`. A suite is data: Great Expectations' own names and
arguments, plus what they lack - a stable rule id, a severity that rejects rows, a budget, the reason in words. Parsing
refuses what would otherwise surface as a gate that silently checks nothing: unknown keys, keys written twice, two rules
with one id, a suite without expectations.

This module does not import Great Expectations (6 CPU-s): ``penstock list`` and DAG parsing read suites too. Whether a
name and its arguments exist is asked by :func:`quality.expectations.check_suite`, which the gate calls before anything
else.

What the severities mean:

* ``critical``, rule on single rows: its failing rows are rejected, the other rows go on. The batch is refused when
  more rows are rejected than ``budget`` allows, when no row is left, or when the rule states ``mostly`` itself and
  falls below it (``mostly`` is that rule's own budget).
* ``critical``, rule on the batch as a whole: failing refuses the batch.
* ``warning``, ``info``: reported with the observed counts; nothing is rejected or refused.

A rule that no named expectation expresses is a query (``unexpected_rows_expectation``): ``{batch}`` stands for the
rows under audit with one more column, ``row_number``. A query that returns ``row_number`` is a rule on single rows, and
a row it returns twice is one row; any other query judges the batch, and returning any row is failing. Referenced tables
are views: ``select b.row_number from {batch} b anti join raw__shop__items i on b.item = i.item``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from common.errors import GateCrashed, SpecError
from common.verdict import Policy, Severity
from common.yaml_files import Location, YamlFile

SUITES_DIR = Path(__file__).parent / "suites"
"""The bundled suites."""

STAGES = ("raw", "refined", "warehouse")
"""Folders under a suites directory."""

_IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"
_OURS = {
    "mostly": "write it beside `kwargs`, not inside",
    "severity": "write it beside `kwargs`, not inside",
    "meta": "rule id and reason are put there by the gate; use `id` and `why`",
    "id": "write it beside `kwargs`, not inside",
    "batch_id": "the gate chooses the batch",
    "catch_exceptions": "the gate decides: an expectation that raises refuses the batch",
    "result_format": "the gate decides what is observed",
    "rendered_content": "not an input",
    "notes": "use `why`",
    "description": "use `why`",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Budget(_Model):
    """How many rows may be rejected before the whole batch is refused. A limit that is not set does not limit.

    A suite without any budget has the one of :mod:`quality.decide`.
    """

    max_rejected_rows: int | None = Field(default=None, ge=0, description="Rejected rows allowed.")
    max_rejected_share: float | None = Field(default=None, ge=0, le=1, description="Rejected / checked rows allowed.")


Spreads = Annotated[float, Field(gt=0)]


class Anomaly(_Model):
    """How far a batch's number of rows may lie from its table's own past, in spreads (see ``quality/trends.py``)."""

    warn: Spreads | Literal["none"] = Field(default=5.0, description="Spreads beyond which a run warns.")
    refuse: Spreads | Literal["none"] = Field(default="none", description="Spreads beyond which it is refused.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.refuse_limit is not None and (self.warn_limit is None or self.warn_limit > self.refuse_limit):
            raise ValueError("anomaly: warn must be at most refuse: a run warns before it refuses")
        return self

    @property
    def warn_limit(self) -> float | None:
        """Spreads beyond which a run warns; None: never."""
        return None if self.warn == "none" else self.warn

    @property
    def refuse_limit(self) -> float | None:
        """Spreads beyond which a batch is refused; None: never."""
        return None if self.refuse == "none" else self.refuse


class Rule(_Model):
    """One expectation with its consequence."""

    id: str = Field(pattern=_IDENTIFIER, description="Stable id; quarantine and history refer to it.")
    expect: str = Field(pattern=_IDENTIFIER, description="Great Expectations' snake_case name.")
    kwargs: Mapping[str, Any] = Field(default_factory=dict, description="Great Expectations' own arguments.")
    severity: Severity = Field(description="critical, warning or info.")
    mostly: float | None = Field(default=None, gt=0, le=1, description="Share of judged rows that must meet the rule.")
    why: str = Field(min_length=1, description="The reason, for the reader of a refusal.")


class Suite(_Model):
    """All rules of one table at one stage."""

    suite: str = Field(pattern=r"^(raw|refined|warehouse)/[A-Za-z0-9_.]+$", description="`<stage>/<table>`.")
    description: str = Field(default="", description="What the table is, for the reader.")
    policy: Policy = Field(
        default="quarantine",
        description="quarantine: rows that break critical rules are rejected, within the budget. refuse: one such row "
        "refuses the batch. warn: failing rules are reported and nothing else.",
    )
    policy_reason: str = Field(default="", description="Why the policy is warn.")
    policy_by: str = Field(default="", description="Who answers for it.")
    budget: Budget | None = Field(default=None, description="How many rows may be rejected.")
    anomaly: Anomaly | None = Field(
        default=None, description="When a batch's number of rows is unusual; of raw tables warned of by default."
    )
    references: tuple[str, ...] = Field(
        default=(), strict=False, description="Other tables that rules read, as views with `.` written `__`."
    )
    expectations: tuple[Rule, ...] = Field(strict=False)

    _origin: str = PrivateAttr(default="a suite made in code")
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        signed = bool(self.policy_reason.strip()) and bool(self.policy_by.strip())
        if self.policy == "warn" and not signed:
            raise ValueError("policy warn refuses nothing: say why with 'policy_reason:' and who with 'policy_by:'")
        if self.policy == "quarantine" and (self.policy_reason or self.policy_by):
            raise ValueError("'policy_reason' and 'policy_by' belong to another policy than quarantine")
        if self.policy != "quarantine" and self.budget is not None:
            raise ValueError(f"policy {self.policy} has no budget: leave 'budget' out")
        return self

    @property
    def name(self) -> str:
        """``<stage>/<table>``."""
        return self.suite

    @property
    def anomaly_limits(self) -> Anomaly | None:
        """When a number of rows is unusual; refined rows follow raw ones, so they are judged only where asked for."""
        return self.anomaly or (Anomaly() if self.suite.startswith("raw/") else None)

    @property
    def origin(self) -> str:
        """The suite's file, for messages."""
        return self._origin

    def located(self, origin: str, places: Mapping[str, str]) -> Suite:
        """The same suite, knowing its file and where each rule stands (``file:line``)."""
        copy = self.model_copy()
        copy._origin = origin  # noqa: SLF001 - another instance of this class
        copy._places = dict(places)  # noqa: SLF001
        return copy

    def with_derived(self, rules: Sequence[tuple[Rule, str]], references: Iterable[str]) -> Suite:
        """The same suite with rules that are implied elsewhere.

        Args:
            rules: each rule with the place that implies it.
            references: tables that they read.
        """
        copy = self.model_copy(
            update={
                "expectations": (*self.expectations, *(rule for rule, _ in rules)),
                "references": tuple(dict.fromkeys([*self.references, *references])),
            }
        )
        return copy.located(self._origin, {**self._places, **{rule.id: place for rule, place in rules}})

    def where(self, rule: str) -> str:
        """``file:line`` of a rule, for messages."""
        return self._places.get(rule, self._origin)

    def named(self, rule: str) -> str:
        """A rule's id with the place where it stands, where that is known."""
        return f"{rule} ({self._places[rule]})" if rule in self._places else rule


def view_name(table: str) -> str:
    """Name under which a rule's SQL reads a referenced table: ``raw.shop__items`` -> ``raw__shop__items``."""
    return table.replace(".", "__")


def load_suite(path: Path) -> Suite:
    """Read one suite file.

    Args:
        path: the YAML file.

    Raises:
        SpecError: no such file, not YAML, unknown or repeated keys, missing or wrong values, repeated rule ids, or no
            expectations; the message names file, line and remedy.
    """
    suite = _parse(path)
    if not suite.expectations:
        raise SpecError(
            f"{path}:1: suite {suite.name} has no expectations, so it would pass anything.",
            table=suite.name,
            remedy="add at least one expectation, or delete the file so that the gate refuses to run",
        )
    return suite


def suite_for(stage: str, table: str, *, suites_dir: Path = SUITES_DIR) -> Suite:
    """The suite of a table at a stage.

    Args:
        stage: ``raw``, ``refined`` or ``warehouse``.
        table: table name without its layer, e.g. ``flightops__flights``.
        suites_dir: folder with one folder per stage.

    Raises:
        GateCrashed: there is no suite, or it is empty: no suite, no publish.
        SpecError: the suite file is not valid.
    """
    path = suites_dir / stage / f"{table}.yml"
    if not path.is_file():
        raise GateCrashed(
            f"There is no suite for {stage}/{table}, so its gate cannot run.",
            table=table,
            remedy=f"write {path}",
        )
    suite = _parse(path)
    if not suite.expectations:
        raise GateCrashed(
            f"Suite {suite.name} has no expectations, so its gate cannot run.",
            table=table,
            remedy=f"add at least one expectation to {path}",
        )
    if suite.name != f"{stage}/{table}":
        raise SpecError(
            f"{path}:1: the file is the suite of {stage}/{table} but calls itself {suite.name}.",
            table=table,
            remedy=f"write `suite: {stage}/{table}` or move the file",
        )
    return suite


def _parse(path: Path) -> Suite:
    """A suite as written, possibly without expectations."""
    file = YamlFile.read(path, remedy="check the path; a suite is a mapping with `suite` and `expectations`")
    if file.content.get("expectations") is None:
        file.content["expectations"] = []
    return _checked(file.parse(Suite, remedy=_remedy), file)


def _checked(suite: Suite, file: YamlFile) -> Suite:
    """Rules between fields, and the lines for later messages."""
    if suite.anomaly is not None and suite.suite.startswith("warehouse/"):
        raise SpecError(
            f"{file.path}:{file.line(('anomaly',))}: a candidate is judged as a whole and has no batches to compare.",
            table=suite.name,
            remedy="write `anomaly:` into the suite of the raw or refined table",
        )
    lines: dict[str, int] = {}
    for position, rule in enumerate(suite.expectations):
        line = file.line(("expectations", position))
        if rule.id in lines:
            raise SpecError(
                f"{file.path}:{line}: rule id {rule.id!r} is already used on line {lines[rule.id]}.",
                table=suite.name,
                remedy="give each rule its own id; quarantine and history refer to it",
            )
        for key in _OURS.keys() & rule.kwargs.keys():
            raise SpecError(
                f"{file.path}:{line}: {key!r} of rule {rule.id!r} is not an argument of the expectation here.",
                table=suite.name,
                remedy=_OURS[key],
            )
        lines[rule.id] = line
    return suite.located(str(file.path), {rule: f"{file.path}:{line}" for rule, line in lines.items()})


def _remedy(kind: str, location: Location) -> str:
    if kind == "extra_forbidden":
        known = Rule if "expectations" in location[:1] else Budget if "budget" in location[:1] else Suite
        return f"use one of {', '.join(known.model_fields)}"
    if kind == "missing":
        return f"add `{location[-1]}:`"
    return "correct the value"
