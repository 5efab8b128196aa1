"""What reading objects costs: the same rows as CSV, JSON lines and Parquet, plain and packed, each in its own process.

``make bench-objects``. The objects lie in a folder, so a network is not part of it. Each process stages one day, from
listing to the finished Parquet file; CPU and peak memory are those of the whole process, library loading included.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import SecretStr

from benchmarks.measure import run_measured
from common.intervals import day_interval
from common.settings import Settings, process_environment
from ingestion.objects.reader import ObjectReader
from ingestion.spec import SourceSpec
from lake.lake import Lake

DAY = "2013-01-01"
COLUMNS = {"id": "int64", "name": "string", "amount": "decimal(12,2)", "share": "float64", "at": "timestamp"}
WAYS = ("csv none", "csv gzip", "csv zstd", "jsonl none", "parquet none")


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the object (default 1000000)")
    parser.add_argument("--stage", nargs=2, metavar=("FOLDER", "WAY"), help="stage what lies there, and end")
    arguments = parser.parse_args()
    if arguments.stage:
        _stage(Path(arguments.stage[0]), arguments.stage[1])
        return 0
    print(f"{arguments.rows} rows | object MB | CPU s | rows per CPU s | peak MB")
    for way in WAYS:
        with tempfile.TemporaryDirectory(prefix="penstock-objects-") as folder:
            size_bytes = _write(Path(folder), way, arguments.rows)
            command = [sys.executable, "-m", "benchmarks.object_formats", "--stage", folder, way]
            usage = run_measured(command, env=process_environment())
            if usage.exit_code or int(usage.output) != arguments.rows:
                print(f"{way} failed: {usage.output}", file=sys.stderr)
                return 1
        rate, peak = arguments.rows / usage.cpu_s, usage.peak_rss_bytes / 1e6
        print(f"{way} | {size_bytes / 1e6:.0f} | {usage.cpu_s:.1f} | {rate:,.0f} | {peak:.0f}")
    return 0


def _write(folder: Path, way: str, rows: int) -> int:
    """One object of that many rows; its size in bytes."""
    objects = folder / "objects"
    objects.mkdir()
    path = objects / f"{DAY}.dat"
    numbers = range(rows)
    table = pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "name": [f"customer {n % 9973}" for n in numbers],
            "amount": pa.array([Decimal(n % 100_000).scaleb(-2) for n in numbers], pa.decimal128(12, 2)),
            "share": [n / 7 for n in numbers],
            "at": pa.array([1_357_000_000_000_000 + n * 1_000_003 for n in numbers], pa.timestamp("us")),
        }
    )
    form, compression = way.split(" ")
    if form == "parquet":
        pq.write_table(table, path)
    elif form == "jsonl":
        with path.open("w") as lines:
            for record in table.to_pylist():
                lines.write(json.dumps(record, default=str) + "\n")
    else:
        text = pa.BufferOutputStream()
        pa_csv.write_csv(table, text)
        plain = text.getvalue().to_pybytes()
        match compression:
            case "gzip":
                path.write_bytes(gzip.compress(plain, 6))
            case "zstd":
                with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
                    stream.write(plain)
            case _:
                path.write_bytes(plain)
    return path.stat().st_size


def _stage(folder: Path, way: str) -> None:
    """What a run does with one day, up to the staged file; prints its rows."""
    form, compression = way.split(" ")
    spec = SourceSpec.model_validate(
        {
            "source": "bench",
            "kind": "objects",
            "connection": "bench",
            "owner": "bench@example.org",
            "tables": [
                {
                    "name": "rows",
                    "mode": "append",
                    "objects": {"path": "{key}.dat", "format": form, "compression": compression},
                    "columns": [{"name": name, "type": word} for name, word in COLUMNS.items()],
                }
            ],
        }
    )
    lake = Lake(Settings.load({}, home=folder / "state"), clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    with ObjectReader(spec, SecretStr((folder / "objects").as_uri()), lake) as reader:
        staged = reader.stage(spec.tables[0], day_interval(DAY), code="bench")
    print(staged.rows_staged if not staged.early_rejects.num_rows else f"rejects: {staged.early_rejects.slice(0, 1)}")


if __name__ == "__main__":
    sys.exit(main())
