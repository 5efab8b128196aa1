"""A database of the test's own on a real MariaDB, which a role that may only read reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.intervals import Interval, day_interval
from ingestion.databases.chunks import Chunk, ChunkPlan
from ingestion.databases.dialect import Session
from ingestion.databases.mysql import MysqlDialect
from ingestion.databases.mysql_chunks import MysqlChunks
from ingestion.databases.mysql_keys import MysqlKeys
from ingestion.databases.mysql_pieces import PIECE_ROWS
from ingestion.databases.mysql_session import MysqlSession
from ingestion.databases.mysql_sql import quoted
from ingestion.databases.reader import DatabaseReader
from ingestion.spec import SourceSpec, TableSpec, load_source
from lake.batches import StagedBatch
from lake.lake import Lake
from tests.integration.ingestion.conftest import staged_rows
from tests.mariadb_server import MariadbServer


class _Watched(MysqlChunks):
    """Something happens before each piece is read."""

    def __init__(self, dialect: MysqlDialect, most_rows: int, before_piece: Callable[[int], None] | None) -> None:
        super().__init__(dialect, most_rows)
        self._before_piece = before_piece

    def plan(self, session: Session, spec: SourceSpec, table: TableSpec, interval: Interval) -> ChunkPlan:
        """The plan, of which each chunk is looked up right before it is read."""
        plan = super().plan(session, spec, table, interval)
        return replace(plan, chunks=_Chunks(plan.chunks, self._before_piece)) if self._before_piece else plan


class _Chunks(list[Chunk]):
    def __init__(self, chunks: Sequence[Chunk], before_piece: Callable[[int], None]) -> None:
        super().__init__(chunks)
        self._before_piece = before_piece

    def __getitem__(self, number: Any) -> Any:
        self._before_piece(number)
        return super().__getitem__(number)


@dataclass
class MysqlSource:
    """One database; its only table is ``t`` unless a test says otherwise."""

    server: MariadbServer
    name: str
    lake: Lake
    folder: Path
    dialect: MysqlDialect = field(default_factory=MysqlDialect)
    most_rows: int = PIECE_ROWS
    before_piece: Callable[[int], None] | None = None

    @property
    def url(self) -> str:
        """For the role that may only read."""
        return self.server.url(self.name)

    def run(self, sql: str | bytes, **options: Any) -> list[list[str]]:
        """Do something as the owner, with a ``sql_mode`` that takes whatever the server can store."""
        mode = b"SET SESSION sql_mode = 'ALLOW_INVALID_DATES';\n"
        return self.server.run(mode + (sql.encode() if isinstance(sql, str) else sql), database=self.name, **options)

    def printed(self, column: str, *, table: str = "t", order: str = "id") -> list[str | None]:
        """What the database itself prints of a column, in the order of the key."""
        shown = f"IF({quoted(column)} IS NULL, 'NULL', HEX(CAST({quoted(column)} AS CHAR)))"
        rows = self.run(f"SELECT {shown} FROM {quoted(table)} ORDER BY {quoted(order)}")
        return [None if row[0] == "NULL" else bytes.fromhex(row[0]).decode() for row in rows]

    def table(self, columns: str, *, table: str = "t", cursor: str | None = None, **more: Any) -> str:
        """The part of a spec that describes one table, of which the first column is the key."""
        names = [part.strip().split(": ") for part in columns.split("; ")]
        listed = "\n".join(
            f'      - {{name: {name}, type: "{kind}", nullable: {str(name not in {names[0][0], cursor}).lower()}}}'
            for name, kind in names
        )
        mode = f"mode: incremental\n    cursor: {{column: {cursor}}}" if cursor else "mode: snapshot"
        extra = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in more.items())
        return f"  - name: {table}\n    {mode}\n    primary_key: [{names[0][0]}]\n{extra}    columns:\n{listed}\n"

    def spec(self, columns: str, *, time_zone: str = "America/New_York", **more: Any) -> SourceSpec:
        """A spec of one table; columns are ``name: type`` apart by ``;``."""
        return self.spec_of([self.table(columns, **more)], time_zone=time_zone)

    def spec_of(self, tables: list[str], *, time_zone: str = "America/New_York") -> SourceSpec:
        """A spec of several tables."""
        path = self.folder / "shop.yml"
        path.write_text(
            "source: shop\nkind: mysql\nconnection: shop\nowner: me@example.org\n"
            f"time_zone: {time_zone}\ntables:\n" + "".join(tables)
        )
        return load_source(path)

    def session(self, spec: SourceSpec, url: str | None = None) -> MysqlSession:
        """A session of its own."""
        return MysqlSession(spec, SecretStr(url or self.url), self.lake)

    def open(self, spec: SourceSpec, url: str | None = None) -> DatabaseReader:
        """A reader that is not connected yet."""
        planner = _Watched(self.dialect, self.most_rows, self.before_piece)
        connect = lambda: self.session(spec, url)  # noqa: E731 - a name for the argument
        keys = MysqlKeys()
        return DatabaseReader(spec, self.lake, connect=connect, dialect=self.dialect, planner=planner, keys=keys)

    def stage(self, spec: SourceSpec, *, day: str = "2013-01-01", url: str | None = None) -> StagedBatch:
        """What a run does with one day."""
        with self.open(spec, url) as reader:
            return reader.stage(spec.tables[0], day_interval(day, spec.time_zone), code="code")

    def rows(self, staged: StagedBatch, *names: str) -> list[tuple[Any, ...]]:
        """Rows of a staged batch."""
        return staged_rows(self.lake, staged, *names)

    def staged_files(self) -> list[Path]:
        """Data files in the lake's folder."""
        return list(Path(self.lake.settings.lake_uri).rglob("*.parquet"))
