"""Source specs as the scheduler needs them: names, schedule, time zone, owner, tables.

``ingestion/sources/*.yml -> SourceSchedule -> one ingest DAG each``

Every start of a task parses its DAG file again, so this module reads the YAML with the standard library and PyYAML only
(the full parser, ``ingestion/spec/``, costs more and judges columns, which is no business of a schedule). What it
reads it checks: a spec from which no sound schedule follows is an import error that names the file, not a DAG that is
silently missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from common.errors import SettingsError, SpecError
from common.hashing import digest
from common.intervals import parse_day, zone
from common.settings import Settings
from penstock.lineage_names import source_name

_DAILY = re.compile(r"[0-5]?\d (?:[01]?\d|2[0-3]) \* \* \*")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class TableOutline:
    """What the scheduler has to know of a table.

    Attributes:
        mode: its mode.
        lineage: namespace and name of the table in its source, as lineage events have them; None while no setting says
            where the source is (a connection that only Airflow keeps is not asked for while DAGs are read).
        events: the spec's ``events``.
        version: digest of what the spec says of a table that has events: a trigger of another version is another one.
    """

    mode: str
    lineage: tuple[str, str] | None
    events: Mapping[str, Any]
    version: str = ""


@dataclass(frozen=True)
class SourceSchedule:
    """When one source is read, and what is read from it.

    Attributes:
        name: the source.
        kind: what it is: ``postgresql``, ``mysql`` or ``objects``.
        connection: name of its connection.
        time_zone: IANA zone in which its calendar days (the partition keys) are counted.
        cron: daily cron expression, read on the clock of ``time_zone``.
        first_day: first partition key there is, or None: no lower bound known.
        end_day: first partition key that will never be there, or None: the source is live.
        owner: who answers for it.
        description: one sentence.
        outlines: table name -> what is to be known of it.
    """

    name: str
    kind: str
    connection: str
    time_zone: str
    cron: str
    first_day: date | None
    end_day: date | None
    owner: str
    description: str
    outlines: Mapping[str, TableOutline]

    @property
    def tables(self) -> Mapping[str, str]:
        """Table name -> its mode."""
        return {name: outline.mode for name, outline in self.outlines.items()}

    @property
    def shares_snapshot(self) -> bool:
        """Whether there are tables to be read in one snapshot, by sessions of their own that can join it."""
        return self.kind == "postgresql" and len(self.outlines) > 1

    @property
    def dag_id(self) -> str:
        """``ingest_<source>``"""
        return f"ingest_{self.name}"

    @property
    def starts_at(self) -> datetime:
        """The instant from which the scheduler may create runs."""
        return datetime.combine(self.first_day or date(2000, 1, 1), time(), zone(self.time_zone))

    @property
    def ends_at(self) -> datetime | None:
        """The last instant at which the scheduler creates a run by itself; None for a live source.

        The run of a day starts on the day after it, so the last key, the day before ``end_day``, runs on ``end_day``.
        """
        if self.end_day is None:
            return None
        return datetime.combine(self.end_day + timedelta(days=1), time(), zone(self.time_zone)) - timedelta(seconds=1)


def load_schedules(folder: Path | None = None, *, mentioning: str = "") -> list[SourceSchedule]:
    """The schedules of all sources, by name.

    Args:
        folder: folder of source specs; the configured one by default.
        mentioning: leave out specs whose text does not hold this: to read a spec takes most of the time of its DAG.

    Raises:
        SpecError: a spec without what a schedule needs; the message names the file.
    """
    settings = Settings.load()
    folder = folder or settings.sources
    texts = ((path, path.read_text(encoding="utf-8")) for path in folder.glob("*.yml"))
    found = (_read(path, text, settings) for path, text in texts if mentioning in text)
    return sorted(found, key=lambda schedule: schedule.name)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """A spec's content, which nobody changes: several DAG files of one process ask for the same."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the C twin of SafeLoader


def _read(path: Path, text: str, settings: Settings) -> SourceSchedule:
    try:
        spec = _parsed(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path.name} is not valid YAML: {error}", remedy="correct the file at that line") from None
    try:
        schedule = SourceSchedule(
            name=spec["source"],
            kind=spec["kind"],
            connection=spec["connection"],
            time_zone=zone(spec.get("time_zone", "UTC")).key,
            cron=str(spec.get("schedule", "0 3 * * *")),
            first_day=_day(spec.get("start_date")),
            end_day=_day(spec.get("end_date")),
            owner=spec["owner"],
            description=" ".join(str(spec.get("description", "")).split()),
            outlines=_outlines(spec, settings),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{path.name} lacks what a schedule needs: {error!r}.",
            remedy="give source, kind, connection, owner, and tables with name and mode",
        ) from None
    if not _DAILY.fullmatch(schedule.cron):
        raise SpecError(
            f"{path.name}: schedule {schedule.cron!r} is not one time a day; a partition key is a calendar day.",
            source=schedule.name,
            remedy="write minute and hour and three stars, for example '30 4 * * *'",
        )
    minute, hour = (int(part) for part in schedule.cron.split()[:2])
    gap = _clock_change(time(hour, minute), schedule.time_zone, datetime.now(UTC).date())
    if gap is not None:
        raise SpecError(
            f"{path.name}: on {gap} there is no {schedule.cron!r} in {schedule.time_zone}: clocks are put forward over "
            "it, and Airflow would leave out the day before without a word.",
            source=schedule.name,
            interval=gap.isoformat(),
            remedy="choose a time that every day has, for example '0 9 * * *'",
        )
    return schedule


def _outlines(spec: Mapping[str, Any], settings: Settings) -> dict[str, TableOutline]:
    try:
        url = settings.connection(spec["connection"]).get_secret_value()
    except SettingsError:
        url = None
    return {
        table["name"]: TableOutline(
            str(table["mode"]),
            source_name(
                url,
                spec["kind"],
                table=table.get("source_name") or table["name"],
                schema=table.get("schema", "public"),
                path=(table.get("objects") or {}).get("path"),
            )
            if url
            else None,
            table.get("events") or {},
            digest(spec["connection"], table) if table.get("events") else "",
        )
        for table in spec["tables"]
    }


@cache  # most sources share a time and a zone, and a thousand days a source are most of what parsing would cost
def _clock_change(clock: time, time_zone: str, first: date) -> date | None:
    """The first day of the coming years on which a time of day does not exist in a zone, if there is one."""
    for day in (first + timedelta(days=offset) for offset in range(3 * 366)):
        at = datetime.combine(day, clock, zone(time_zone))
        # The offset before a clock change against the one after it: they differ for a time that is skipped or doubled.
        before, after = at.utcoffset(), at.replace(fold=1).utcoffset()
        if before is not None and after is not None and before < after:
            return day
    return None


def _day(value: object) -> date | None:
    if value is None or isinstance(value, date):
        return value
    return parse_day(str(value))
