"""Asks Airflow itself about ``deploy/``, and prints the answers as JSON. Run in a process of its own by the tests.

Standard input holds the question: command lines of ``airflow``, and the path of a pod template.
"""

# ruff: noqa: TID251 - it asks Airflow itself
from __future__ import annotations

import contextlib
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.cli import cli_parser
from airflow.configuration import conf
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator


def refusals(commands: list[list[str]]) -> dict[str, str]:
    """What the command line says against each command; nothing for one it takes."""
    found = {}
    for words in commands:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                cli_parser.get_parser().parse_args(words)
        except SystemExit:
            found[" ".join(words)] = said.getvalue()
    return found


def pod_of_a_build(template: str) -> dict[str, Any]:
    """The pod that the KubernetesExecutor would ask for, made by Airflow from the template."""
    pod = PodGenerator.construct_pod(
        dag_id="build_warehouse",
        task_id="build",
        pod_id="build-warehouse-build",
        try_number=1,
        kube_image="",
        date=datetime(2026, 1, 1, tzinfo=UTC),
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=None,
        base_worker_pod=PodGenerator.deserialize_model_file(template),
        namespace="penstock",
        scheduler_job_id="1",
    )
    found: dict[str, Any] = pod.to_dict()
    return found


def main() -> None:
    question = json.loads(sys.stdin.read())
    options = conf.configuration_description
    answers = {
        "options": [f"AIRFLOW__{s}__{o}".upper() for s, section in options.items() for o in section["options"]],
        "refusals": refusals(question["commands"]),
        "pod": pod_of_a_build(question["template"]),
    }
    from dags.penstock_dags.defaults import WAREHOUSE_TASK

    answers["warehouse_task"] = WAREHOUSE_TASK
    print(json.dumps(answers))  # noqa: T201 - the answer


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
