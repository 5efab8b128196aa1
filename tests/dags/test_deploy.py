"""``deploy/`` holds what it says: checked against schemas, linters, Airflow's own parsers, and this tree."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from benchmarks.compose_file import DEPLOY, services
from common.settings import Settings, process_environment
from penstock.pools import pools

ROOT = DEPLOY.parent
BIN = Path(sys.executable).parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
VALUES = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
WANTED = re.findall(r"^(\w+)=(.*)$", (DEPLOY / "example.env").read_text(), re.MULTILINE)
COMPOSE = services({name: "x" for name, _ in WANTED})
TEMPLATE = yaml.safe_load(VALUES["extraConfigMaps"]["penstock-pod-templates"]["data"])["warehouse.yaml"]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow says about it; see ``describe_deploy.py``."""
    folder = tmp_path_factory.mktemp("deploy")
    template = folder / "warehouse.yaml"
    template.write_text(TEMPLATE)
    environment = process_environment(AIRFLOW_HOME=str(folder), PENSTOCK_WAREHOUSE_POD_TEMPLATE=str(template))
    question = json.dumps({"commands": list(_airflow_commands()), "template": str(template)})
    command = [sys.executable, str(Path(__file__).with_name("describe_deploy.py"))]
    done = subprocess.run(command, input=question, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _airflow_commands() -> Iterator[list[str]]:
    """Every ``airflow ...`` that compose, the image or the chart runs, as words behind ``airflow``."""
    lines = [each["command"] for each in COMPOSE.values() if "command" in each]
    lines += [each["healthcheck"]["test"] for each in COMPOSE.values() if "healthcheck" in each]
    lines += [json.loads(DOCKERFILE.splitlines()[-1].removeprefix("CMD ")), VALUES["apiServer"]["args"]]
    for line in lines:
        if line[0] == "airflow":
            yield line[1:]
        elif line[0] in {"sh", "bash", "CMD-SHELL"}:
            yield from (shlex.split(part) for part in re.findall(r"(?:^|\s)airflow ([^&|]+)", line[-1]))


def test_compose_follows_the_specification() -> None:
    schema = resources.files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text()
    jsonschema.validate(yaml.safe_load((DEPLOY / "compose.yml").read_text()), json.loads(schema))


def test_compose_wants_every_secret_and_has_a_default_for_none() -> None:
    names = set(re.findall(r"\$\{(\w+):\?\}", (DEPLOY / "compose.yml").read_text()))
    assert names == {name for name, _ in WANTED}
    assert {value for _, value in WANTED} == {""}
    for name in names:
        with pytest.raises(KeyError, match=name):
            services(dict.fromkeys(names - {name}, "x"))


def test_workers_serve_every_queue_and_one_host_has_the_warehouse() -> None:
    workers = {name: each["command"] for name, each in COMPOSE.items() if "worker" in each.get("command", ())}
    queues = {name: words[words.index("--queues") + 1] for name, words in workers.items()}
    assert queues == {"worker-1": "default", "worker-2": "default", "builder": Settings.load({}).warehouse_queue}
    mounts = {
        name: volume for name, each in COMPOSE.items() for volume in each.get("volumes", ()) if "warehouse:" in volume
    }
    assert mounts == {"builder": "warehouse:/var/lib/penstock/warehouse", "cli": "warehouse:/warehouse:ro"}


def test_hosts_share_no_volume_but_the_warehouse_and_wait_for_what_they_need() -> None:
    volumes = [volume.split(":")[0] for each in COMPOSE.values() for volume in each.get("volumes", ())]
    assert {volume for volume in volumes if volumes.count(volume) > 1} == {"warehouse"}
    checked = {name for name, each in COMPOSE.items() if "healthcheck" in each} | {"api-server"}  # the image's own
    for name, each in COMPOSE.items():
        for needed, how in each.get("depends_on", {}).items():
            assert (how["condition"] == "service_healthy") == (needed != "migrate"), name
            assert needed in {*checked, "migrate"}, name


def test_workers_know_neither_airflows_database_nor_its_keys() -> None:
    for name in ("worker-1", "worker-2", "builder"):
        known = set(COMPOSE[name]["environment"])
        assert not {each for each in known if "SQL_ALCHEMY" in each or "FERNET" in each or "JWT" in each}, name


def test_every_variable_is_one_that_somebody_reads(airflow: dict[str, Any]) -> None:
    told = {name for each in COMPOSE.values() for name in each.get("environment", ())}
    told |= set(re.findall(r"\b(?:AIRFLOW__|PENSTOCK_)\w+", DOCKERFILE))
    told |= set(yaml.safe_load(VALUES["extraConfigMaps"]["penstock-env"]["data"]))
    told |= {f"AIRFLOW__{s}__{o}".upper() for s, section in VALUES["config"].items() for o in section}
    settings = {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in told if name.startswith("PENSTOCK_") and "CONNECTIONS__" not in name}
    assert ours <= settings
    assert {name for name in told if name.startswith("AIRFLOW__")} <= set(airflow["options"])


def test_airflow_takes_every_command(airflow: dict[str, Any]) -> None:
    commands = {" ".join(words[:2]) for words in _airflow_commands()}
    assert {"celery worker", "scheduler", "dag-processor", "triggerer", "api-server", "jobs check"} <= commands
    assert airflow["refusals"] == {}


def test_the_object_store_takes_every_option() -> None:
    weed = subprocess.run([BIN / "weed", "mini", "-h"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^  (-[\w.]+)", weed.stdout + weed.stderr, re.MULTILINE))
    assert {option.split("=")[0] for option in COMPOSE["object-store"]["command"][1:]} <= known


def test_pools_are_those_of_the_local_airflow() -> None:
    found = json.loads((DEPLOY / "pools.json").read_text())
    assert {name: (each["slots"], each["description"]) for name, each in found.items()} == pools(4)


def test_workers_have_more_slots_than_there_are_tasks_that_hold_snapshots() -> None:
    commands = [service.get("command") or [] for service in COMPOSE.values()]
    slots = [int(words[words.index("--concurrency") + 1]) for words in commands if "default" in words]
    holders = pools(4)["snapshots"][0] + pools(4)["backfill_snapshots"][0]
    assert sum(slots) - holders >= len(slots) > 1


def test_the_pod_of_a_build_has_the_warehouse(airflow: dict[str, Any]) -> None:
    assert Path(airflow["warehouse_task"]["executor_config"]["pod_template_file"]).name == "warehouse.yaml"
    (container,) = airflow["pod"]["spec"]["containers"]
    image = VALUES["images"]["airflow"]
    assert container["image"] == f"{image['repository']}:{image['tag']}"
    assert {each["mount_path"] for each in container["volume_mounts"]} >= {"/var/lib/penstock/warehouse"}
    claim = yaml.safe_load((DEPLOY / "helm" / "warehouse-claim.yaml").read_text())
    claims = [each["persistent_volume_claim"]["claim_name"] for each in airflow["pod"]["spec"]["volumes"]]
    assert claim["metadata"]["name"] in claims
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_dockerfile_has_nothing_to_lint() -> None:
    done = subprocess.run([BIN / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_installed_as_the_makefile_installs_and_copies_every_package() -> None:
    for command in ("pip install --", "uv pip sync", "uv pip install"):
        theirs, ours = (_options((ROOT / "Makefile").read_text(), command), _options(DOCKERFILE, command))
        assert ours - {"--no-cache", "--no-cache-dir"} == theirs, command
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-[\w-]+$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == [str(VALUES["uid"])]


def _options(text: str, command: str) -> set[str]:
    """Options of the last line that holds a command."""
    line = [line for line in text.splitlines() if command in line][-1]
    return {word for word in line.split() if word.startswith("--")}
