"""The library's SQL catalog without its waste: table metadata is parsed once, and copied once a commit.

::

    catalog row -> metadata location -> known already? the same metadata : read and parsed

A metadata file never changes once it is written, and its location holds a random id; so the row in the catalog, which
is read every time, says whether what was parsed before still holds. The library parses it at every look (four times for
each interval) and copies it whole, with all its snapshots, each time a commit asks for one of its fields (19 times for
each interval): together 27 ms of CPU, more than the rows of a small interval cost.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.table import CommitTableResponse, Table, Transaction
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    TableRequirement,
    TableUpdate,
    _apply_table_update,
    _TableMetadataUpdateContext,
    _update_table_metadata_log,
)
from pyiceberg.typedef import Identifier
from sqlalchemy import bindparam, select, update

KNOWN_TABLES = 64
"""Metadata that is kept: some kilobytes each, tens where many snapshots lie."""


class RememberingCatalog(SqlCatalog):
    """An SQL catalog that reads a metadata file once."""

    def __init__(self, name: str, **properties: str) -> None:
        self._known: OrderedDict[str, tuple[TableMetadata, FileIO]] = OrderedDict()
        super().__init__(name, **properties)
        self._find = select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == bindparam("namespace"),
            IcebergTables.table_name == bindparam("name"),
        )
        if (only_tables := self._iceberg_type_filter()) is not None:
            self._find = self._find.where(only_tables)

    def load_table(self, identifier: str | Identifier) -> Table:
        """As the library's, by one small query if its metadata file is known.

        Raises:
            NoSuchTableError: there is no such table.
        """
        *namespace, name = Catalog.identifier_to_tuple(identifier)
        with self.engine.connect() as connection:
            location = connection.execute(
                self._find, {"namespace": Catalog.namespace_to_string(tuple(namespace)), "name": name}
            ).scalar()
        known = self._known.get(location) if location else None
        if known is None:
            table = super().load_table(identifier)
            self._remember(table.metadata_location, table.metadata)
            return table
        metadata, io = known
        return Table((*namespace, name), metadata, str(location), io, self)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit updates that were decided in view of exactly this metadata; whoever was faster is a conflict.

        The library looks at the catalog once more and goes on from there, if the requirements hold still. Here the
        one statement that moves the row is the only judge.

        Raises:
            CommitFailedException: a requirement is not met, or the row has moved.
        """
        if not self.engine.dialect.supports_sane_rowcount:
            return super().commit_table(table, requirements, updates)
        for requirement in requirements:
            requirement.validate(table.metadata)
        before = table.metadata_location
        metadata = _updated(table.metadata, updates, before)
        if metadata == table.metadata:
            return CommitTableResponse(metadata=table.metadata, metadata_location=before)
        location = load_location_provider(metadata.location, metadata.properties).new_table_metadata_file_location(
            self._parse_metadata_version(before) + 1
        )
        self._write_metadata(metadata, self._load_file_io(metadata.properties, location), location)
        *namespace, name = table.name()
        moved = (
            update(IcebergTables)
            .where(
                IcebergTables.catalog_name == self.name,
                IcebergTables.table_namespace == Catalog.namespace_to_string(tuple(namespace)),
                IcebergTables.table_name == name,
                IcebergTables.metadata_location == before,
            )
            .values(metadata_location=location, previous_metadata_location=before)
        )
        with self.engine.begin() as connection:
            if connection.execute(moved).rowcount < 1:
                raise CommitFailedException(f"Another process has updated {'.'.join(table.name())}")
        self._remember(location, metadata)
        return CommitTableResponse(metadata=metadata, metadata_location=location)

    def _remember(self, location: str, metadata: TableMetadata) -> None:
        self._known[location] = metadata, self._load_file_io(metadata.properties, location)
        while len(self._known) > KNOWN_TABLES:
            self._known.popitem(last=False)


class LeanTransaction(Transaction):
    """A transaction that works out its table's metadata once for each change, not for each question."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._seen: tuple[Any, Any, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The metadata with the changes so far; to be read only."""
        if not self._updates:
            return self._table.metadata
        if self._seen is None or self._seen[0] is not self._table.metadata or self._seen[1] is not self._updates:
            self._seen = (self._table.metadata, self._updates, _updated(self._table.metadata, self._updates))
        return self._seen[2]


def _updated(base: TableMetadata, updates: tuple[TableUpdate, ...], location: str | None = None) -> TableMetadata:
    """The metadata with the updates: the library's ``update_table_metadata`` without its deep copy of the outcome.

    Args:
        base: the metadata before.
        updates: what changes.
        location: where the metadata before lies, if it is to be noted in the log.
    """
    context, updated = _TableMetadataUpdateContext(), base
    for each in updates:
        updated = _apply_table_update(each, updated, context)
    if not context.has_changes():
        return base
    if location is not None:
        updated = _update_table_metadata_log(updated, location, base.last_updated_ms)
    if updated.last_updated_ms == base.last_updated_ms:
        updated = updated.model_copy(update={"last_updated_ms": time.time_ns() // 1_000_000})
    updated.spec().check_compatible(updated.schema())
    updated.sort_order().check_compatible(updated.schema())
    return updated
