"""Airflow's REST API in the words of this project: keys, runs, backfills.

``AirflowApi -> http://127.0.0.1:<port>/api/v2`` with the standard library's HTTP client. ``airflow`` itself is imported
in ``dags/`` only, so this works from any process, also from one that has no Airflow installed.

Everything that waits has a limit in seconds and says on reaching it what it was waiting for. What a wait returns are
the runs as they ended; whether a failed run is an error is for the caller to judge.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from common.errors import PenstockError, TerminalError, TransientError, UnknownName
from common.intervals import day_keys
from penstock.airflow_records import FINISHED, Backfill, Progress, Run, TaskRun, read_line, read_run, read_task

__all__ = ["FINISHED", "AirflowApi", "Backfill", "Progress", "Run", "TaskRun"]

T = TypeVar("T")

_PAGE = 100
_POLL_S = 0.5


class AirflowApi:
    """One user's session with one Airflow API server.

    Args:
        url: address of the server, without path.
        user: user name.
        password: its password.
    """

    def __init__(self, url: str, *, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self._password = password
        self._token = ""
        # An empty handler: a proxy of the environment is never asked for a loopback address.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def request(
        self, method: str, path: str, body: object = None, *, timeout_s: float = 60.0
    ) -> tuple[int, dict[str, Any]]:
        """One request; its status and its JSON answer, whatever the status is.

        Raises:
            TransientError: no answer.
        """
        status, answer = self._send(method, path, body, timeout_s)
        if status == http.HTTPStatus.UNAUTHORIZED:  # no token yet, or one that has expired
            self._log_in(timeout_s)
            status, answer = self._send(method, path, body, timeout_s)
        return status, answer

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request that must succeed; its JSON answer.

        Raises:
            TransientError: no answer, or the server was busy (a locked database counts as busy).
            TerminalError: the server refused; the message carries its reason.
        """
        status, answer = self.request(method, path, body)
        if status < http.HTTPStatus.BAD_REQUEST:
            return answer
        problem = f"Airflow answered {status} to {method} {path}: {answer.get('detail', answer)}."
        if status in {http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.TOO_MANY_REQUESTS}:
            raise TransientError(problem, remedy="try again in a moment")
        raise TerminalError(problem, remedy="correct the request; the API server's log has the details")

    def _answered(self, method: str, path: str) -> int:
        """The status of a request; a server that is busy or cannot reach its database is worth another attempt."""
        status, answer = self.request(method, path)
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TransientError(f"Airflow answered {status} to {method} {path}: {answer}.", remedy="try again")
        return status

    def health(self) -> dict[str, Any]:
        """The health of each component, as ``/api/v2/monitor/health`` tells it; empty while there is no answer."""
        try:
            return self._send("GET", "/api/v2/monitor/health", None, 5.0)[1]
        except PenstockError:
            return {}

    def dag_ids(self) -> list[str]:
        """Ids of the DAGs the scheduler knows."""
        return sorted(dag["dag_id"] for dag in self.pages("/api/v2/dags", "dags"))

    def wait_for_dags(self, expected: Collection[str], *, timeout_s: float = 90.0) -> None:
        """Wait until the scheduler knows every DAG of ``expected``.

        Raises:
            TerminalError: a DAG file cannot be imported; the message has the end of its stack trace.
            TransientError: not all are there in time.
        """
        missing: set[str] = set()

        def all_there() -> bool:
            broken = self.call("GET", "/api/v2/importErrors")["import_errors"]
            if broken:
                trace = broken[0]["stack_trace"].strip().splitlines()[-1:]
                raise TerminalError(
                    f"{broken[0]['filename']} cannot be imported: {' '.join(trace)}", remedy="correct the file or spec"
                )
            missing.clear()
            missing.update(set(expected) - set(self.dag_ids()))
            return not missing

        if not wait_for(all_there, timeout_s):
            raise TransientError(
                f"The scheduler does not know {', '.join(sorted(missing))} after {timeout_s:g} s.",
                remedy="look into the dag-processor's log",
            )

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG. For one without end date this starts its latest due run."""
        self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Keep the scheduler from starting anything of a DAG; what runs goes on."""
        self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool, or leave the one there is (its size may have been chosen by a person)."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        status, answer = self.request("POST", "/api/v2/pools", body)
        if status not in {http.HTTPStatus.CREATED, http.HTTPStatus.CONFLICT}:
            raise TerminalError(f"Airflow answered {status} to creating pool {name}: {answer}.", remedy="see its log")

    def trigger(
        self, dag_id: str, *, partition_key: str | None = None, run_id: str | None = None, conf: object = None
    ) -> Run:
        """Start one run: for a key, under an id, or with parameters."""
        body: dict[str, object] = {"logical_date": None, "conf": conf or {}}
        body |= {"partition_key": partition_key} if partition_key else {}
        body |= {"dag_run_id": run_id} if run_id else {}
        return read_run(self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body))

    def create_backfill(
        self,
        dag_id: str,
        start: str,
        end: str,
        *,
        max_active_runs: int = 4,
        reprocess: Literal["none", "completed", "failed"] = "none",
        newest_first: bool = False,
        conf: Mapping[str, object] | None = None,
    ) -> Backfill:
        """Create runs for the keys in ``[start, end)``; they run as soon as the DAG is not paused.

        Args:
            dag_id: a DAG with a partition per day.
            start: first key.
            end: key after the last one.
            max_active_runs: how many of them may run at once.
            reprocess: what to do with keys that have a run already: ``none`` leaves them alone, ``failed`` runs again
                those that failed, ``completed`` runs all of them again.
            newest_first: run the last key first.
            conf: what each of its runs carries.

        Returns:
            The backfill; its ``keys`` are those for which a run was created.

        Raises:
            IntervalError: the range is malformed or empty.
            TerminalError: refused, for example because a backfill of this DAG is still active.
            TransientError: Airflow's database stayed locked.
        """
        keys = day_keys(start, end)
        # Airflow reads both bounds on the timetable's clock and includes the second: the last second of the last day.
        body = {
            "dag_id": dag_id,
            "from_date": f"{keys[0]}T00:00:00Z",
            "to_date": f"{keys[-1]}T23:59:59Z",
            "max_active_runs": max_active_runs,
            "reprocess_behavior": reprocess,
            "run_backwards": newest_first,
            "dag_run_conf": dict(conf or {}),
        }
        created = patiently(lambda: self.call("POST", "/api/v2/backfills", body))
        backfill = Backfill(created["id"], dag_id, (), datetime.fromisoformat(created["created_at"]))
        made = tuple(sorted(run.partition_key or "" for run in self._backfill_runs(backfill)))
        return Backfill(backfill.id, dag_id, made, backfill.created_at)

    def wait_backfill(
        self, backfill: Backfill, *, timeout_s: float, progress: Callable[[Progress], None] | None = None
    ) -> list[Run]:
        """Wait until every run of a backfill has ended; the runs, by key.

        Args:
            backfill: as created.
            timeout_s: longest wait, in seconds.
            progress: called whenever another run has ended.

        Raises:
            TransientError: not ended in time.
        """
        what = f"the backfill of {backfill.dag_id}"
        runs = self._wait_ended(lambda: self._backfill_runs(backfill), len(backfill.keys), what, timeout_s, progress)
        self.close_backfill(backfill.id)
        return runs

    def close_backfill(self, backfill_id: int) -> None:
        """Fail what a backfill has queued, and let its DAG have another one; runs at work go on.

        Airflow looks every 30 s whether a backfill has ended, and refuses another one of the DAG until then; for one
        whose runs have all ended this marks it as completed and changes nothing else. One that is closed stays so.
        """
        status = patiently(lambda: self._answered("PUT", f"/api/v2/backfills/{backfill_id}/cancel"))
        if status not in {http.HTTPStatus.OK, http.HTTPStatus.CONFLICT}:
            raise TerminalError(f"Airflow answered {status} to closing a backfill.", remedy="see its api-server log")

    def runs(self, dag_id: str, *, since: datetime | None = None, carrying: str = "") -> list[Run]:
        """Runs of a DAG by key and age.

        Args:
            dag_id: the DAG.
            since: only those created then or later.
            carrying: only those whose configuration holds this text.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns" + (f"?{urlencode({'conf_contains': carrying})}" if carrying else "")
        found = [read_run(each) for each in self.pages(path, "dag_runs")]
        recent = (run for run in found if since is None or (run.queued_at is not None and run.queued_at >= since))
        return sorted(recent, key=lambda run: (run.partition_key or "", str(run.queued_at)))

    def wait_runs(
        self,
        dag_id: str,
        keys: Collection[str],
        *,
        timeout_s: float,
        since: datetime | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[Run]:
        """Wait until a DAG has a run for every one of ``keys`` and each of their runs has ended; the runs, by key.

        Args:
            dag_id: the DAG, usually one that assets trigger.
            keys: partition keys.
            timeout_s: longest wait, in seconds.
            since: runs created before this are not counted.
            progress: called whenever another run has ended.

        Raises:
            TransientError: not all there and ended in time.
        """
        wanted = set(keys)
        return self._wait_ended(
            lambda: [run for run in self.runs(dag_id, since=since) if run.partition_key in wanted],
            len(wanted),
            f"the runs of {dag_id}",
            timeout_s,
            progress,
        )

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskRun]:
        """The tasks of one run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        return [read_task(each) for each in self.pages(path, "task_instances")]

    def log(self, task: TaskRun, *, attempt: int | None = None) -> str:
        """The log text of one attempt of a task, the latest by default."""
        path = (
            f"/api/v2/dags/{task.dag_id}/dagRuns/{quote(task.run_id, safe='')}/taskInstances/{task.task_id}"
            f"/logs/{attempt or max(task.try_number, 1)}?map_index={task.map_index}&full_content=true"
        )
        content = self.call("GET", path).get("content", [])
        return "\n".join(read_line(entry) for entry in content)

    def failures(self, run: Run) -> dict[str, str]:
        """The end of the log of every failed task of a run, by the task's label."""
        failed = [task for task in self.task_instances(run.dag_id, run.run_id) if task.state == "failed"]
        return {f"{task.task_id}[{task.label}]": "\n".join(self.log(task).splitlines()[-15:]) for task in failed}

    def _backfill_runs(self, backfill: Backfill) -> list[Run]:
        # One backfill of a DAG is active at a time, so its runs are the backfill runs created since it was.
        return [run for run in self.runs(backfill.dag_id, since=backfill.created_at) if run.run_type == "backfill"]

    def _wait_ended(
        self,
        find: Callable[[], list[Run]],
        total: int,
        what: str,
        timeout_s: float,
        progress: Callable[[Progress], None] | None,
    ) -> list[Run]:
        seen, runs = -1, list[Run]()

        def all_ended() -> bool:
            nonlocal seen, runs
            runs = find()
            ended = [run for run in runs if run.state in FINISHED]
            if progress is not None and len(ended) != seen:
                progress(Progress(len(ended), sum(run.state == "failed" for run in ended), max(total, len(runs))))
            seen = len(ended)
            return len({run.partition_key for run in runs}) >= total and len(ended) == len(runs)

        if not wait_for(all_ended, timeout_s):
            raise TransientError(
                f"After {timeout_s:g} s {seen} of {total} of {what} have ended.",
                remedy="wait longer, or look at the run in Airflow's web page",
            )
        return runs

    def pages(self, path: str, field: str) -> Iterator[dict[str, Any]]:
        """Everything a listing has, page by page."""
        offset = 0
        while True:
            window = urlencode({"limit": _PAGE, "offset": offset})
            page = self.call("GET", f"{path}{'&' if '?' in path else '?'}{window}")[field]
            yield from page
            offset += len(page)
            if len(page) < _PAGE:
                return

    def _log_in(self, timeout_s: float) -> None:
        credentials = {"username": self.user, "password": self._password}
        status, answer = self._send("POST", "/auth/token", credentials, timeout_s)
        if "access_token" not in answer:
            raise UnknownName(
                f"Airflow does not accept user {self.user!r} (status {status}).",
                remedy="use the password in the scheduler's passwords file",
            )
        self._token = answer["access_token"]

    def _send(self, method: str, path: str, body: object, timeout_s: float) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token and path != "/auth/token":
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)  # noqa: S310 - http
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read())
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                f"Airflow's API at {self.url} did not answer {method} {path}: {error}.",
                remedy="see whether the scheduler is up, and its api-server log",
            ) from None


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text or b"{}")
    except ValueError:
        value = {"detail": text.decode(errors="replace")[:500]}
    return value if isinstance(value, dict) else {"value": value}


def wait_for(happened: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the answer is yes or the time is over; an unanswered question is asked again.

    The pauses are nine times as long as the answers took, so that asking costs the server a tenth of its time at most.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        asked = time.monotonic()
        try:
            if happened():
                return True
        except TransientError:
            if time.monotonic() >= deadline:
                raise
        now = time.monotonic()
        if now >= deadline:
            return False
        time.sleep(min(max(_POLL_S, 9 * (now - asked)), deadline - now))


def patiently(action: Callable[[], T], *, attempts: int = 6) -> T:
    """Repeat a request while the server is busy: SQLite lets one writer in at a time."""
    for attempt in range(1, attempts):
        try:
            return action()
        except TransientError:
            time.sleep(0.5 * 2**attempt)
    return action()
