"""The whole way of poisoned flights: caught, exported, repaired, replayed, in the release, every row accounted for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import penstock
from common.settings import Settings
from lake.paths import TableId
from lake.quarantine import quarantined
from penstock import ledger
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.psql import run_psql
from penstock.reconcile import reconcile
from penstock.run import run
from tests.door import Door
from tests.integration.penstock.conftest import DONE, NEXT

FLIGHTS = "raw.flightops__flights"
POISON = b"""
update flights set distance = -distance where day = 12 and month = 2 and carrier = 'UA' and flight < 300;
"""
ANTIDOTE = b"""
update flights set distance = -distance where distance < 0;
"""


def test_poisoned_flights_are_caught_repaired_replayed_and_in_the_release_with_every_row_accounted_for(
    own_services: EmbeddedServices, tmp_path: Path
) -> None:
    command, settings = the_door(own_services, tmp_path)
    run_psql(own_services.postgres_url, [POISON])
    try:
        report = run(Pipeline(settings), DONE, NEXT)
        bad = next(r.quarantined for r in report.receipts if r.table == FLIGHTS)
        assert (report.exit_code, report.release, bad > 5) == (0, "r000001", True)
        flights_before = flights(settings)
        file = tmp_path / "bad.jsonl"
        assert command.run("quarantine", "export", FLIGHTS, "--to", str(file)).code == 0
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(rows) == bad
        for row in rows:
            assert "distance_is_plausible" in row["rules"].split(",")
            row["row"] = {"distance": -row["row"]["distance"]}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        replayed = ("quarantine", "replay", FLIGHTS, "--file", str(file), "--by", "ada", "--reason", "sign", "--json")
        answer = command.run(*replayed, "--downstream")
        assert answer.code == 0, answer.err
        found = json.loads(answer.out)
        assert {row["outcome"] for row in found["rows"]} == {"published"}
        assert found["downstream"] == {"refined": [f"refined.flights {DONE}"], "release": "r000002"}
        assert flights(settings) == flights_before + bad
        again = json.loads(command.run(*replayed).out)
        assert ({row["outcome"] for row in again["rows"]}, again["intervals"]) == ({"not waiting"}, [])
        pipeline = Pipeline(settings)
        entries = ledger.entries(pipeline)
        assert ledger.problems(entries) + ledger.stored(pipeline) == []
        (raw,) = [total for total in ledger.totals(entries) if total["table"] == FLIGHTS]
        assert (raw["rows_in"], raw["published"], raw["waiting"], raw["replayed"]) == (raw["rows_in"],) * 2 + (0, bad)
        (refined,) = [total for total in ledger.totals(entries) if total["table"] == "refined.flights"]
        (fact,) = [total for total in ledger.totals(entries) if total["table"] == "fct_flights"]
        assert refined["published"] == fact["published"] == raw["published"]
        lines = reconcile(pipeline, TableId.parse(FLIGHTS))
        assert [line.is_equal for line in lines] == [True] * 3
        assert run(Pipeline(settings), DONE, NEXT).release is None, "the same days again undo nothing"
    finally:
        run_psql(own_services.postgres_url, [ANTIDOTE])


def test_rows_rejected_at_refining_are_repaired_there_or_refined_again_once_the_rule_has_changed(
    own_services: EmbeddedServices, tmp_path: Path
) -> None:
    door, settings = the_door(own_services, tmp_path)
    suite = tmp_path / "suites" / "refined" / "flights.yml"
    usual = suite.read_text()
    assert "column: distance_mi, min_value: 1, max_value: 12450" in usual
    suite.write_text(
        usual.replace("distance_mi, min_value: 1, max_value: 12450", "distance_mi, min_value: 1, max_value: 2580")
    )
    run(Pipeline(settings), DONE, NEXT, build=False)
    refined = TableId("refined", "flights")
    waiting = quarantined(Pipeline(settings).lake, refined).to_pylist()
    assert len(waiting) > 1
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"row_id": waiting[0]["row_id"], "row": {"distance_mi": 2500}}))
    assert door.run("quarantine", "replay", str(refined), "--file", str(file), "--by", "ada").code == 0
    receipt = Pipeline(settings).lake.receipt(refined, DONE)
    assert receipt is not None
    assert (receipt.replayed, receipt.waiting, receipt.published) == (
        1,
        len(waiting) - 1,
        receipt.rows_in - len(waiting) + 1,
    )
    assert Pipeline(settings).refine("flights", DONE).state == "unchanged"  # type: ignore[union-attr]
    suite.write_text(usual)
    answer = json.loads(door.run("quarantine", "replay", str(refined), "--by", "ada", "--json").out)
    assert {row["outcome"] for row in answer["rows"]} == {"published"}
    assert quarantined(Pipeline(settings).lake, refined).num_rows == 0
    pipeline = Pipeline(settings)
    assert ledger.problems(ledger.entries(pipeline)) + ledger.stored(pipeline) == []


def the_door(services: EmbeddedServices, folder: Path) -> tuple[Door, Settings]:
    """The command line in this process over the bundled specs and suites, and the settings it has."""
    bundled = Settings.load({})
    for name in ("sources", "suites"):
        shutil.copytree(getattr(bundled, name), folder / name)
    door = Door(folder, services.connections)
    return door, Settings.load(
        {},
        home=folder / "state",
        sources=folder / "sources",
        suites=folder / "suites",
        connections=services.connections,
    )


def flights(settings: Settings) -> int:
    """Flights in the current release."""
    with penstock.connect(settings=settings) as connection:
        row = connection.execute("SELECT count(*) FROM fct_flights").fetchone()
    assert row is not None
    return int(row[0])
