"""Penstock: write, audit, publish - at every stage.

>>> import penstock
>>> penstock.table("mart_daily_route_performance").pl()     # of the current release, read only, never blocked
>>> warehouse = penstock.connect("as of 2026-11-01")        # DuckDB's own connection, to the release of that day
>>> reader = penstock.reader()                              # one that lives long: reader.refresh() moves on
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from common.settings import Settings
    from warehouse.reader import Figures, Reader, Table
    from warehouse.releases import Release
    from warehouse.shelf import Shelf

__version__ = "0.1.0"


def connect(release: str | None = None, *, settings: Settings | None = None) -> duckdb.DuckDBPyConnection:
    """A read-only connection to one release of the warehouse.

    The connection stays on its release whatever is published or removed later; connect again to move on. It cannot
    write, open other files or the network, or be configured.

    Args:
        release: ``current`` (the default), a release id such as ``r000012``, or ``as of`` and a time as in ISO 8601
            (without a zone: UTC): the release that was current then.
        settings: resolved settings; from the environment by default.

    Raises:
        UnknownName: nothing has been published yet, or that release is not kept (any more); the message lists those
            there are.
        UsageError: ``release`` is none of the three.
        StateCorrupt: its file is damaged.
        StoreUnavailable: the releases are in object storage (``releases_uri``), and it does not answer.

    Side effects: a release in object storage is fetched into the cache, once.
    """
    return _shelf(settings).connect(release)


def reader(release: str | None = None, *, settings: Settings | None = None) -> Reader:
    """A reader that says which release it reads (``.release.id``) and moves to the newest when told (``.refresh()``).

    Args and errors are those of :func:`connect`.
    """
    from warehouse.reader import Reader

    return Reader(_shelf(settings), release)


def table(name: str, *, release: str | None = None, settings: Settings | None = None) -> Table:
    """One table of a release: ``.pl()``, ``.arrow()``, ``.df()``, or ``.relation()`` to go on in DuckDB.

    Everything that is asked of it comes from the same release.

    Args:
        name: the table, such as ``fct_flights`` or ``ops.gate_results``.
        release: as in :func:`connect`.
        settings: as in :func:`connect`.

    Raises:
        UnknownName: no such table in that release; and what :func:`connect` raises.
    """
    return reader(release, settings=settings).table(name)


def metric(
    names: str | Sequence[str],
    *,
    by: Sequence[str] = (),
    grain: str | None = None,
    filters: Sequence[str] = (),
    sort: str | None = None,
    release: str | None = None,
    settings: Settings | None = None,
) -> Figures:
    """Metrics by groups, as the release defines them: ``.pl()``, ``.arrow()``, ``.df()``, or ``.relation()``.

    ``penstock.metric("on_time_share", by=["origin_code"], grain="month")``. Which metrics there are, with their
    dimensions and units, says ``penstock.reader().metrics()``.

    Args:
        names: one metric, or several of the same dataset.
        by: dimensions to group by; none by default.
        grain: of time, to group by too: ``day``, ``week``, ``month``, ``quarter``, ``year``.
        filters: ``dimension:operator:value`` each: ``origin_code:eq:JFK``; all must hold.
        sort: names of the result by commas, ``-`` before one that falls; the groups by default.
        release: as in :func:`connect`.
        settings: as in :func:`connect`.

    Raises:
        Problem: no such metric, dimension or grain; metrics of several datasets; a filter that is none. And what
            :func:`connect` raises.
    """
    return reader(release, settings=settings).metric(names, by=by, grain=grain, filters=filters, sort=sort)


def releases(*, settings: Settings | None = None) -> list[Release]:
    """The releases that are kept, oldest first: ``.id``, ``.published_at``, ``.current``, ``.manifest``.

    Raises:
        StoreUnavailable: as in :func:`connect`.
    """
    return _shelf(settings).all()


def _shelf(settings: Settings | None) -> Shelf:
    from common.settings import Settings as _Settings
    from penstock.page_readers import shelf_of_page
    from warehouse.stored import shelf_of

    return shelf_of_page() or shelf_of(settings or _Settings.load())
