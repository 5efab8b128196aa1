"""Other ways to make the checks; run by the interpreter of a throw-away environment: ``gate_peers.py WAY FOLDER``.

Each way is what its project's documentation shows, on the Parquet file as it reads it best. ``cpu_s`` is without the
imports. Nothing of Penstock is imported but the list of checks, which is plain data.
"""

import json
import sys
import time
from pathlib import Path

import gate_checks as checks


def pandera(file: str) -> tuple[float, int]:
    """Pandera's polars backend; the key by ``unique``, the mean and the maximum as checks on the frame."""
    import pandera.polars as pa
    import polars as pl

    columns: dict[str, list[pa.Check]] = {}
    for name, (low, high) in checks.BETWEEN.items():
        columns.setdefault(name, []).append(pa.Check.in_range(low, high))
    for name, values in checks.IN_SET.items():
        columns.setdefault(name, []).append(pa.Check.isin(values))
    for name, (low, high) in checks.LENGTHS.items():
        columns.setdefault(name, []).append(pa.Check.str_length(low, high))
    for name, regex in checks.REGEX.items():
        columns.setdefault(name, []).append(pa.Check.str_matches(regex))
    (later, earlier) = checks.LATER[0]
    on_frame = [
        pa.Check(lambda data: data.lazyframe.select(pl.col(later) > pl.col(earlier))),
        pa.Check(lambda data: data.lazyframe.select(pl.len().is_between(*checks.ROWS))),
        pa.Check(
            lambda data: data.lazyframe.select(
                (pl.col("l_shipdate") >= pl.date(1992, 1, 1)) & (pl.col("l_commitdate") <= pl.date(1998, 12, 31))
            )
        ),
    ]
    for name, limits in checks.MEAN.items():
        on_frame.append(pa.Check(lambda data, n=name, b=limits: data.lazyframe.select(pl.col(n).mean().is_between(*b))))
    for name, limits in checks.MAX.items():
        on_frame.append(pa.Check(lambda data, n=name, b=limits: data.lazyframe.select(pl.col(n).max().is_between(*b))))
    names = dict.fromkeys([*checks.NOT_NULL, *columns])
    schema = pa.DataFrameSchema(
        {n: pa.Column(checks=columns.get(n, []), nullable=n not in checks.NOT_NULL) for n in names},
        checks=on_frame,
        unique=list(checks.KEY),
    )
    began_s = time.process_time()
    schema.validate(pl.read_parquet(file), lazy=True)
    return time.process_time() - began_s, len(checks.NOT_NULL) + sum(map(len, columns.values())) + len(on_frame) + 1


def pointblank(file: str) -> tuple[float, int]:
    """Pointblank on a DuckDB table through Ibis; mean and maximum are not among its row checks."""
    import ibis
    import pointblank as pb

    connection = ibis.duckdb.connect(threads=2)
    table = connection.read_parquet(file, table_name="lineitem")
    plan = pb.Validate(data=table)
    for name in checks.NOT_NULL:
        plan = plan.col_vals_not_null(columns=name)
    for name, (low, high) in checks.BETWEEN.items():
        plan = plan.col_vals_between(columns=name, left=low, right=high)
    for name, values in checks.IN_SET.items():
        plan = plan.col_vals_in_set(columns=name, set=list(values))
    for name, regex in checks.REGEX.items():
        plan = plan.col_vals_regex(columns=name, pattern=regex)
    for later, earlier in checks.LATER:
        plan = plan.col_vals_gt(columns=later, value=pb.col(earlier))
    plan = plan.rows_distinct(columns_subset=list(checks.KEY))
    began_s = time.process_time()
    done = plan.interrogate(collect_extracts=False)
    assert done.all_passed()
    return time.process_time() - began_s, len(done.n())


def soda(file: str) -> tuple[float, int]:
    """Soda Core on DuckDB, its checks in its own language."""
    import duckdb
    from soda.scan import Scan

    lines = [f"- row_count between {checks.ROWS[0]} and {checks.ROWS[1]}"]
    lines += [f"- missing_count({name}) = 0" for name in checks.NOT_NULL]
    for name, (low, high) in checks.BETWEEN.items():
        lines += [f"- invalid_count({name}) = 0:", f"    valid min: {low}", f"    valid max: {high}"]
    for name, values in checks.IN_SET.items():
        lines += [f"- invalid_count({name}) = 0:", f"    valid values: {json.dumps(list(values))}"]
    for name, (low, high) in checks.LENGTHS.items():
        lines += [f"- invalid_count({name}) = 0:", f"    valid min length: {low}", f"    valid max length: {high}"]
    for name, regex in checks.REGEX.items():
        lines += [f"- invalid_count({name}) = 0:", f"    valid regex: '{regex}'"]
    lines += [f"- avg({name}) between {low} and {high}" for name, (low, high) in checks.MEAN.items()]
    lines += [f"- max({name}) between {low} and {high}" for name, (low, high) in checks.MAX.items()]
    (later, earlier) = checks.LATER[0]
    for name, condition in {"later": f"{later} <= {earlier}", "dates": checks.QUERY}.items():
        lines += ["- failed rows:", f"    name: {name}", f"    fail condition: {condition}"]
    lines.append(f"- duplicate_count({', '.join(checks.KEY)}) = 0")
    connection = duckdb.connect(config={"threads": 2})
    connection.execute(f"create view lineitem as select * from read_parquet('{file}')")
    scan = Scan()
    scan.disable_telemetry()
    scan.add_duckdb_connection(connection)
    scan.set_data_source_name("duckdb")
    scan.add_sodacl_yaml_str("checks for lineitem:\n" + "\n".join(f"  {line}" for line in lines))
    began_s = time.process_time()
    scan.execute()
    cpu_s = time.process_time() - began_s
    scan.assert_no_error_logs()
    scan.assert_no_checks_fail()
    return cpu_s, sum(line.startswith("- ") for line in lines)


WAYS = {"pandera": pandera, "pointblank": pointblank, "soda": soda}

if __name__ == "__main__":
    cpu, number = WAYS[sys.argv[1]](str(Path(sys.argv[2]) / "good.parquet"))
    print(json.dumps({"cpu_s": cpu, "bad": 0, "checks": number}))
