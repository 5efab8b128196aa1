"""Laws of records that are too long: where one ends, and what is no record, is what Python's strict ``csv`` says."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestion.objects.long_records import RecordScan

TEXTS = st.text(st.sampled_from(['"', ",", "\n", "a", "é"]), min_size=1, max_size=24)


def said_by_csv(text: str) -> tuple[bool, int, int] | None:
    """Of the first record: whether it is one, its values, and its lines; None if a blank line comes first."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        values = next(reader)
    except csv.Error:
        return (False, 0, 0)
    return (True, len(values), reader.line_num) if values else None


def scanned(text: str, most: int) -> tuple[RecordScan, int]:
    """A scan that was fed a text in pieces of so many bytes, and how many lines it took."""
    scan, lines = RecordScan(",", '"'), 0
    for line in io.BytesIO(text.encode()):
        if scan.is_over:
            break
        lines += 1
        for at in range(0, len(line), most):
            scan.feed(line[at : at + most])
    return scan, lines


@given(TEXTS, st.integers(1, 4))
@example('1,"a\n\n"\n2', 1)
@example('1,"a\n"x\n', 1)
@example('1,"a""\n"', 2)
def test_a_scan_finds_the_end_of_a_record_and_its_values_where_csv_does(text: str, most: int) -> None:
    expected = said_by_csv(text)
    if expected is None:
        return
    scan, lines = scanned(text, most)
    assert scan.is_whole == expected[0]
    if expected[0]:
        assert (scan.values, lines) == expected[1:]


@pytest.mark.parametrize("most", range(1, 7))
@pytest.mark.parametrize(
    ("text", "is_whole"), [('"a\n"\r\n2', True), ('"a\n"\r', True), ('"a\n"\r"x\r\n', False), ('"a\n"\rx\n', False)]
)
def test_a_line_end_of_two_characters_is_one_wherever_a_piece_ends(text: str, is_whole: bool, most: int) -> None:
    assert scanned(text, most)[0].is_whole == is_whole
