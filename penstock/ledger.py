"""The ledger: for every table, stage and interval, where each row went. Read from the lake and the current release.

Nothing is kept in books of its own. Raw and refined rows come from the receipts of the batches that are live; warehouse
rows from the manifest of the current release; refused batches, which are no part of what is live, from the record of
their refusal. ``problems`` lists every account that does not add up, ``stored`` those that the files contradict.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lake.batches import Receipt
from lake.paths import TableId, engine_path, refusal_folder
from lake.quarantine import rows_stored
from lake.schema import DELETED_COLUMN
from penstock.facts import FACTS
from penstock.pipeline import Pipeline
from warehouse.releases import Releases


@dataclass(frozen=True)
class Entry:
    """One line: ``rows_in = published + quarantined + deduplicated``, and ``quarantined = waiting + discarded``.

    Of the published rows, ``deleted`` are marked as gone from the source and ``replayed`` had waited in quarantine.
    ``because`` has the reasons for rows that were dropped as older versions, as far as they are known.
    """

    stage: str
    table: str
    key: str
    rows_in: int
    published: int
    quarantined: int
    deduplicated: int
    deleted: int
    batch_id: str
    run_id: str
    published_at: str
    discarded: int = 0
    replayed: int = 0
    because: dict[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Rows in quarantine that nobody has decided on."""
        return self.quarantined - self.discarded

    @property
    def balanced(self) -> bool:
        """Whether every row is accounted for, and no part is larger than its whole."""
        return (
            self.rows_in == self.published + self.quarantined + self.deduplicated
            and 0 <= self.discarded <= self.quarantined
            and 0 <= self.replayed <= self.published
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**asdict(self), "waiting": self.waiting, "balanced": self.balanced}


def entries(pipeline: Pipeline) -> list[Entry]:
    """The whole ledger: ingest, refine, warehouse; within each by table and interval."""
    found = [_entry(receipt) for table in raw_tables(pipeline) for receipt in pipeline.lake.receipts(table)]
    refined = {name: pipeline.lake.receipts(TableId("refined", name)) for name in sorted(pipeline.refined_tables())}
    found += [_entry(receipt) for receipts in refined.values() for receipt in receipts]
    return found + _warehouse(pipeline, refined)


def raw_tables(pipeline: Pipeline) -> list[TableId]:
    """Every raw table that a spec declares."""
    return [spec.raw(table.name) for spec in pipeline.sources().values() for table in spec.tables]


def _entry(receipt: Receipt) -> Entry:
    return Entry(
        receipt.stage,
        receipt.table,
        receipt.key,
        receipt.rows_in,
        receipt.published,
        receipt.quarantined,
        receipt.deduplicated,
        receipt.deleted,
        receipt.batch_id,
        receipt.run_id,
        receipt.published_at,
        receipt.discarded,
        receipt.replayed,
        receipt.because,
    )


def refusals(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Batches that were refused whole, oldest first: their rows are in no account of what is live."""
    found = []
    for table in [*raw_tables(pipeline), *(TableId("refined", name) for name in sorted(pipeline.refined_tables()))]:
        for location in pipeline.lake.storage.list_files(refusal_folder(pipeline.settings.lake_uri, table)):
            account = pipeline.lake.storage.read_json(location)
            found.append(
                {
                    "table": str(table),
                    "key": account["key"],
                    "run_id": account["run_id"],
                    "refused_at": account["refused_at"],
                    "rejected": account.get("rows_in"),
                    "reasons": account.get("verdict", {}).get("reasons", []),
                    "record": engine_path(location),
                }
            )
    return sorted(found, key=lambda account: str(account["refused_at"]))


def stored(pipeline: Pipeline) -> list[str]:
    """Accounts that the live files contradict, in words: rows that are stored, counted by the lake's own metadata."""
    lake, found = pipeline.lake, []
    for table in [*raw_tables(pipeline), *(TableId("refined", name) for name in sorted(pipeline.refined_tables()))]:
        live: dict[str, int] = {}
        for file in lake.live(table):
            live[file.key] = live.get(file.key, 0) + file.rows
        waiting = rows_stored(lake, table)
        for receipt in lake.receipts(table):
            for what, rows, account in (
                ("rows are live", live.get(receipt.key, 0), receipt.published),
                ("rows are in quarantine", waiting.get(receipt.key, 0), receipt.quarantined),
            ):
                if rows != account:
                    found.append(f"{table} {receipt.key}: {rows} {what}, its receipt says {account}")
    return found


def _warehouse(pipeline: Pipeline, refined: dict[str, list[Receipt]]) -> list[Entry]:
    """Facts of the current release against the refined rows that its manifest says it was built from."""
    current = Releases(pipeline.settings.warehouse).current()
    if current is None:
        return []
    manifest = current.manifest
    rows_by_key = {table["name"].split(".")[-1]: table["rows_by_key"] for table in manifest["tables"]}
    found = []
    for name, (fact, _) in FACTS.items():
        attempts = manifest["inputs"].get(name, {}).get("attempts", {})
        for receipt in refined.get(name, []):
            if attempts.get(receipt.key) != receipt.attempt:
                continue  # refined again since that release: the next build takes it in
            rows = rows_by_key.get(fact, {}).get(receipt.key, 0)
            found.append(
                Entry(
                    "warehouse",
                    fact,
                    receipt.key,
                    receipt.published,
                    rows,
                    0,
                    0,
                    0,
                    receipt.batch_id,
                    str(manifest.get("run_id", "")),
                    current.published_at,
                )
            )
    return found


_FIGURES = ("rows_in", "published", "quarantined", "waiting", "discarded", "deduplicated", "replayed", "deleted")


def totals(ledger: list[Entry]) -> list[dict[str, Any]]:
    """Sums per stage and table."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in ledger:
        total = sums.setdefault(
            (entry.stage, entry.table),
            {"stage": entry.stage, "table": entry.table, "intervals": 0, "rows_in": 0, "published": 0}
            | {"quarantined": 0, "waiting": 0, "discarded": 0, "deduplicated": 0}
            | {"replayed": 0, "deleted": 0, "because": {}, "balanced": True},
        )
        total["intervals"] += 1
        total["balanced"] = total["balanced"] and entry.balanced
        for name in _FIGURES:
            total[name] += getattr(entry, name)
        for reason, rows in entry.because.items():
            total["because"][reason] = total["because"].get(reason, 0) + rows
    return list(sums.values())


def problems(ledger: list[Entry], verified: list[dict[str, Any]] | None = None) -> list[str]:
    """Every account that does not add up, in words; empty when all is well."""
    found = [
        f"{entry.stage} {entry.table} {entry.key}: {entry.rows_in} in, but {entry.published} published "
        f"({entry.replayed} of them replayed) + {entry.quarantined} quarantined ({entry.discarded} of them discarded) "
        f"+ {entry.deduplicated} deduplicated"
        for entry in ledger
        if not entry.balanced
    ]
    for line in verified or []:
        if line["source_rows"] != line["ledger_rows"]:
            found.append(
                f"{line['table']}: {line['source_rows']} rows in the source, {line['ledger_rows']} in the ledger"
            )
            continue  # then no column can be equal
        found += [f"{line['table']}: column {name} differs from the source" for name in line["columns_that_differ"]]
    return found


def verify(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Compare every database table with its raw table: rows, and a checksum of each column, computed beside the data.

    Checksums are compared where the raw table holds every row as it came: nothing in quarantine, nothing replayed.

    Raises:
        SourceUnavailable, SourceRefused: the source cannot be asked.
    """
    from ingestion.databases.checksums import lake_checksums

    pipeline.declare_raw()
    lines: list[dict[str, Any]] = []
    for spec in pipeline.sources().values():
        with pipeline.reading(spec.source) as reader:
            for table in spec.tables:
                found = reader.source_checksums(table)
                if found is None:
                    continue
                raw = spec.raw(table.name)
                receipts = pipeline.lake.receipts(raw)
                relation = pipeline.lake.relation(raw)
                if table.keeps_deleted:
                    relation = f"(SELECT * FROM {relation} WHERE {DELETED_COLUMN} IS NULL)"
                with pipeline.lake.connect() as connection:
                    in_lake = lake_checksums(connection, table, relation)
                whole = not any(receipt.quarantined or receipt.replayed for receipt in receipts)
                compared = [column.name for column in table.columns if whole and column.name in found]
                lines.append(
                    {
                        "table": str(raw),
                        "source_rows": found["rows"],
                        "ledger_rows": sum(r.rows_in - r.deduplicated - r.deleted for r in receipts),
                        "columns": len(table.columns),
                        "columns_compared": len(compared),
                        "columns_that_differ": [name for name in compared if in_lake[name] != found[name]],
                    }
                )
    return lines
