"""Small states to be backed up, the places for it, and what a reader sees of a state: for the tests of recovery."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from common.settings import Settings
from lake.backup_place import BackupPlace, open_place
from lake.quarantine import quarantined
from penstock.backup import Taken, take
from penstock.pipeline import Pipeline
from tests.integration.lake.lakes import TABLE, Bench
from tests.integration.penstock.test_killed_maintenance import used_lake
from tests.unit.warehouse.small_warehouse import make_release
from tests.upgrade.contents import contents
from warehouse.releases import Releases


@dataclass
class World:
    """A lake with superseded batches, quarantined rows and history, two releases, and a place for its backups.

    Attributes:
        folder: for state folders.
        backup_uri: the place.
        connections: URL by connection name.
    """

    folder: Path
    backup_uri: str
    connections: dict[str, str] = field(default_factory=dict)

    def settings(self, home: str = "state") -> Settings:
        """Settings over a state folder of that name."""
        return Settings.load(
            {}, home=self.folder / home, backup_uri=self.backup_uri, connections=self.connections, keep_backups=2
        )

    def make(self) -> Bench:
        """Make the state."""
        bench = used_lake(self.folder / "state")
        for number in (1, 2):
            make_release(self.releases(), number)
        return bench

    def releases(self, home: str = "state") -> Releases:
        """The releases of a state folder."""
        return Releases(self.settings(home).warehouse)

    @property
    def place(self) -> BackupPlace:
        """Where its backups lie."""
        return open_place(self.settings())

    def back_up(self, home: str = "state", *, full: bool = False) -> Taken:
        """Take a backup."""
        return take(Pipeline(self.settings(home)), self.place, full=full)

    def seen(self, home: str = "state") -> tuple[object, ...]:
        """What every reader of a state can see: rows, accounts, quarantine, releases, the pointer's past."""
        settings = self.settings(home)
        bench = Bench(settings)
        receipts = [receipt.to_dict() for receipt in bench.lake.receipts(TABLE)]
        waiting = [row["row_id"] for row in quarantined(bench.lake, TABLE).to_pylist()]
        shelf = self.releases(home)
        releases = [
            (release.id, release.current, release.published_at, dict(release.manifest)) for release in shelf.all()
        ]
        return contents(settings), receipts, waiting, releases, shelf.moves()

    def objects(self) -> list[str]:
        """Names of all objects of backups."""
        return [file.location for file in self.place.stored("objects")]
