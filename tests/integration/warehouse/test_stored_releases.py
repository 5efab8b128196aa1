"""Laws of releases in object storage: whole and checked or not there, one pointer, and a cache any process may use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

import penstock
from common.errors import CommitConflict, SettingsError, StateCorrupt, StoreUnavailable, UnknownName
from common.settings import Settings
from lake.object_store import parse_s3_url, s3_client
from tests.doubles.s3 import Disturbance, s3_proxy
from tests.unit.warehouse.small_warehouse import make_release
from warehouse.releases import Releases
from warehouse.stored import StoredReleases, stored_releases


@dataclass
class Store:
    """A builder's warehouse, a bucket of the test's own, and readers elsewhere.

    Attributes:
        url: of the bucket, with keys.
        local: the builder's releases.
        folder: for the state of readers.
    """

    url: str
    local: Releases
    folder: Path

    def settings(self, who: str, *, url: str | None = None, **more: Any) -> Settings:
        """Settings of a process with a state folder of that name."""
        return Settings.load(
            {},
            home=self.folder / who,
            releases_uri=f"s3://{urlsplit(self.url).hostname}/some/where",
            connections={"releases": url or self.url},
            **more,
        )

    def at(self, who: str, **more: Any) -> StoredReleases:
        """The stored releases as that process sees them."""
        found = stored_releases(self.settings(who, **more))
        assert found is not None
        return found

    @property
    def builder(self) -> StoredReleases:
        """As the builder sees them."""
        return self.at("builder", warehouse=self.local.warehouse)

    def objects(self) -> list[str]:
        """Every object there is, without the prefix."""
        location = parse_s3_url(SecretStr(self.url))
        pages = s3_client(location).list_objects_v2(Bucket=location.bucket)
        return sorted(item["Key"].removeprefix("some/where/") for item in pages.get("Contents", ()))

    def cached(self, who: str) -> list[str]:
        """Names in a reader's cache, locks aside."""
        return sorted(p.name for p in (self.folder / who / "cache" / "releases").glob("*") if p.is_dir())


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> Iterator[Store]:
    """An empty bucket and an empty warehouse."""
    made = Store(bucket, Releases(tmp_path / "warehouse"), tmp_path)
    yield made
    location = parse_s3_url(SecretStr(bucket))
    for key in made.objects():
        s3_client(location).delete_object(Bucket=location.bucket, Key=f"some/where/{key}")


def put(store: Store, number: int, *, fence: int | None = None, keep: int = 10) -> None:
    """Publish a release that answers a number, here and there."""
    store.builder.publish(make_release(store.local, number), fence=fence or number, keep=keep)


def test_a_release_that_was_put_up_is_read_elsewhere_by_every_word_and_fetched_once(store: Store) -> None:
    with pytest.raises(UnknownName, match="Nothing has been published yet"):
        penstock.connect(settings=store.settings("reader"))
    put(store, 1)
    put(store, 2)
    settings = store.settings("reader")
    assert [(r.id, r.current, r.manifest["number"]) for r in penstock.releases(settings=settings)] == [
        ("r000001", False, 1),
        ("r000002", True, 2),
    ]
    assert [r.published_at for r in penstock.releases(settings=settings)] == [r.published_at for r in store.local.all()]
    first, second = store.builder.moves()
    for words, number in ((None, 2), ("r000001", 1), (f"as of {first.at.isoformat()}", 1)):
        assert penstock.table("answer", release=words, settings=settings).pl()["number"].to_list() == [number]
    assert first.at < second.at
    assert len(store.cached("reader")) == 2
    location = store.folder / "reader" / "cache" / "releases" / store.cached("reader")[0] / "warehouse.duckdb"
    before = location.stat().st_ino
    assert answer_of(store.at("reader"), "r000001") == 1
    assert location.stat().st_ino == before
    assert store.cached("builder") == []
    assert answer_of(store.builder) == 2, "what lies in the builder's own folder is not fetched"
    assert store.cached("builder") == []


def answer_of(stored: StoredReleases, wanted: str | None = None) -> int:
    """What a reader is told."""
    with stored.connect(wanted) as connection:
        row = connection.execute("SELECT number FROM answer").fetchone()
    assert row is not None
    return int(row[0])


def test_a_reader_follows_publishes_rollbacks_and_retention_and_keeps_what_it_has_open(store: Store) -> None:
    put(store, 1)
    reader = penstock.reader(settings=store.settings("reader"))
    put(store, 2)
    assert (reader.refresh(), reader.sql("FROM answer").fetchall()) == (True, [(2,)])
    store.builder.publish(store.local.rollback(), fence=3, keep=10)
    assert (reader.refresh(), reader.release.id) == (True, "r000001")
    assert [move.release for move in store.builder.moves()] == ["r000001", "r000002", "r000001"]
    put(store, 4, keep=1)
    assert {key.split("/")[1] for key in store.objects() if "/" in key} == {"r000003"}
    assert reader.sql("FROM answer").fetchall() == [(1,)]
    with pytest.raises(UnknownName, match=r"'r000001' is no longer kept \(there are: r000003\)"):
        store.at("reader").connect("r000001")
    assert reader.refresh()


def test_a_publisher_with_an_older_lease_is_refused_and_changes_nothing(store: Store) -> None:
    put(store, 1, fence=7)
    before = store.objects()
    late = make_release(store.local, 2)
    with pytest.raises(CommitConflict, match=r"with fence 7, this process has 6.*changes nothing"):
        store.builder.publish(late, fence=6, keep=10)
    assert (store.objects(), store.builder.current_id()) == (before, "r000001")


def test_another_warehouse_cannot_put_its_releases_among_these(store: Store, tmp_path: Path) -> None:
    put(store, 1)
    other = make_release(Releases(tmp_path / "other"), 100)
    with pytest.raises(CommitConflict, match=r"another release r000001.*PENSTOCK_RELEASES_URI of its own"):
        store.builder.publish(other, fence=50, keep=10)
    assert answer_of(store.at("reader")) == 1


# -- a store and a network that fail ----------------------------------------------------------------------------------


@pytest.fixture
def proxied(store: Store) -> Iterator[tuple[str, Disturbance]]:
    """URL of the bucket through a proxy, and a disturbance of nothing yet."""
    endpoint = parse_s3_url(SecretStr(store.url)).endpoint
    with s3_proxy(endpoint) as between:
        yield store.url.replace(endpoint, between.endpoint), between.disturb(match="nothing")


@pytest.mark.parametrize("times", [1, 4], ids=["one answer lost", "every answer lost"])
def test_a_pointer_whose_answer_was_lost_is_read_back_and_counted_once(
    store: Store, proxied: tuple[str, Disturbance], times: int
) -> None:
    url, dials = proxied
    put(store, 1)
    release = make_release(store.local, 2)
    stored = store.at("builder", url=url, warehouse=store.local.warehouse)
    stored._put(release)
    replace = stored._files.replace

    def lossy(name: str, content: bytes, before: Any) -> None:
        dials.match, dials.status, dials.code, dials.times, dials.disturbed = (
            "current.json",
            500,
            "InternalError",
            times,
            0,
        )
        try:
            replace(name, content, before)
        finally:
            dials.match = "nothing"

    stored._files.replace = lossy  # type: ignore[method-assign]
    stored.publish(release, fence=2, keep=10)
    assert dials.disturbed == times
    assert [move.release for move in stored.moves()] == ["r000001", "r000002"]


def test_a_file_that_the_store_gives_back_changed_is_not_published(
    store: Store, proxied: tuple[str, Disturbance]
) -> None:
    url, dials = proxied
    put(store, 1)
    release = make_release(store.local, 2)
    through = store.at("builder", url=url, warehouse=store.local.warehouse)
    dials.match, dials.rewrite = "warehouse.duckdb", lambda body: body[:-1] + b"?" if body else body
    with pytest.raises(StateCorrupt, match=r"releases/r000002/warehouse\.duckdb (has|arrived)"):
        through.publish(release, fence=2, keep=10)
    assert [r.id for r in store.at("reader").all()] == ["r000001"]
    dials.match = "nothing"
    through.publish(release, fence=2, keep=10)
    assert answer_of(store.at("reader")) == 2


@pytest.mark.parametrize("harm", [{"flip": 5000}, {"shorten": 7}, {"cut_at": 4096}], ids=["flipped", "short", "cut"])
def test_a_release_that_comes_down_damaged_is_never_read_and_comes_down_whole_the_next_time(
    store: Store, proxied: tuple[str, Disturbance], harm: dict[str, int]
) -> None:
    url, dials = proxied
    put(store, 1)
    dials.match = "warehouse.duckdb"
    for name, value in harm.items():
        setattr(dials, name, value)
    with pytest.raises((StateCorrupt, StoreUnavailable)):
        store.at("reader", url=url).connect()
    assert store.cached("reader") == []
    dials.match = "nothing"
    assert answer_of(store.at("reader", url=url)) == 1


def test_a_store_that_is_away_is_told_without_its_keys(store: Store) -> None:
    put(store, 1)
    away = store.url.replace(parse_s3_url(SecretStr(store.url)).endpoint, "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable) as told:
        store.at("reader", url=away).connect()
    assert parse_s3_url(SecretStr(store.url)).secret_key.get_secret_value() not in str(told.value)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_the_cache_keeps_what_was_used_last_within_its_limit(store: Store) -> None:
    for number in (1, 2, 3):
        put(store, number)
    stored = store.at("reader")
    stored._cache._limit_bytes = int(2.5 * store.local.get("r000001").database.stat().st_size)
    held = stored.connect("r000001")
    for wanted in ("r000002", "r000001", "r000003"):
        assert answer_of(stored, wanted) == int(wanted[1:])
    assert [name.split("-")[0] for name in store.cached("reader")] == ["r000001", "r000003"]
    stored._cache._limit_bytes = 0
    assert answer_of(stored, "r000002") == 2
    assert [name.split("-")[0] for name in store.cached("reader")] == ["r000002"]
    assert held.execute("FROM answer").fetchall() == [(1,)], "who has it open reads on"


def _fetch(settings: Settings, start: Any, told: Any) -> None:
    start.wait()
    told.put(penstock.table("answer", settings=settings).pl()["number"].to_list())


def test_processes_that_fetch_the_same_release_at_once_end_with_one_whole_copy(store: Store) -> None:
    put(store, 1)
    context = multiprocessing.get_context("fork")
    start, told = context.Event(), context.Queue()
    arguments = (store.settings("reader"), start, told)
    processes = [context.Process(target=_fetch, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    assert [told.get(timeout=60) for _ in processes] == [[1], [1], [1]]
    for process in processes:
        process.join()
    assert len(store.cached("reader")) == 1
    assert not list((store.folder / "reader" / "cache" / "releases").glob(".*partial*"))


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["/a/folder", "s3://", "s3://key:secret@bucket/x", "s3://bucket/x?endpoint=y"])
def test_a_place_that_is_none_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(SettingsError, match="no place in a bucket") as told:
        stored_releases(Settings.load({}, releases_uri=uri))
    assert "secret" not in str(told.value)


def test_the_bucket_of_the_place_and_of_the_connection_must_be_the_same(store: Store) -> None:
    with pytest.raises(SettingsError, match=r"'other'.*correct one"):
        stored_releases(Settings.load({}, releases_uri="s3://other/x", connections={"releases": store.url}))
