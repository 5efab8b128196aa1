"""The Iceberg catalog in any database that SQLAlchemy knows, by the library's own SQL catalog.

Its tables are the library's, so any other program that knows it reads them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lake.remembering import RememberingCatalog, unavailable


class SqlalchemyCatalog(RememberingCatalog, SqlCatalog):
    """The library's SQL catalog; its driver's errors become the lake's."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        only_tables = self._iceberg_type_filter()
        self._find = select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == bindparam("namespace"),
            IcebergTables.table_name == bindparam("name"),
            *(() if only_tables is None else (only_tables,)),
        )

    def _location(self, namespace: str, table: str) -> str | None:
        with _translated(), self.engine.connect() as connection:
            found = connection.execute(self._find, {"namespace": namespace, "name": table}).scalar()
        return None if found is None else str(found)

    def locations(self) -> dict[Identifier, str]:
        """See :class:`RememberingCatalog`."""
        only_tables = self._iceberg_type_filter()
        every = select(IcebergTables.table_namespace, IcebergTables.table_name, IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name, *(() if only_tables is None else (only_tables,))
        )
        with _translated(), self.engine.connect() as connection:
            found = connection.execute(every).all()
        return {(*namespace.split("."), name): str(location) for namespace, name, location in found}

    def _move(self, namespace: str, table: str, before: str, after: str) -> bool:
        moved = (
            update(IcebergTables)
            .where(
                IcebergTables.catalog_name == self.name,
                IcebergTables.table_namespace == namespace,
                IcebergTables.table_name == table,
                IcebergTables.metadata_location == before,
            )
            .values(metadata_location=after, previous_metadata_location=before)
        )
        with _translated(), self.engine.begin() as connection:
            return bool(connection.execute(moved).rowcount == 1)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """See :meth:`lake.remembering.RememberingCatalog.commit_table`; the library's where a driver cannot count."""
        if self.engine.dialect.supports_sane_rowcount:
            return super().commit_table(table, requirements, updates)
        with _translated():
            return SqlCatalog.commit_table(self, table, requirements, updates)

    def create_table(self, *arguments: Any, **options: Any) -> Table:
        """See the library's.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with _translated():
            return super().create_table(*arguments, **options)

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """See the library's.

        Raises:
            NamespaceAlreadyExistsError: it is there, or another process made it at the same moment.
            StoreUnavailable: the database does not answer.
        """
        with _translated():
            try:
                super().create_namespace(namespace, properties)
            except IntegrityError:
                name = Catalog.namespace_to_string(namespace)
                raise NamespaceAlreadyExistsError(f"Namespace {name} already exists") from None

    def namespace_exists(self, identifier: str | Identifier) -> bool:
        """See the library's.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with _translated():
            return bool(super().namespace_exists(identifier))

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """See the library's.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with _translated():
            return list(super().list_tables(namespace))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise unavailable(error) from None
