"""Great Expectations' SQL engine on one DuckDB connection.

GX 1.24 has no DuckDB datasource, and through the SQLAlchemy driver 25 of 26 expectations fail: GX gives the connection
back before it fetches, and a DuckDB result dies with its connection. Here SQLAlchemy only writes SQL text; DuckDB runs
it on a connection that the caller owns, and rows come back in SQLAlchemy's own result class, which GX expects. No
connection pool, no transaction left open, no second connection.

Three dialect facts that must be told, because DuckDB's dialect calls itself a kind of PostgreSQL:

* ``~`` in DuckDB is a *full* match, in PostgreSQL a search. GX's Dremio branch writes ``REGEXP_MATCHES``, which is a
  search in DuckDB, and its LIKE branch is the same; so the engine shows that marker where GX looks for a dialect.
* words reserved in DuckDB only (``at``, ``qualify``, ``summarize``) are quoted when a column is called so.
* type names are compared as text without case (``BIGINT``, ``DECIMAL(15,2)``), as GX does for PostgreSQL.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import duckdb
import great_expectations.expectations.type_comparison as gx_types
import sqlalchemy as sa
from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from quality.expectations import BATCH_ID
from quality.flags import BATCH_VIEW

gx_types.CASE_INSENSITIVE_DIALECTS |= {"duckdb"}  # type: ignore[arg-type]


class _DuckDBMarker:
    """Stands where GX looks for a dialect module; see the module's note on ``REGEXP_MATCHES``."""

    DremioDialect = True
    name = "duckdb"


def _dialect_source() -> sa.Engine:
    engine = sa.create_engine("duckdb:///:memory:")  # never connected: only its dialect writes SQL
    with duckdb.connect() as connection:
        words = connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
    preparer = engine.dialect.identifier_preparer
    preparer.reserved_words = {*preparer.reserved_words, *(str(word[0]) for word in words)}
    return engine


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """GX execution engine whose queries run on :attr:`connection`.

    Attributes:
        connection: the DuckDB connection that has the views; may be exchanged between batches.
    """

    _writer: ClassVar[sa.Engine] = _dialect_source()

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(name="duckdb", engine=self._writer, create_temp_table=False)
        self.dialect_module = cast("Any", _DuckDBMarker)
        self.connection = connection
        self.load_batch_data(BATCH_ID, SqlAlchemyBatchData(self, table_name=BATCH_VIEW))

    def sql(self, element: sa.sql.ClauseElement) -> str:
        """SQL text with all values written into it."""
        return str(element.compile(dialect=self.engine.dialect, compile_kwargs={"literal_binds": True}))

    def execute_query(self, query: Any) -> Any:
        """Run a query of GX; the rows come as SQLAlchemy's result."""
        self.connection.execute(self.sql(query))
        names = [str(column[0]) for column in self.connection.description or ()]
        return IteratorResult(SimpleResultMetaData(names), iter(self.connection.fetchall()))

    def execute_query_in_transaction(self, query: Any) -> Any:
        """The same: a gate writes nothing that would need a transaction."""
        return self.execute_query(query)

    def domain_filter(self, domain: dict[str, Any]) -> str | None:
        """What GX filters rows by before judging them (``row_condition``, ``ignore_row_if``), as one SQL condition."""
        conditions = [self.sql(clause) for clause in _where_clauses(self.get_domain_records(domain))]
        return " AND ".join(f"({condition})" for condition in conditions) or None


def _where_clauses(selectable: Any) -> list[Any]:
    if isinstance(selectable, sa.Table):
        return []
    if isinstance(selectable, sa.Subquery | sa.Alias):
        return _where_clauses(selectable.element)
    if isinstance(selectable, sa.Select):
        own = [] if selectable.whereclause is None else [selectable.whereclause]
        return [clause for source in selectable.get_final_froms() for clause in _where_clauses(source)] + own
    raise TypeError(f"Great Expectations made an unknown kind of row filter: {type(selectable).__name__}")
