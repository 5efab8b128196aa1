"""What dashboards have in common: a release from top to bottom, its name on the page, figures with units, charts alike.

A dashboard says what it shows; this says how: the palette (Okabe and Ito's, told apart by colour-blind readers, in shades
that stand out on white and on black), number formats, axes, what stands there instead when there is nothing to show, or
nothing that the reader's role may see. Colours of text and background are left to the page, which follows light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import penstock
from common.errors import UnknownName, UsageError

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

    from warehouse.reader import Reader

PALETTE = ("#2E86C8", "#D98200", "#00A078", "#C66A9C", "#D55E00", "#56B4E9", "#8C8C8C")
"""Categories, in this order."""
GOOD, BAD = PALETTE[2], PALETTE[4]
FORMATS = {"share": ".1%", "flights": ",.0f", "min": ",.1f", "rows": ",.0f", "s": ",.1f"}
"""Vega number format by unit."""
_HEIGHT = 260


def told(value: float | None, unit: str = "") -> str:
    """A number for people: ``87.3 %``, ``12.4 min``, ``39,226``; a dash for none."""
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * float(value):.1f} %"
    if unit in {"", "flights", "rows", "aircraft"}:
        return f"{float(value):,.0f}"
    return f"{float(value):,.1f} {unit}"


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
            return self.reader.metric(names, **how).pl()
        except UsageError:
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
            return self.reader.sql(sql, params=values).pl()
        except (duckdb.CatalogException, duckdb.BinderException):
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
        return mo.md(f"# {self.title}\n\n{self.guide}\n\n<small data-penstock='release'>{said}</small>")

    def kpis(self, *kpis: Kpi) -> Any:
        """The row of figures."""
        import marimo as mo

        cards = [mo.stat(value=each.value, label=each.label, caption=each.caption, bordered=True) for each in kpis]
        return mo.hstack(cards, widths="equal", gap=0.75, wrap=True)

    def chart(
        self,
        title: str,
        frame: pl.DataFrame | None,
        make: Callable[[Any], alt.Chart | alt.LayerChart],
        *,
        source: str,
        empty: str = "Nothing in the chosen period.",
        height: int = _HEIGHT,
    ) -> Any:
        """A chart under its title, with its source; words where there is nothing to draw.

        Args:
            title: what it shows.
            frame: what is drawn; None where the role may not see it.
            make: gives the chart of the frame.
            source: the metrics or tables it is of.
            empty: what to say where the frame has no rows.
            height: of the plot, in pixels.
        """
        import marimo as mo

        if (words := self._words(frame, empty)) is not None:
            return mo.vstack([mo.md(f"### {title}"), words])
        import altair as alt

        drawn = styled(make(alt.Chart(frame)).properties(width="container", height=height))
        shown = drawn if mo.app_meta().mode == "script" else mo.ui.altair_chart(drawn, chart_selection=False)
        return mo.vstack([mo.md(f"### {title}"), shown, self._source(source)])

    def table(
        self,
        title: str,
        frame: pl.DataFrame | None,
        *,
        source: str,
        empty: str = "Nothing in the chosen period.",
        formats: Mapping[str, Any] | None = None,
        page_size: int = 10,
    ) -> Any:
        """A table under its title; words where there is nothing in it."""
        import marimo as mo

        if (words := self._words(frame, empty)) is not None:
            return mo.vstack([mo.md(f"### {title}"), words])
        shown = mo.ui.table(
            frame,
            selection=None,
            page_size=page_size,
            show_column_summaries=False,
            show_data_types=False,
            show_download=False,
            format_mapping=dict(formats or {}),
        )
        return mo.vstack([mo.md(f"### {title}"), shown, self._source(source)])

    def _words(self, frame: pl.DataFrame | None, empty: str) -> Any:
        import marimo as mo

        if self.reader is None:
            return mo.callout(mo.md("Nothing has been published yet."), kind="neutral")
        if frame is None:
            return mo.callout(mo.md("Your role does not see what this is made of."), kind="neutral")
        return mo.callout(mo.md(empty), kind="neutral") if frame.is_empty() else None

    def _source(self, source: str) -> Any:
        import marimo as mo

        return mo.md(f"<small>Source: {html.escape(source)}; release {self.release}.</small>")


def styled(chart: Any) -> Any:
    """A chart in the house style."""
    return (
        chart.configure_view(strokeWidth=0)
        .configure_axis(
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal", titlePadding=10, gridOpacity=0.35, labelLimit=190
        )
        .configure_axisX(grid=False)
        .configure_legend(orient="top", direction="horizontal", labelFontSize=12, title=None, symbolStrokeWidth=3)
        .configure_range(category=list(PALETTE))
        .configure_header(labelFontSize=12, title=None)
    )
