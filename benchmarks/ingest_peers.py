"""Other ways to bring one PostgreSQL table into Parquet files; run by the interpreter of a throw-away environment.

::

    python ingest_peers.py WAY FOLDER       URL in BENCHMARK_URL; prints {"rows": ..., "bytes": ...}

Each way is what its project's documentation shows for this task, with zstd Parquet as output where it can be chosen.
Nothing of Penstock is imported: its packages are not in that environment.
"""

import json
import os
import sys
from pathlib import Path

TABLE = "lineitem"
BATCH_ROWS = 100_000


def dlt_pyarrow(url: str, folder: Path) -> Path:
    """Dlt's ``sql_database`` source with its pyarrow backend."""
    return _dlt(url, folder, "pyarrow")


def dlt_connectorx(url: str, folder: Path) -> Path:
    """Dlt's ``sql_database`` source with its connectorx backend."""
    return _dlt(url, folder, "connectorx")


def _dlt(url: str, folder: Path, backend: str) -> Path:
    import dlt
    from dlt.sources.sql_database import sql_table

    login = url.replace("postgresql://", "postgresql+psycopg2://", 1) if backend == "pyarrow" else url
    source = sql_table(
        credentials=login,
        table=TABLE,
        backend=backend,
        chunk_size=BATCH_ROWS,
        reflection_level="full_with_precision",
        backend_kwargs={"conn": url} if backend == "connectorx" else None,
    )
    pipeline = dlt.pipeline(
        "lineitem",
        pipelines_dir=str(folder / "state"),
        dataset_name="raw",
        destination=dlt.destinations.filesystem(bucket_url=(folder / "out").as_uri()),
        progress=None,
    )
    pipeline.run(source, loader_file_format="parquet", write_disposition="replace")
    return folder / "out" / "raw" / TABLE


def connectorx(url: str, folder: Path) -> Path:
    """Connectorx to Arrow, then one Parquet file."""
    import connectorx as cx
    import pyarrow.parquet as pq

    table = cx.read_sql(url, f"SELECT * FROM {TABLE}", return_type="arrow")
    pq.write_table(table, folder / "lineitem.parquet", compression="zstd")
    return folder


def adbc(url: str, folder: Path) -> Path:
    """ADBC's PostgreSQL driver as a stream of record batches into one Parquet file."""
    import adbc_driver_postgresql.dbapi as driver
    import pyarrow.parquet as pq

    with driver.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE}")
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(folder / "lineitem.parquet", reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return folder


WAYS = {"dlt-pyarrow": dlt_pyarrow, "dlt-connectorx": dlt_connectorx, "connectorx": connectorx, "adbc": adbc}


def main() -> None:
    """Run one way and tell how many rows lie in its files."""
    import pyarrow.parquet as pq

    way, folder = sys.argv[1], Path(sys.argv[2])
    url = os.environ["BENCHMARK_URL"]  # noqa: TID251 - common.settings is not in this environment
    files = list(WAYS[way](url, folder).rglob("*.parquet"))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    print(json.dumps({"rows": rows, "bytes": sum(file.stat().st_size for file in files)}))


if __name__ == "__main__":
    main()
