"""OpenLineage events: what was made of what, told when it happens.

::

    receipt of a batch   ─┐
    manifest of a release ─┴─> START and COMPLETE, or FAIL ─> <home>/lineage/<year>-<month>.ndjson, always
                                                           ├─> <lake>/ops/lineage/<table>.json, COMPLETE, on S3
                                                           └─> POST to a lineage server, where one is set

A lake on S3 may be worked on by several machines, each with a home of its own. So it holds each table's newest event
too: objects cannot be appended to, and of a table only its newest event counts for the graph.

The events follow OpenLineage 2.0.2. The format is plain JSON and is written here directly; its Python client would load
two HTTP libraries (0.6 CPU s) into every process. A test reads the events back with that client's own classes.

Names: tables of lake and warehouse are ``penstock`` / ``raw.flightops__flights``, ``refined.flights``,
``warehouse.fct_flights``; a source's tables are called as OpenLineage names them for its system, so that other tools'
events about them meet ours. A run's id is the attempt's; its parent is the command's run, or Airflow's task by the id
that Airflow's own provider tells it by.

Lineage is told, not needed: what cannot be written or sent is logged, and the work goes on. A server that failed once
is not asked again by the same process, for a silent one would hold up every batch by its timeout.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import penstock
from common.errors import StoreUnavailable
from common.settings import Settings
from lake.paths import lineage_folder

if TYPE_CHECKING:
    from lake.storage import Storage

NAMESPACE = "penstock"
"""Namespace of our jobs and of the tables of lake and warehouse."""

_LOG = logging.getLogger(__name__)
_PRODUCER = f"urn:penstock:{penstock.__version__}"
_SPEC = "https://openlineage.io/spec"
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Dataset:
    """A table as OpenLineage names it."""

    namespace: str
    name: str

    @classmethod
    def own(cls, table: str) -> Dataset:
        """A table of the lake or the warehouse: ``raw.flightops__flights``, ``warehouse.fct_flights``."""
        return cls(NAMESPACE, table)


@dataclass(frozen=True)
class Output:
    """A table that was written.

    Attributes:
        dataset: its name.
        columns: its columns and their types.
        made_of: column -> the columns it is computed from.
        deciding: columns that decide which rows there are.
        rows: rows written.
        rules: the gate's verdicts, as (rule, passed, column or None).
    """

    dataset: Dataset
    columns: Mapping[str, str]
    made_of: Mapping[str, Sequence[tuple[Dataset, str]]]
    deciding: Sequence[tuple[Dataset, str]] = ()
    rows: int | None = None
    rules: Sequence[tuple[str, bool]] = ()


@dataclass(frozen=True)
class Parent:
    """What started a run: the command line's run, or a task of Airflow.

    Attributes:
        job: its name; for Airflow ``<dag_id>.<task_id>``.
        run: its own id, in whatever form.
        namespace: of the job.
        known_as: the id by which others tell OpenLineage of it, a UUID; empty if nobody does.
        root: what started it in turn: Airflow's DAG run.
    """

    job: str
    run: str
    namespace: str = NAMESPACE
    known_as: str = ""
    root: Parent | None = None

    @property
    def run_id(self) -> str:
        """The id as OpenLineage wants it, the same for the same run."""
        return self.known_as or str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"{_PRODUCER.rsplit(':', 1)[0]}:{self.job}:{self.run}")
        )


@dataclass
class LineageLog:
    """Writes events. Cheap to make.

    Attributes:
        settings: where to.
        parent: what started the work.
        shared: storage of a lake that other machines work on as well; None for one on this machine.
    """

    settings: Settings
    parent: Parent
    shared: Storage | None = None
    _warned: bool = field(default=False, init=False)
    _server_failed: bool = field(default=False, init=False)

    def tell(
        self,
        job: str,
        run_id: str,
        *,
        started_at: datetime,
        ended_at: datetime,
        inputs: Sequence[Dataset],
        outputs: Sequence[Output],
        interval: tuple[datetime, datetime] | None = None,
        error: str | None = None,
    ) -> None:
        """Tell of one run of a job that has ended.

        Args:
            job: name of the work, such as ``ingest.raw.flightops__flights``.
            run_id: id of the run, any text that no other run has.
            started_at: when it began, UTC.
            ended_at: when it ended, UTC.
            inputs: tables it read.
            outputs: tables it wrote, or would have.
            interval: span of time the rows are of, UTC.
            error: why it failed; None if it did not.

        Side effects: two lines in the file; two requests where a server is set. Never raises.
        """
        run: dict[str, Any] = {"runId": _uuid(run_id), "facets": {"parent": self._parent()}}
        if interval is not None:
            times = dict(zip(("nominalStartTime", "nominalEndTime"), (i.isoformat() for i in interval), strict=True))
            run["facets"]["nominalTime"] = _facet("1-0-1", "NominalTimeRunFacet", **times)
        event: dict[str, Any] = {
            "eventType": "START",
            "eventTime": started_at.isoformat(),
            "producer": _PRODUCER,
            "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": run,
            "job": {"namespace": NAMESPACE, "name": job, "facets": {"jobType": _job_type(job)}},
            "inputs": [],
            "outputs": [],
        }
        ended = {**event, "eventType": "FAIL" if error else "COMPLETE", "eventTime": ended_at.isoformat()}
        ended["inputs"] = [{"namespace": each.namespace, "name": each.name, "facets": {}} for each in inputs]
        ended["outputs"] = [_output(each, failed=error is not None) for each in outputs]
        if error is not None:
            message = _facet("1-0-1", "ErrorMessageRunFacet", message=error, programmingLanguage="python")
            ended["run"] = {**run, "facets": {**run["facets"], "errorMessage": message}}
        self._write([event, ended])

    def _parent(self) -> dict[str, Any]:
        root = {"root": _named(self.parent.root)} if self.parent.root else {}
        return _facet("1-2-0", "ParentRunFacet", **_named(self.parent), **root)

    def _write(self, events: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(event, default=str) + "\n" for event in events).encode()
        folder = self.settings.home / "lineage"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # One write to a file opened for appending: lines of processes beside this one do not mix.
            descriptor = os.open(
                folder / f"{events[-1]['eventTime'][:7]}.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
            )
            try:
                os.write(descriptor, lines)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.warn(f"lineage cannot be written to {folder}: {error}")
        if self.shared is not None and events[-1]["eventType"] == "COMPLETE":
            self._share(self.shared, events[-1])
        url = self.settings.lineage_url
        for event in events if url else ():
            if self._server_failed:
                return
            self._send(f"{url.rstrip('/')}/api/v1/lineage", event)

    def _share(self, storage: Storage, event: Mapping[str, Any]) -> None:
        folder = lineage_folder(self.settings.lake_uri)
        try:
            for output in event["outputs"]:
                storage.write_json(f"{folder}/{output['name']}.json", event)
        except StoreUnavailable as error:
            self.warn(f"lineage cannot be written to {folder}: {error}")

    def _send(self, url: str, event: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        if self.settings.lineage_api_key.get_secret_value():
            headers["Authorization"] = f"Bearer {self.settings.lineage_api_key.get_secret_value()}"
        request = urllib.request.Request(url, json.dumps(event, default=str).encode(), headers, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - the address is a setting
                return
        except (OSError, ValueError) as error:
            self._server_failed = True
            self.warn(f"the lineage server at {url} did not take an event and gets no more from this run: {error}")

    def warn(self, problem: str) -> None:
        """Say it once: a server that is down is down for every batch."""
        if not self._warned:
            _LOG.warning("%s; the work goes on, and this is said once", problem)
        self._warned = True


def _output(output: Output, *, failed: bool) -> dict[str, Any]:
    fields = [{"name": name, "type": kind} for name, kind in output.columns.items()]
    facets: dict[str, Any] = {"schema": _facet("1-2-0", "SchemaDatasetFacet", fields=fields)}
    if not failed:
        made_of = {
            name: {"inputFields": [_input(*source, "DIRECT") for source in sources]}
            for name, sources in output.made_of.items()
        }
        deciding = [_input(*source, "INDIRECT") for source in output.deciding]
        facets["columnLineage"] = _facet("1-2-0", "ColumnLineageDatasetFacet", fields=made_of, dataset=deciding)
    if output.rules:
        rules = [{"assertion": rule, "success": passed} for rule, passed in output.rules]
        facets["dataQualityAssertions"] = _facet("1-1-0", "DataQualityAssertionsDatasetFacet", assertions=rules)
    found = {"namespace": output.dataset.namespace, "name": output.dataset.name, "facets": facets}
    if output.rows is not None and not failed:
        statistics = _facet("1-0-2", "OutputStatisticsOutputDatasetFacet", rowCount=output.rows)
        found["outputFacets"] = {"outputStatistics": statistics}
    return found


def _input(dataset: Dataset, column: str, kind: str) -> dict[str, Any]:
    transformations = [{"type": kind, "subtype": "", "description": "", "masking": False}]
    return {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "field": column,
        "transformations": transformations,
    }


def _named(parent: Parent) -> dict[str, Any]:
    return {"run": {"runId": parent.run_id}, "job": {"namespace": parent.namespace, "name": parent.job}}


def _facet(version: str, name: str, **content: Any) -> dict[str, Any]:
    return {"_producer": _PRODUCER, "_schemaURL": f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}", **content}


def _job_type(job: str) -> dict[str, Any]:
    integration = "DBT" if job.startswith("build.") else "PENSTOCK"
    return _facet("2-0-4", "JobTypeJobFacet", processingType="BATCH", integration=integration, jobType="JOB")


def _uuid(run_id: str) -> str:
    try:
        return str(uuid.UUID(run_id))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, run_id))
