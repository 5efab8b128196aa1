"""Freeze the state that a version writes, so that later versions are tested on it: ``make freeze-state COMMIT=v0.2.0``.

::

    worktree of the commit ─▶ its own `penstock run` of one day ─▶ its own checksums ─▶ tests/data/upgrade/<version>.*

The sources are of today's Penstock and hold one day of flights, with the planes and airports that it needs: the archive
goes into the repository. Left out is what no later version reads: scratch, and dbt's page of documentation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import date, timedelta
from pathlib import Path

from common.settings import process_environment
from penstock import demo_data, embedded
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql

ROOT = Path(__file__).resolve().parents[2]
FROZEN = ROOT / "tests" / "data" / "upgrade"
DAY = date(2013, 2, 12)
"""Its weather has a row for the quarantine."""

HOME = Path(tempfile.gettempdir()) / "penstock-frozen"
"""Where the state lies while it is made: Iceberg's metadata say so for ever."""

_LEFT_OUT = {"tmp", "quality", "docs", "extracts"}
_THIN = (
    "DELETE FROM planes WHERE tailnum NOT IN (SELECT tailnum FROM flights WHERE tailnum IS NOT NULL);",
    "DELETE FROM airports WHERE faa NOT IN (SELECT origin FROM flights UNION SELECT dest FROM flights);",
)


def freeze(commit: str) -> Path:
    """Freeze what the code at a commit writes. Returns the archive.

    Side effects: two files under ``tests/data/upgrade``; services and a worktree come and go.
    """
    base = Path(tempfile.mkdtemp(prefix="penstock-freeze-"))
    base.chmod(0o711)
    tree = base / "tree"
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), commit], check=True)
    try:
        with EmbeddedServices.start(base / "services") as services:
            demo_data.seed(services, first_day=DAY, last_day=DAY)
            run_psql(services.postgres_url, [statement.encode() for statement in _THIN])
            return _frozen(tree, services)
    finally:
        embedded.remove(base / "services")
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(HOME, ignore_errors=True)


def _frozen(tree: Path, services: EmbeddedServices) -> Path:
    version = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"]
    connections = {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in services.connections.items()}
    environment = process_environment(PYTHONPATH=str(tree), PENSTOCK_HOME=str(HOME), **connections)
    shutil.rmtree(HOME, ignore_errors=True)
    days = ["--from", DAY.isoformat(), "--to", (DAY + timedelta(days=1)).isoformat()]
    subprocess.run([sys.executable, "-m", "penstock", "run", *days], cwd=tree, env=environment, check=True)
    told = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "upgrade" / "contents.py"), str(HOME)],
        cwd=tree,
        env=environment,
        check=True,
        capture_output=True,
    ).stdout
    FROZEN.mkdir(parents=True, exist_ok=True)
    archive = FROZEN / f"{version}.tar.xz"
    with tarfile.open(archive, "w:xz", preset=9) as target:
        target.add(HOME, arcname="state", filter=_kept)
    commit = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    facts = {"version": version, "commit": commit.stdout.strip(), "home": str(HOME), "contents": json.loads(told)}
    (FROZEN / f"{version}.json").write_text(json.dumps(facts, indent=1) + "\n")
    return archive


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if _LEFT_OUT & set(Path(entry.name).parts):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="HEAD", help="Commit or tag whose code writes the state.")
    made = freeze(parser.parse_args().commit)
    sys.stdout.write(f"{made}: {made.stat().st_size:,} bytes\n")
