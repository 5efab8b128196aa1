"""The tree keeps its own rules: no strange hosts or paths, small modules that say what they are for, one version."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import penstock
from tests.architecture.source_tree import PACKAGES, ROOT, files, modules, name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

SERVICES = {"api-server", "object-store", "penstock-api-server"}
"""Hosts inside what ``deploy/`` describes."""

ADDRESSES = SERVICES | {"127.0.0.1", "localhost", "host", "stations", "www.apache.org", "www.w3.org", "openlineage.io"}
"""Hosts that an address in the tree may name, besides those reserved for examples."""

FOREIGN_PATH = re.compile(r"(?<![\w.{}/-])/(?:home|Users|root|work|workspace|mnt)/[A-Za-z0-9_]")


def foreign(text: str) -> list[str]:
    """Addresses of hosts that have no business here, and paths of somebody's machine."""
    hosts = re.findall(r"https?://(?:[^\s/@\"'`]*@)?([A-Za-z0-9.-]+)", text)
    strange = [h for h in hosts if h not in ADDRESSES and not re.search(r"(^|\.)example\.(org|com|net)$", h)]
    return strange + FOREIGN_PATH.findall(text)


def test_no_file_names_a_strange_host_or_a_path_of_somebodys_machine() -> None:
    found = {}
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__).resolve() and foreign(text):
            found[name(path)] = foreign(text)
    assert found == {}


def test_no_file_holds_what_a_merge_could_not_settle() -> None:
    marker = re.compile(rb"^(<{7}|={7}|>{7})( .*)?$", re.MULTILINE)
    # seven equals signs alone may underline a title of reStructuredText: nothing here is written in it
    assert [name(path) for path in files() if marker.search(path.read_bytes())] == []


@pytest.mark.parametrize(
    "text", ["--index-url https://mirror.corp.test/simple", 'PATH = "/home/someone/penstock"', "cd /root/penstock"]
)
def test_a_strange_host_or_path_is_caught(text: str) -> None:
    assert foreign(text) != []


def test_modules_stay_small_and_say_what_they_are_for() -> None:
    product, proofs = modules(*PACKAGES, "benchmarks", "notebooks"), modules("tests")
    checked = [*product, *proofs]
    assert len(checked) > 80
    # Tests may be longer: tables of cases belong beside their law.
    lengths = {path: len(path.read_text().splitlines()) for path in checked}
    assert {name(path): n for path, n in lengths.items() if n > (400 if path in product else 500)} == {}
    silent = [
        name(path)
        for path in checked
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == penstock.__version__
    assert re.search(
        rf"^## {re.escape(penstock.__version__)} - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


def test_the_licence_is_apache_2_as_published() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "Copyright [yyyy] [name of copyright owner]" in text
