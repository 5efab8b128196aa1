"""Registry of refined tables: raw LazyFrames in, one refined LazyFrame out, one pure function per table.

::

    raw.* (rows)  ->  REFINED[name].function(**inputs)  ->  latest_per_key(...)  ->  staged Parquet  ->  gate

The functions are pure: no clock, no settings, no files, no Python per row. So a rerun over the same snapshots gives
the same rows in the same order, and every rule is tested row by row without a lake. They never repair what they cannot
know: a value that has no exact meaning becomes null, and the refined suite says whether a null is allowed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from transformations.refine import airlines, airports, flights, planes, weather
from transformations.refine.model import RefinedTable, latest_per_key, polars_schema

REFINED: Mapping[str, RefinedTable] = MappingProxyType(
    {table.name: table for table in (flights.TABLE, weather.TABLE, planes.TABLE, airlines.TABLE, airports.TABLE)}
)
"""Refined tables by name (the lake table is ``refined.<name>``)."""

__all__ = ["REFINED", "RefinedTable", "latest_per_key", "polars_schema"]
