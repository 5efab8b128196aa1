"""The Iceberg catalog in an SQLite file, by Python's own driver.

The tables are those of the library's SQL catalog, which therefore reads and writes the same file. It is left out here
for what it loads: SQLAlchemy costs a fifth of a second and 20 MB in every process, and each of its statements a hundred
times what SQLite itself takes. What Penstock never asks of a catalog (renaming, dropping, views) is passed on to it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchNamespaceError, TableAlreadyExistsError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties

from lake.remembering import RememberingCatalog, unavailable

_URL = re.compile(r"sqlite:///([^?]+)")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) "
    "NOT NULL, table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), previous_metadata_location "
    "VARCHAR(1000), iceberg_type VARCHAR(5), PRIMARY KEY (catalog_name, table_namespace, table_name))",
    "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (catalog_name VARCHAR(255) NOT NULL, namespace "
    "VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000) NOT NULL, "
    "PRIMARY KEY (catalog_name, namespace, property_key))",
)


def is_plain_file(url: str) -> bool:
    """Whether a catalog's URL names an SQLite file and nothing else: no driver, no options."""
    return _URL.fullmatch(url) is not None


def sqlite_file(url: str) -> Path | None:
    """The file of a catalog's URL; None if it is no SQLite file's."""
    found = _URL.fullmatch(url)
    return Path(found[1]) if found else None


def _by_library(method: str) -> Callable[..., Any]:
    def call(self: SqliteCatalog, *arguments: Any, **options: Any) -> Any:
        return getattr(self._library, method)(*arguments, **options)

    return call


class SqliteCatalog(RememberingCatalog):
    """The library's SQL catalog on an SQLite file, without SQLAlchemy.

    Raises:
        StoreUnavailable: the file cannot be opened.
    """

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        found = _URL.fullmatch(self.properties["uri"])
        self._path = found[1] if found else ""
        for statement in _TABLES:
            self._rows(statement)
        # A catalog that an old version of the library made does not tell tables from views: it has no views.
        columns = [row[1] for row in self._rows("PRAGMA table_info(iceberg_tables)")]
        self._only_tables = " AND coalesce(iceberg_type, 'TABLE') = 'TABLE'" if "iceberg_type" in columns else ""

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        # Each statement is a transaction of its own. Closed with its catalog, wherever that is collected.
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    @cached_property
    def _library(self) -> Catalog:
        from pyiceberg.catalog.sql import SqlCatalog

        return SqlCatalog(self.name, **self.properties)

    def _rows(self, statement: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        try:
            with closing(self._connection.execute(statement, values)) as found:
                return found.fetchall()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise unavailable(error) from None

    def _changed(self, statement: str, values: Sequence[str]) -> int:
        try:
            with closing(self._connection.execute(statement, values)) as done:
                return int(done.rowcount)
        except sqlite3.Error as error:
            raise unavailable(error) from None

    def _location(self, namespace: str, table: str) -> str | None:
        found = self._rows(
            "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? "
            f"AND table_name = ?{self._only_tables}",
            (self.name, namespace, table),
        )
        return found[0][0] if found else None

    def locations(self) -> dict[Identifier, str]:
        """See :class:`RememberingCatalog`."""
        found = self._rows(
            "SELECT table_namespace, table_name, metadata_location FROM iceberg_tables "
            f"WHERE catalog_name = ?{self._only_tables}",
            (self.name,),
        )
        return {(*namespace.split("."), name): location for namespace, name, location in found}

    def _move(self, namespace: str, table: str, before: str, after: str) -> bool:
        moved = self._changed(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? "
            "WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ?",
            (after, before, self.name, namespace, table, before),
        )
        return moved == 1

    def create_table(
        self,
        identifier: str | Identifier,
        schema: Any,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> Table:
        """See the library's.

        Raises:
            NoSuchNamespaceError: there is no such namespace.
            TableAlreadyExistsError: the table is there.
            StoreUnavailable: the database does not answer.
        """
        *parts, name = Catalog.identifier_to_tuple(identifier)
        namespace = Catalog.namespace_to_string(tuple(parts))
        if not self.namespace_exists(namespace):
            raise NoSuchNamespaceError(f"Namespace does not exist: {namespace}")
        assert isinstance(schema, Schema)  # noqa: S101 - the lake gives no other
        where = self._resolve_table_location(location, namespace, name)
        metadata = new_table_metadata(
            location=where, schema=schema, partition_spec=partition_spec, sort_order=sort_order, properties=properties
        )
        first = load_location_provider(where, properties).new_table_metadata_file_location()
        self._write_metadata(metadata, self._load_file_io(location=first), first)
        kind = ", iceberg_type" if self._only_tables else ""
        try:
            self._rows(
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location"
                f"{kind}) VALUES (?, ?, ?, ?{', ?' if kind else ''})",
                (self.name, namespace, name, first, *(("TABLE",) if kind else ())),
            )
        except sqlite3.IntegrityError:
            raise TableAlreadyExistsError(f"Table {namespace}.{name} already exists") from None
        return self.load_table(identifier)

    def namespace_exists(self, namespace: str | Identifier) -> bool:
        """Whether there is a namespace of that name.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        name = Catalog.namespace_to_string(namespace)
        return bool(
            self._rows(
                "SELECT 1 FROM iceberg_namespace_properties WHERE catalog_name = ?1 AND namespace = ?2 UNION ALL "
                "SELECT 1 FROM iceberg_tables WHERE catalog_name = ?1 AND table_namespace = ?2 LIMIT 1",
                (self.name, name),
            )
        )

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """See the library's.

        Raises:
            NamespaceAlreadyExistsError: it is there.
            StoreUnavailable: the database does not answer.
        """
        name = Catalog.namespace_to_string(namespace)
        if self.namespace_exists(name):
            raise NamespaceAlreadyExistsError(f"Namespace {name} already exists")
        for key, value in (properties or {"exists": "true"}).items():
            try:
                self._rows(
                    "INSERT INTO iceberg_namespace_properties VALUES (?, ?, ?, ?)", (self.name, name, key, value)
                )
            except sqlite3.IntegrityError:
                raise NamespaceAlreadyExistsError(f"Namespace {name} already exists") from None

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """Tables of a namespace.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        parts = Catalog.identifier_to_tuple(namespace)
        found = self._rows(
            f"SELECT table_name FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ?{self._only_tables}",
            (self.name, Catalog.namespace_to_string(namespace)),
        )
        return [(*parts, name) for (name,) in found]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    register_table = _by_library("register_table")
    rename_table = _by_library("rename_table")
    drop_table = _by_library("drop_table")
    drop_namespace = _by_library("drop_namespace")
    list_namespaces = _by_library("list_namespaces")
    load_namespace_properties = _by_library("load_namespace_properties")
    update_namespace_properties = _by_library("update_namespace_properties")
    view_exists = _by_library("view_exists")
    list_views = _by_library("list_views")
    load_view = _by_library("load_view")
    drop_view = _by_library("drop_view")
    register_view = _by_library("register_view")
