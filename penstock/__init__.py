"""Penstock: write, audit, publish - at every stage.

>>> import penstock
>>> warehouse = penstock.connect()          # the current release, read only, never blocked
>>> warehouse.sql("select * from mart_daily_route_performance limit 5")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from common.settings import Settings

__version__ = "0.1.0"


def connect(release: str | None = None, *, settings: Settings | None = None) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a release of the warehouse.

    The connection stays on its release whatever is published later; connect again to move on.

    Args:
        release: a release id such as ``r000012``; the current release by default.
        settings: resolved settings; from the environment by default.

    Raises:
        UnknownName: nothing has been published yet, or no release of that id.
        StateCorrupt: its file is damaged.
    """
    from common.settings import Settings as _Settings
    from warehouse.releases import Releases

    return Releases((settings or _Settings.load()).warehouse).connect(release)
