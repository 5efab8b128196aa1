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
        "tests/property/test_poisoned_batches.py::"
        "test_exactly_the_poisoned_rows_are_rejected_for_exactly_what_is_wrong",
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
        "tests/integration/ingestion/test_starting_over.py::"
        "test_objects_whose_extract_was_killed_start_over_and_say_so_once",
    ),
    (
        "After a hard kill the embedded S3 server listed objects whose bytes it could not hand out yet.",
        "It counts as started only when what lies in it can be read.",
        "tests/integration/test_embedded_services.py",
    ),
    (
        "Of two ingests of one interval the last to commit won, even if it had read the source first: "
        "older rows replaced newer ones.",
        "An interval that was overtaken is read again.",
        "tests/oracle/test_interleavings.py::test_what_is_done_at_once_ends_as_if_one_had_come_after_the_other",
    ),
    (
        "A replay that had reported success was undone by an ingest that had begun before it.",
        "The same; what was repaired is taken in when the batch is committed.",
        "tests/oracle/test_interleavings.py::test_what_is_done_at_once_ends_as_if_one_had_come_after_the_other",
    ),
    (
        "A replay that lost a race withdrew the receipt of its own attempt, which had landed.",
        "The attempt that landed is spared.",
        "tests/oracle/test_interleavings.py::test_what_is_done_at_once_ends_as_if_one_had_come_after_the_other",
    ),
    (
        "A refine beside an ingest was refused as if Penstock had miscounted: raw rows and their "
        "account were read at different moments.",
        "Each raw table is read as of one snapshot.",
        "tests/oracle/test_interleavings.py::test_what_is_done_at_once_ends_as_if_one_had_come_after_the_other",
    ),
    (
        "A slow refine put older refined rows back.",
        "It is checked as an ingest is, and made again.",
        "tests/oracle/test_interleavings.py::test_what_is_done_at_once_ends_as_if_one_had_come_after_the_other",
    ),
    (
        "A publisher that woke after its lease had ended retired the release that had just been rolled back to.",
        "Retention and the choice of a rollback are fenced too.",
        "tests/oracle/test_interleavings.py::"
        "test_a_publisher_whose_lease_has_expired_takes_no_release_from_who_came_after_it",
    ),
    (
        "A builder that had lost its lease ended in a bare error of DuckDB.",
        "It is told as a conflict that another build has won.",
        "tests/oracle/test_interleavings.py::"
        "test_a_publisher_whose_lease_has_expired_takes_no_release_from_who_came_after_it",
    ),
    (
        "Deletions were told as marked whose partition another run had published since.",
        "Source and lake are compared again, and what was marked is counted.",
        "tests/integration/ingestion/test_row_versions.py::"
        "test_a_run_that_was_overtaken_looks_again_and_marks_what_the_source_does_not_have_then",
    ),
    (
        "Iceberg metadata that are missing or torn came out as FileNotFoundError or ValueError.",
        "The error names table, file and remedy.",
        "tests/integration/lake/test_damaged_files.py::"
        "test_metadata_that_is_lost_or_torn_is_told_with_table_file_and_remedy",
    ),
    (
        "Three fifths of single flipped bits in a lake file were read as other rows in silence: "
        "DuckDB's Parquet pages have no checksum.",
        "Receipts hold a proof of the rows, compared before they are refined and built.",
        "tests/integration/lake/test_proof.py::"
        "test_a_flipped_bit_of_a_published_file_is_refused_wherever_it_changes_a_row",
    ),
    (
        "A full disk was told as a store that may answer later, as an unknown outcome, or by a traceback.",
        "`DiskFull` with path and bytes.",
        "tests/integration/lake/test_full_disk.py::"
        "test_a_full_disk_publishes_nothing_and_the_same_batch_passes_when_there_is_room",
    ),
    (
        "Half a copy of the last release kept a full disk full.",
        "It is removed.",
        "tests/integration/warehouse/test_full_disk.py::"
        "test_half_a_copy_of_the_last_release_does_not_keep_the_disk_full",
    ),
    (
        "A candidate that found no room for the pointer could not be published any more.",
        "It stays a candidate.",
        "tests/integration/warehouse/test_full_disk.py::"
        "test_a_candidate_whose_publish_finds_no_room_stays_one_and_is_published_when_there_is",
    ),
    (
        "A move of the pointer could be written in part.",
        "It is taken back and told.",
        "tests/integration/warehouse/test_full_disk.py::test_a_move_that_is_written_in_part_is_taken_back_and_told",
    ),
    (
        "A MySQL server that fell silent in the middle of an answer was waited for without end.",
        "The connection is severed after the statement's time.",
        "tests/integration/ingestion/test_mysql_network.py::"
        "test_a_connection_that_breaks_or_says_nothing_more_is_given_up_and_leaves_nothing",
    ),
    (
        "A process that made a pipeline for each day kept all of them: 15 MB, two threads and a file more each day.",
        "A pipeline is freed with its run. Found by the soak.",
        "tests/unit/penstock/test_pipeline_lifetime.py::"
        "test_a_pipeline_that_knows_suites_and_digests_is_freed_with_its_lake",
    ),
    (
        "A dataset's lineage named datasets that the role may not see.",
        "They are left out.",
        "tests/integration/serve/test_roles.py::test_a_role_sees_its_columns_of_its_datasets_by_every_door",
    ),
    (
        "A release that was dropped from the cache while a process for guarded SQL was started on it ended the "
        "statements of others, which were told that they had taken too much memory.",
        "Only the start fails.",
        "tests/security/test_sandbox.py::test_a_release_that_is_gone_ends_no_statement_on_another_one",
    ),
    (
        "A restore that was killed between a release's marker and its manifest could not go on, and a state with a "
        "damaged release could not be restored over: both were told to roll back.",
        "A release that is not whole is in the way like any other.",
        "tests/integration/penstock/test_killed_backups.py::"
        "test_a_release_that_is_there_in_part_stops_neither_a_restore_that_goes_on_nor_one_that_may_overwrite",
    ),
    (
        "A manifest that the store gave back short ended a commit in a bare error of the Avro reader.",
        "The error names table, file and remedy, and nothing has landed.",
        "tests/integration/lake/test_short_downloads.py::"
        "test_a_manifest_that_arrives_short_wherever_a_commit_reads_one_takes_no_rows_out_of_the_table",
    ),
    (
        "A live receipt that was brought up to date on a full disk was cut off.",
        "The old document stays until the new one is whole.",
        "tests/integration/lake/test_full_disk.py::"
        "test_a_live_receipt_that_finds_no_room_for_what_is_new_in_it_stays_what_it_was",
    ),
    (
        "A NATS server that stalled was taken for one without messages, so that `penstock watch --once` ended as if it "
        "had read them; where its answer came just too late it was taken for one that is gone.",
        "It is waited for, and only its own word counts.",
        "tests/integration/ingestion/test_events.py::"
        "test_a_server_that_stalls_is_waited_for_and_not_taken_for_one_without_messages",
    ),
    (
        "What a process remembers of Iceberg's manifests was bounded by their number, while each merged one holds all "
        "days again: 5 KB for every file of every merge.",
        "It is bounded by the files. Found by the soak.",
        "tests/unit/lake/test_read_manifests.py::test_merged_manifests_of_a_table_with_a_file_a_day_do_not_add_up",
    ),
    (
        "Files of costs stayed for ever, one for each run.",
        "A sweep deletes those that the table has, a month later. Found by the soak.",
        "tests/integration/penstock/test_records.py::"
        "test_files_of_costs_that_the_table_has_go_when_no_sync_looks_at_their_month_any_more",
    ),
    (
        "Lineage events stayed for ever, 40 KB a day, and every question read all of them.",
        "Maintenance leaves of old months what the graph is made of. Found by the soak.",
        "tests/integration/penstock/test_lineage.py::test_of_old_months_only_what_the_graph_is_made_of_stays",
    ),
    (
        "An issuer that answered something else than HTTP was told as a defect of the server.",
        "It is unavailable.",
        "tests/security/test_tokens.py::test_an_issuer_that_answers_no_http_is_unavailable",
    ),
    (
        "The dashboard of the platform's health counted rows in quarantine again for each time that their interval was "
        "published, and called an interval refused for good that had been refused once.",
        "The last account of an interval counts.",
        "tests/integration/penstock/test_dashboards.py::"
        "test_the_last_account_of_an_interval_says_what_waits_however_often_it_was_published",
    ),
    (
        "With a lake on S3 a dataset's lineage in the API left out what other machines had told, "
        "which its picture showed.",
        "Both read the same graph.",
        "tests/integration/penstock/test_lineage.py::test_hosts_that_share_a_lake_and_no_folder_share_its_lineage",
    ),
    (
        "Of two processes that read a table, the one whose snapshot was older could take chunks that the other had "
        "left when it was killed for its own state: rows of two moments in one batch.",
        "What is left is kept only by a snapshot that surely is the later one.",
        "tests/integration/ingestion/test_postgres_chunks.py::"
        "test_what_a_later_extract_has_left_is_not_taken_for_the_state_of_a_snapshot_before_it",
    ),
    (
        "A publish that broke off behind the pointer's move advised the same command again, and that one failed: no "
        "candidate was left.",
        "Where the release is current and no candidate waits, it says so and is a success.",
        "tests/integration/penstock/test_command_line.py::test_one_day_stage_by_stage_is_the_same_day_as_by_one_run",
    ),
    (
        "The metadata of a table that was just made, cut on their way back, came out as the library's own error.",
        "They are read again; if they lie there so, the error names the table.",
        "tests/integration/lake/test_short_downloads.py::"
        "test_metadata_that_arrive_short_when_a_table_is_made_are_read_again",
    ),
)
