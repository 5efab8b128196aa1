"""Laws of listings: an object is known by its key, once, whatever a store repeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingestion.objects.listing import Comparison, by_partition_key
from ingestion.objects.stores import StoredObject
from ingestion.spec import Objects

LAYOUT = Objects(path="{part}/{key}.csv")
MOMENT = datetime(2013, 1, 2, tzinfo=UTC)


def stored(part: str, etag: str = "e", *, age_s: int = 0, day: str = "2013-01-01") -> StoredObject:
    return StoredObject(f"{part}/{day}.csv", etag, 7, MOMENT - timedelta(seconds=age_s))


@given(st.permutations([stored(part, part) for part in "abcd"] * 2 + [stored("a", "old", age_s=9)]))
def test_the_newest_version_of_each_object_counts_once_in_any_order_of_pages(pages: list[StoredObject]) -> None:
    found = by_partition_key(pages, LAYOUT)
    assert found == {"2013-01-01": [stored(part, part) for part in "abcd"]}


def test_keys_that_the_path_does_not_describe_are_no_objects_of_the_table() -> None:
    other = [stored("a/b"), stored("a", day="2013-1-1"), stored("a", day="\u0662013-01-01"), stored("")]
    assert by_partition_key(other, LAYOUT) == {}


def test_one_file_under_two_names_is_told() -> None:
    compared = Comparison.of([stored("a", "same"), stored("b", "other"), stored("c", "same")], None)
    assert compared.warnings(LAYOUT) == ("objects have the same content: a/2013-01-01.csv, c/2013-01-01.csv",)
