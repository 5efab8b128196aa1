"""The real command line in a process of its own, with an environment of the test's own; and the state it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.settings import Settings, process_environment
from penstock.pipeline import Pipeline
from tests.forked import Process, start


@dataclass(frozen=True)
class Answer:
    """What a command left behind: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Its error lines (progress goes to standard error as well)."""
        return [line for line in self.err.splitlines() if line.startswith("penstock: ")]


@dataclass(frozen=True)
class CommandLine:
    """``penstock`` in a process of its own (see ``tests/forked.py``) over one state folder and these connections.

    Attributes:
        home: the state folder.
        connections: URL by connection name.
        extra: further variables of the environment.
    """

    home: Path
    connections: Mapping[str, str]
    extra: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout_s: float = 180.0) -> Answer:
        """Run one command to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout_s)
        return Answer(process.wait(), out, err)

    def start(self, *arguments: str) -> Process:
        """Start one command."""
        own = {name: value for name, value in process_environment().items() if not name.startswith("PENSTOCK_")}
        own |= {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in self.connections.items()}
        self.home.parent.mkdir(parents=True, exist_ok=True)
        return start(
            arguments, environment={**own, "PENSTOCK_HOME": str(self.home), **self.extra}, folder=self.home.parent
        )

    def settings(self) -> Settings:
        """The same settings for this process."""
        return Settings.load({}, home=self.home, connections=self.connections)


def stored_state(settings: Settings) -> dict[str, object]:
    """Everything that lake and warehouse hold: each file with its size, and each table's snapshot.

    What tells of the work is left out: verdicts of refused batches, the tables made from all verdicts, and until when
    the warehouse was leased.
    """
    lake, lease = Path(settings.lake_uri), settings.warehouse / "lease.json"
    files = {path: path.lstat().st_size for root in (lake, settings.warehouse) for path in root.rglob("*")}
    found: dict[str, object] = {
        str(path): size
        for path, size in files.items()
        if not path.is_dir() and path != lease and lake / "ops" not in path.parents
    }
    pointer = settings.warehouse / "current"
    found["current"] = str(pointer.readlink()) if pointer.is_symlink() else None
    if (settings.home / "catalog.db").exists():
        pipeline = Pipeline(settings)
        for namespace in ("raw", "refined", "quarantine"):
            found |= {str(table): pipeline.lake.snapshot_id(table) for table in pipeline.lake.tables(namespace)}
    return found
