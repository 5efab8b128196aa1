"""Laws of what is remembered of manifests: by how many files they hold, not by how many manifests there are."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile

from lake.catalog import LiveFile, ReadManifests

MOST = 20


def held(files: int) -> tuple[LiveFile, ...]:
    return tuple(LiveFile("whole", str(number), 1, cast("DataFile", None)) for number in range(files))


@given(st.lists(st.tuples(st.integers(0, 9).map(str), st.integers(0, 30), st.booleans()), max_size=60))
def test_no_more_files_are_held_than_allowed_and_they_are_those_of_the_manifests_used_last(
    steps: list[tuple[str, int, bool]],
) -> None:
    remembered = ReadManifests(MOST)
    noted: dict[str, tuple[LiveFile, ...]] = {}
    used: list[str] = []
    for path, files, only_looks in steps:
        if not only_looks:
            noted[path] = held(files)
            remembered.note(path, noted[path])
        elif remembered.find(path) is None:
            continue
        used = [*(each for each in used if each != path), path]
    there = [path for path in used if remembered.find(path) is not None]
    assert there == used[len(used) - len(there) :]
    assert all(remembered.find(path) == noted[path] for path in there)
    weight = sum(max(1, len(noted[path])) for path in there)
    assert remembered.files == weight
    assert weight <= MOST or len(there) == 1, "one that is larger than the bound is held alone"


def test_merged_manifests_of_a_table_with_a_file_a_day_do_not_add_up() -> None:
    remembered = ReadManifests(10_000)
    for days in range(30, 4_000, 30):
        remembered.note(f"merged after {days}", held(days))
    assert remembered.files <= 10_000
    assert remembered.find("merged after 3990") is not None
    assert remembered.find("merged after 30") is None
