"""An extract that was killed and cannot go on says so, once, and leaves nothing of itself: objects, and MySQL."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.integration.ingestion.crashes import killed_while_staging
from tests.integration.ingestion.folders import FolderSource
from tests.integration.ingestion.mysql_source import MysqlSource


def records(home: Path) -> list[Path]:
    """Records of extracts that are there."""
    return [path for path in (home / "extracts").rglob("*") if path.is_file()]


@pytest.mark.parametrize("point", ["ingest.extract.before_read", "ingest.extract.after_write"])
def test_objects_whose_extract_was_killed_start_over_and_say_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, point: str
) -> None:
    source = FolderSource(tmp_path)
    source.put("a,b\n1,x\n2,y\n")
    home = source.lake.settings.home
    killed_while_staging(source.spec(), home, source.url, point)
    assert records(home)
    with caplog.at_level(logging.INFO, logger="ingestion"):
        batch = source.stage()
    told = "an interrupted extract was started over: the objects of an interval make one file, which was not whole"
    assert batch.warnings == (told,)
    assert f"raw.shop__orders 2013-01-01: {told}" in caplog.text
    assert source.rows(batch) == [("1", "x"), ("2", "y")]
    assert [str(path) for path in source.left_behind()] == [file.removeprefix("file://") for file in batch.files]
    assert [path for path in (home / "tmp").iterdir() if path.is_dir()] == []
    assert records(home) == []
    assert source.stage().warnings == ()


def test_a_mysql_table_whose_extract_was_killed_starts_over_and_says_why_once(
    mysql: MysqlSource, caplog: pytest.LogCaptureFixture
) -> None:
    mysql.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT seq, seq * 2 FROM seq_1_to_2500;")
    spec = mysql.spec("id: int32; v: int32", chunk_rows=1000)
    killed_while_staging(spec, mysql.lake.settings.home, mysql.url, "ingest.extract.after_chunk:2")
    assert len(mysql.staged_files()) == 2
    with caplog.at_level(logging.INFO, logger="ingestion"):
        batch = mysql.stage(spec)
    reason = "MySQL cannot prove that rows are those of an older snapshot"
    assert batch.warnings == (f"an interrupted extract was started over: {reason}",)
    assert reason in caplog.text
    assert mysql.rows(batch, "id", "v") == [(number, 2 * number) for number in range(1, 2501)]
    assert sorted(map(str, mysql.staged_files())) == sorted(file.removeprefix("file://") for file in batch.files)
    assert records(mysql.lake.settings.home) == []
    assert mysql.stage(spec).warnings == ()
