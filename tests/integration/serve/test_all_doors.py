"""``penstock serve`` opens every door on a free port, says where, and closes all that it opened by one signal."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import httpx
import psutil
import psycopg  # noqa: TID251 - a client as users have it
import pytest

from common.errors import SettingsError
from common.settings import Settings, process_environment
from penstock.serve_doors import Wanted, open_doors
from tests.architecture.source_tree import ROOT
from tests.integration.portal.web import form_token
from tests.integration.serve.served import POLICY, Served, publish
from warehouse.serve.tokens import LocalIssuer


def test_serve_opens_every_door_says_where_and_one_sigterm_closes_all(new_home: Callable[[], Path]) -> None:
    home = new_home()
    publish(home / "warehouse", 1)
    (home / "policy.yml").write_text(POLICY)
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "serve"],
        env=process_environment(PENSTOCK_HOME=str(home), PYTHONPATH=str(ROOT), COLUMNS="500"),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = ""
        while "Walls around" not in told and process.poll() is None:
            told += process.stdout.readline()
        addresses = dict(re.findall(r"^(Serving|Portal|Flight|BI database|File|Metrics):? +(\S+)", told, re.MULTILINE))
        assert list(addresses) == ["Serving", "Portal", "Flight", "BI database", "File", "Metrics"], told
        token = LocalIssuer(home / "serve").issue(
            "analyst", ["read", "sql"], subject="t", audience="penstock", expires_in_s=600
        )[0]
        bearer = {"Authorization": f"Bearer {token}"}
        web = httpx.get(f"{addresses['Serving']}/datasets", headers=bearer).json()
        assert [each["name"] for each in web["datasets"]] == ["flights", "routes"]
        _sign_in_and_look_round(addresses["Portal"], token)
        options = {
            "adbc.flight.sql.authorization_header": f"Bearer {token}",
            "adbc.flight.sql.client_option.tls_root_certs": (home / "serve/flight/certificate.pem").read_text(),
        }
        with (
            flight_sql.connect(addresses["Flight"], db_kwargs=options, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("select count(*) from routes")
            assert cursor.fetchall() == [(400,)]
        bi_reader = json.loads((home / "services" / "connections.json").read_text())["bi_reader"]
        with psycopg.connect(bi_reader) as database:
            assert database.execute("SELECT release FROM marts._release").fetchall() == [("r000001",)]
        assert Path(addresses["File"]).is_file()
        assert "penstock_" in httpx.get(addresses["Metrics"], timeout=60).text
        started = psutil.Process(process.pid).children(recursive=True)
        started += [each for each in psutil.process_iter() if str(home) in " ".join(_command(each))]
    finally:
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.splitlines()[-1], "Traceback" in err) == (0, "Ended.", False), err
    deadline = time.monotonic() + 60
    while any(each.is_running() and each.status() != "zombie" for each in started):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _sign_in_and_look_round(portal: str, token: str) -> None:
    """The front page and a dashboard are closed until a token has signed in, and then open."""
    dashboard = "/dashboards/route_performance/"
    with httpx.Client(base_url=portal, timeout=60) as browser:
        for page in ("/", dashboard):
            assert browser.get(page).headers["location"].startswith("/login"), page
        fields = {"form_token": form_token(browser.get("/login").text), "token": token, "next": dashboard}
        answer = browser.post("/login", data=fields, headers={"Origin": portal.rstrip("/")})
        assert (answer.status_code, answer.headers["location"]) == (303, dashboard)
        front = browser.get("/")
        assert (front.status_code, "/datasets/routes" in front.text, "r000001" in front.text) == (200, True, True)
        shown = browser.get(dashboard)
        assert (shown.status_code, "<marimo-" in shown.text) == (200, True), shown.text[:2000]
        scripts = re.findall(r'<script[^>]* src="\./?([^"]+)"', shown.text)
        assert scripts
        assert {browser.get(f"{dashboard}{script}").status_code for script in scripts} == {200}


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_door_that_cannot_be_opened_is_told_and_left_out_and_half_a_certificate_is_refused(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from contextlib import ExitStack

    settings = Settings.load({}, home=tmp_path, connections={"bi": "postgresql://nobody:secret-3f@127.0.0.1:9/bi"})
    with ExitStack() as opened:
        lines = open_doors(served.service, settings, Wanted(flight=False, metrics=False), opened)
    assert [line.split(":")[0] for line in lines] == ["File"]
    assert "'BI database' is left out" in caplog.text
    assert "secret-3f" not in caplog.text
    half = Settings.load({}, home=tmp_path, flight_key=tmp_path / "key.pem")
    with ExitStack() as opened, pytest.raises(SettingsError, match="without a key"):
        open_doors(served.service, half, Wanted(bi=False, metrics=False), opened)
