"""What a soak stands on: days whose clocks fit, and curves that tell growth from noise."""

from __future__ import annotations

import random
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.soak import Curve
from benchmarks.soak_data import FIRST_DAY, _clocks, day_of, model_of
from benchmarks.soak_picture import picture


@given(st.integers(0, 3_000))
def test_every_simulated_day_has_a_day_of_2013_with_the_same_clocks(number: int) -> None:
    day = day_of(number)
    model = model_of(day)
    assert FIRST_DAY <= model <= date(2013, 12, 29)
    assert _clocks(model) == _clocks(day)


def test_the_days_of_2013_are_made_from_themselves() -> None:
    assert [model_of(day_of(number)) for number in range(300)] == [day_of(number) for number in range(300)]


@pytest.mark.parametrize(("growth", "holds"), [(0.0, True), (0.05, False)])
def test_a_curve_that_grows_breaks_its_limit_whatever_the_noise(growth: float, holds: bool) -> None:
    draw = random.Random(7)
    days = list(range(100, 1000))
    values = [100 + growth * day + draw.uniform(-3, 3) for day in days]
    assert Curve("memory", days, values, limit=1.2).holds == holds
    assert Curve("files", days, values, per_day=0.02).holds == holds
    assert Curve("files", days, values, per_day=0.02).slope_per_day == pytest.approx(growth, abs=0.005)


def test_the_picture_has_a_panel_for_every_curve() -> None:
    text = picture([Curve("memory, MB", [1, 2], [1.0, 2.0]), Curve("open files", [1, 2], [3.0, 3.0])], 1)
    assert text.count("<polyline") == 2
    assert "memory, MB" in text
