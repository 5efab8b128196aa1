"""Weather effect: how departures fare in each kind of weather, band by band and day by day.

Flights are paired with the reading of their airport's station in the scheduled hour.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Weather effect")


@app.cell
def _():
    import altair as alt
    import marimo as mo

    from penstock.dashboard_page import BAD, PALETTE, Kpi, Page, told

    page = Page(
        "Weather effect",
        "Each flight counts once, in the band of the chosen reading in its scheduled hour; where the station has no reading it "
        "is *not measured*. Bands run from mild to severe, for temperature from cold to hot. A difference between bands is no "
        "proof of cause: hours and seasons differ too.",
    )
    return BAD, Kpi, PALETTE, Page, alt, mo, page, told


@app.cell
def _(page):
    newest = page.newest("fct_weather_hourly", "observed_on")
    page.head(newest)
    return (newest,)


@app.cell
def _(mo, page):
    FACTORS = {
        "Visibility": "visibility_mi",
        "Wind speed": "wind_speed_mph",
        "Precipitation": "precipitation_in",
        "Temperature": "temperature_f",
    }
    _known = page.rows("select distinct origin_code from mart_weather_delay order by 1")
    airports = page.choice("Departure airports", _known)
    factor = mo.ui.dropdown(options=FACTORS, value="Visibility", label="Reading")
    mo.hstack([airports, factor], justify="start", gap=2, wrap=True)
    return airports, factor


@app.cell
def _(airports, factor, page):
    by_band = page.rows(
        """
        select weather_band, band_rank, origin_code, sum(flights)::bigint as flights,
               sum(flights_cancelled)::double / nullif(sum(flights), 0) as cancelled_share,
               sum(flights_departed_late)::double / nullif(sum(flights_departed), 0) as late_departure_share
        from mart_weather_delay where weather_factor = ? and list_contains(?::varchar[], origin_code)
        group by all order by band_rank, origin_code
        """,
        [factor.value, airports.value],
    )
    whole = page.rows(
        """
        select weather_band, band_rank, sum(flights)::bigint as flights,
               sum(flights_cancelled)::double / nullif(sum(flights), 0) as cancelled_share,
               sum(flights_departed_late)::double / nullif(sum(flights_departed), 0) as late_departure_share
        from mart_weather_delay where weather_factor = ? and list_contains(?::varchar[], origin_code)
        group by all order by band_rank
        """,
        [factor.value, airports.value],
    )
    return by_band, whole


@app.cell
def _(Kpi, page, told, whole):
    _seen = [] if whole is None else whole.filter(whole["band_rank"] > 0).to_dicts()
    _all = sum(row["flights"] for row in ([] if whole is None else whole.to_dicts()))
    _late = max(_seen, key=lambda row: row["late_departure_share"] or 0, default=None)
    _least = min(_seen, key=lambda row: row["late_departure_share"] or 0, default=None)
    _lost = max(_seen, key=lambda row: row["cancelled_share"] or 0, default=None)

    def _share(row, name):
        return told(None if row is None else row[name], "share")

    def _band(row, words):
        return words if row is None else f"{words} '{row['weather_band']}'"

    page.kpis(
        Kpi("Flights", told(_all), "scheduled, at these airports"),
        Kpi(
            "With a reading",
            told(sum(row["flights"] for row in _seen) / _all if _all else None, "share"),
            "of the station in their hour",
        ),
        Kpi("Most late departures", _share(_late, "late_departure_share"), _band(_late, "in the band")),
        Kpi("Fewest late departures", _share(_least, "late_departure_share"), _band(_least, "in the band")),
        Kpi("Most cancelled", _share(_lost, "cancelled_share"), _band(_lost, "in the band")),
    )
    return


@app.cell
def _(alt, by_band, factor, page):
    def _bars(column, title):
        def _made(chart):
            return chart.mark_bar().encode(
                x=alt.X(
                    "weather_band:N",
                    title=f"Band of {(factor.selected_key or '').lower()}",
                    sort=alt.EncodingSortField("band_rank"),
                    axis=alt.Axis(labelAngle=0),
                ),
                xOffset="origin_code:N",
                y=alt.Y(f"{column}:Q", title=title, axis=alt.Axis(format=".1~%")),
                color=alt.Color("origin_code:N", title="Departure airport"),
                tooltip=[
                    alt.Tooltip("origin_code:N", title="Airport"),
                    alt.Tooltip("weather_band:N", title="Band"),
                    alt.Tooltip(f"{column}:Q", title="Share", format=".1%"),
                    alt.Tooltip("flights:Q", title="Flights", format=",.0f"),
                ],
            )

        return _made

    page.beside(
        page.chart(
            "Departed late",
            by_band,
            _bars("late_departure_share", "Over 15 min late (% of departed)"),
            source="mart_weather_delay",
            empty="No flight at these airports.",
        ),
        page.chart(
            "Cancelled",
            by_band,
            _bars("cancelled_share", "Cancelled (% of scheduled)"),
            source="mart_weather_delay",
            empty="No flight at these airports.",
        ),
    )
    return


@app.cell
def _(airports, page):
    _of = ",".join(airports.value)
    _where = [f"origin_code:in:{_of}"] if _of else ["origin_code:is_null:true"]
    _at = [f"station_code:in:{_of}"] if _of else ["station_code:is_null:true"]
    flown = page.figures(
        ["late_departure_share", "cancelled_share", "flights"], by=["origin_code"], grain="day", filters=_where
    )
    weather = page.figures(
        ["precipitation_in", "avg_visibility_mi", "avg_wind_speed_mph"], by=["station_code"], grain="day", filters=_at
    )
    by_day = None
    if flown is not None and weather is not None:
        by_day = flown.join(weather, left_on=["origin_code", "day"], right_on=["station_code", "day"], how="inner")
    return by_day, flown, weather


@app.cell
def _(alt, by_day, page):
    def _points(chart):
        return chart.mark_circle(size=55, opacity=0.7).encode(
            x=alt.X("avg_visibility_mi:Q", title="Mean visibility of the day (mi)"),
            y=alt.Y("late_departure_share:Q", title="Over 15 min late (% of departed)", axis=alt.Axis(format=".1~%")),
            color=alt.Color("origin_code:N", title="Departure airport"),
            tooltip=[
                alt.Tooltip("day:T", title="Day", format="%Y-%m-%d"),
                alt.Tooltip("origin_code:N", title="Airport"),
                alt.Tooltip("avg_visibility_mi:Q", title="Visibility (mi)", format=".1f"),
                alt.Tooltip("late_departure_share:Q", title="Departed late", format=".1%"),
                alt.Tooltip("flights:Q", title="Flights", format=",.0f"),
            ],
        )

    points = page.chart(
        "Days of poor visibility",
        by_day,
        _points,
        source="metrics avg_visibility_mi, late_departure_share",
        empty="No day has both flights and readings.",
    )
    return (points,)


@app.cell
def _(alt, by_day, page):
    def _points(chart):
        _tips = [
            alt.Tooltip("day:T", title="Day", format="%Y-%m-%d"),
            alt.Tooltip("origin_code:N", title="Airport"),
            alt.Tooltip("precipitation_in:Q", title="Precipitation (in)", format=".2f"),
            alt.Tooltip("cancelled_share:Q", title="Cancelled", format=".1%"),
        ]
        return chart.mark_circle(size=55, opacity=0.7).encode(
            x=alt.X("precipitation_in:Q", title="Precipitation of the day (in)", axis=alt.Axis(format=".2~f")),
            y=alt.Y("cancelled_share:Q", title="Cancelled (% of scheduled)", axis=alt.Axis(format=".1~%")),
            color=alt.Color("origin_code:N", title="Departure airport"),
            tooltip=_tips,
        )

    wet = page.chart(
        "Days of rain and snow",
        by_day,
        _points,
        source="metrics precipitation_in, cancelled_share",
        empty="No day has both flights and readings.",
    )
    return (wet,)


@app.cell
def _(page, points, wet):
    page.beside(points, wet)
    return


@app.cell
def _(by_band, by_day, mo, page, whole):
    if mo.app_meta().mode == "script":
        print(page.release, by_band, whole, by_day, sep="\n")
    return


if __name__ == "__main__":
    app.run()
