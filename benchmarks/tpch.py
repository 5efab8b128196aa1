"""TPC-H's ``lineitem`` in the embedded PostgreSQL, a source spec and a suite for it, and an environment for peers.

The generator (PyPI ``tpchgen-cli``) and the peers are installed into a virtual environment that is thrown away: what a
benchmark compares with is no part of Penstock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.settings import process_environment
from lake.schema import Column
from penstock import embedded
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql

TABLE = "lineitem"
GENERATOR = "tpchgen-cli==4.0.0"

_COLUMNS = (
    ("l_orderkey", "bigint", "int64"),
    ("l_partkey", "bigint", "int64"),
    ("l_suppkey", "bigint", "int64"),
    ("l_linenumber", "integer", "int32"),
    ("l_quantity", "numeric(15,2)", "decimal(15,2)"),
    ("l_extendedprice", "numeric(15,2)", "decimal(15,2)"),
    ("l_discount", "numeric(15,2)", "decimal(15,2)"),
    ("l_tax", "numeric(15,2)", "decimal(15,2)"),
    ("l_returnflag", "char(1)", "string"),
    ("l_linestatus", "char(1)", "string"),
    ("l_shipdate", "date", "date"),
    ("l_commitdate", "date", "date"),
    ("l_receiptdate", "date", "date"),
    ("l_shipinstruct", "varchar(25)", "string"),
    ("l_shipmode", "varchar(10)", "string"),
    ("l_comment", "varchar(44)", "string"),
)
COLUMN_NAMES = tuple(name for name, _, _ in _COLUMNS)
LAKE_COLUMNS = tuple(Column(name, word, nullable=False) for name, _, word in _COLUMNS)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder that the database's own account may pass through; its services are stopped and it is removed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        embedded.remove(folder)
        shutil.rmtree(folder)


def make_environment(folder: Path, packages: Sequence[str]) -> Path:
    """A new virtual environment with these packages; answers its Python.

    Raises:
        SystemExit: the package index does not have them.
    """
    say(f"installing {', '.join(packages)} ...")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        env=process_environment(),
        check=False,
    )
    if done.returncode:
        sys.exit(f"pip could not install {', '.join(packages)}")
    return python


def load_lineitem(services: EmbeddedServices, generator: Path, scale: float) -> int:
    """Generate ``lineitem`` at that scale factor (1: 6,001,215 rows) straight into PostgreSQL; answers its rows."""
    say(f"loading TPC-H {TABLE} at scale factor {scale:g} ...")
    command = [str(generator), "csv", "--scale-factor", f"{scale:g}", "--tables", TABLE, "--stdout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source:
        assert source.stdout is not None
        pieces = iter(lambda: source.stdout.read(1 << 20) if source.stdout else b"", b"")
        run_psql(services.postgres_url, _load_script(pieces), timeout_s=3_600)
    if source.returncode:
        sys.exit(f"{generator} ended with exit code {source.returncode}")
    return int(run_psql(services.postgres_url, [f"select count(*) from {TABLE};".encode()])[0][0])


def _load_script(pieces: Iterator[bytes]) -> Iterator[bytes]:
    columns = ", ".join(f"{name} {kind} not null" for name, kind, _ in _COLUMNS)
    yield f"create table {TABLE} ({columns});\ncopy {TABLE} from stdin (format csv, header);\n".encode()
    yield from pieces
    yield b"\\.\n"
    yield f"alter table {TABLE} add primary key (l_orderkey, l_linenumber);\n".encode()
    yield f"vacuum (freeze, analyze) {TABLE};\ngrant select on {TABLE} to penstock_reader;\n".encode()


def write_spec(folder: Path, *, mode: str = "mode: snapshot") -> tuple[Path, Path]:
    """A source spec for the table and a suite for its raw batches; answers the folders of both."""
    sources, suites = folder / "sources", folder / "suites"
    sources.mkdir(exist_ok=True)
    (suites / "raw").mkdir(parents=True, exist_ok=True)
    columns = "".join(f"      - {{name: {name}, type: '{word}', nullable: false}}\n" for name, _, word in _COLUMNS)
    (sources / "tpch.yml").write_text(
        "source: tpch\nkind: postgresql\nconnection: flightops\nowner: benchmarks\ntables:\n"
        f"  - name: {TABLE}\n    {mode}\n    primary_key: [l_orderkey, l_linenumber]\n    columns:\n{columns}"
    )
    rules = "".join(
        f"  - id: {name}_is_given\n    expect: expect_column_values_to_not_be_null\n    kwargs: {{column: {name}}}\n"
        "    severity: critical\n    why: The source declares it so.\n"
        for name in COLUMN_NAMES
    )
    (suites / "raw" / "tpch__lineitem.yml").write_text(
        "suite: raw/tpch__lineitem\ndescription: What the source declares.\nexpectations:\n"
        "  - id: key_is_unique\n    expect: expect_compound_columns_to_be_unique\n"
        "    kwargs: {column_list: [l_orderkey, l_linenumber]}\n    severity: critical\n    why: It is the key.\n"
        + rules
    )
    return sources, suites


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)
