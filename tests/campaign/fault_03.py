"""Fault 3: the disk is full while rows are staged, refined, built, published, or a query spills.

The state folder lies on a file system of a few megabytes. A trial puts back a saved state, takes all room but a drawn
number of bytes, and runs one command. Then: the error is terminal and names a path and the bytes, what was published is
read as before, no temporary file is left, and the same command ends well as soon as there is room.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from common.errors import DiskFull
from common.settings import Settings
from lake.lake import Lake
from lake.paths import engine_path
from penstock.pipeline import Pipeline
from penstock.status import lake_tables
from tests.campaign.campaign import FIRST_DAY, Campaign
from tests.campaign.trial import Trial
from tests.campaign.whole_runs import Contents, contents
from tests.command_line import Answer, CommandLine
from tests.doubles.disk import SmallDisk, small_disk, why_no_mount
from warehouse.releases import Releases

PARTS = ("ingest", "refine", "build", "publish", "spill")
QUICK_PARTS = ("ingest", "spill")

TRIALS = {"ingest": 12, "refine": 8, "build": 5, "publish": 5, "spill": 10}
DAY = (FIRST_DAY + timedelta(days=1)).isoformat()
COMMANDS = {
    "ingest": ("ingest", "flightops", "--day", DAY),
    "refine": ("refine", "--day", DAY),
    "build": ("build",),
    "publish": ("publish",),
}
_DISK_KB = 200_000


def trials(campaign: Campaign) -> Iterator[Trial]:
    """Each stage, with less room than it needs."""
    why = why_no_mount()
    if why:
        yield Trial("3", seed=campaign.seed, stage=campaign.part, extra={"skipped": why})
        return
    with small_disk(campaign.folder / "disk", _DISK_KB) as disk:
        if campaign.part == "spill":
            yield from _spilling(campaign, disk)
        else:
            yield from _stage(campaign, disk)


def _stage(campaign: Campaign, disk: SmallDisk) -> Iterator[Trial]:
    command = CommandLine(disk.folder / "state", campaign.services.connections)
    saved = campaign.folder / "saved"
    first = FIRST_DAY.isoformat()
    _must(command.run("run", "--from", first, "--to", DAY))
    for before in list(COMMANDS)[: list(COMMANDS).index(campaign.part)]:
        if before == "ingest":
            for source in ("flightops", "stations"):
                _must(command.run("ingest", source, "--day", DAY))
        else:
            _must(command.run(*COMMANDS[before]))
    shutil.copytree(command.home, saved, symlinks=True)
    old = contents(Pipeline(command.settings()))
    free = disk.free_bytes
    _must(command.run(*COMMANDS[campaign.part]))
    needs = free - disk.free_bytes
    new = contents(Pipeline(command.settings()))
    for seed in campaign.seeds(whole=TRIALS[campaign.part], quick=1):
        # A tenth more than it leaves behind: the draw reaches every write, and now and then there is enough room.
        room = int(1.1 * needs * campaign.random(seed).random())
        yield _trial(campaign, disk, command, seed, room, old, new)


def _must(answer: Answer) -> None:
    assert answer.code == 0, answer.err


def _trial(
    campaign: Campaign, disk: SmallDisk, command: CommandLine, seed: int, room: int, old: Contents, new: Contents
) -> Trial:
    shutil.rmtree(command.home, ignore_errors=True)
    shutil.copytree(campaign.folder / "saved", command.home, symlinks=True)
    before = _files(command.home)
    disk.fill(leave_bytes=room)
    answer = command.run(*COMMANDS[campaign.part])
    bytes_left = disk.free_bytes
    full = answer.code != 0
    error = _untold(answer) if full else ""
    seen = contents(Pipeline(command.settings()))
    partial = sum(seen.get(part) not in {old.get(part), new.get(part)} for part in old.keys() | seen.keys())
    live = _live(Pipeline(command.settings()), command.home)
    left = [file for file in sorted(_files(command.home) - before) if full and file[0] not in live]
    disk.make_room()
    began = time.monotonic()
    again = command.run(*COMMANDS[campaign.part])
    recovery_s = round(time.monotonic() - began, 2)
    end = contents(Pipeline(command.settings()))
    error = error or ("" if again.code == 0 else f"no recovery: {again.err[-300:]}")
    return Trial(
        "3",
        seed=seed,
        stage=campaign.part,
        point=f"{room} bytes free",
        action="disk-full" if full else "enough room",
        rows_expected=len(new),
        rows_lost=sum(part not in end for part in new),
        wrong_values=sum(end[part] != new[part] for part in new if part in end),
        partial_reads=partial,
        recovery_s=recovery_s,
        orphan_bytes=sum(size for _, size in left),
        error=error,
        extra={
            "bytes_left": bytes_left,
            "files_left": len(left),
            "first_left": left[0][0] if left else "",
            "told": (answer.errors or [""])[-1][:300],
        },
    )


def _untold(answer: Answer) -> str:
    """What the error should have said; empty if it said all."""
    if answer.code != DiskFull.exit_code or "Traceback" in answer.err:
        return f"exit {answer.code}: {answer.err[-400:]}"
    [told] = answer.errors[-1:] or [""]
    if "DiskFull" not in told or not re.search(r"/\S+", told) or not re.search(r"\d+ bytes", told):
        return told or "nothing was said"
    return ""


def _live(pipeline: Pipeline, home: Path) -> set[str]:
    """Published files: of a command over several tables some may be done, and the release may be current."""
    tables = lake_tables(pipeline)
    current = Releases(home / "warehouse").current()
    released = {str(current.database.relative_to(home))} if current else set()
    return released | {
        str(Path(engine_path(file.location)).relative_to(home))
        for table in tables
        for each in (table, table.quarantine)
        for file in pipeline.lake.live(each)
    }


def _files(home: Path) -> set[tuple[str, int]]:
    """Temporary and staged files: what a sweep would have to find."""
    roots = [home / "tmp", home / "extracts", home / "lake" / "raw", home / "lake" / "refined", home / "warehouse"]
    return {
        (str(path.relative_to(home)), path.stat().st_size)
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and path.suffix in {".parquet", ".duckdb", ".tmp", ".wal", ".block"}
    }


def _spilling(campaign: Campaign, disk: SmallDisk) -> Iterator[Trial]:
    for seed in campaign.seeds(whole=TRIALS[campaign.part], quick=1):
        settings = Settings.load(
            {}, home=disk.folder / "state", lake_uri=str(campaign.folder / "lake"), memory_limit_mb=128
        )
        room = int(8_000_000 * campaign.random(seed).random())
        (disk.folder / "state").mkdir(exist_ok=True)
        disk.fill(leave_bytes=room)
        error = "the query did not need the disk"
        try:
            with Lake(settings).connect() as connection:
                connection.execute("SET threads = 1")
                connection.execute(
                    "CREATE TEMP TABLE sorted AS SELECT range AS n, repeat(md5(range::VARCHAR), 4) AS text "
                    "FROM range(3_000_000) ORDER BY text"
                )
        except DiskFull as told:
            # DuckDB names the file where it could not write, and none where it reached the limit it gives itself.
            error = "" if str(settings.home) in str(told) and "bytes" in str(told) else str(told)
        left = [path for path in (settings.home / "tmp").rglob("*") if path.is_file()]
        disk.make_room()
        yield Trial(
            "3",
            seed=seed,
            stage="spill",
            point=f"{room} bytes free",
            action="disk-full",
            orphan_bytes=sum(path.stat().st_size for path in left),
            error=error,
            extra={"bytes_left": disk.free_bytes},
        )
