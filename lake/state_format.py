"""Which format the lake is of: ``<lake>/ops/format.json``, so that an older Penstock leaves a newer lake alone.

The file is written with a lake's first table. A lake without it is of format 1: Penstock 0.1.0 did not write it.
"""

from __future__ import annotations

from importlib import metadata

from common.errors import StoreUnavailable, UsageError
from lake.paths import root_location
from lake.storage import Storage

FORMAT = 1
"""What this Penstock reads and writes. One more whenever an older one could misread what a newer one has written."""


def _location(lake_uri: str) -> str:
    return f"{root_location(lake_uri)}/ops/format.json"


def check_format(storage: Storage, lake_uri: str) -> bool:
    """Whether the lake says of which format it is.

    Raises:
        UsageError: of a newer one than this Penstock knows.
        StateCorrupt, StoreUnavailable: the file cannot be read.
    """
    location = _location(lake_uri)
    try:
        if storage.size(location) is None:
            return False
    except OSError as error:
        raise StoreUnavailable(f"Cannot look at {location}: {error}.", remedy="check the lake's storage") from None
    found = storage.read_json(location)
    if int(found["format"]) > FORMAT:
        raise UsageError(
            f"The lake at {root_location(lake_uri)} has format {found['format']}, this Penstock knows those up to "
            f"{FORMAT}.",
            remedy=f"use Penstock {found.get('penstock', 'of a newer version')} or newer (docs/upgrading.md)",
        )
    return True


def note_format(storage: Storage, lake_uri: str) -> None:
    """Say of which format the lake is.

    Raises:
        StoreUnavailable: the store does not take it.
    """
    storage.replace_json(_location(lake_uri), {"format": FORMAT, "penstock": metadata.version("penstock")})
