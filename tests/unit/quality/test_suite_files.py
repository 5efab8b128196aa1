"""Laws of suite files: what is not exactly right is refused, with file, line and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import GateCrashed, SpecError
from quality.expectations import NOT_IN_SQL, check_suite, load_great_expectations
from quality.suite import load_suite, suite_for

GOOD = """\
suite: raw/shop__orders
description: Orders as the shop sends them.
budget: {max_rejected_rows: 10, max_rejected_share: 0.05}
references: [raw.shop__customers]
expectations:
  - id: amount_is_positive
    expect: expect_column_values_to_be_between
    kwargs: {column: amount_cents, min_value: 1}
    severity: critical
    why: "refunds are their own rows"
  - id: note_is_usual
    expect: expect_column_values_to_not_be_null
    kwargs: {column: note}
    severity: warning
    mostly: 0.5
    why: "half of the customers write one"
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "raw" / "shop__orders.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_good_suite_reads_back_as_written_and_passes_great_expectations(tmp_path: Path) -> None:
    suite = load_suite(_write(tmp_path, GOOD))
    check_suite(suite)
    assert suite.name == "raw/shop__orders"
    assert suite.references == ("raw.shop__customers",)
    assert suite.budget is not None
    assert (suite.budget.max_rejected_rows, suite.budget.max_rejected_share) == (10, 0.05)
    assert [(rule.id, rule.severity, rule.mostly) for rule in suite.expectations] == [
        ("amount_is_positive", "critical", None),
        ("note_is_usual", "warning", 0.5),
    ]
    assert suite_for("raw", "shop__orders", suites_dir=tmp_path) == suite


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("    mostly: 0.5\n", "    mostly: 0.5\n    sevrity: x\n", 16, "sevrity"),
        ("description: ", "descripton: ", 2, "descripton"),
        ("max_rejected_rows: 10", "max_rows: 10", 3, "max_rows"),
        ("id: note_is_usual", "id: amount_is_positive", 11, "already used on line 6"),
        ("    severity: warning\n", "    severity: fatal\n", 14, "severity"),
        ("    severity: warning\n", "", 11, "severity"),
        ("    mostly: 0.5\n", "    mostly: 1.5\n", 15, "mostly"),
        ("    mostly: 0.5\n", "    mostly: 0.5\n    mostly: 0.6\n", 16, "written twice"),
        ("kwargs: {column: note}", "kwargs: {column: note, mostly: 0.5}", 11, "mostly"),
        ("kwargs: {column: note}", "kwargs: {column: note", 14, "not valid YAML"),
        ("suite: raw/shop__orders", "suite: shop__orders", 1, "suite"),
        ('    why: "half of the customers write one"\n', "", 11, "why"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_line_and_a_remedy(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in GOOD
    path = _write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SpecError) as refused:
        load_suite(path)
    message = str(refused.value)
    assert f"{path}:{line}: " in message
    assert says in message
    assert "Remedy: " in message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "expect_column_values_to_not_be_null",
            "expect_column_values_to_not_be_nul",
            "expect_column_values_to_not_be_null",
        ),
        ("kwargs: {column: note}", "kwargs: {colum: note}", "colum"),
        ("kwargs: {column: note}", "kwargs: {}", "field required"),
        ("min_value: 1", "min_value: [1]", "min_value"),
        ("expect_column_values_to_not_be_null", "expect_column_values_to_be_increasing", "row_number"),
    ],
)
def test_great_expectations_own_names_and_arguments_are_required(tmp_path: Path, old: str, new: str, says: str) -> None:
    suite = load_suite(_write(tmp_path, GOOD.replace(old, new)))
    with pytest.raises(SpecError) as refused:
        check_suite(suite)
    assert says in str(refused.value)
    assert "shop__orders.yml:" in str(refused.value)
    assert "Remedy: " in str(refused.value)


def test_a_query_that_does_not_read_the_batch_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("expect_column_values_to_not_be_null", "unexpected_rows_expectation")
    text = text.replace("{column: note}", "{unexpected_rows_query: 'select 1'}").replace("    mostly: 0.5\n", "")
    with pytest.raises(SpecError, match=r"does not read \{batch\}"):
        check_suite(load_suite(_write(tmp_path, text)))


@pytest.mark.parametrize("text", ["", "suite: raw/shop__orders\n", "suite: raw/shop__orders\nexpectations: []\n"])
def test_a_suite_without_expectations_is_refused_when_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError):
        load_suite(_write(tmp_path, text))


def test_a_missing_suite_fails_the_gate_closed(tmp_path: Path) -> None:
    with pytest.raises(GateCrashed, match="no suite"):
        suite_for("raw", "shop__orders", suites_dir=tmp_path)


def test_an_empty_suite_fails_the_gate_closed(tmp_path: Path) -> None:
    _write(tmp_path, "suite: raw/shop__orders\nexpectations:\n")
    with pytest.raises(GateCrashed, match="no expectations"):
        suite_for("raw", "shop__orders", suites_dir=tmp_path)


def test_a_suite_must_be_named_as_its_file(tmp_path: Path) -> None:
    _write(tmp_path, GOOD.replace("suite: raw/shop__orders", "suite: raw/shop__returns"))
    with pytest.raises(SpecError, match="calls itself raw/shop__returns"):
        suite_for("raw", "shop__orders", suites_dir=tmp_path)


def test_a_suite_cannot_be_changed_after_reading(tmp_path: Path) -> None:
    suite = load_suite(_write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        suite.suite = "raw/other"  # type: ignore[misc]
    assert suite.name == "raw/shop__orders"


def test_reading_suites_does_not_import_great_expectations() -> None:
    code = "import sys, quality.suite, quality.gate; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_expectations_refused_as_not_in_sql_are_those_great_expectations_has() -> None:
    assert load_great_expectations().keys() >= NOT_IN_SQL
