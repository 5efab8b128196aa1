"""What every table of the lake is at one moment, and which files that needs: what a backup copies.

The catalog is asked once, for all tables; a catalog that can only be asked table by table (REST) is asked for raw and
refined tables before those of quarantine, which are committed before the batches they belong to. So a batch that is
there has its rejected rows with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.io import load_file_io
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from common.errors import StateCorrupt, StoreUnavailable, UnknownName
from lake.catalog import find_table
from lake.inventory import Named, named_by
from lake.lake import Lake
from lake.paths import TableId, table_location
from lake.relocation import parse_metadata
from lake.remembering import RememberingCatalog

_IN_ORDER = ("raw", "refined", "quarantine", "ops")


@dataclass(frozen=True)
class PinnedMetadata:
    """A table's metadata as a catalog named it at one moment.

    Attributes:
        location: of its ``metadata.json``.
        content: of that file.
        metadata: the same, parsed.
        named: what its snapshots name.
    """

    location: str
    content: bytes
    metadata: TableMetadata
    named: Named

    @property
    def files(self) -> list[str]:
        """Locations of every file that reading any of its snapshots takes, ``metadata.json`` first."""
        earlier = {entry.metadata_file for entry in self.metadata.metadata_log}
        return [self.location, *sorted(self.named.locations - earlier - {self.location})]


def pinned_locations(lake: Lake) -> tuple[dict[TableId, str], list[str]]:
    """Where the metadata of every table lies now; and tables of the catalog that are not the lake's.

    Raises:
        StoreUnavailable: the catalog does not answer.
    """
    catalog, pinned, foreign = lake.catalog, {}, []
    if isinstance(catalog, RememberingCatalog):
        for identifier, location in catalog.locations().items():
            try:
                table = TableId(*identifier)
                inside = location.startswith(f"{table_location(lake.settings.lake_uri, table)}/")
            except (UnknownName, TypeError):
                inside = False
            if inside:
                pinned[table] = location
            else:
                foreign.append(".".join(identifier))
        return pinned, sorted(foreign)
    for namespace in _IN_ORDER:
        for table in lake.tables(namespace):
            loaded = find_table(catalog, table)
            if loaded is not None:
                pinned[table] = loaded.metadata_location
    return pinned, foreign


def read_pinned(lake: Lake, table: TableId, location: str) -> PinnedMetadata:
    """A table's metadata and what it names.

    Raises:
        StateCorrupt: a file of it is gone or damaged; gone, because the table has moved on and the file was due.
        StoreUnavailable: the store does not answer.
    """
    io = load_file_io(lake.catalog.properties, location)
    try:
        with io.new_input(location).open() as stream:
            content = stream.read()
    except FileNotFoundError:
        raise StateCorrupt(f"{location} is missing.", table=str(table), remedy="look with 'penstock doctor'") from None
    except OSError as error:
        raise StoreUnavailable(f"Cannot read {location}: {error}.", remedy="check the lake's storage") from None
    metadata = parse_metadata(content, table)
    named = named_by(Table((table.namespace, table.name), metadata, location, io, lake.catalog))
    return PinnedMetadata(location, content, metadata, named)
