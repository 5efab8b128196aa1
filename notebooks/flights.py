"""Flights of New York by day, from the current release of the warehouse: the smallest dashboard, to begin from.

Open it with ``marimo run notebooks/flights.py`` (a page) or ``marimo edit notebooks/flights.py``; as a script it prints
the same tables. It reads one release from beginning to end, so its numbers fit together whatever is published meanwhile.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="New York flights")


@app.cell
def _():
    import altair as alt
    import marimo as mo

    from penstock.dashboard_page import Page

    page = Page("New York flights", "Scheduled flights of the three airports by day, and what poor visibility does to them.")
    return alt, mo, page


@app.cell
def _(page):
    span = page.rows(
        "select min(scheduled_on) as first_day, max(scheduled_on) as last_day, count(*) as flights from fct_flights"
    )
    page.head(None if span is None else span["last_day"][0])
    return (span,)


@app.cell
def _(alt, page):
    by_day = page.rows(
        """
        select scheduled_on, origin_code, sum(flights)::integer as flights,
               sum(flights_cancelled)::integer as flights_cancelled
        from mart_daily_route_performance group by all order by all
        """
    )

    def _lines(chart):
        return chart.mark_line(point={"size": 22}, strokeWidth=2).encode(
            x=alt.X("scheduled_on:T", title="Scheduled day", axis=alt.Axis(format="%d %b", tickCount=8)),
            y=alt.Y("flights:Q", title="Scheduled flights"),
            color=alt.Color("origin_code:N", title="Departure airport"),
        )

    page.chart("Flights per day and airport", by_day, _lines, source="mart_daily_route_performance")
    return (by_day,)


@app.cell
def _(page):
    by_visibility = page.rows(
        """
        select origin_code, weather_band, flights, flights_cancelled, avg_departure_delay_min
        from mart_weather_delay where weather_factor = 'visibility_mi' order by origin_code, band_rank
        """
    )
    page.table(
        "Visibility and delay",
        by_visibility,
        source="mart_weather_delay",
        columns={
            "origin_code": ("Departure airport", ""),
            "weather_band": ("Visibility", ""),
            "flights": ("Flights", "flights"),
            "flights_cancelled": ("Cancelled", "flights"),
            "avg_departure_delay_min": ("Mean departure delay", "min"),
        },
    )
    return (by_visibility,)


@app.cell
def _(by_day, by_visibility, mo, page, span):
    if mo.app_meta().mode == "script":
        print(page.release, span, by_day, by_visibility, sep="\n")
    return


if __name__ == "__main__":
    app.run()
