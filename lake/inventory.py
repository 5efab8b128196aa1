"""What lies in the lake's folders, and which of it anything names.

::

    list all files ─▶ then read the catalog ─▶ every retained snapshot's files, the metadata log, receipts
                                            └▶ each listed file is named, an orphan, history, or nobody's

The listing comes first: a file that is committed meanwhile is named by what is read later, and one that is written
meanwhile is not in the listing. Nothing is judged by what is not understood: a table whose snapshots cannot be read, or
of which a file is missing, is held back whole; folders that no table of the catalog owns are nobody's and stay.

Refusals and records of repairs are history: people's decisions and why rows are not there. So are Great Expectations'
own results that the ledger's history names. Receipts of batches that no retained snapshot and no retained release
names are not: everything ever asked of a receipt is asked of those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.table import Table

from common.errors import PenstockError, StateCorrupt, StoreUnavailable, located
from lake.catalog import find_table, live_files, manifest_files, manifests
from lake.costs import first_month, recorded
from lake.lake import Lake
from lake.ops import COSTS, LEDGER, declare_ops, ops_relation
from lake.paths import TableId, attempt_of, root_location, table_location
from lake.storage import StoredFile

_ATTEMPT = r"[0-9a-f]{32}"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UNFINISHED = "tmp_"
"""What DuckDB puts before a local file's name until it is complete."""
_DATA = re.compile(rf"(\w+)/(\w+)/data/[^/]+/(?:{_UNFINISHED})?({_ATTEMPT})-\d{{5,}}\.parquet")
_METADATA = re.compile(
    rf"(\w+)/(\w+)/metadata/(?:\d{{5,}}-{_UUID}\.metadata\.json|snap-\d+-\d+-{_UUID}\.avro|{_UUID}-m\d+\.avro)"
)
_RECORD = re.compile(rf"ops/(receipts|validations)/(\w+)\.(\w+)/([^/]+)/({_ATTEMPT})\.json")
_USAGE = re.compile(rf"ops/usage/(\d{{4}}-\d\d)/({_ATTEMPT})\.json")
_OTHER_RECORDS = "ops/"
"""Below it, besides its tables: refusals, repairs, failures, lineage, the sweep's own note. All of it stays."""
_SWEEPS_OWN = "ops/maintenance/"
_READS = 3
"""How often a table is read whose metadata another process replaces meanwhile."""


@dataclass(frozen=True)
class Named:
    """What one table's retained snapshots name.

    Attributes:
        locations: data files, manifests, lists of manifests, metadata files.
        attempts: ids in the names of its data files.
        data: locations of the data files of every retained snapshot, with their sizes in bytes.
        live: those of the current snapshot.
        table_uuid: Iceberg's id of the table.
    """

    locations: frozenset[str]
    attempts: frozenset[str]
    data: Mapping[str, int]
    live: Mapping[str, int]
    table_uuid: str


@dataclass
class Inventory:
    """The lake's files, judged.

    Attributes:
        orphans: files that nothing names, by table.
        sizes: every file that is there -> its size in bytes.
        named: files that something names.
        held_back: table -> why none of its files is judged.
        unclaimed: files that no table of the catalog owns, or with names that neither Penstock nor Iceberg gives.
    """

    orphans: dict[str, list[StoredFile]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    named: int = 0
    held_back: dict[str, str] = field(default_factory=dict)
    unclaimed: list[StoredFile] = field(default_factory=list)


def take_inventory(lake: Lake, *, keep_files: Collection[str] = (), keep_receipts: Collection[str] = ()) -> Inventory:
    """List the lake and judge every file.

    Args:
        lake: the lake.
        keep_files: attempts whose files count as named, for somebody outside the lake names them.
        keep_receipts: the same of receipts.

    Raises:
        StoreUnavailable: store or catalog does not answer.
    """
    root = f"{root_location(lake.settings.lake_uri)}/"
    listed = lake.storage.list_stored(root.rstrip("/"))
    judge = _Judge(lake, listed, frozenset(keep_files), frozenset(keep_receipts))
    records: list[tuple[StoredFile, re.Match[str]]] = []
    usage: list[tuple[StoredFile, re.Match[str]]] = []
    for file in listed:
        path = file.location.removeprefix(root)
        record = _RECORD.fullmatch(path)
        if record is not None:
            records.append((file, record))
        elif (found := _DATA.fullmatch(path) or _METADATA.fullmatch(path)) is not None:
            judge.table_file(file, TableId(found[1], found[2]))
        elif (used := _USAGE.fullmatch(path)) is not None:
            usage.append((file, used))
        elif path.startswith(_OTHER_RECORDS):
            judge.found.named += 1
        else:
            judge.found.unclaimed.append(file)
    judge.records(records)
    judge.usage(usage)
    return judge.found


def named_by(table: Table) -> Named:
    """What a table's retained snapshots and its log of metadata name.

    Raises:
        StateCorrupt: a list of manifests or a manifest is missing or damaged.
        StoreUnavailable: the storage does not answer.
    """
    metadata = table.metadata
    locations = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    locations |= {each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)}
    attempts: set[str] = set()
    data: dict[str, int] = {}
    with located(table=".".join(table.name())):
        for snapshot in metadata.snapshots:
            locations.add(snapshot.manifest_list)
            for manifest in manifests(snapshot, table.io):
                locations.add(manifest.manifest_path)
                for file in manifest_files(manifest, table.io):
                    data[file.location] = file.data_file.file_size_in_bytes
                    attempts.add(attempt_of(file.location) or "")
        live = {file.location: file.data_file.file_size_in_bytes for file in live_files(table)}
    return Named(frozenset(locations | data.keys()), frozenset(attempts), data, live, str(metadata.table_uuid))


def is_record(path: str) -> bool:
    """Whether a path below the lake's root is that of a receipt, a verdict or another small file about the lake."""
    is_table = _DATA.fullmatch(path) or _METADATA.fullmatch(path)
    return path.startswith(_OTHER_RECORDS) and not is_table and not path.startswith(_SWEEPS_OWN)


def receipt_attempt(path: str) -> str | None:
    """The attempt of a receipt, by its path below the lake's root; None if it is none."""
    found = _RECORD.fullmatch(path)
    return found[5] if found and found[1] == "receipts" else None


class _Judge:
    """What is known of the catalog's tables while the files are gone through."""

    def __init__(
        self, lake: Lake, listed: Sequence[StoredFile], keep_files: frozenset[str], keep_receipts: frozenset[str]
    ) -> None:
        self._lake = lake
        self._keep_files, self._keep_receipts = keep_files, keep_receipts
        self._named: dict[TableId, Named | None] = {}
        self.found = Inventory(sizes={file.location: file.size_bytes for file in listed})

    def table_file(self, file: StoredFile, table: TableId) -> None:
        """A file in a table's folder."""
        if not self._is_claimed(table):
            self.found.unclaimed.append(file)
            return
        named = self._named[table]
        if named is None:
            return
        if file.location in named.locations or _attempt(file.location) in self._keep_files:
            self.found.named += 1
        elif file.location.endswith(".metadata.json") and self._is_foreign(file.location, named):
            self._hold_back(table, f"{file.location} is of another table that lay in the same folder")
        else:
            self.found.orphans.setdefault(str(table), []).append(file)

    def records(self, records: Sequence[tuple[StoredFile, re.Match[str]]]) -> None:
        """Receipts, and Great Expectations' own results: those that no kept receipt, refusal or history names."""
        kept: dict[tuple[TableId, str], list[str]] = {}
        results: list[tuple[StoredFile, re.Match[str]]] = []
        for file, record in records:
            table = TableId(record[2], record[3])
            if not self._is_claimed(table):
                self.found.named += 1  # verdicts of warehouse tables, and of tables that are no more
            elif (named := self._named[table]) is None:
                continue
            elif record[1] == "validations":
                results.append((file, record))
            elif record[5] in named.attempts or record[5] in self._keep_receipts:
                self.found.named += 1
                kept.setdefault((table, record[4]), []).append(record[5])
            else:
                self.found.orphans.setdefault(str(table), []).append(file)
        self._results(results, kept)

    def usage(self, usage: Sequence[tuple[StoredFile, re.Match[str]]]) -> None:
        """Files of costs: those of months that are not looked at any more, if ``ops.costs`` has their rows."""
        first = first_month(self._lake)
        old = [(file, found[2]) for file, found in usage if found[1] < first]
        self.found.named += len(usage) - len(old)
        if not old:
            return
        try:
            told = recorded(self._lake)
        except PenstockError as error:
            self.found.held_back[str(COSTS.table)] = error.problem
            told = set()
        for file, attempt in old:
            if attempt in told:
                self.found.orphans.setdefault(str(COSTS.table), []).append(file)
            else:
                self.found.named += 1

    def _results(
        self, results: Sequence[tuple[StoredFile, re.Match[str]]], kept: Mapping[tuple[TableId, str], Sequence[str]]
    ) -> None:
        root = f"{root_location(self._lake.settings.lake_uri)}/"
        told = self._told_by_history()
        receipts: dict[tuple[TableId, str], set[str] | None] = {}
        for file, record in results:
            table, key, path = TableId(record[2], record[3]), record[4], file.location.removeprefix(root)
            refusal = f"{root}ops/refusals/{table}/{key}-{record[5]}.json"
            if told is None or path in told or refusal in self.found.sizes:
                self.found.named += 1
                continue
            if (table, key) not in receipts:
                receipts[table, key] = self._validations(table, key, kept.get((table, key), ()))
            named = receipts[table, key]
            if named is None or path in named:
                self.found.named += 1
            else:
                self.found.orphans.setdefault(str(table), []).append(file)

    def _validations(self, table: TableId, key: str, attempts: Sequence[str]) -> set[str] | None:
        """Results that kept receipts of a partition name; None if one of them cannot be read."""
        try:
            found = [self._lake.read_receipt(table, key, attempt) for attempt in attempts]
        except PenstockError:
            return None
        return {str(receipt.verdict.get("validation")) for receipt in found}

    def _told_by_history(self) -> set[str] | None:
        """Results that the ledger's history names; None if it cannot be read."""
        if not self._lake.exists(LEDGER.table):
            return set()
        try:
            declare_ops(self._lake)
            with self._lake.connect() as connection:
                query = f"SELECT DISTINCT validation FROM {ops_relation(self._lake, LEDGER)}"
                return {str(path) for (path,) in connection.execute(query).fetchall()}
        except PenstockError as error:
            self.found.held_back[str(LEDGER.table)] = error.problem
            return None

    def _is_claimed(self, table: TableId) -> bool:
        """Whether the catalog has the table. Side effects: what it names is read, or it is held back."""
        if table in self._named:
            return True
        for last in range(_READS):
            try:
                loaded = find_table(self._lake.catalog, table)
            except (StateCorrupt, StoreUnavailable) as error:
                self._hold_back(table, error.problem)
                return True
            if loaded is None:
                return False
            expected = table_location(self._lake.settings.lake_uri, table)
            if loaded.location().rstrip("/") != expected:
                self._hold_back(table, f"the catalog has it at {loaded.location()}, not at {expected}")
                return True
            try:
                self._named[table] = named_by(loaded)
                break
            except (StateCorrupt, StoreUnavailable) as error:
                if last == _READS - 1:
                    self._hold_back(table, error.problem)
        self._check_complete(table)
        return True

    def _check_complete(self, table: TableId) -> None:
        named = self._named[table]
        for location in named.live if named else ():
            if location not in self.found.sizes and self._lake.storage.size(location) is None:
                self._hold_back(table, f"its file {location} is missing")
                return

    def _hold_back(self, table: TableId, reason: str) -> None:
        self._named[table] = None
        self.found.held_back[str(table)] = reason
        self.found.orphans.pop(str(table), None)

    def _is_foreign(self, location: str, named: Named) -> bool:
        """Whether a metadata file tells of snapshots of a table with another id: a catalog was lost and made anew."""
        try:
            metadata = self._lake.storage.read_json(location)
            return metadata["table-uuid"] != named.table_uuid and bool(metadata.get("snapshots"))
        except StateCorrupt:
            return False  # torn while it was written: no catalog has ever named it
        except (TypeError, KeyError, json.JSONDecodeError):
            return False


def _attempt(location: str) -> str | None:
    """The attempt in a data file's name, finished or not."""
    return attempt_of(location.rsplit("/", 1)[-1].removeprefix(_UNFINISHED))
