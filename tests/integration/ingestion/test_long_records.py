"""Laws of long and wide records: over the limit set apart with their size, the next one read; or the object refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import ObjectCorrupt
from tests.integration.ingestion.folders import FolderSource, waiting


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_record_over_the_declared_limit_is_set_apart_with_its_size(source: FolderSource, form: str) -> None:
    long = "y" * 5000
    lines = {
        "csv": ["a,b", "1,x", f"2,{long}", "3,z"],
        "jsonl": [json.dumps({"a": a, "b": b}) for a, b in [("1", "x"), ("2", long), ("3", "z")]],
    }
    source.put("\n".join(lines[form]) + "\n")
    staged = source.stage(source.spec(format=form, max_record_bytes=1000))
    assert source.rows(staged) == [("1", "x"), ("3", "z")]
    [(reason, place, row)] = waiting(staged)
    at = lines[form].index(next(line for line in lines[form] if long in line))
    assert reason == f"{len(lines[form][at]) + 1} bytes, more than 1000"
    assert place == f"line {at + 1} byte {sum(len(line) + 1 for line in lines[form][:at])}"
    assert len(next(iter(row.values()))) == 1000
    assert staged.rows_in == 3


@pytest.mark.parametrize(
    "long",
    [
        '2,"' + "\n" * 3000 + '"',
        '2,"' + "a line\n" * 400 + '""the end"',
        f'2,"{"y" * 2000}\n"',
        '2,"' + "z" * 999 + '\n"',
        '2,"\n' + "z" * 999 + '"',
    ],
    ids=["line ends", "lines and a quote", "a long first line", "the end behind the limit", "the limit in a line end"],
)
def test_a_value_over_lines_beyond_the_limit_is_one_record_that_is_set_apart(source: FolderSource, long: str) -> None:
    source.put("\r\n".join(["a,b", "1,x", long, "3,z"]))
    staged = source.stage(source.spec(max_record_bytes=1000))
    assert source.rows(staged, "a", "b", "object_line") == [("1", "x", 2), ("3", "z", 4 + long.count("\n"))]
    [(reason, place, row)] = waiting(staged)
    assert (reason, place) == (f"{len(long) + 2} bytes, more than 1000", "line 3 byte 10")
    assert long.startswith(next(iter(row.values())))
    assert staged.rows_in == 3


@pytest.mark.parametrize(
    "rest",
    ["\n" * 2000, "\n" * 2000 + '3,"z"\n', "\n" * 2000 + '3",4\n', "\n" * 2000 + '","\n4,"x"\n'],
    ids=["never", "by the next one that opens", "with too many values", "by chance, then not"],
)
def test_a_quote_that_nobody_closed_refuses_the_object_instead_of_the_rows_behind_it(
    source: FolderSource, rest: str
) -> None:
    source.put(f'a,b\n1,x\n2,"{rest}')
    with pytest.raises(ObjectCorrupt, match=r"A quoted value in line 3 of .* is not the end of a value"):
        source.stage(source.spec(max_record_bytes=1000))
    assert source.left_behind() == []


def test_thousands_of_columns_are_read_and_a_record_of_another_width_is_set_apart(source: FolderSource) -> None:
    names = [f"c{n}" for n in range(6000)]
    good, bad = ",".join(str(n) for n in range(6000)), ",".join("x" for _ in range(6001))
    source.put("\n".join([",".join(names), good, bad, good]) + "\n")
    staged = source.stage(source.spec("c0: int32, c5999: string"))
    assert source.rows(staged, "c0", "c5999", "object_line") == [(0, "5999", 2), (0, "5999", 4)]
    assert [(reason, place) for reason, place, _ in waiting(staged)] == [
        ("6001 values, the header has 6000", f"line 3 byte {len(','.join(names)) + len(good) + 2}")
    ]
