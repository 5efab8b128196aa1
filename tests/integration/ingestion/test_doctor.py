"""Damage done for real: the doctor finds each, says what mends it, and what it mends is then as it was."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from lake import catalog
from lake.lake import Lake
from lake.paths import attempt_of, engine_path, receipt_location
from lake.quarantine import quarantined
from penstock.doctor import examine
from tests.command_line import Answer
from tests.door import Door
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.test_replay import DAY, NEXT, Till, new_till
from tests.unit.warehouse.small_warehouse import answer, make_candidate, make_release
from warehouse.lease import lease
from warehouse.releases import Releases


class Patient:
    """A table of two days with rows in quarantine, and two releases, in one state folder."""

    def __init__(self, till: Till) -> None:
        self.till = till
        self.door = Door(till.shop.folder, {"shop": till.shop.url})
        self.warehouse = till.shop.home / "warehouse"
        self.releases = Releases(self.warehouse)
        make_release(self.releases, 1)
        make_release(self.releases, 2)

    def doctor(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and findings."""
        done = self.door.run("doctor", "--json", *options)
        assert done.out, done.err
        return done.code, json.loads(done.out)["findings"]

    def found(self, *options: str) -> list[tuple[str, str]]:
        """Kind and severity of what is found, but for holes: the source's days go on until today."""
        return [(f["kind"], f["severity"]) for f in self.doctor(*options)[1] if f["kind"] != "hole"]

    def mend(self, finding: dict[str, Any]) -> Answer:
        """Run the commands that a finding names."""
        done = Answer(0, "", "")
        for command in finding["mend"].split(", then "):
            program, *words = shlex.split(command)
            assert program == "penstock"
            done = self.door.run(*words)
        return done

    def lake(self) -> Lake:
        """The lake, as a new process has it."""
        pipeline = self.till.shop.pipeline()
        pipeline.declare_raw()
        return pipeline.lake

    def live(self, day: str = DAY) -> Path:
        """The one live file of a day."""
        (file,) = self.lake().live(self.till.shop.raw, day)
        return Path(engine_path(file.location))

    def state(self) -> tuple[object, ...]:
        """Rows, quarantined rows and accounts."""
        lake, raw = self.lake(), self.till.shop.raw
        accounts = [(r.key, r.rows_in, r.published, r.quarantined, r.checksum) for r in lake.receipts(raw)]
        return lake.checksum(raw), [row["row_id"] for row in quarantined(lake, raw).to_pylist()], accounts


@pytest.fixture
def patient(database: DatabaseSource) -> Patient:
    """Healthy."""
    till = new_till(database)
    till.put(11, 110, day=2)
    till.shop.ingest(NEXT)
    made = Patient(till)
    code, findings = made.doctor("--deep")
    assert code == 0
    assert {finding["kind"] for finding in findings} <= {"hole"}
    return made


def test_a_live_file_that_is_gone_cut_or_rotten_is_found_and_comes_back_from_the_source(patient: Patient) -> None:
    before = patient.state()

    def rot(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[6:40] = bytes(34)
        path.write_bytes(content)

    for damage, options in (
        (Path.unlink, ()),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), ()),
        (rot, ("--deep",)),
    ):
        damage(patient.live())
        code, findings = patient.doctor(*options)
        (finding,) = [each for each in findings if each["severity"] == "damage"]
        assert (code, finding["kind"], finding["where"]) == (1, "data_damaged", f"raw.shop__t {DAY}")
        # Nothing is done unless it is said so; then the interval's own run does not take its work for done.
        assert "--repair would have the next run" in patient.door.run("doctor", "--repair", *options).out
        assert patient.door.run("doctor", "--repair", "--yes", *options).code == 1, "its rows are still gone"
        assert patient.mend(finding).code == 0
        assert patient.doctor("--deep")[0] == 0
        assert patient.state() == before


def test_a_lost_quarantine_file_and_a_lost_receipt_come_back_by_a_run_of_the_interval(patient: Patient) -> None:
    before = patient.state()
    lake, raw = patient.lake(), patient.till.shop.raw
    (attempt,) = set(lake.live_attempts(raw, DAY).values())
    (waiting,) = [f.location for f in lake.live(raw.quarantine) if attempt_of(f.location) == attempt]
    Path(engine_path(waiting)).unlink()
    (finding,) = [each for each in patient.doctor()[1] if each["severity"] == "damage"]
    assert finding["where"] == f"quarantine.raw__shop__t {DAY}"
    assert patient.mend(finding).code == 0
    assert (patient.doctor()[0], patient.state()) == (0, before)
    (attempt,) = set(patient.lake().live_attempts(raw, DAY).values())
    Path(engine_path(receipt_location(lake.settings.lake_uri, raw, DAY, attempt))).unlink()
    (finding,) = [each for each in patient.doctor()[1] if each["severity"] == "damage"]
    assert (finding["kind"], finding["repair"]) == ("receipt_lost", "")
    assert patient.mend(finding).code == 0
    assert (patient.doctor()[0], patient.state()) == (0, before)


def test_lost_metadata_is_found_and_no_other_check_fails_for_it(patient: Patient) -> None:
    table = patient.lake().load(patient.till.shop.raw)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    path = Path(engine_path(snapshot.manifest_list))
    content = path.read_bytes()
    path.unlink()
    catalog._LIVE.clear()
    catalog._listed.cache_clear()
    assert ("metadata_damaged", "damage") in patient.found()
    path.write_bytes(content)
    assert patient.doctor()[0] == 0
    metadata = Path(engine_path(table.metadata_location))
    content = metadata.read_bytes()
    metadata.unlink()
    assert ("metadata_damaged", "damage") in patient.found()
    metadata.write_bytes(content)
    assert patient.doctor()[0] == 0


def test_a_damaged_current_release_is_left_for_the_newest_whole_one(patient: Patient) -> None:
    newest = patient.releases.current()
    assert newest is not None
    newest.database.chmod(0o644)
    newest.database.write_bytes(newest.database.read_bytes()[: 1 << 12])
    code, findings = patient.doctor()
    (finding,) = [each for each in findings if each["severity"] == "damage"]
    assert (code, finding["kind"]) == (1, "current_release_damaged")
    assert "point to r000001" in finding["repair"]
    with lease(patient.warehouse):
        held = patient.door.run("doctor", "--repair", "--yes")
        assert (held.code, "a build holds the warehouse" in held.out) == (1, True)
    assert patient.door.run("doctor", "--repair", "--yes").code == 0
    assert answer(patient.releases) == 1
    assert [release.id for release in patient.releases.all()] == ["r000001"]
    assert make_release(patient.releases, 3).current, "it goes on from there"


def test_a_pointer_to_nowhere_and_releases_that_do_not_match_their_manifests_are_mended(patient: Patient) -> None:
    shutil.rmtree(patient.warehouse / "releases" / "r000002")
    assert ("current_release_damaged", "damage") in patient.found()
    assert patient.door.run("doctor", "--repair", "--yes").code == 0
    assert answer(patient.releases) == 1
    (patient.warehouse / "current").unlink()
    assert ("pointer_lost", "damage") in patient.found()
    assert patient.door.run("doctor", "--repair", "--yes").code == 0
    assert answer(patient.releases) == 1
    make_release(patient.releases, 4)
    manifest = patient.warehouse / "releases" / "r000001" / "manifest.json"
    told = json.loads(manifest.read_text()) | {"tables": [{"name": "answer", "rows": 7, "checksum": "7:1"}]}
    manifest.write_text(json.dumps(told))
    assert patient.found() == [("release_damaged", "damage")]
    assert patient.door.run("doctor", "--repair", "--yes").code == 0
    assert [release.manifest["number"] for release in patient.releases.all()] == [4]
    told = {"tables": [{"name": "answer", "rows": 1, "checksum": "1:0"}], "release": "x", "parent": None}
    current = patient.releases.current()
    assert current is not None
    (current.folder / "manifest.json").write_text(json.dumps(told))
    assert patient.found() == []
    assert patient.found("--deep") == [("current_release_damaged", "damage")]
    assert patient.door.run("doctor", "--deep", "--repair", "--yes").code == 1, "a plain look says it is whole"


def test_what_killed_work_left_is_found_as_notices_and_removed(patient: Patient) -> None:
    make_candidate(patient.releases, 3, seal=False)
    (patient.warehouse / "lease.1.held").touch()
    staged = patient.live().with_name(f"{'0' * 32}-00000.parquet")
    staged.write_bytes(b"unfinished")
    code, findings = patient.doctor()
    kinds = {each["kind"] for each in findings if each["kind"] != "hole"}
    assert (code, kinds) == (0, {"left_over", "orphans"})
    assert all(each["mend"].startswith("penstock maintain ") for each in findings if each["kind"] != "hole")
    with lease(patient.warehouse):
        assert patient.found() == [("orphans", "notice")], "who builds needs its candidate"
    assert patient.door.run("doctor", "--repair", "--yes").code == 0
    assert patient.found() == [("orphans", "notice")]
    assert patient.door.run("maintain", "sweep", "--grace", "0").code == 0
    assert not staged.exists()
    assert patient.found() == []


def test_holes_and_a_damaged_lease_are_found_with_what_mends_them(patient: Patient) -> None:
    patient.till.put(31, 310, day=5)
    patient.till.shop.ingest("2013-01-05")
    holes = [finding for finding in examine(patient.till.shop.pipeline()) if finding.kind == "hole"]
    assert holes[0].where == "raw.shop__t 2013-01-03 to 2013-01-04, 2 days"
    assert holes[0].mend == "penstock backfill run raw.shop__t --from 2013-01-03 --to 2013-01-05"
    (patient.warehouse / "lease.json").write_text("{")
    found = [f for f in patient.doctor()[1] if f["kind"] == "lease_damaged"]
    assert "a number above all before" in found[0]["mend"]
    (patient.warehouse / "lease.json").write_text('{"fence": 900, "expires_at": 0}')
    assert patient.found() == []
    assert patient.door.run("doctor", "--yes").code == 2
