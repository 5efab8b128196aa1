"""What the documentation says exists: its commands parse, its links lead somewhere, its examples are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from common.settings import Settings
from ingestion.spec import SourceSpec
from penstock.cli import app
from quality.suite import Suite
from tests.architecture.source_tree import ROOT, name, pages

MAKE_TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS: Any = typer.main.get_command(app)


def shell_lines(text: str) -> Iterator[str]:
    """Lines of a page's shell blocks, continued ones joined, and its inline code."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from _logical_lines(block)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


def _logical_lines(block: str) -> Iterator[str]:
    pending = ""
    for line in block.replace("\\\n", " ").splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            shlex.split(pending, comments=True)
        except ValueError:  # a quotation that goes on in the next line
            continue
        yield pending
        pending = ""
    assert not pending, pending


def problem_of(line: str, *, whole: bool) -> str | None:
    """Why a ``penstock`` or ``make`` line would not be understood; None if it would, or if it is another program's.

    Args:
        line: the line.
        whole: whether required arguments must be there (a shell block), or only what is there is checked (prose).
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return f"cannot be split: {line}"
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    program = words[0].removeprefix(".venv/bin/") if words else ""
    if program == "make":
        targets = [word for word in words[1:] if not re.fullmatch(r"[A-Z_]+=.*", word)]
        unknown = [target.rstrip(",") for target in targets if target.rstrip(",") not in MAKE_TARGETS]
        return f"make has no target {unknown[0]}" if unknown else None
    if program != "penstock":
        return None
    return _penstock_problem(words[1:], whole=whole)


def _penstock_problem(words: list[str], *, whole: bool) -> str | None:
    command = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        word = words.pop(0)
        if word not in command.commands:
            return f"penstock has no command {word}"
        command = command.commands[word]
    known = {"--help"} | {option for p in command.params for option in [*p.opts, *p.secondary_opts]}
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    if unknown:
        return f"penstock {command.name} has no option {unknown[0]}"
    if whole:
        try:
            command.make_context(command.name, words)
        except Exception as error:  # noqa: BLE001 - typer's own copy of click's errors has no public name
            return f"penstock {command.name}: {error}"
    return None


@pytest.mark.parametrize("path", pages(), ids=name)
def test_every_command_a_page_gives_is_understood(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```sh\n.*?```", text, re.DOTALL))
    whole = [problem_of(line, whole=True) for line in shell_lines(blocks)]
    prose = [problem_of(line, whole=False) for line in shell_lines(text)]
    assert [problem for problem in [*whole, *prose] if problem] == []


@pytest.mark.parametrize(
    "line",
    [
        "make everything",
        "penstock destroy",
        "penstock run --from 2013-01-01 --until 2013-02-01",
        "penstock quarantine drop",
        ".venv/bin/penstock run --from 2013-01-01",
    ],
)
def test_a_command_that_does_not_exist_is_caught(line: str) -> None:
    assert problem_of(line, whole=True) is not None


def anchors(path: Path) -> set[str]:
    """The names under which the headings of a page can be linked to."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", pages(), ids=name)
def test_every_link_inside_the_tree_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / target).resolve() if target else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", pages(), ids=name)
def test_every_yaml_example_is_yaml(path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        assert yaml.safe_load(block)


def test_the_readmes_own_source_and_suite_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    spec, suite = (yaml.safe_load(block) for block in blocks)
    assert SourceSpec.model_validate(spec).raw("order_item").name == "shop__order_item"
    assert Suite.model_validate(suite).name == "raw/shop__order_item"


def test_no_page_gives_a_setting_that_does_not_exist() -> None:
    known = {f"PENSTOCK_{setting.upper()}" for setting in Settings.model_fields}
    known |= {"PENSTOCK_CONFIG", "PENSTOCK_FAULT_POINT"}
    given = {v for path in pages() for v in re.findall(r"\bPENSTOCK_[A-Z_]*[A-Z]\b", path.read_text())}
    assert {v for v in given if v.split("__")[0] not in known} == set()
