"""Laws of object keys: whatever a store says, a path stays below its folder and names one object only."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import UnknownName
from lake.paths import TableId, data_location, is_plain_key, path_below

ROOT = Path("/srv/exports")
PIECES = [
    "",
    ".",
    "..",
    "a",
    "A",
    "/",
    "//",
    "%2e%2e",
    "%2f",
    "..\\",
    "\\",
    "\0",
    "...",
    " ",
    "~",
    "é",
    "e\u0301",
    "x" * 200,
]


def stays_below(key: str) -> bool:
    """Whether the key is refused, or leads below the root."""
    try:
        path = path_below(ROOT, key)
    except UnknownName:
        return True
    return os.path.normpath(path) == str(path) and path != ROOT and path.is_relative_to(ROOT)


def test_no_key_of_a_hundred_thousand_leads_out_and_no_two_lead_to_one_place(figures: Callable[..., None]) -> None:
    keys = {"".join(parts) for length in range(1, 5) for parts in itertools.product(PIECES, repeat=length)}
    assert len(keys) > 50_000
    escapes = [key for key in keys if not stays_below(key)]
    taken = [str(path_below(ROOT, key)) for key in keys if is_plain_key(key)]
    figures(keys=len(keys), escapes=len(escapes), collisions=len(taken) - len(set(taken)))
    assert escapes == []
    assert len(taken) == len(set(taken)) > 10_000


@given(st.text(st.characters(codec=None), max_size=40) | st.lists(st.sampled_from(PIECES)).map("/".join))
@example("a/../../etc/passwd")
@example("/etc/passwd")
@example("a/\ud800")
@example("x" * 1025)
@settings(max_examples=500, deadline=None)
def test_any_key_is_refused_or_stays_below(key: str) -> None:
    assert stays_below(key)


@pytest.mark.parametrize(
    "key", ["../2013-01-01", "2013-01-01/..", "/2013", "2013%2e", "a\0", "", ".", "x" * 101, "a b"]
)
def test_a_partition_value_is_a_plain_segment(key: str) -> None:
    with pytest.raises(UnknownName):
        data_location("/lake", TableId("raw", "t"), key, "0" * 32)
