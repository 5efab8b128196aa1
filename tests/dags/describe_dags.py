"""Parses the DAG folder as Airflow does and prints what it found, as JSON. Run in a process of its own by the tests.

CPU time is that of parsing alone: everything Airflow itself imports to be able to parse is loaded before the clock
starts. Sockets are forbidden meanwhile.
"""

# ruff: noqa: TID251 - it asks Airflow itself
from __future__ import annotations

import contextlib
import json
import logging
import resource
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import airflow.sdk
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.executors.base_executor import BaseExecutor  # noqa: F401 - what every Airflow process loads anyway
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.timetables.trigger import CronPartitionTimetable  # noqa: F401


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("parsing a DAG file must not use the network")


def describe_task(task: Any) -> dict[str, Any]:
    mapped = isinstance(task, MappedOperator)
    policy = task.partial_kwargs.get("retry_policy") if mapped else task.retry_policy
    return {
        "mapped": mapped,
        "map_index_template": task.map_index_template if mapped else None,
        "upstream": sorted(task.upstream_task_ids),
        "trigger_rule": str(task.trigger_rule),
        "pool": task.pool,
        "queue": task.queue,
        "executor_config": task.executor_config,
        "pool_slots": task.pool_slots,
        "priority_weight": task.priority_weight,
        "owner": task.owner,
        "retries": task.retries,
        "retry_exponential_backoff": task.retry_exponential_backoff,
        "execution_timeout_s": task.execution_timeout.total_seconds() if task.execution_timeout else None,
        "decisions": decisions(policy),
        "is_teardown": task.is_teardown,
        "outlets": sorted(outlet.name for outlet in task.outlets),
        "inlets": sorted(inlet.name for inlet in task.inlets),
    }


def waits_for(condition: Any) -> Any:
    """An asset's name, or ``{"all": [...]}``, ``{"any": [...]}``."""
    if condition is None:
        return []
    if not hasattr(condition, "objects"):
        return condition.name
    return {
        type(condition).__name__.removeprefix("SerializedAsset").removeprefix("Asset").lower(): [
            waits_for(each) for each in condition.objects
        ]
    }


def decisions(policy: Any) -> dict[str, str]:
    from common import errors

    examples: Iterable[BaseException] = (
        errors.SourceUnavailable("x"),
        errors.CommitConflict("x"),
        errors.GateRefused("x"),
        errors.SettingsError("x"),
        KeyError("x"),
        ConnectionResetError("x"),
    )
    return {type(error).__name__: policy.evaluate(error, 1, 4).action.value for error in examples}


def describe(dag: Any) -> dict[str, Any]:
    return {
        "file": Path(dag.fileloc).name,
        "description": dag.description,
        "doc_md": dag.doc_md,
        "tags": sorted(dag.tags),
        "catchup": dag.catchup,
        "paused_at_creation": dag.is_paused_upon_creation,
        "max_active_runs": dag.max_active_runs,
        "timetable": type(dag.timetable).__name__,
        "time_zone": str(getattr(dag.timetable, "timezone", "")),
        "start": dag.start_date.isoformat() if dag.start_date else None,
        "end": dag.end_date.isoformat() if dag.end_date else None,
        "waits_for": waits_for(getattr(dag.timetable, "asset_condition", None)),
        "params": {name: dag.params[name] for name in dag.params},
        "tasks": {task.task_id: describe_task(task) for task in dag.tasks},
    }


def main(folder: str) -> None:
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):
        before, loaded = cpu_s(), set(sys.modules)
        connect, socket.socket.connect = socket.socket.connect, refuse  # type: ignore[method-assign]
        bag = BundleDagBag(dag_folder=folder, bundle_path=Path(folder), bundle_name="dags-folder")
        socket.socket.connect = connect  # type: ignore[method-assign]
        spent = cpu_s() - before
    found = {
        "cpu_s": spent,
        "airflow": airflow.sdk.__version__,
        "import_errors": {str(path): str(error) for path, error in bag.import_errors.items()},
        "loaded": sorted({name.split(".")[0] for name in set(sys.modules) - loaded}),
        "dags": {dag_id: describe(dag) for dag_id, dag in bag.dags.items()},
    }
    print(json.dumps(found))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1])
