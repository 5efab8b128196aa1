"""Laws of paths: whatever a name says, the result stays inside its table's folder, or there is no result."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import UnknownName
from lake.paths import TableId, attempt_of, data_location, engine_path, new_attempt, receipt_location, table_location

ROOT = "/srv/lake"
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["..", ".", "/", "\\", "%2e", "%00", "\x00", "~", "a", "ds=", "\u202e"]), max_size=8).map(
        "".join
    ),
)


@given(HOSTILE, HOSTILE)
@example("..", "x")
@example("raw", "../../etc")
@settings(max_examples=500)
def test_no_table_name_leads_outside_the_lake(namespace: str, name: str) -> None:
    try:
        location = engine_path(table_location(ROOT, TableId(namespace, name)))
    except UnknownName:
        return
    assert location == f"{ROOT}/{namespace}/{name}"
    assert ".." not in location


@given(HOSTILE)
@example("../../2013-01-01")
@example("2013-01-01\x00")
@settings(max_examples=500)
def test_no_partition_key_leads_outside_its_table(key: str) -> None:
    table = TableId("raw", "shop__orders")
    for make in (data_location, receipt_location):
        try:
            location = engine_path(make(ROOT, table, key, new_attempt()))
        except UnknownName:
            continue
        folder, _, rest = location.rpartition(f"/{key}/")  # a key may be the name of a folder above
        assert folder.startswith(ROOT)
        assert "/" not in rest
        assert ".." not in location


def test_the_attempt_can_be_read_back_from_a_data_file_s_name() -> None:
    attempt = new_attempt()
    assert attempt_of(data_location(ROOT, TableId("raw", "x"), "2013-01-01", attempt, 3)) == attempt
    assert attempt_of("file:///somewhere/part-0.parquet") is None


def test_a_folder_with_spaces_and_percent_signs_survives_the_way_to_the_engines() -> None:
    root = "/srv/my lake/100%"
    assert engine_path(table_location(root, TableId("raw", "x"))) == f"{root}/raw/x"


@pytest.mark.parametrize("text", ["flights", "Raw.flights", "raw.", ".flights", "raw.fl ights"])
def test_what_is_no_table_name_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(UnknownName, match="Remedy"):
        TableId.parse(text)
