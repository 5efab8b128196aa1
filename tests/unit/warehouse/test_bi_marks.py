"""What models say of themselves for the BI database: the bundled ones fit their contracts, nonsense is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import SpecError
from penstock.doors import marked_for_bi
from transformations.dbt_contracts import contracts, model_meta


def test_every_bundled_model_that_is_built_by_day_is_partitioned_by_that_day_which_is_never_null() -> None:
    marked = {name: mark["partition_by"] for name, mark in marked_for_bi().items() if mark["partition_by"]}
    assert marked == {
        "fct_flights": "scheduled_on",
        "fct_weather_hourly": "observed_on",
        "mart_daily_route_performance": "scheduled_on",
    }
    for name, column in marked.items():
        [found] = [each for each in contracts()[name].columns if each.name == column]
        assert (found.data_type, found.not_null) == ("date", True), name


@pytest.mark.parametrize("bi", ["{partition_by: [day]}", "{partition: day}", "{indexes: day}", "[day]", "7"])
def test_what_is_no_mark_is_refused_with_its_line(bi: str, tmp_path: Path) -> None:
    (tmp_path / "m.yml").write_text(f"models:\n  - name: m\n    config:\n      meta:\n        bi: {bi}\n")
    with pytest.raises(SpecError, match=r"m\.yml:5: bi is .*") as caught:
        model_meta(tmp_path)
    assert "partition_by" in str(caught.value.remedy)
