"""Defects of Penstock's own code that fault tests have found: what was wrong, what it does now, the regression test.

``docs/faults.md`` lists them. They stay here for good: a fault that was possible once is a fault to be tried for ever.
"""

from __future__ import annotations

DEFECTS: tuple[tuple[str, str, str], ...] = (
    (
        "Two replays of an interval at once could take rows that still wait out of quarantine.",
        "The age of a quarantined file counts now, not that of its rows.",
        "tests/integration/ingestion/test_killed_replays.py::"
        "test_two_replays_and_a_run_of_the_same_interval_at_once_publish_the_row_once",
    ),
    (
        "NaN in a float column of a file whose statistics leave it out passed rules such as 'between', and was served.",
        "Such rows are rejected.",
        "tests/property/test_poisoned_batches.py::test_exactly_the_poisoned_rows_are_rejected_for_exactly_what_is_wrong",
    ),
    (
        "A negative zero could come out of the lake as zero: DuckDB's Parquet writer takes both for one entry.",
        "Tables with floats are written without dictionaries.",
        "tests/integration/ingestion/test_extreme_values.py::"
        "test_extreme_values_are_published_bit_by_bit_or_quarantined_and_all_readers_agree",
    ),
    (
        "Ctrl-C or SIGTERM in the middle of a gate's query was taken for a failed query, and the run went on.",
        "It stops before the batch, or the release, is published.",
        "tests/campaign/whole_runs.py::test_a_run_that_is_asked_to_stop_tidies_up_and_exits_with_130",
    ),
    (
        "An extract of objects that was killed left files in the state folder, and nothing said so.",
        "The next run says that it starts over, and removes them.",
        "tests/integration/ingestion/test_starting_over.py::test_objects_whose_extract_was_killed_start_over_and_say_so_once",
    ),
    (
        "After a hard kill the embedded S3 server listed objects whose bytes it could not hand out yet.",
        "It counts as started only when what lies in it can be read.",
        "tests/integration/test_embedded_services.py",
    ),
)
