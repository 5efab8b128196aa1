"""Laws of dashboards: each runs on a release and shows its figures, in a browser too, and to a role what it may see."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import uvicorn
from playwright.sync_api import Browser, expect
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import penstock
from common.errors import SettingsError
from common.settings import Settings
from lake.ops import COST_COLUMNS, GATE_RESULT_COLUMNS, INCIDENT_COLUMNS, LEDGER_COLUMNS
from penstock.dashboards import DashboardsApp, dashboards, dashboards_app
from penstock.embedded import EmbeddedServices
from penstock.front import front
from penstock.pipeline import Pipeline
from penstock.portal.login import COOKIE
from penstock.portal.sessions import Sessions
from penstock.run import run
from penstock.serve import server_options
from tests.browser_page import chromium, visit
from warehouse.releases import Releases
from warehouse.serve.gate import Message, Receive, Send
from warehouse.serve.server import Service
from warehouse.serve.tokens import Principal

FOLDER = Path(__file__).parents[3] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
POLICY = """
roles:
  team: {scopes: [read], datasets: {"*": {columns: all}}}
  jfk:
    scopes: [read]
    datasets:
      mart_daily_route_performance: {columns: all, rows: "origin_code = 'JFK'"}
      fct_flights: {columns: all, hide: [departure_delay_min]}
  nobody: {scopes: [read]}
"""


@pytest.fixture(scope="module")
def settings(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A state folder with one release of two days, the second with a row in quarantine."""
    home = tmp_path_factory.mktemp("dashboards") / "state"
    found = Settings.load({}, home=home, connections=services.connections)
    run(Pipeline(found), "2013-02-11", "2013-02-13")
    found.policy.write_text(POLICY)
    return found


def shown_by(notebook: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, Any]:
    """Run a notebook from top to bottom; its values by name."""
    monkeypatch.setenv("PENSTOCK_HOME", str(home))
    spec = importlib.util.spec_from_file_location(f"notebook_{notebook.stem}", notebook)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, values = module.app.run()
    return dict(values)


ROUTES = "mart_daily_route_performance"
FIGURES = {
    "flights": {"span": "select min(scheduled_on), max(scheduled_on), count(*) from fct_flights"},
    "route_performance": {
        "counts": f"select sum(flights), sum(flights_on_time) / sum(flights_completed), "
        f"sum(flights_cancelled) / sum(flights), sum(flights_departed_late) / sum(flights_departed) from {ROUTES}",
        "delays": "select avg(departure_delay_min), quantile_disc(departure_delay_min, 0.9) from fct_flights",
        "by_time": "select origin_code, scheduled_on, count(*) filter (is_on_time) / count(*) filter (is_completed), "
        "count(*) from fct_flights group by 1, 2 order by 1, 2",
        "by_route": "select origin_code || '-' || destination_code as route, count(*), "
        "count(*) filter (is_on_time) / nullif(count(*) filter (is_completed), 0), "
        "count(*) filter (is_cancelled) / count(*), "
        "count(*) filter (is_departed_late) / nullif(count(*) filter (not is_cancelled), 0) "
        "from fct_flights group by 1 order by 2 desc, 1",
    },
    "weather_effect": {
        "whole": "select weather_band, band_rank, sum(flights), sum(flights_cancelled) / sum(flights), "
        "sum(flights_departed_late) / nullif(sum(flights_departed), 0) from mart_weather_delay "
        "where weather_factor = 'visibility_mi' group by 1, 2 order by 2",
        "flown": "select origin_code, scheduled_on, count(*) filter (is_departed_late) "
        "/ count(*) filter (not is_cancelled), count(*) filter (is_cancelled) / count(*), count(*) "
        "from fct_flights group by 1, 2 order by 1, 2",
    },
    "platform_health": {
        "accounts": "select count(*), count(*) filter (outcome <> 'published'), sum(rows_in), sum(published), "
        "sum(quarantined), sum(deduplicated) from ops.ledger where stage <> 'warehouse'",
        "quarantine": "select table_name, partition_key, arg_max(quarantined - discarded, published_at) as waiting "
        "from ops.ledger where outcome = 'published' group by 1, 2, stage having waiting > 0 "
        "order by 1, 2",
        "costs": "select sum(cpu_s), max(peak_rss_bytes) from ops.costs",
    },
}


def test_every_notebook_is_known_here() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(FIGURES)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_release_and_its_figures_are_those_of_the_sql(
    notebook: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = shown_by(notebook, monkeypatch, settings.home)
    with penstock.connect(settings=settings) as release:
        for name, sql in FIGURES[notebook.stem].items():
            found, wanted = values[name].rows(), release.execute(sql).fetchall()
            assert wanted, name
            assert len(found) == len(wanted), name
            for mine, theirs in zip(found, wanted, strict=True):
                assert [pytest.approx(each) if isinstance(each, float) else each for each in theirs] == list(mine), name
    assert "r000001" in capsys.readouterr().out


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_dashboard_of_an_empty_warehouse_runs_and_has_nothing_to_show(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = shown_by(notebook, monkeypatch, tmp_path)
    assert {values[name] for name in FIGURES[notebook.stem]} == {None}


KINDS = {"string": "varchar", "bool": "boolean", "int64": "bigint", "float64": "double", "timestamptz": "timestamptz"}
RECORDS = {
    "ledger": LEDGER_COLUMNS,
    "gate_results": GATE_RESULT_COLUMNS,
    "incidents": INCIDENT_COLUMNS,
    "costs": COST_COLUMNS,
}


@pytest.mark.parametrize(
    ("accounts", "waiting", "state"),
    [
        ([("published", 3, 0)], 3, "some rows in quarantine"),
        ([("published", 3, 0), ("published", 2, 0)], 2, "some rows in quarantine"),
        ([("published", 3, 0), ("published", 3, 3)], 0, "published"),
        ([("refused", 0, 0), ("published", 1, 0)], 1, "some rows in quarantine"),
        ([("published", 1, 0), ("refused", 0, 0)], 1, "refused"),
    ],
    ids=["once", "again", "discarded", "refused before", "refused now"],
)
def test_the_last_account_of_an_interval_says_what_waits_however_often_it_was_published(
    accounts: list[tuple[str, int, int]], waiting: int, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "warehouse")
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute("create schema ops")
        for table, columns in RECORDS.items():
            listed = ", ".join(f"{each.name} {KINDS.get(each.type, 'varchar')}" for each in columns)
            connection.execute(f"create table ops.{table} ({listed})")
        connection.executemany(
            "insert into ops.ledger by name select 'ingest' as stage, 'raw.shop__orders' as table_name, "
            "'2013-02-12' as partition_key, 10 as rows_in, ? as outcome, 7 as published, ? as quarantined, "
            "? as discarded, timestamptz '2026-01-01 00:00:00+00' + to_hours(?) as published_at",
            [(*each, hour) for hour, each in enumerate(accounts)],
        )
    releases.seal(candidate, {"tables": [], "built_at": "2026-01-01T00:00:00Z"})
    releases.publish(candidate)
    values = shown_by(FOLDER / "platform_health.py", monkeypatch, tmp_path)
    assert values["quarantine"]["rows"].sum() == waiting
    assert values["states"]["state"].to_list() == [state]


# -- the list ----------------------------------------------------------------------------------------------------


def test_a_file_in_the_folder_is_a_dashboard_and_is_listed_without_being_run(tmp_path: Path) -> None:
    app = "import marimo\nraise SystemExit('run')\napp = marimo.App(width='full', app_title={!r})\n"
    (tmp_path / "delays.py").write_text(f'"""How late.\n\nMore on it."""\n{app.format("Zeal")}')
    (tmp_path / "costs.py").write_text(app.format("Costs & more"))
    (tmp_path / "no_title.py").write_text("import marimo\napp = marimo.App()\n")
    (tmp_path / "broken.py").write_text("app = marimo.App(")
    (tmp_path / "helper.py").write_text("import marimo\n")
    (tmp_path / "_draft.py").write_text(app.format("Draft"))
    found = dashboards(Settings.load({}, home=tmp_path, dashboards=tmp_path))
    assert [(each.name, each.title, each.description) for each in found] == [
        ("costs", "Costs & more", ""),
        ("delays", "Zeal", "How late."),
        ("no_title", "no title", ""),
    ]


def test_the_bundled_dashboards_have_titles_and_descriptions() -> None:
    found = dashboards(Settings.load({}))
    assert [each.name for each in found] == [*("flights", "platform_health", "route_performance", "weather_effect")]
    assert all(each.description.endswith(".") for each in found)


def test_a_folder_that_is_not_there_is_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="There is no folder"):
        dashboards_app(settings.model_copy(update={"dashboards": tmp_path / "none"}))


# -- served ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[DashboardsApp]:
    app = dashboards_app(settings)
    yield app
    app.close()


def as_user(app: DashboardsApp, **user: Any) -> TestClient:
    """Asks as somebody that a front has let in."""

    async def mounted(scope: Message, receive: Receive, send: Send) -> None:
        await app({**scope, "user": user, "root_path": "/dashboards"}, receive, send)

    return TestClient(mounted)


ADA = {"subject": "ada", "role": "team", "scopes": ["read"]}


def test_a_page_holds_no_code_and_only_files_of_the_folder_are_pages(served: DashboardsApp) -> None:
    client = as_user(served, **ADA)
    page = client.get("/dashboards/route_performance/")
    assert page.status_code == 200
    assert "page.figures" not in page.text
    for path in ("nothing/", "../penstock/cli/", "%2e%2e/penstock/cli/", "_draft/", "a/b/"):
        assert client.get(f"/dashboards/{path}").status_code == 404


@pytest.mark.parametrize("user", [{}, {**ADA, "role": "stranger"}, {**ADA, "scopes": ["sql"]}])
def test_who_has_no_role_that_reads_gets_neither_page_nor_websocket(
    served: DashboardsApp, user: dict[str, Any]
) -> None:
    client = as_user(served, **user)
    assert client.get("/dashboards/route_performance/").status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/dashboards/route_performance/ws?session_id=s_1"),
    ):
        pass


def test_a_session_belongs_to_who_began_it(served: DashboardsApp) -> None:
    path, named = "/dashboards/route_performance/api/status", {"Marimo-Session-Id": "s_ada"}
    assert as_user(served, **ADA).get(path, headers=named).status_code != 403
    for other in ({**ADA, "subject": "bob"}, {**ADA, "role": "jfk"}):
        assert as_user(served, **other).get(path, headers=named).status_code == 403
        assert as_user(served, **other).get(f"{path}?session_id=s_ada").status_code == 403
        with pytest.raises(WebSocketDisconnect):
            as_user(served, **other).websocket_connect("/dashboards/route_performance/ws?session_id=s_ada").__enter__()


# -- in a browser ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A front on a port, and a browser."""

    origin: str
    browser: Browser
    cookies: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def site(settings: Settings, served: DashboardsApp) -> Iterator[Site]:
    """The whole web front with its login, its headers and the dashboards."""
    service = Service(server_options(settings))
    web = front(service, settings, dashboards=served)
    sessions = Sessions(service.options, service.policy, service.issuer)
    cookies = {}
    for role in ("team", "jfk", "nobody"):
        value, _ = sessions.start(Principal(role, role, frozenset({"read"}), "", float(2**33)))
        cookies[role] = {COOKIE: value}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(web, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        with chromium() as browser:
            yield Site(f"http://127.0.0.1:{listening.getsockname()[1]}", browser, cookies)
        server.should_exit = True
        thread.join()
    service.close()


PAGES = {
    "route_performance": ("Route performance", "On time by departure airport"),
    "weather_effect": ("Weather effect", "Days of poor visibility"),
    "platform_health": ("Platform health", "Days of data, by table"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_draws_its_charts_and_asks_nothing_of_another_host(name: str, site: Site) -> None:
    title, chart = PAGES[name]
    scheme = "dark" if name == "platform_health" else "light"
    with visit(site.browser, site.origin, cookies=site.cookies["team"], scheme=scheme) as seen:
        seen.page.goto(f"{site.origin}/dashboards/{name}/")
        expect(seen.page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=60_000)
        expect(seen.page.locator("[data-penstock=release]")).to_contain_text("Release r000001, published")
        expect(seen.page.get_by_role("heading", name=chart)).to_be_visible(timeout=60_000)
        drawn = seen.page.locator("canvas").first
        expect(drawn).to_be_visible(timeout=60_000)
        seen.page.wait_for_function(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(v => v !== 0)",
            arg=drawn.element_handle(),
        )
        background = seen.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (background in {"rgb(255, 255, 255)", "color(srgb 1 1 1)"}) == (scheme == "light")
        assert (seen.elsewhere, seen.errors) == ([], [])


def test_a_filter_changes_figures_chart_and_table(site: Site, settings: Settings) -> None:
    with penstock.connect(settings=settings) as release:
        counted = f"select origin_code, sum(flights)::int from {ROUTES} group by 1"
        flights = dict(release.execute(counted).fetchall())
    with visit(site.browser, site.origin, cookies=site.cookies["team"]) as seen:
        page = seen.page
        page.goto(f"{site.origin}/dashboards/route_performance/")
        expect(page.get_by_text(f"{sum(flights.values()):,}", exact=True)).to_be_visible(timeout=60_000)
        routes = page.locator("table tbody tr td:first-child")
        expect(routes.filter(has_text="LGA-")).not_to_have_count(0, timeout=60_000)
        chart = page.locator("canvas").first
        expect(chart).to_be_visible(timeout=60_000)
        drawn = chart.evaluate("canvas => canvas.toDataURL()")

        page.locator("marimo-multiselect div").first.click()
        for airport in ("EWR", "LGA"):
            page.get_by_role("option", name=airport).click()
        page.keyboard.press("Escape")

        expect(page.get_by_text(f"{flights['JFK']:,}", exact=True)).to_be_visible(timeout=60_000)
        expect(routes.filter(has_text="LGA-")).to_have_count(0, timeout=60_000)
        assert {each[:4] for each in routes.all_inner_texts()} == {"JFK-"}
        page.wait_for_function(
            """before => {
              const all = (root) => [...root.querySelectorAll('*')].flatMap(
                (each) => [each, ...(each.shadowRoot ? all(each.shadowRoot) : [])]);
              const chart = all(document).find((each) => each.tagName === 'CANVAS');
              return chart && chart.toDataURL() !== before;
            }""",
            arg=drawn,
            timeout=60_000,
        )
        assert (seen.elsewhere, seen.errors) == ([], [])


def test_a_page_shows_a_role_what_it_may_see(site: Site, settings: Settings) -> None:
    with penstock.connect(settings=settings) as release:
        rows = release.execute(f"select sum(flights)::int from {ROUTES} where origin_code = 'JFK'").fetchall()
    with visit(site.browser, site.origin, cookies=site.cookies["jfk"]) as seen:
        seen.page.goto(f"{site.origin}/dashboards/route_performance/")
        expect(seen.page.get_by_text(f"{rows[0][0]:,}").first).to_be_visible(timeout=60_000)
        expect(seen.page.get_by_text("Your role does not see what this is made of.").first).to_be_visible(
            timeout=60_000
        )
        expect(seen.page.get_by_text("JFK-LAX").first).to_be_visible(timeout=60_000)
        told = seen.page.locator("body").inner_text()
        assert "EWR" not in told
        assert "LGA" not in told


def test_a_page_of_a_role_that_sees_nothing_says_so(site: Site) -> None:
    with visit(site.browser, site.origin, cookies=site.cookies["nobody"]) as seen:
        seen.page.goto(f"{site.origin}/dashboards/platform_health/")
        expect(seen.page.get_by_text("Your role does not see what this is made of.")).to_have_count(6, timeout=60_000)
        assert seen.page.locator("canvas").count() == 0


def test_without_a_login_there_is_no_page(site: Site) -> None:
    with visit(site.browser, site.origin, cookies={}) as seen:
        seen.page.goto(f"{site.origin}/dashboards/route_performance/")
        assert "/login" in seen.page.url
