"""A picture of Airflow's grid by a headless Chromium, for the documentation.

The login page needs a person. So a second API server is started beside the first for the moment of the picture, on a
free loopback port and the same database, which takes every visitor for an administrator.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from penstock.airflow_api import AirflowApi
from penstock.embedded_process import choose_ports
from penstock.scheduler import Scheduler

_SIZE = "2400,900"
"""Wide, because the grid gets a quarter of the page."""


def grid_picture(airflow: Scheduler, dag_id: str, path: Path) -> None:
    """Write the grid of a DAG as a PNG file; says so and writes nothing where there is no Chromium.

    Args:
        airflow: a running Airflow.
        dag_id: the DAG.
        path: the file.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("there is no Chromium: no picture", file=sys.stderr)
        return
    port = choose_ports(["picture"], {})["picture"]
    environment = {
        **airflow.environment(),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
    }
    program = Path(sys.executable).parent / "airflow"
    server = subprocess.Popen(
        [str(program), "api-server"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        api = AirflowApi(f"http://127.0.0.1:{port}", user="", password="")
        deadline = time.monotonic() + 120
        while not api.health() and time.monotonic() < deadline:
            time.sleep(1)
        with tempfile.TemporaryDirectory(prefix="penstock-chromium-") as profile:
            command = [
                *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                "--force-device-scale-factor=0.7",
                *(f"--user-data-dir={profile}", f"--window-size={_SIZE}", "--virtual-time-budget=25000"),
                *(f"--screenshot={path.absolute()}", f"http://127.0.0.1:{port}/dags/{dag_id}"),
            ]
            subprocess.run(command, check=True, timeout=180, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        server.terminate()
        server.wait(timeout=60)
