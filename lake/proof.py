"""Whether published rows are still those that were published, asked before another stage works with them.

A disk or a store can give back other bytes than it was given, and Parquet as DuckDB writes it has no checksum of its
pages: of 5,700 single flipped bits in a small file three fifths were read as other rows by DuckDB and Polars alike, in
silence. So a receipt keeps the checksum of exactly the rows that it published. Refining and building compare it once
for each batch they read, in one scan.

The hash is DuckDB's own and may change with its version: a proof of another version proves nothing, and is passed over.
So are batches that were merged by key or reworked, whose rows came of several.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import duckdb

from common.errors import StateCorrupt
from lake.lake import Lake, checksum_of
from lake.paths import TableId, attempt_of, engine_path
from lake.sql import literal


def proof_of(attempt: str, checksum: str) -> str:
    """What a receipt keeps.

    Args:
        attempt: of the files that hold the rows, and no others.
        checksum: of :func:`lake.lake.checksum_of`.
    """
    return f"{attempt} {duckdb.__version__} {checksum}"


def prove(lake: Lake, table: TableId, keys: Iterable[str] | None = None) -> None:
    """Compare the live rows of some partitions, or of all, with those that were published.

    Raises:
        StateCorrupt: they are others, or cannot be read; the message names table and interval.
        StoreUnavailable: the storage does not answer.

    Side effects: what is proven is not read again by this :class:`Lake`.
    """
    wanted = None if keys is None else set(keys)
    live = sorted((f for f in lake.live(table) if wanted is None or f.key in wanted), key=lambda f: f.key)
    for key, several in groupby(live, key=lambda file: file.key):
        files = list(several)
        attempt = attempt_of(files[0].location)
        if attempt is None or attempt in lake.proven:
            continue
        receipt = lake.find_receipt(table, key, attempt)
        named, engine, checksum = receipt.proof.split() if receipt and receipt.proof else ("", "", "")
        rows = sum(file.rows for file in files)
        if rows and (named, engine) == (attempt, duckdb.__version__):
            paths = ", ".join(literal(engine_path(file.location)) for file in files if file.rows)
            with lake.connect(rows=rows) as connection:
                # Each file by its own columns: those that the table got since are no part of what was published.
                found = checksum_of(connection, f"read_parquet([{paths}], hive_partitioning=false)")
            if found != checksum:
                raise StateCorrupt(
                    f"The rows are not those that were published: their checksum is {found}, not {checksum}.",
                    table=str(table),
                    interval=key,
                    remedy="run 'penstock doctor --deep': it says which file is damaged, and how to mend it",
                )
        lake.proven.add(attempt)
