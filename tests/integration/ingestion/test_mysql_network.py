"""Fault 2 of MySQL: a network that drops, resets or stalls leaves nothing, and is given up in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import SourceUnavailable
from tests.doubles.tcp import Fault, tcp_proxy
from tests.integration.ingestion.conftest import new_lake
from tests.integration.ingestion.mysql_source import MysqlSource

TIMEOUT_S = 3.0
ROWS = 5_000


@pytest.fixture
def source(mysql: MysqlSource) -> MysqlSource:
    """A table that takes 200 kB on its way, packed by the protocol, read by who waits three seconds."""
    mysql.run(
        f"CREATE TABLE t (id int PRIMARY KEY, v text);INSERT INTO t SELECT seq, SHA2(seq, 256) FROM seq_1_to_{ROWS};"
    )
    return replace(mysql, lake=new_lake(mysql.folder / "impatient", statement_timeout_s=TIMEOUT_S))


@pytest.mark.parametrize(
    ("fault", "after_bytes"),
    [("drop", 30_000), ("reset", 60_000), ("stall", 45_000), ("stall", 0), ("stall", 100)],
)
def test_a_connection_that_breaks_or_says_nothing_more_is_given_up_and_leaves_nothing(
    source: MysqlSource, fault: Fault, after_bytes: int
) -> None:
    spec = source.spec("id: int32; v: string")
    with tcp_proxy(source.url, fault, after_bytes) as between:
        with pytest.raises(SourceUnavailable) as broken:
            source.stage(spec, url=between.url)
        assert between.broken
    assert ("said nothing more" in str(broken.value)) == (fault == "stall")
    assert source.staged_files() == []
    assert source.stage(spec).rows_staged == ROWS
