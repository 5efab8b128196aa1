"""A catalog that keeps its tables' metadata locations in a database, without the library's waste.

::

    catalog row -> metadata location -> known already? the same metadata : read and parsed

A metadata file never changes once it is written, and its location holds a random id; so the row in the catalog, which
is read every time, says whether what was parsed before still holds. The library parses it at every look (four times for
each interval) and copies it whole, with all its snapshots, each time a commit asks for one of its fields (19 times for
each interval): together 27 ms of CPU, more than the rows of a small interval cost.

Which database that is, is said by the classes made of this one: ``sqlite_catalog.py`` and ``sql_catalog.py``.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import OrderedDict
from typing import Any

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.serializers import FromInputFile
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

from common.errors import StoreUnavailable

KNOWN_TABLES = 64
"""Metadata that is kept: some kilobytes each, tens where many snapshots lie."""


def unavailable(error: Exception) -> StoreUnavailable:
    """A driver's error as the lake's; of its text nothing is kept, for it may hold credentials."""
    return StoreUnavailable(
        f"The Iceberg catalog does not answer ({type(error).__name__}).",
        remedy="check PENSTOCK_CATALOG_URI and that its server runs, then try again",
    )


class RememberingCatalog(MetastoreCatalog):
    """A catalog that reads a metadata file once; its database answers two questions."""

    def __init__(self, name: str, **properties: str) -> None:
        self._known: OrderedDict[str, tuple[TableMetadata, FileIO]] = OrderedDict()
        super().__init__(name, **properties)

    @abstractmethod
    def _location(self, namespace: str, table: str) -> str | None:
        """Location of a table's current metadata; None if there is no such table.

        Raises:
            StoreUnavailable: the database does not answer.
        """

    @abstractmethod
    def locations(self) -> dict[Identifier, str]:
        """Location of every table's current metadata, all of one moment.

        Raises:
            StoreUnavailable: the database does not answer.
        """

    @abstractmethod
    def _move(self, namespace: str, table: str, before: str, after: str) -> bool:
        """Have a table's metadata be at ``after``, if it is still at ``before``; whether it was.

        Raises:
            StoreUnavailable: the database does not answer; whether it moved is not known.
        """

    def load_table(self, identifier: str | Identifier) -> Table:
        """As the library's, by one small query if its metadata file is known.

        Raises:
            NoSuchTableError: there is no such table.
            StoreUnavailable: the database does not answer.
        """
        *namespace, name = Catalog.identifier_to_tuple(identifier)
        location = self._location(Catalog.namespace_to_string(tuple(namespace)), name)
        if not location:
            raise NoSuchTableError(f"Table does not exist: {'.'.join(namespace)}.{name}")
        if location not in self._known:
            metadata = FromInputFile.table_metadata(self._load_file_io(location=location).new_input(location))
            self._remember(location, metadata)
        metadata, io = self._known[location]
        return Table((*namespace, name), metadata, location, io, self)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit updates that were decided in view of exactly this metadata; whoever was faster is a conflict.

        The library looks at the catalog once more and goes on from there, if the requirements hold still. Here the
        one statement that moves the row is the only judge.

        Raises:
            CommitFailedException: a requirement is not met, or the row has moved.
            StoreUnavailable: the database does not answer; whether the commit landed is not known.
        """
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
        if not self._move(Catalog.namespace_to_string(tuple(namespace)), name, before, location):
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
