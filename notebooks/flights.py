"""Delays of New York's flights, from the current release of the warehouse.

Open it with ``marimo run notebooks/flights.py`` (a page) or ``marimo edit notebooks/flights.py``; as a script it prints
the same tables. It reads one release from beginning to end, so its numbers fit together whatever is published meanwhile.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="New York flights")


@app.cell
def _():
    import altair
    import marimo as mo

    import penstock

    warehouse = penstock.reader()
    return altair, mo, warehouse


@app.cell
def _(mo, warehouse):
    span = warehouse.sql(
        "select min(scheduled_on) as first_day, max(scheduled_on) as last_day, count(*) as flights from fct_flights"
    ).pl()
    _first, _last, _flights = span.row(0)
    _release = warehouse.release
    mo.md(
        f"# New York flights\n\n{_flights:,} flights from {_first} to {_last}, from release {_release.id}, published "
        f"{_release.published_at[:16]} UTC."
    )
    return (span,)


@app.cell
def _(warehouse):
    by_day = warehouse.sql(
        """
        select scheduled_on, origin_code, sum(flights)::integer as flights,
               sum(flights_cancelled)::integer as flights_cancelled
        from mart_daily_route_performance group by all order by all
        """
    ).pl()
    return (by_day,)


@app.cell
def _(altair, by_day, mo):
    chart = (
        altair.Chart(by_day)
        .mark_line()
        .encode(x="scheduled_on:T", y="flights:Q", color="origin_code:N")
        .properties(width=760, height=260, title="Flights per day and airport")
    )
    chart if mo.app_meta().mode == "script" else mo.ui.altair_chart(chart, chart_selection=False)
    return (chart,)


@app.cell
def _(mo, warehouse):
    by_visibility = warehouse.sql(
        """
        select origin_code, weather_band, flights, flights_cancelled, avg_departure_delay_min
        from mart_weather_delay where weather_factor = 'visibility_mi' order by origin_code, band_rank
        """
    ).pl()
    mo.vstack([mo.md("## Visibility and delay"), mo.ui.table(by_visibility, selection=None)])
    return (by_visibility,)


@app.cell
def _(by_day, by_visibility, mo, span):
    if mo.app_meta().mode == "script":
        print(span, by_day, by_visibility, sep="\n")
    return


if __name__ == "__main__":
    app.run()
