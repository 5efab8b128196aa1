"""Route performance and delays: how punctual New York's flights are, by airport, hour, carrier and route.

All figures are metrics of the release: the share of a week is made of its flights, never of the shares of its days.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Route performance")


@app.cell
def _():
    import altair as alt
    import marimo as mo

    from penstock.dashboard_page import GOOD, PALETTE, Kpi, Page, told

    page = Page(
        "Route performance",
        "A flight is **on time** if it arrives at most 15 minutes late; the share is of the flights that were completed. "
        "Delays are measured where there is one: a cancelled flight has none. Choose airports, days and how days are "
        "grouped; everything below follows.",
    )
    return GOOD, Kpi, PALETTE, Page, alt, mo, page, told


@app.cell
def _(page):
    newest = page.newest("mart_daily_route_performance", "scheduled_on")
    page.head(newest)
    return (newest,)


@app.cell
def _(mo, page):
    _days = page.rows("select min(scheduled_on) as first, max(scheduled_on) as last from mart_daily_route_performance")
    _first, _last = (None, None) if _days is None else _days.row(0)
    airports = page.choice("Departure airports", page.figures("flights", by=["origin_code"]))
    days = mo.ui.date_range(start=_first, stop=_last, label="Scheduled days") if _first else None
    grain = mo.ui.dropdown(options=["day", "week", "month"], value="day", label="Group by")
    mo.hstack([each for each in (airports, days, grain) if each is not None], justify="start", gap=2, wrap=True)
    return airports, days, grain


@app.cell
def _(airports, days):
    chosen = [f"origin_code:in:{','.join(airports.value)}"] if airports.value else ["origin_code:is_null:true"]
    if days is not None and days.value:
        chosen += [f"scheduled_on:ge:{days.value[0]}", f"scheduled_on:le:{days.value[1]}"]
    return (chosen,)


@app.cell
def _(Kpi, chosen, page, told):
    counts = page.figures(["flights", "on_time_share", "cancelled_share", "late_departure_share"], filters=chosen)
    delays = page.figures(["avg_departure_delay_min", "p90_departure_delay_min"], filters=chosen)

    def _told(frame, name, unit=""):
        return told(None if frame is None else frame[name][0], unit)

    page.kpis(
        Kpi("Flights", _told(counts, "flights"), "scheduled, cancelled ones included"),
        Kpi("On time", _told(counts, "on_time_share", "share"), "arrived at most 15 min late"),
        Kpi("Cancelled", _told(counts, "cancelled_share", "share"), "of the scheduled flights"),
        Kpi("Mean departure delay", _told(delays, "avg_departure_delay_min", "min"), "early ones count as negative"),
        Kpi(
            "Departure delay, p90", _told(delays, "p90_departure_delay_min", "min"), "nine of ten flights leave sooner"
        ),
    )
    return counts, delays


@app.cell
def _(alt, chosen, grain, page):
    by_time = page.figures(["on_time_share", "flights"], by=["origin_code"], grain=grain.value, filters=chosen)

    def _lines(chart):
        return chart.mark_line(point={"size": 22}, strokeWidth=2).encode(
            x=alt.X(f"{grain.value}:T", title=f"Scheduled {grain.value}", axis=alt.Axis(format="%d %b", tickCount=8)),
            y=alt.Y("on_time_share:Q", title="On time (% of completed flights)", axis=alt.Axis(format=".1~%")),
            color=alt.Color("origin_code:N", title="Departure airport"),
            tooltip=[
                alt.Tooltip("origin_code:N", title="Airport"),
                alt.Tooltip(f"{grain.value}:T", title=grain.value.capitalize(), format="%Y-%m-%d"),
                alt.Tooltip("on_time_share:Q", title="On time", format=".1%"),
                alt.Tooltip("flights:Q", title="Flights", format=",.0f"),
            ],
        )

    page.chart("On time by departure airport", by_time, _lines, source="metric on_time_share")
    return (by_time,)


@app.cell
def _(alt, chosen, page):
    by_hour = page.figures(
        ["avg_departure_delay_min", "departures_measured"], by=["origin_code", "scheduled_hour"], filters=chosen
    )

    def _lines(chart):
        return chart.mark_line(point={"size": 22}, strokeWidth=2).encode(
            x=alt.X(
                "scheduled_hour:Q",
                title="Scheduled hour of departure (New York)",
                axis=alt.Axis(format="02d", tickCount=10),
            ),
            y=alt.Y("avg_departure_delay_min:Q", title="Mean departure delay (min)"),
            color=alt.Color("origin_code:N", title="Departure airport"),
            tooltip=[
                alt.Tooltip("origin_code:N", title="Airport"),
                alt.Tooltip("scheduled_hour:Q", title="Hour"),
                alt.Tooltip("avg_departure_delay_min:Q", title="Mean delay (min)", format=".1f"),
                alt.Tooltip("departures_measured:Q", title="Departures", format=",.0f"),
            ],
        )

    _enough = None if by_hour is None else by_hour.filter(by_hour["departures_measured"] >= 20)
    hours = page.chart(
        "Delay builds up over the day",
        _enough,
        _lines,
        source="metric avg_departure_delay_min, of hours with 20 departures or more",
    )
    return by_hour, hours


@app.cell
def _(alt, chosen, page):
    by_carrier = page.figures(["avg_arrival_delay_min", "arrivals_measured"], by=["carrier_code"], filters=chosen)
    _names = page.rows("select carrier_code, carrier_name from dim_carriers")
    if by_carrier is not None and _names is not None:
        by_carrier = by_carrier.join(_names, on="carrier_code", how="left")
    _label = "carrier_name" if by_carrier is not None and "carrier_name" in by_carrier.columns else "carrier_code"

    def _bars(chart):
        return chart.mark_bar().encode(
            x=alt.X("avg_arrival_delay_min:Q", title="Mean (min, early: negative)"),
            y=alt.Y(f"{_label}:N", title=None, sort="-x"),
            tooltip=[
                alt.Tooltip(f"{_label}:N", title="Carrier"),
                alt.Tooltip("avg_arrival_delay_min:Q", title="Mean delay (min)", format=".1f"),
                alt.Tooltip("arrivals_measured:Q", title="Arrivals", format=",.0f"),
            ],
        )

    _enough = None if by_carrier is None else by_carrier.filter(by_carrier["arrivals_measured"] >= 20)
    carriers = page.chart(
        "Arrival delay by carrier",
        _enough,
        _bars,
        source="metric avg_arrival_delay_min, of carriers with 20 arrivals or more",
        row=_label,
    )
    return by_carrier, carriers


@app.cell
def _(carriers, hours, page):
    page.beside(hours, carriers)
    return


@app.cell
def _(GOOD, alt, chosen, page):
    by_route = page.figures(
        ["flights", "on_time_share", "cancelled_share", "late_departure_share"],
        by=["route"],
        filters=chosen,
        sort="-flights",
    )

    def _bars(chart):
        return chart.mark_bar(
            color=GOOD,
        ).encode(
            x=alt.X("on_time_share:Q", title="On time (% of completed flights)", axis=alt.Axis(format=".1~%")),
            y=alt.Y("route:N", title=None, sort="-x"),
            tooltip=[
                alt.Tooltip("route:N", title="Route"),
                alt.Tooltip("on_time_share:Q", title="On time", format=".1%"),
                alt.Tooltip("flights:Q", title="Flights", format=",.0f"),
            ],
        )

    page.chart(
        "The 15 busiest routes",
        None if by_route is None else by_route.head(15),
        _bars,
        source="metric on_time_share",
        row="route",
    )
    return (by_route,)


@app.cell
def _(by_route, page):
    page.table(
        "All routes",
        by_route,
        source="metrics flights, on_time_share, cancelled_share, late_departure_share",
        columns={
            "route": ("Route", ""),
            "flights": ("Flights", "flights"),
            "on_time_share": ("On time", "share"),
            "cancelled_share": ("Cancelled", "share"),
            "late_departure_share": ("Departed over 15 min late", "share"),
        },
    )
    return


@app.cell
def _(by_carrier, by_hour, by_route, by_time, counts, delays, mo, page):
    if mo.app_meta().mode == "script":
        print(page.release, counts, delays, by_time, by_hour, by_carrier, by_route, sep="\n")
    return


if __name__ == "__main__":
    app.run()
