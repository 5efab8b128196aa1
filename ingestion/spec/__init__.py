"""Source specs: one YAML file per source system, parsed into frozen models that refuse nonsense at load time.

A spec says what a source is, never how to log in: ``connection`` is a name that settings or the scheduler resolve. A
JSON Schema for editors is generated from these models (``ingestion/sources/schema.json``).
"""

from ingestion.spec.columns import ColumnSpec
from ingestion.spec.events import Events, Queue
from ingestion.spec.objects import Objects
from ingestion.spec.policies import Coverage, Cursor, Drift, Freshness, Volume, Window
from ingestion.spec.source import SourceSpec, json_schema, json_schema_text, load_source, load_sources
from ingestion.spec.table import TableSpec

__all__ = [
    "ColumnSpec",
    "Coverage",
    "Cursor",
    "Drift",
    "Events",
    "Freshness",
    "Objects",
    "Queue",
    "SourceSpec",
    "TableSpec",
    "Volume",
    "Window",
    "json_schema",
    "json_schema_text",
    "load_source",
    "load_sources",
]
