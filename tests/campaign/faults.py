"""The faults that Penstock is judged by: what is expected of it, and which tests prove it.

A fault's own trials are in ``fault_NN.py`` beside this file, where there is one; the others are tests of the default
suite that are run from here too. What ``docs/faults.md`` says of a fault is said here.
"""

from __future__ import annotations

from dataclasses import dataclass

_INGESTION = "tests/integration/ingestion"
_LAKE = "tests/integration/lake"
_PENSTOCK = "tests/integration/penstock"
_SERVE = "tests/integration/serve"
_WAREHOUSE = "tests/unit/warehouse"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        number: ``1`` to ``25``, ``R1`` to ``R3``.
        title: what happens.
        expected: what Penstock does then.
        tests: files of tests, or single ones, that prove it.
        sample: the one of them that a quick campaign runs, if the fault has no trials of its own: one that is cheap.
    """

    number: str
    title: str
    expected: str
    tests: tuple[str, ...] = ()
    sample: str = ""


FAULTS = (
    Fault(
        "1",
        "`kill -9` in each stage, at every step and at any time; errors, lost replies and full disks at every step",
        "Readers have the old version or the new one. The same command again ends as if nothing had happened.",
        (
            "tests/campaign/whole_runs.py",
            f"{_INGESTION}/test_killed_replays.py::"
            "test_a_replay_killed_at_any_commit_loses_and_doubles_no_row_and_its_rerun_ends_as_if_undisturbed",
            f"{_INGESTION}/test_killed_row_versions.py",
            f"{_PENSTOCK}/test_killed_maintenance.py::"
            "test_maintenance_killed_at_any_point_changes_nothing_that_is_seen_and_its_rerun_ends_as_if_undisturbed",
            f"{_PENSTOCK}/test_killed_backups.py",
            f"{_PENSTOCK}/test_killed_table_restores.py",
            f"{_PENSTOCK}/test_records.py::test_a_sync_killed_at_any_commit_is_made_good_by_the_next_one",
            f"{_PENSTOCK}/test_incidents.py::"
            "test_a_look_killed_at_any_commit_is_made_good_and_its_message_comes_at_least_once",
        ),
    ),
    Fault(
        "2",
        "A source's connection drops, is reset or stalls while rows are copied and updated",
        "The chunk is read again in a new snapshot, or the load fails whole. Nothing is committed of what broke off.",
        (f"{_INGESTION}/test_postgres_network.py",),
    ),
    Fault(
        "3",
        "The disk is full while staging, spilling or building",
        "An error that names the path. The version before goes on being served, and temporary files are gone.",
        (
            f"{_LAKE}/test_full_disk.py::test_a_full_disk_publishes_nothing_and_the_same_batch_passes_when_there_is_room",
        ),
    ),
    Fault(
        "4",
        "The object store answers 500, 503 or not at all; a PUT succeeds and its reply is lost",
        "Bounded tries with growing pauses. What is not known is read back, never tried again on a guess.",
        (
            f"{_INGESTION}/test_store_faults.py",
            f"{_LAKE}/test_commit.py::test_a_commit_whose_outcome_is_unknown_is_read_back_and_lands_once",
            f"{_LAKE}/test_commit.py::test_a_commit_that_landed_unknown_and_was_replaced_since_is_not_committed_again",
        ),
    ),
    Fault(
        "5",
        "Uploads are torn or abandoned, downloads cut, bits flipped",
        "Length and checksum are verified before anything is committed; a damaged file is refused by its reader.",
        (
            f"{_INGESTION}/test_store_faults.py::test_every_bit_flip_and_every_cut_of_an_object_is_detected",
            f"{_INGESTION}/test_store_faults.py::test_parts_of_an_upload_that_was_never_finished_are_no_object",
            f"{_INGESTION}/test_formats.py::test_a_packed_object_that_is_cut_or_changed_anywhere_is_refused_whole",
            f"{_INGESTION}/test_formats.py::test_a_parquet_file_that_is_cut_damaged_or_no_text_is_refused",
            "tests/unit/lake/test_footers.py::test_what_is_no_parquet_file_or_is_cut_off_is_told_as_damaged",
            f"{_LAKE}/test_sweep.py::test_an_upload_in_parts_that_nobody_finished_is_aborted",
        ),
    ),
    Fault(
        "6",
        "Clocks differ by an hour or step back; daylight saving begins and ends; a leap day",
        "What came later is told by version numbers and the source's cursor. Intervals are half-open, in UTC.",
        (
            "tests/unit/common/test_intervals.py",
            f"{_LAKE}/test_sweep.py",
            f"{_WAREHOUSE}/test_lease.py::test_each_lease_has_a_greater_number_than_all_before_and_an_old_one_moves_nothing",
        ),
    ),
    Fault(
        "7",
        "The same file, page, event or run comes twice",
        "A batch is known by its content and a row by its key: the second time nothing is written.",
        (
            f"{_LAKE}/test_publish.py::test_the_same_batch_again_changes_nothing_and_leaves_no_file",
            f"{_LAKE}/test_publish.py::test_the_same_batch_that_reaches_the_commit_again_changes_nothing",
            f"{_PENSTOCK}/test_run.py::test_the_same_days_again_change_nothing_and_need_no_release",
            f"{_INGESTION}/test_store_faults.py::test_an_object_that_is_listed_twice_is_one",
            f"{_INGESTION}/test_vanished_objects.py::"
            "test_a_new_object_is_told_and_reading_an_interval_again_and_again_doubles_nothing",
            f"{_INGESTION}/test_events.py",
        ),
        sample=f"{_LAKE}/test_publish.py::test_the_same_batch_again_changes_nothing_and_leaves_no_file",
    ),
    Fault(
        "8",
        "Rows come late, within the late window and beyond it; a cursor lies in the year 2999",
        "Within: merged into their own day. Beyond: counted, and taken in if the spec says so. A day that is not over "
        "is never read.",
        (
            f"{_INGESTION}/test_row_versions.py::test_rows_beyond_the_late_window_are_counted_and_taken_in_by_policy",
            f"{_INGESTION}/test_row_versions.py::test_a_late_row_inside_the_window_is_merged_to_its_own_day",
            f"{_PENSTOCK}/test_late_days.py",
            f"{_PENSTOCK}/test_run.py::test_a_late_row_inside_the_window_is_taken_in_by_the_next_days_run",
            f"{_PENSTOCK}/test_bad_input.py::test_an_interval_in_the_future_is_refused_before_the_source_is_asked",
        ),
        sample=f"{_INGESTION}/test_row_versions.py::test_a_late_row_inside_the_window_is_merged_to_its_own_day",
    ),
    Fault(
        "9",
        "The source's schema drifts in eight ways",
        "By the spec's policy: follow, refuse the whole batch, or set rows apart. Never converted, never dropped in "
        "silence.",
        (
            f"{_INGESTION}/test_drift.py",
            f"{_INGESTION}/test_drift_of_formats.py",
            f"{_INGESTION}/test_drift_over_time.py",
            f"{_INGESTION}/test_mysql_drift.py",
            "tests/property/test_lake_evolution.py",
        ),
        sample=f"{_INGESTION}/test_drift.py::test_what_a_policy_does_with_the_drift_of_objects",
    ),
    Fault(
        "10",
        "NaN, infinities, -0.0, dates no calendar has, numbers that overflow",
        "Published bit by bit or set apart by rule. All readers give the same answer to the same question.",
        (f"{_INGESTION}/test_extreme_values.py", "tests/unit/refine"),
        sample=f"{_INGESTION}/test_extreme_values.py",
    ),
    Fault(
        "11",
        "Cells of 10 MB, 5,000 columns, NUL bytes, records of a million lines",
        "Over the declared limit a row is set apart with its size; memory is bounded.",
        (
            f"{_INGESTION}/test_long_records.py",
            "tests/property/test_long_records.py",
            f"{_LAKE}/test_quarantined_rows.py::test_a_cell_of_ten_megabytes_is_kept_byte_for_byte",
            f"{_INGESTION}/test_hostile_objects.py::test_a_million_broken_records_end_the_reading",
        ),
    ),
    Fault(
        "12",
        "Text that is not in its encoding, byte order marks, lone surrogates",
        "Decoded strictly as declared. A bad row waits in quarantine with the place of its byte.",
        (
            f"{_INGESTION}/test_formats.py::test_a_declared_encoding_is_read_strictly_and_its_mark_is_no_data",
            f"{_INGESTION}/test_formats.py::test_a_byte_that_is_no_character_costs_its_record_and_says_where_it_stands",
            f"{_INGESTION}/test_formats.py::test_sixteen_bits_without_a_mark_are_not_guessed",
            f"{_INGESTION}/test_postgres_encodings.py",
        ),
    ),
    Fault(
        "13",
        "A gate crashes, takes too long or has no suite; a poisoned batch passes its types",
        "No verdict, no publish. Only a name and a reason let a refused batch through, and none what was not judged.",
        (
            f"{_PENSTOCK}/test_bad_input.py::test_a_table_without_a_suite_is_refused_because_nobody_judged_it",
            f"{_PENSTOCK}/test_bad_input.py::test_a_gate_that_takes_too_long_publishes_nothing",
            f"{_PENSTOCK}/test_bad_input.py::test_a_suite_without_rules_publishes_nothing",
            f"{_PENSTOCK}/test_bad_input.py::"
            "test_a_rule_that_cannot_be_judged_publishes_nothing_and_is_named_with_file_and_line",
            f"{_PENSTOCK}/test_bad_input.py::test_what_a_gate_could_not_judge_is_refused_whoever_answers_for_it",
            f"{_PENSTOCK}/test_bad_input.py::"
            "test_a_refused_batch_is_published_with_a_name_and_a_reason_and_both_are_kept",
            "tests/property/test_poisoned_batches.py",
        ),
        sample="tests/property/test_poisoned_batches.py::"
        "test_exactly_the_poisoned_rows_are_rejected_for_exactly_what_is_wrong",
    ),
    Fault(
        "14",
        "A spreadsheet would take an exported cell for a formula",
        "Text that begins so is prefixed, headers too; numbers, negative ones too, are as they were.",
        (f"{_SERVE}/test_data.py::test_no_text_of_a_csv_is_a_formula_and_no_number_is_touched",),
        sample=f"{_SERVE}/test_data.py::test_no_text_of_a_csv_is_a_formula_and_no_number_is_touched",
    ),
    Fault(
        "15",
        "Names of tables, columns, schemas and partitions, and questions, that hold SQL",
        "Names are validated when a spec is loaded and quoted where they are used; values are bound.",
        (
            f"{_INGESTION}/test_hostile_names.py",
            "tests/architecture/test_sql_text.py",
            f"{_SERVE}/test_refusals.py::test_no_name_of_a_callers_becomes_sql",
        ),
        sample=f"{_SERVE}/test_refusals.py::test_no_name_of_a_callers_becomes_sql",
    ),
    Fault(
        "16",
        "Object keys, zip members and partition values that lead elsewhere",
        "Keys are made in one place and must stay below their prefix; what would not is refused.",
        (
            "tests/unit/lake/test_object_keys.py",
            "tests/unit/lake/test_paths.py",
            f"{_INGESTION}/test_hostile_objects.py::test_a_zip_with_a_member_that_leads_elsewhere_is_refused_whole",
            f"{_INGESTION}/test_hostile_objects.py::"
            "test_a_listed_key_that_means_something_else_to_a_library_is_refused_and_not_asked_for",
            f"{_INGESTION}/test_hostile_objects.py::test_a_link_that_leads_out_of_the_folder_is_refused",
        ),
        sample="tests/unit/lake/test_object_keys.py",
    ),
    Fault(
        "17",
        "Bombs: zip, gzip, nested, Parquet dictionaries, a million members",
        "Read as a stream with limits on members, bytes, ratio and depth; stopped before the disk is.",
        (
            f"{_INGESTION}/test_hostile_objects.py::test_a_bomb_stops_at_the_declared_limit_and_never_a_byte_beyond",
            f"{_INGESTION}/test_hostile_objects.py::test_a_ratio_that_no_table_has_stops_early",
            f"{_INGESTION}/test_hostile_objects.py::test_a_million_members_are_not_even_listed",
            f"{_INGESTION}/test_object_refusals.py::test_a_gzip_bomb_stops_before_it_fills_the_disk",
        ),
    ),
    Fault(
        "18",
        "Secrets in logs, errors, XCom, manifests, lineage, answers, process lists",
        "Canaries planted wherever a secret may stand are found nowhere.",
        (
            "tests/security/test_canaries.py",
            f"{_PENSTOCK}/test_telemetry.py::test_no_secret_is_in_anything_that_is_told",
            f"{_PENSTOCK}/test_lineage.py::test_no_secret_of_a_connection_is_told",
            "tests/integration/test_embedded_services.py::test_no_secret_is_in_a_command_line_a_log_or_a_repr",
            f"{_INGESTION}/test_init.py::test_values_and_passwords_are_in_no_file_and_no_output",
            "tests/unit/common/test_settings.py::test_a_secret_shows_in_no_text_form_of_the_settings",
            "tests/unit/common/test_logs.py::test_every_text_makes_one_line_and_a_password_in_a_url_never_shows",
            "tests/integration/dbt/test_dbt_runner.py::"
            "test_lake_files_in_object_storage_are_read_and_their_secret_is_nowhere",
            "tests/dags/test_dag_parsing.py::test_no_password_is_in_what_parsing_gives",
        ),
        sample="tests/unit/common/test_logs.py::test_every_text_makes_one_line_and_a_password_in_a_url_never_shows",
    ),
    Fault(
        "19",
        "A stranger's SQL reads files, the network, settings, paths or other people's tables",
        "One statement that only asks, of what its role may see, in a process that can reach nothing else.",
        (
            "tests/security/test_sandbox.py::test_no_statement_of_the_corpus_escapes",
            "tests/security/test_sandbox.py::test_a_statement_sees_the_rows_and_columns_of_its_role_only",
            "tests/security/test_sandbox.py::test_a_worker_has_every_wall_that_this_machine_can_give",
        ),
        sample="tests/security/test_sandbox.py::test_no_statement_of_the_corpus_escapes",
    ),
    Fault(
        "20",
        "A stranger's SQL takes memory, time, disk or a result without end",
        "Its process is ended by the limits of the system; neighbours are answered.",
        (
            "tests/security/test_sandbox.py::test_a_statement_that_takes_too_much_is_ended_and_told_why",
            "tests/security/test_sandbox.py::test_neighbours_of_a_hog_are_answered_while_it_runs",
            "tests/security/test_sandbox.py::test_more_than_may_wait_are_sent_away_and_told_to_come_again",
        ),
        sample="tests/security/test_sandbox.py::test_a_statement_that_takes_too_much_is_ended_and_told_why",
    ),
    Fault(
        "21",
        "Tokens that are stale, revoked, for somebody else or not signed; rows that are not the caller's",
        "Refused before any SQL. A revoked token counts no longer than keys are kept.",
        (
            "tests/security/test_tokens.py",
            f"{_SERVE}/test_roles.py",
            f"{_SERVE}/test_refusals.py::test_without_a_good_token_nothing_is_told",
            f"{_SERVE}/test_refusals.py::test_a_revoked_token_is_refused_by_the_next_request",
        ),
        sample="tests/security/test_tokens.py::test_a_bad_token_is_refused",
    ),
    Fault(
        "22",
        "A source's URL, a redirect or a name leads to an address inside",
        "Addresses are resolved once, judged, and those are connected to; a redirect is never followed.",
        (
            "tests/unit/ingestion/test_hosts.py",
            f"{_INGESTION}/test_store_faults.py::test_a_redirect_is_never_followed",
            f"{_INGESTION}/test_store_faults.py::test_a_bucket_at_a_forbidden_or_unlisted_host_is_never_connected_to",
        ),
    ),
    Fault(
        "23",
        "The same run twice at once; a task is tried again while the one before lives",
        "One commits, the other finds its work done. A writer that was overtaken changes nothing.",
        (
            f"{_LAKE}/test_commit.py::"
            "test_two_processes_racing_for_one_partition_leave_exactly_one_batch_and_its_quarantine",
            f"{_LAKE}/test_commit.py::test_three_processes_that_publish_their_own_partitions_all_land",
            f"{_INGESTION}/test_killed_row_versions.py::test_two_runs_of_the_same_day_at_once_leave_what_one_leaves",
            f"{_INGESTION}/test_killed_replays.py::"
            "test_two_replays_and_a_run_of_the_same_interval_at_once_publish_the_row_once",
            "tests/campaign/whole_runs.py::"
            "test_two_runs_of_the_same_days_at_once_from_nothing_publish_each_interval_once",
        ),
    ),
    Fault(
        "24",
        "Publishes at once, a publisher that sleeps past its lease, rollbacks, readers all the while",
        "One wins; the pointer moves once a version; an older fencing number is refused.",
        (
            f"{_WAREHOUSE}/test_lease.py",
            f"{_WAREHOUSE}/test_releases.py",
            f"{_WAREHOUSE}/test_readers.py::"
            "test_readers_in_processes_of_their_own_never_fail_nor_see_a_mixture_nor_an_older_release",
            f"{_SERVE}/test_following.py::test_answers_while_releases_come_and_go_are_each_from_exactly_one",
        ),
    ),
    Fault(
        "25",
        "A backfill during a scheduled run, over the same intervals, in both orders",
        "The newest data wins by key and the end is that of one order or the other, whole.",
        (
            "tests/property/test_merge_model.py::"
            "test_the_final_state_is_that_of_the_serial_order_in_every_interleaving",
            f"{_INGESTION}/test_row_versions.py::"
            "test_a_run_that_was_overtaken_looks_again_and_marks_what_the_source_does_not_have_then",
        ),
    ),
    Fault(
        "R1",
        "A source answers with success and far too few rows",
        "A batch below the floor is refused, and every live row stays.",
        (f"{_INGESTION}/test_volume_guard.py",),
        sample=f"{_INGESTION}/test_volume_guard.py",
    ),
    Fault(
        "R2",
        "State and lake were written by the version before",
        "They load, and the next run goes on from them.",
        (
            f"{_PENSTOCK}/test_recovery_drill.py",
            f"{_WAREHOUSE}/test_readers.py::"
            "test_a_warehouse_from_before_moves_were_written_down_answers_by_its_first_publishings",
        ),
        sample=f"{_WAREHOUSE}/test_readers.py::"
        "test_a_warehouse_from_before_moves_were_written_down_answers_by_its_first_publishings",
    ),
    Fault(
        "R3",
        "A dependency is not what was locked",
        "The install refuses it by its hash.",
        (
            "tests/architecture/test_supply_chain.py::test_every_locked_package_has_its_hashes",
            "tests/architecture/test_supply_chain.py::test_everything_that_installs_asks_for_the_hashes",
            "tests/architecture/test_supply_chain.py::"
            "test_a_wheel_that_was_changed_after_locking_is_refused_and_nothing_is_installed",
        ),
        sample="tests/architecture/test_supply_chain.py::test_every_locked_package_has_its_hashes",
    ),
)
"""Every fault, in order."""


def fault(number: str) -> Fault:
    """The fault of that number.

    Raises:
        KeyError: there is none.
    """
    return {each.number: each for each in FAULTS}[number]
