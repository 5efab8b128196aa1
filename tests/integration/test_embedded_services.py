"""Laws of the embedded services, on the real servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from common.errors import SourceRefused, SourceUnavailable, StateCorrupt
from ingestion.objects.client import Bucket
from penstock import embedded, embedded_account, embedded_process
from penstock.embedded import EmbeddedServices
from penstock.embedded_process import ProcessRecord
from penstock.psql import run_psql, wheel_programs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def running(module_home: Path) -> EmbeddedServices:
    """Services of this module's home: found running, or started again after a test that stopped them."""
    return EmbeddedServices.start(module_home)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process."""
    process = subprocess.Popen(["/bin/sleep", "600"])
    yield process
    process.kill()
    process.wait()


def _state(home: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((home / "services" / "state.json").read_text())
    return found


def _pid(home: Path, service: str) -> int:
    process = _state(home)[service]["process"]
    assert isinstance(process, dict)
    return int(process["pid"])


def _processes_of(home: Path) -> list[psutil.Process]:
    """Every process whose command line names this home, and their children."""
    found = [p for p in psutil.process_iter(["cmdline"]) if any(str(home) in part for part in p.info["cmdline"] or ())]
    return [*found, *(child for parent in found for child in parent.children(recursive=True))]


def _query(url: str, sql: str) -> list[list[str]]:
    return run_psql(url, [sql.encode()])


def _run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


START = """
import sys; from pathlib import Path; from penstock.embedded import EmbeddedServices
services = EmbeddedServices.start(Path(sys.argv[1]))
print(services.postgres_url, services.s3_url, services.owned)
"""
ATTACH_IN_BLOCK = """
import sys; from pathlib import Path; from penstock.embedded import EmbeddedServices
with EmbeddedServices.attach(Path(sys.argv[1])) as services:
    print(services.connections["flightops"], services.connections["stations"])
"""
STOP = "import sys; from pathlib import Path; from penstock import embedded; print(embedded.stop(Path(sys.argv[1])))"


def test_started_services_answer_on_loopback_only(running: EmbeddedServices) -> None:
    assert _query(running.connections["flightops"], "select current_user, current_database();") == [
        ["penstock_reader", "flightops"]
    ]
    with Bucket.open(running.connections["stations"]) as bucket:
        bucket.check()
    listening = {
        connection.laddr.ip
        for service in ("postgres", "s3")
        for connection in psutil.Process(_pid(running.home, service)).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_files_with_secrets_are_readable_by_their_owner_only(running: EmbeddedServices) -> None:
    folder = running.home / "services"
    for name in ("connections.json", "state.json", "postgres/secrets.json", "s3/secrets.json", "s3/security.toml"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    written = json.loads((folder / "connections.json").read_text())
    assert written == {**running.connections, **running.bi_connections}


def test_no_secret_is_in_a_command_line_a_log_or_a_repr(running: EmbeddedServices) -> None:
    folder = running.home / "services"
    known = [json.loads((folder / name / "secrets.json").read_text()) for name in ("postgres", "s3")]
    secrets = [known[0]["postgres"], known[0]["penstock_reader"], known[1]["secret_key"]]
    with pytest.raises(SourceRefused) as refused:
        _query(running.connections["flightops"], "create table x (a integer);")
    seen = [" ".join(process.cmdline()) for process in _processes_of(running.home)]
    seen += [log.read_text(errors="replace") for log in folder.glob("*/*.log")]
    seen += [repr(running), str(refused.value), (folder / "state.json").read_text()]
    assert len(seen) >= 6
    assert not [text for text in seen for secret in secrets if secret in text]


def test_wrong_secrets_are_refused(running: EmbeddedServices) -> None:
    postgres, s3 = urlsplit(running.connections["flightops"]), urlsplit(running.connections["stations"])
    with pytest.raises(SourceRefused, match="authentication failed"):
        _query(running.connections["flightops"].replace(f":{postgres.password}@", ":wrong@"), "select 1;")
    wrong = running.connections["stations"].replace(f":{s3.password}@", ":wrong@")
    with Bucket.open(wrong) as bucket, pytest.raises(SourceRefused, match="403"):
        bucket.check()


@pytest.mark.parametrize(
    "statement",
    [
        "begin read write; create table mine (a integer); commit;",
        "begin read write; create temporary table mine (a integer); commit;",
        "begin read write; insert into kept values (2); commit;",
        "begin read write; delete from kept; commit;",
        "begin read write; drop table kept; commit;",
        "select pg_read_file('/etc/hostname');",
        r"copy kept to program 'cat';",
    ],
)
def test_the_reader_can_select_and_nothing_else(running: EmbeddedServices, statement: str) -> None:
    _query(running.postgres_url, "drop table if exists kept; create table kept as select 1 as a;")
    with pytest.raises(SourceRefused, match=r"permission denied|must be owner"):
        _query(running.connections["flightops"], statement)
    assert _query(running.connections["flightops"], "select * from kept;") == [["1"]]


def test_another_process_attaches_and_leaves_them_running(running: EmbeddedServices) -> None:
    before = _state(running.home)
    out, err = _run_python(ATTACH_IN_BLOCK, str(running.home)).communicate(timeout=60)
    assert out.split() == [running.connections["flightops"], running.connections["stations"]], err
    assert embedded.is_running(running.home)
    assert _state(running.home) == before


def test_stop_from_another_process_leaves_no_process_and_restart_keeps_the_data(running: EmbeddedServices) -> None:
    _query(running.postgres_url, "drop table if exists kept; create table kept as select 42 as a;")
    with Bucket.open(running.s3_url) as bucket:
        etag = bucket.put("kept", b"content")
    processes = _processes_of(running.home)
    assert {"postgres", "weed"} <= {process.name() for process in processes}

    out, err = _run_python(STOP, str(running.home)).communicate(timeout=60)
    assert out.split() == ["True"], err
    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]
    assert not embedded.is_running(running.home)
    with pytest.raises(SourceUnavailable, match="penstock up"):
        EmbeddedServices.attach(running.home)
    assert embedded.stop(running.home) is False

    again = EmbeddedServices.start(running.home)
    assert again.connections == running.connections
    assert _query(again.connections["flightops"], "select a from kept;") == [["42"]]
    with Bucket.open(again.s3_url) as bucket:
        assert [(found.key, found.etag) for found in bucket.objects()] == [("kept", etag)]


def test_services_killed_hard_come_back_with_what_was_acknowledged(running: EmbeddedServices) -> None:
    """Three times: what is stored becomes readable only some seconds after a restart, and not at every restart."""
    _query(running.postgres_url, "drop table if exists kept; create table kept as select generate_series(1, 1000) a;")
    for trial in ("first", "second", "third"):
        with Bucket.open(running.s3_url) as bucket:
            bucket.put(f"acknowledged/{trial}", b"x" * 100_000)
        pids = {service: _pid(running.home, service) for service in ("postgres", "s3")}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)

        again = EmbeddedServices.start(running.home)
        assert again.connections == running.connections
        assert not {_pid(running.home, service) for service in pids} & set(pids.values())
        assert _query(again.postgres_url, "select count(*) from kept;") == [["1000"]]
        with Bucket.open(again.s3_url) as bucket:
            assert bucket.read(f"acknowledged/{trial}") == b"x" * 100_000


def test_recycled_process_ids_are_never_signalled(
    running: EmbeddedServices, bystander: subprocess.Popen[bytes]
) -> None:
    """After a crash the recorded numbers, and the one in PostgreSQL's own file, may belong to anybody."""
    running.stop()
    path = running.home / "services" / "state.json"
    state = _state(running.home)
    for service, name in (("postgres", "postgres"), ("s3", "weed")):
        record = {"pid": bystander.pid, "create_time": 0.0, "name": name, "marker": "nothing"}
        state[service]["process"] = record
    path.write_text(json.dumps(state))
    assert embedded.stop(running.home) is False
    (Path(str(state["postgres"]["data"])) / "postmaster.pid").write_text(f"{bystander.pid}\n")
    assert not embedded.is_running(running.home)

    again = EmbeddedServices.start(running.home)
    assert bystander.poll() is None
    assert _query(again.connections["flightops"], "select 1;") == [["1"]]


def test_two_starters_at_once_make_one_set_of_services_and_remove_leaves_nothing_of_it(
    new_home: Callable[[], Path],
) -> None:
    home = new_home()
    starters = [_run_python(START, str(home)) for _ in range(2)]
    results = [starter.communicate(timeout=120) for starter in starters]
    answers = [out.split() for out, _ in results]
    assert [starter.returncode for starter in starters] == [0, 0], results
    assert answers[0][:2] == answers[1][:2]
    assert sorted(answer[2] for answer in answers) == ["False", "True"]
    own = [process for process in _processes_of(home) if str(home) in " ".join(process.cmdline())]
    assert sorted(process.name() for process in own) == ["postgres", "weed"]

    assert home / "services" in embedded.remove(home)
    assert not list(home.iterdir())
    assert not _processes_of(home)
    assert embedded.remove(home) == []


def test_a_service_that_cannot_start_names_its_log_and_leaves_nothing_running(running: EmbeddedServices) -> None:
    running.stop()
    control = Path(str(_state(running.home)["postgres"]["data"])) / "global" / "pg_control"
    hidden = control.with_name("pg_control.hidden")
    control.rename(hidden)
    try:
        with pytest.raises(SourceUnavailable, match=re.escape(str(running.home / "services/postgres/postgres.log"))):
            EmbeddedServices.start(running.home)
        assert not _processes_of(running.home)
    finally:
        hidden.rename(control)


def test_lost_secrets_are_told_apart_from_a_first_start(running: EmbeddedServices) -> None:
    running.stop()
    secrets = running.home / "services" / "s3" / "secrets.json"
    content = secrets.read_text()
    secrets.unlink()
    with pytest.raises(StateCorrupt, match="keys of the objects"):
        EmbeddedServices.start(running.home)
    assert not secrets.exists()
    embedded_process.write_private(secrets, content)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another account")
def test_a_home_closed_to_others_stays_closed_and_its_database_lives_outside(
    new_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for root with everything under ``/root``: home and programs both out of the database account's reach."""
    top = new_home()
    closed, system, home = top / "closed", top / "system", top / "closed" / "state"
    closed.mkdir(mode=0o700)
    package = wheel_programs().parents[1]
    for name in (f"{package.name}/pginstall18", f"{package.name}.libs"):
        shutil.copytree(package.parent / name, closed / "wheel" / name, symlinks=True)
    programs = closed / "wheel" / package.name / "pginstall18" / "bin"
    monkeypatch.setattr(embedded_account, "wheel_programs", lambda: programs)
    monkeypatch.setattr(embedded_account, "_LIB", system)
    try:
        services = EmbeddedServices.start(home)
        data = Path(str(_state(home)["postgres"]["data"]))
        assert data.parent.parent == system
        assert (stat.S_IMODE(data.stat().st_mode), stat.S_IMODE(closed.stat().st_mode)) == (0o700, 0o700)
        assert Path(psutil.Process(_pid(home, "postgres")).exe()).is_relative_to(system)
        _query(services.postgres_url, "create table kept as select 7 as a;")
        services.stop()
        again = EmbeddedServices.start(home)
        assert _query(again.connections["flightops"], "select a from kept;") == [["7"]]
    finally:
        deleted = embedded.remove(home)
    assert data.parent in deleted
    assert [path.name for path in system.iterdir()] == ["lock"]


def test_a_starter_that_dies_before_its_record_is_written_starts_nothing(tmp_path: Path) -> None:
    made: list[ProcessRecord] = []

    def dies(record: ProcessRecord) -> None:
        made.append(record)
        raise SourceUnavailable("the disk is full")

    with pytest.raises(SourceUnavailable, match="disk is full"):
        embedded_process.spawn(
            ["/bin/sh", "-c", f"touch {tmp_path}/began; sleep 60"],
            name="sh",
            marker=str(tmp_path),
            cwd=tmp_path,
            log=tmp_path / "log",
            env={},
            record=dies,
        )
    assert embedded_process.wait_until(lambda: not made[0].is_alive(), timeout_s=60.0)
    assert not (tmp_path / "began").exists()
