"""What dashboards have in common: a release from top to bottom, its name on the page, figures with units, charts alike.

A dashboard says what it shows; this says how: the palette (Okabe and Ito's, told apart by colour-blind readers, in
shades that stand out on white and on black), number formats, axes, what stands there instead when there is nothing to
show, or nothing that the reader's role may see. Colours of text and background are left to the page, which follows
light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import penstock
from common.errors import UnknownName
from penstock.page_readers import shelf_of_page
from warehouse.serve.problems import Problem

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

    from warehouse.reader import Reader

PALETTE = ("#2E86C8", "#D98200", "#00A078", "#C66A9C", "#D55E00", "#56B4E9", "#8C8C8C")
"""Categories, in this order."""
GOOD, BAD = PALETTE[2], PALETTE[4]
_HEIGHT, _ROW = 260, 22
_EMBED = {"embedOptions": {"actions": False}}
"""No menu at the chart: it leads to an editor on another host."""
_NOT_SEEN = "Your role does not see what this is made of."


def told(value: float | None, unit: str = "") -> str:
    """A number for people: ``87.3 %``, ``12.4 min``, ``39,226``; a dash for none."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * float(value):.1f} %"
    if unit in {"", "flights", "rows", "aircraft"}:
        return f"{float(value):,.0f}"
    return f"{float(value):,.1f} {unit}"


def _cell(value: Any, *, unit: str) -> str:
    if unit == "time":
        return "-" if value is None else f"{value:%Y-%m-%d %H:%M}"
    return told(value, unit)


def age(then: datetime, now: datetime | None = None) -> str:
    """How long ago, in the unit that fits."""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


@dataclass(frozen=True)
class Kpi:
    """One figure of the first row.

    Attributes:
        label: what it is.
        value: as :func:`told` says it.
        caption: what counts, in a few words.
    """

    label: str
    value: str
    caption: str = ""


class Page:
    """A dashboard's page: one release, read as the reader's role.

    Args:
        title: of the page.
        guide: one paragraph on how to read it.
    """

    def __init__(self, title: str, guide: str) -> None:
        self.title, self.guide = title, guide
        self.reader: Reader | None
        try:
            self.reader = penstock.reader()
        except UnknownName:  # nothing is published yet, which the page says
            self.reader = None

    @property
    def release(self) -> str:
        """Id of the release; empty where nothing is published."""
        return self.reader.release.id if self.reader else ""

    def figures(self, names: str | Sequence[str], **how: Any) -> pl.DataFrame | None:
        """Metrics by groups (see :meth:`warehouse.reader.Reader.metric`); None where the role may not see them."""
        if self.reader is None:
            return None
        try:
            return plain(self.reader.metric(names, **how).pl())
        except Problem as problem:
            if problem.code not in {"unknown_metric", "unknown_column"} or shelf_of_page() is None:
                raise  # of a mistake its writer is told; a role may lack what the page is made of
            return None

    def rows(self, sql: str, values: Sequence[Any] | None = None) -> pl.DataFrame | None:
        """Rows of a query over the release; None where it names what the role may not see.

        Args:
            sql: the query; ``?`` for values.
            values: bound.
        """
        import duckdb

        if self.reader is None:
            return None
        try:
            return plain(self.reader.sql(sql, params=values).pl())
        except (duckdb.CatalogException, duckdb.BinderException):
            if shelf_of_page() is None:
                raise
            return None

    def newest(self, table: str, column: str) -> Any:
        """The newest value of a table's column of days; None without any."""
        found = self.rows(f"select max({column}) as newest from {table}")
        return None if found is None else found.item()

    # -- what is shown ---------------------------------------------------------------------------------------------

    def head(self, newest: Any = None) -> Any:
        """Title, reading guide, release and freshness."""
        import marimo as mo

        said = "Nothing has been published yet."
        if self.reader is not None:
            release = self.reader.release
            said = f"Release <b>{release.id}</b>"
            if release.published_at:
                at = datetime.fromisoformat(release.published_at)
                said += f", published {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({age(at)})"
            if newest is not None:
                said += f" · newest data: {html.escape(str(newest))}"
        way = "" if shelf_of_page() is None else "<small><a href='/dashboards/'>All dashboards</a></small>\n\n"
        return mo.md(f"{way}# {self.title}\n\n{self.guide}\n\n<small data-penstock='release'>{said}</small>")

    def choice(self, label: str, frame: pl.DataFrame | None) -> Any:
        """A filter by the values of a frame's first column, all of which are chosen at first."""
        import marimo as mo

        values = [] if frame is None else frame.to_series(0).to_list()
        return mo.ui.multiselect(options=values, value=values, label=label)

    def kpis(self, *kpis: Kpi) -> Any:
        """The row of figures."""
        import marimo as mo

        cards = [mo.stat(value=each.value, label=each.label, caption=each.caption, bordered=True) for each in kpis]
        return _grid(cards, column="12.5rem", gap="0.75rem")

    def beside(self, *things: Any) -> Any:
        """Things side by side, below each other where the window is narrow."""
        return _grid(things, column="26rem", gap="1.5rem")

    def chart(
        self,
        title: str,
        frame: pl.DataFrame | None,
        make: Callable[[Any], alt.Chart | alt.LayerChart],
        *,
        source: str,
        empty: str = "Nothing in the chosen period.",
        row: str | None = None,
        height: int = _HEIGHT,
    ) -> Any:
        """A chart under its title, with its source; words where there is nothing to draw.

        Args:
            title: what it shows.
            frame: what is drawn; None where the role may not see it.
            make: gives the chart of the frame.
            source: the metrics or tables it is of.
            empty: what to say where the frame has no rows.
            row: column of the y axis' categories, of which each gets a row of the same height.
            height: of the plot otherwise, in pixels.
        """
        import marimo as mo

        if frame is None or frame.is_empty():
            return mo.vstack([mo.md(f"### {title}"), self._words(frame, empty)])
        import altair as alt

        tall = height if row is None else _ROW * (frame[row].n_unique() + 1)
        drawn = styled(make(alt.Chart(frame)).properties(width="container", height=tall, usermeta=_EMBED))
        if mo.app_meta().mode == "script":  # nobody looks; the chart is made all the same, so that mistakes are told
            drawn.to_dict()
            return mo.md(f"### {title}")
        return mo.vstack([mo.md(f"### {title}"), drawn, self._source(source)])

    def table(
        self,
        title: str,
        frame: pl.DataFrame | None,
        *,
        source: str,
        empty: str = "Nothing in the chosen period.",
        columns: Mapping[str, tuple[str, str]],
        page_size: int = 10,
    ) -> Any:
        """A table under its title, with its source; words where there is nothing in it.

        Args:
            title: what it shows.
            frame: its rows; None where the role may not see them.
            source: the metrics or tables it is of.
            empty: what to say where the frame has no rows.
            columns: those that are shown: name -> heading and unit (``share``, ``flights``, ``time``; empty: as it is).
            page_size: rows at once.
        """
        import marimo as mo

        if frame is None or frame.is_empty():
            return mo.vstack([mo.md(f"### {title}"), self._words(frame, empty)])
        named = frame.select(**{heading: name for name, (heading, _) in columns.items()})
        formats: dict[str, Any] = {heading: partial(_cell, unit=unit) for heading, unit in columns.values() if unit}
        shown = mo.ui.table(
            named,
            selection=None,
            page_size=page_size,
            show_column_summaries=False,
            show_data_types=False,
            show_download=False,
            format_mapping=formats,
        )
        return mo.vstack([mo.md(f"### {title}"), shown, self._source(source)])

    def _words(self, frame: pl.DataFrame | None, empty: str) -> Any:
        """What stands in the place of something that cannot be shown."""
        import marimo as mo

        text = "Nothing has been published yet." if self.reader is None else _NOT_SEEN if frame is None else empty
        return mo.callout(mo.md(text), kind="neutral")

    def _source(self, source: str) -> Any:
        import marimo as mo

        return mo.md(f"<small>Source: {html.escape(source)}; release {self.release}.</small>")


def _grid(things: Iterable[Any], *, column: str, gap: str) -> Any:
    """Things in as many columns of at least that width as there is room for."""
    import marimo as mo

    columns = f"repeat(auto-fit, minmax(min(100%, {column}), 1fr))"
    cells = "".join(f"<div style='min-width: 0; display: grid'>{mo.as_html(each).text}</div>" for each in things)
    return mo.Html(f"<div style='display: grid; grid-template-columns: {columns}; gap: {gap}'>{cells}</div>")


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame that charts can draw: exact sums and decimals as 64-bit numbers."""
    import polars as pl

    whole = [
        name
        for name, kind in frame.schema.items()
        if kind == pl.Int128 or (isinstance(kind, pl.Decimal) and kind.scale == 0)
    ]
    broken = [name for name, kind in frame.schema.items() if kind.is_decimal() and name not in whole]
    return frame.with_columns(pl.col(whole).cast(pl.Int64), pl.col(broken).cast(pl.Float64))


def styled(chart: Any) -> Any:
    """A chart in the house style."""
    return (
        chart.configure(background="transparent")
        .configure_view(strokeWidth=0)
        .configure_mark(color=PALETTE[0])
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=10,
            gridOpacity=0.35,
            labelLimit=190,
        )
        .configure_axisX(grid=False)
        .configure_legend(orient="top", direction="horizontal", labelFontSize=12, title=None, symbolStrokeWidth=3)
        .configure_range(category=list(PALETTE))
        .configure_header(labelFontSize=12, title=None)
    )
