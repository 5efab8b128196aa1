"""The drill: a state that an earlier version wrote goes on, is lost, comes back from object storage, and goes on again.

One story, because each act needs the one before: what 0.1.0 wrote is read and continued by this version (the upgrade);
what comes of that is saved to the real S3, everything local is destroyed, and the restored state, in another folder, is
the same to every reader and takes the next days in without losing or doubling a row.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import penstock
from common.settings import Settings
from lake.backup_place import BackupPlace, open_place
from penstock import ledger
from penstock.backup import take
from penstock.backup_keep import verify
from penstock.doctor import examine
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.restore import restore
from penstock.run import run
from tests.door import SameProcess
from tests.upgrade.contents import contents
from tests.upgrade.frozen import thaw, versions
from warehouse.releases import Releases

FROZEN_DAY, NEXT_DAY, DAY_AFTER, END = "2013-02-12", "2013-02-13", "2013-02-14", "2013-02-15"
WEATHER = "raw.stations__weather"
FLIGHTS = {FROZEN_DAY: 893, NEXT_DAY: 918, DAY_AFTER: 956}
"""Flights of each day in the source."""


@dataclass(frozen=True)
class Stage:
    """Folders, services and a place for backups."""

    folder: Path
    services: EmbeddedServices
    place: BackupPlace

    def settings(self, home: str) -> Settings:
        """Settings over a state folder of that name."""
        connections = {**self.services.connections, "backup": self.services.s3_url}
        return Settings.load({}, home=self.folder / home, connections=connections)

    def damage(self, home: str) -> list[str]:
        """What the doctor finds damaged or left over; days that were never loaded aside."""
        found = examine(Pipeline(self.settings(home)), deep=True)
        return [f"{f.kind} {f.where}: {f.meaning}" for f in found if f.kind != "hole"]

    def problems(self, home: str) -> list[str]:
        """What is wrong with the account of every row."""
        pipeline = Pipeline(self.settings(home))
        return [str(each) for each in (*ledger.problems(ledger.entries(pipeline)), *ledger.stored(pipeline))]

    def flights(self, home: str, release: str | None = None) -> dict[str, int]:
        """Flights of each day in a release."""
        query = "SELECT scheduled_on::VARCHAR, count(*) FROM fct_flights GROUP BY 1 ORDER BY 1"
        with penstock.connect(release, settings=self.settings(home)) as connection:
            return dict(connection.execute(query).fetchall())


@pytest.fixture
def stage(services: EmbeddedServices, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose backups go to the real S3."""
    settings = Settings.load({}, home=tmp_path / "none", connections={"backup": services.s3_url})
    place = open_place(settings, f"s3://stations/drill-{uuid.uuid4().hex}")
    yield Stage(tmp_path, services, place)
    for folder in ("objects", "manifests", "backups", "running"):
        for file in place.stored(folder):
            place.remove(file.location)


@pytest.mark.parametrize("version", versions())
def test_an_earlier_versions_state_goes_on_is_lost_comes_back_from_s3_and_goes_on_again(
    stage: Stage, version: str
) -> None:
    frozen = thaw(version, stage.folder)
    settings = stage.settings("state")
    assert contents(settings) == frozen.contents, "every row is read as the version that wrote it read it"
    assert stage.problems("state") == []
    assert [each for each in stage.damage("state") if not each.startswith("orphans")] == []

    done = run(Pipeline(settings), NEXT_DAY, DAY_AFTER)
    assert (done.exit_code, done.release) == (0, "r000002")
    assert json.loads((settings.home / "lake" / "ops" / "format.json").read_text())["format"] == 1
    door = SameProcess(settings.home, stage.services.connections)
    file = stage.folder / "absurd.jsonl"
    assert door.run("quarantine", "export", WEATHER, "--to", str(file)).code == 0
    (row,) = (json.loads(line) for line in file.read_text().splitlines())
    file.write_text(json.dumps({**row, "row": {"wind_speed": 10.0}}) + "\n")
    replayed = door.run(
        "quarantine", "replay", WEATHER, "--file", str(file), "--by", "ada", "--reason", "log", "--json"
    )
    assert [each["outcome"] for each in json.loads(replayed.out)["rows"]] == ["published"], replayed.err
    assert Releases(settings.warehouse).rollback().id == "r000001"
    assert stage.flights("state") == {FROZEN_DAY: FLIGHTS[FROZEN_DAY]}
    Releases(settings.warehouse).rollback("r000002")
    assert stage.flights("state") == {day: FLIGHTS[day] for day in (FROZEN_DAY, NEXT_DAY)}
    assert stage.problems("state") == []

    before, moves = contents(settings), Releases(settings.warehouse).moves()
    taken = take(Pipeline(settings), stage.place).index
    assert verify(stage.place).damaged == {}
    shutil.rmtree(settings.home)

    back = stage.settings("back")
    restore(back, stage.place, taken.id)
    assert contents(back) == before
    assert Releases(back.warehouse).moves() == moves
    assert stage.damage("back") == []
    assert stage.problems("back") == []

    again = run(Pipeline(back), NEXT_DAY, END)
    assert again.exit_code == 0
    assert {receipt.state for receipt in again.receipts if receipt.key == NEXT_DAY} == {"unchanged"}
    assert stage.flights("back") == FLIGHTS
    assert stage.problems("back") == []
    assert take(Pipeline(back), stage.place).index.new_files > 0
    assert verify(stage.place, "all").damaged == {}
