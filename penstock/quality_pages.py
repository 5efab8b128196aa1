"""Quality pages of a run: plain HTML files that need no network, no server and no JavaScript.

``facts --jinja2, autoescaped--> <home>/quality/.<run>.tmp/ --rename--> <home>/quality/<run>/ <-- latest``

Great Expectations' own Data Docs load scripts and styles from other hosts and do not know severities. A page may hold
rows that somebody put into a source on purpose: everything is escaped, and a content security policy forbids scripts
and every request, so what slips through an escape would still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from common.errors import PenstockError, UnknownName
from penstock.quality_facts import Point, TableFacts, gather, totals
from warehouse.releases import Releases

if TYPE_CHECKING:
    from jinja2 import Environment

    from penstock.pipeline import Pipeline

_TEMPLATES = Path(__file__).parent / "templates"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OBSERVED_CHARACTERS = 120
STAGES = (
    ("ingest", "Raw: as the sources have it"),
    ("refine", "Refined: cleaned and converted"),
    ("warehouse", "Warehouse: the tables of the last release"),
)


def write_pages(pipeline: Pipeline) -> Path:
    """Write the pages of a pipeline's run from what is recorded now.

    Returns:
        The index page.

    Raises:
        UnknownName: the run's id cannot be a folder's name.
        StateCorrupt, StoreUnavailable: the lake cannot be read.

    Side effects: the run's folder is replaced, ``latest`` points to it, the oldest folders beyond
    ``keep_quality_pages`` are removed.
    """
    root, run_id = pages_folder(pipeline), pipeline.run_id
    if not _RUN.fullmatch(run_id):
        raise UnknownName(f"{run_id!r} cannot be the name of a folder.", remedy="use letters, digits, '_', '.' and '-'")
    temporary = root / f".{run_id}.{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        for name, text in _render(pipeline, gather(pipeline, run_id)):
            (temporary / name).write_text(text, encoding="utf-8")
        _replace(temporary, root / run_id)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _point(root, run_id)
    _retain(root, run_id, pipeline.settings.keep_quality_pages)
    return root / run_id / "index.html"


def try_to_write_pages(pipeline: Pipeline, notices: list[str]) -> Path | None:
    """Write the pages of a run that has done its work; what keeps them from being written becomes a notice of it."""
    try:
        return write_pages(pipeline)
    except (PenstockError, OSError) as error:
        notices.append(f"The quality pages were not written: {error}")
        return None


def find_pages(pipeline: Pipeline, run_id: str) -> Path:
    """The index page of an earlier run.

    Raises:
        UnknownName: there are no pages of that run; the message lists those there are.
    """
    kept = [folder.name for folder in _folders(pages_folder(pipeline))]
    if run_id not in kept:
        raise UnknownName(
            f"There are no quality pages of run {run_id!r} (there are: {', '.join(kept) or 'none yet'}).",
            remedy="write new ones with: penstock quality",
        )
    return pages_folder(pipeline) / run_id / "index.html"


def pages_folder(pipeline: Pipeline) -> Path:
    """Where the pages of all runs lie."""
    return pipeline.settings.home / "quality"


def _replace(temporary: Path, folder: Path) -> None:
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        folder.replace(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    temporary.replace(folder)


def _point(root: Path, run_id: str) -> None:
    link = root / f".latest.{uuid.uuid4().hex}"
    link.symlink_to(run_id)
    link.replace(root / "latest")


def _folders(root: Path) -> list[Path]:
    """Folders of runs, the oldest first."""
    if not root.is_dir():
        return []
    found = []
    for path in root.iterdir():
        if _RUN.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(FileNotFoundError):  # another run removes the oldest as well
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def _retain(root: Path, run_id: str, keep: int) -> None:
    surplus = [folder for folder in _folders(root) if folder.name != run_id]
    for folder in surplus[: max(0, len(surplus) + 1 - keep)]:
        shutil.rmtree(folder, ignore_errors=True)


# -- rendering ---------------------------------------------------------------------------------------------------------


def _render(pipeline: Pipeline, tables: Sequence[TableFacts]) -> list[tuple[str, str]]:
    environment = _environment()
    current = Releases(pipeline.settings.warehouse).current()
    shared = {
        "run_id": pipeline.run_id,
        "written_at": pipeline.clock(),
        "version": penstock.__version__,
        "release": current.id if current else None,
        "stages": STAGES,
    }
    index = environment.get_template("index.html.j2").render(**shared, tables=tables, totals=totals(tables))
    page = environment.get_template("table.html.j2")
    return [("index.html", index), *((table.page, page.render(**shared, table=table)) for table in tables)]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment.globals |= {
        "style": Markup(style),  # noqa: S704 - our own file; escaped, its quotes would not be CSS
        "style_hash": f"sha256-{digest}",
        "number": _number,
        "moment": _moment,
        "short": _short,
        "observed": _observed,
        "chart": _chart,
        "bars": _bars,
        "trend_label": _trend_label,
    }
    return environment


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _moment(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _short(text: str) -> str:
    return text if len(text) <= _OBSERVED_CHARACTERS else f"{text[:_OBSERVED_CHARACTERS]}…"


def _chart(points: Sequence[Point], width: int = 300, height: int = 60) -> dict[str, Any] | None:
    """Rows as a line between their smallest and largest number, failed rules as bars below; None for one interval."""
    if len(points) < 2:
        return None
    counts = [rows for _, rows, _, _ in points]
    low, span = min(counts), (max(counts) - min(counts)) or 1
    step, band = (width - 4) / (len(points) - 1), height * 0.6
    line = " ".join(
        f"{2 + i * step:.1f},{3 + (1 - (rows - low) / span) * (band - 6):.1f}" for i, rows in enumerate(counts)
    )
    bars = _bars([(key, failed) for key, _, failed, _ in points], width, height, 0.35)
    critical = [(key, failed if critical else 0) for key, _, failed, critical in points]
    return {**bars, "rows": line, "critical": _path(critical, bars["most"], width, height, 0.35)}


def _bars(series: Sequence[tuple[str, int]], width: int = 300, height: int = 60, share: float = 0.9) -> dict[str, Any]:
    """Values as bars from below, the largest ``share`` of the height; only those above zero are drawn."""
    most = max((value for _, value in series), default=0) or 1
    path = _path(series, most, width, height, share)
    return {"width": width, "height": height, "bars": path, "rows": "", "critical": "", "most": most}


def _path(series: Sequence[tuple[str, int]], most: int, width: int, height: int, share: float) -> str:
    step = (width - 4) / max(1, len(series) - 1)
    return "".join(
        f"M{2 + i * step:.1f} {height}v-{max(3.0, value / most * height * share):.1f}"
        for i, (_, value) in enumerate(series)
        if value
    )


def _observed(text: str) -> str:
    """An observed value in words: of rules on rows how many broke it, and which values they had."""
    try:
        value = json.loads(text)
    except ValueError:
        return _short(text)
    if not isinstance(value, dict) or "unexpected_count" not in value:
        return _short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if not value["unexpected_count"]:
        return "no row"
    share = f" ({value['unexpected_percent']:.2g} %)" if value.get("unexpected_percent") else ""
    examples = ", ".join(str(each) for each in value.get("partial_unexpected") or () if each is not None)
    rows = "row" if value["unexpected_count"] == 1 else "rows"
    return _short(f"{value['unexpected_count']:,} {rows}{share}{': ' if examples else ''}{examples}")


def _trend_label(points: Sequence[Point]) -> str:
    if not points:
        return "no interval yet"
    counts = [rows for _, rows, _, _ in points]
    failed = sum(bool(failed) for _, _, failed, _ in points)
    return f"{len(points)} intervals, {min(counts):,} to {max(counts):,} rows, failed rules in {failed}"
