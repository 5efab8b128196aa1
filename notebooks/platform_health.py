"""Platform health: freshness, gates, quarantine, incidents and costs, as the release's own records tell them.

The records are the tables ops.* of the release: what happened after it was built is in the next one.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Platform health")


@app.cell
def _():
    import altair as alt
    import marimo as mo

    from penstock.dashboard_page import BAD, GOOD, PALETTE, Kpi, Page, told

    page = Page(
        "Platform health",
        "Every batch is judged by a gate before it is published; rows that break a critical rule go to **quarantine**, and a "
        "batch with too many of them is **refused**. Rows in = published + quarantined + deduplicated, always. The records "
        "are those of the release: what came after it was built is in the next one.",
    )
    return BAD, GOOD, Kpi, PALETTE, alt, mo, page, told


@app.cell
def _(page):
    newest = page.rows("select max(published_at) as at from ops.ledger")
    _at = None if newest is None else newest.item()
    page.head(f"batches until {_at:%Y-%m-%d %H:%M} UTC" if _at is not None else None)
    return


@app.cell
def _(mo, page):
    _known = page.rows("select stage from ops.ledger union select stage from ops.costs order by 1")
    stages = page.choice("Stages", _known)
    tables = mo.ui.text(placeholder="flights", label="Table contains")
    mo.hstack([stages, tables], justify="start", gap=2, wrap=True)
    return stages, tables


@app.cell
def _(page, stages, tables):
    chosen = [stages.value, tables.value.strip().lower()]
    wanted = "list_contains(?::varchar[], stage) and contains(lower(table_name), ?)"
    accounts = page.rows(
        f"""
        select count(*) as batches, count(*) filter (where outcome <> 'published') as refused,
               sum(rows_in)::bigint as rows_in, sum(published)::bigint as published,
               sum(quarantined)::bigint as quarantined, sum(deduplicated)::bigint as deduplicated
        from ops.ledger where {wanted} and stage in ('ingest', 'refine')
        """,
        chosen,
    )
    # Of an interval that was published again only the last account tells what waits.
    quarantine = page.rows(
        f"""
        select table_name, partition_key, (quarantined - discarded)::bigint as rows
        from ops.ledger where {wanted} and outcome = 'published'
        qualify row_number() over (partition by stage, table_name, partition_key order by published_at desc) = 1
                and quarantined > discarded
        order by all
        """,
        chosen,
    )
    verdicts = page.rows(
        f"""
        select count(*) as rules, count(*) filter (where passed) as held,
               count(*) filter (where not passed and severity = 'critical') as broken
        from ops.gate_results where {wanted}
        """,
        chosen,
    )
    incidents = page.rows(
        """
        select severity, kind, subject, reason, owner, first_seen_at, last_seen_at, command
        from ops.incidents where state = 'open'
        order by list_position(['critical', 'warning', 'info'], severity), first_seen_at
        """
    )
    costs = page.rows(
        f"select sum(cpu_s) as cpu_s, max(peak_rss_bytes) as peak_rss_bytes from ops.costs where {wanted}", chosen
    )
    return accounts, chosen, costs, incidents, quarantine, verdicts, wanted


@app.cell
def _(Kpi, accounts, costs, incidents, page, quarantine, told, verdicts):
    def _first(frame, column):
        return None if frame is None or frame.is_empty() else frame[column][0]

    _rules = _first(verdicts, "rules")
    _rows = _first(accounts, "rows_in")
    _cpu = _first(costs, "cpu_s")
    page.kpis(
        Kpi("Open incidents", told(None if incidents is None else len(incidents)), "in this release's records"),
        Kpi("Batches", told(_first(accounts, "batches")), f"{told(_first(accounts, 'refused'))} refused"),
        Kpi(
            "Rules that held",
            told(_first(verdicts, "held") / _rules if _rules else None, "share"),
            f"of {told(_rules)} judged",
        ),
        Kpi(
            "Rows in quarantine",
            told(None if quarantine is None else quarantine["rows"].sum()),
            f"waiting, of {told(_rows)} read" if _rows else "no rows were read",
        ),
        Kpi("Processor time", told(_cpu / 60 if _cpu is not None else None, "min"), "all stages chosen"),
    )
    return


@app.cell
def _(incidents, page):
    page.table(
        "Open incidents",
        incidents,
        source="ops.incidents",
        empty="No incident is open.",
        columns={
            "severity": ("Severity", ""),
            "kind": ("Kind", ""),
            "subject": ("Subject", ""),
            "reason": ("Reason", ""),
            "owner": ("Owner", ""),
            "first_seen_at": ("First seen (UTC)", "time"),
            "last_seen_at": ("Last seen (UTC)", "time"),
            "command": ("Command to run next", ""),
        },
    )
    return


@app.cell
def _(alt, chosen, page, wanted):
    states = page.rows(
        f"""
        select table_name, partition_key::date as day,
               arg_max(case when outcome <> 'published' then 'refused'
                            when quarantined > discarded then 'some rows in quarantine'
                            else 'published' end, published_at) as state,
               arg_max(published, published_at)::bigint as rows
        from ops.ledger where {wanted} and try_cast(partition_key as date) is not null
        group by all order by all
        """,
        chosen,
    )

    def _squares(chart):
        _step = {"interval": "day", "step": 1 + len(set(states["day"])) // 10}
        return chart.mark_rect().encode(
            x=alt.X("yearmonthdate(day):T", title="Day of the data", axis=alt.Axis(format="%d %b", tickCount=_step)),
            y=alt.Y("table_name:N", title=None),
            color=alt.Color(
                "state:N",
                scale=alt.Scale(
                    domain=["published", "some rows in quarantine", "refused"],
                    range=["#00A078", "#D98200", "#B03A2E"],
                ),
                legend=alt.Legend(labelLimit=300, columns=1),
            ),
            tooltip=[
                alt.Tooltip("table_name:N", title="Table"),
                alt.Tooltip("day:T", title="Day", format="%Y-%m-%d"),
                alt.Tooltip("state:N", title="State"),
                alt.Tooltip("rows:Q", title="Rows", format=",.0f"),
            ],
        )

    page.chart(
        "Days of data, by table",
        states,
        _squares,
        source="ops.ledger",
        empty="No interval of these stages and tables.",
        row="table_name",
    )
    return (states,)


@app.cell
def _(chosen, page, wanted):
    freshness = page.rows(
        f"""
        select stage, table_name, coalesce(max(try_cast(partition_key as date))::varchar, 'whole') as newest_interval,
               max(published_at) as last_published_at, count(*) as batches, sum(published)::bigint as rows_published
        from ops.ledger where {wanted} and outcome = 'published' group by all order by stage, table_name
        """,
        chosen,
    )
    page.table(
        "Freshness",
        freshness,
        source="ops.ledger",
        empty="Nothing was published.",
        columns={
            "stage": ("Stage", ""),
            "table_name": ("Table", ""),
            "newest_interval": ("Newest interval", ""),
            "last_published_at": ("Last published (UTC)", "time"),
            "batches": ("Batches", "rows"),
            "rows_published": ("Rows published", "rows"),
        },
    )
    return (freshness,)


@app.cell
def _(alt, chosen, page, wanted):
    broken = page.rows(
        f"""
        select table_name, severity, count(*) as rules, sum(rows_unexpected)::bigint as rows_unexpected
        from ops.gate_results where {wanted} and not passed group by all order by all
        """,
        chosen,
    )

    def _bars(chart):
        return chart.mark_bar().encode(
            x=alt.X("rules:Q", title="Rules that did not hold (verdicts)", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("table_name:N", title=None, sort="-x"),
            color=alt.Color(
                "severity:N",
                scale=alt.Scale(domain=["critical", "warning", "info"], range=["#B03A2E", "#D98200", "#2E86C8"]),
            ),
            tooltip=[
                alt.Tooltip("table_name:N", title="Table"),
                alt.Tooltip("severity:N", title="Severity"),
                alt.Tooltip("rules:Q", title="Rules", format=",.0f"),
                alt.Tooltip("rows_unexpected:Q", title="Rows", format=",.0f"),
            ],
        )

    gates = page.chart("Gates", broken, _bars, source="ops.gate_results", empty="Every rule held.", row="table_name")
    return broken, gates


@app.cell
def _(alt, page, quarantine):
    def _bars(chart):
        return chart.mark_bar().encode(
            x=alt.X("rows:Q", title="Rows in quarantine", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("partition_key:N", title="Interval"),
            color=alt.Color("table_name:N"),
            tooltip=[
                alt.Tooltip("table_name:N", title="Table"),
                alt.Tooltip("partition_key:N", title="Interval"),
                alt.Tooltip("rows:Q", title="Rows", format=",.0f"),
            ],
        )

    held_back = page.chart(
        "Quarantine", quarantine, _bars, source="ops.ledger", empty="No row is in quarantine.", row="partition_key"
    )
    return (held_back,)


@app.cell
def _(alt, chosen, page, wanted):
    spent = page.rows(
        f"""
        select stage, step, sum(cpu_s) as cpu_s, sum(wall_s) as wall_s, sum(written_bytes)::bigint as written_bytes
        from ops.costs where {wanted} group by all order by all
        """,
        chosen,
    )

    def _bars(chart):
        return chart.mark_bar().encode(
            x=alt.X("cpu_s:Q", title="Processor time (s)"),
            y=alt.Y("stage:N", title=None, sort=["ingest", "refine", "warehouse"]),
            color=alt.Color("step:N", legend=alt.Legend(columns=3)),
            tooltip=[
                alt.Tooltip("stage:N", title="Stage"),
                alt.Tooltip("step:N", title="Step"),
                alt.Tooltip("cpu_s:Q", title="Processor (s)", format=",.1f"),
                alt.Tooltip("wall_s:Q", title="Elapsed (s)", format=",.1f"),
                alt.Tooltip("written_bytes:Q", title="Written (bytes)", format=",.0f"),
            ],
        )

    paid = page.chart(
        "Costs by stage and step", spent, _bars, source="ops.costs", empty="No work was recorded.", height=150
    )
    return paid, spent


@app.cell
def _(gates, held_back, mo, page, paid):
    mo.vstack([page.beside(gates, held_back), paid], gap=2)
    return


@app.cell
def _(accounts, broken, costs, freshness, incidents, mo, page, quarantine, spent, states, verdicts):
    if mo.app_meta().mode == "script":
        print(
            page.release, accounts, verdicts, incidents, states, freshness, broken, quarantine, costs, spent, sep="\n"
        )
    return


if __name__ == "__main__":
    app.run()
