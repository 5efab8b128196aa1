"""The files of the checkout, as the architecture tests see them: what people wrote, without caches and environments."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("common", "dags", "ingestion", "lake", "penstock", "quality", "transformations", "warehouse")
"""What is installed and runs; notebooks aside, which are pages."""

_NOT_OURS = {"__pycache__", "build", "dist", "target", "logs"}
_HIDDEN_BUT_OURS = {".ci"}


@cache
def files() -> tuple[Path, ...]:
    """Every file of the tree, by path."""
    return tuple(sorted(_walk(ROOT)))


def modules(*folders: str) -> list[Path]:
    """The Python modules of some top-level folders."""
    return [path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def pages() -> list[Path]:
    """The documentation that people read: every Markdown file outside the dbt project."""
    return [path for path in files() if path.suffix == ".md" and "dbt" not in path.relative_to(ROOT).parts]


def name(path: Path) -> str:
    """A file's path inside the checkout."""
    return path.relative_to(ROOT).as_posix()


def _walk(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False):
            yield path
        elif _is_ours(path):
            yield from _walk(path)


def _is_ours(folder: Path) -> bool:
    if folder.name.startswith("."):
        return folder.name in _HIDDEN_BUT_OURS
    is_environment = (folder / "pyvenv.cfg").exists()
    return folder.name not in _NOT_OURS and not folder.name.endswith(".egg-info") and not is_environment
