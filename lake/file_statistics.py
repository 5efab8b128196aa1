"""Statistics of a Parquet file for its entry in the catalog: counts for every column, bounds where they can be told.

pyiceberg reads a bound as a Python date, which ends at the year 9999 and begins at 1: one day of 4713 BC would refuse
the whole file. Bounds are optional, and a file without them is read where it need not be; so the column of such a day
gets none.
"""

from __future__ import annotations

from dataclasses import replace

from pyarrow.parquet import FileMetaData
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.table import Table
from pyiceberg.types import DateType, TimestampType, TimestamptzType


def statistics_of(table: Table, parquet: FileMetaData) -> DataFileStatistics:
    """Counts and bounds of a file's columns, by field id."""
    schema = table.schema()
    field_ids = parquet_path_to_id_mapping(schema)
    plan = compute_statistics_plan(schema, table.metadata.properties)
    for position in range(parquet.num_columns):
        field_id = field_ids[parquet.schema.column(position).path]
        if not _bounds_are_readable(plan[field_id], parquet, position):
            plan[field_id] = replace(plan[field_id], mode=MetricsMode(MetricModeTypes.COUNTS))
    return data_file_statistics_from_parquet_metadata(
        parquet_metadata=parquet, stats_columns=plan, parquet_column_mapping=field_ids
    )


def _bounds_are_readable(collector: StatisticsCollector, parquet: FileMetaData, position: int) -> bool:
    if not isinstance(collector.iceberg_type, DateType | TimestampType | TimestamptzType):
        return True
    for group in range(parquet.num_row_groups):
        statistics = parquet.row_group(group).column(position).statistics
        try:
            if statistics is not None:
                _ = (statistics.min, statistics.max)
        except (OverflowError, ValueError):
            return False
    return True
