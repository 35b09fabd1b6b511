//! What every store must do, as checks over the port: the suite that SQLite, PostgreSQL and the store in memory pass alike; and what every
//! queue must do ([`check_queue`]); and what a store does that serves several hosts ([`check_cluster`]).
//!
//! Each check gets a fresh, empty store and panics with what it found. [`transcript`] plays a seeded random sequence of operations and
//! writes down everything that can be seen: two stores that agree give the same text.
//!
//! Deliberately absent: an async runtime, and anything that is one store's own (files, locks, full disks): those tests live with it.

#![expect(clippy::missing_panics_doc, reason = "a check panics when it fails; that is what it is for")]

mod admission;
mod cluster;
mod commits;
mod definitions;
mod exact;
mod journal;
mod kv;
mod left;
mod lists;
pub mod make;
mod plugins;
mod queue;
mod random;
mod resources;
mod retention;
mod sessions;
mod work;

use std::sync::Arc;
use std::task::Poll;

pub use cluster::check_cluster;
pub use queue::{QueueKind, check_queue};
pub use random::transcript;

use super::{Journal, PluginStore, Pruning, Resources, Store};

/// Everything that a store of runs does.
pub trait Whole: Store + Journal + PluginStore + Resources + Pruning {}

impl<T: Store + Journal + PluginStore + Resources + Pruning> Whole for T {}

/// All of them at once: the suite has no runtime, and needs none for this.
async fn side_by_side<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(value) = one.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if waiting.iter().any(|(_, done)| done.is_none()) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

/// Runs the checks of a module, each on a store of its own.
macro_rules! run {
    ($make:ident: $($module:ident :: { $($check:ident),* $(,)? })*) => {
        $($({
            let store = $make().await;
            $module::$check(&*store).await;
            store.close().await;
        })*)*
    };
}

/// Checks a kind of store; `make` gives an empty one.
pub async fn check_store<T: Whole>(make: impl AsyncFn() -> Arc<T>) {
    run!(make:
        commits::{
            a_commit_is_seen_whole_when_it_returns,
            a_second_decision_on_the_same_version_is_a_conflict_and_leaves_nothing,
            a_run_that_does_not_exist_cannot_be_moved,
            a_run_cannot_be_made_twice,
            an_idempotency_key_gives_the_run_that_it_made,
            what_a_run_is_made_with_never_changes,
            a_commit_that_does_not_hold_together_is_refused,
            events_never_have_gaps,
            a_snapshot_spares_the_events_before_it,
            a_message_is_deleted_with_the_commit_that_takes_it_in,
            a_refused_commit_takes_no_message_in,
            messages_come_in_the_order_of_their_making,
            the_latest_time_is_that_of_the_latest_event,
            a_run_nobody_knows_is_absent_everywhere,
        }
        admission::{
            no_more_runs_of_a_key_begin_than_may,
            many_at_once_still_leave_no_more_than_may,
            those_that_wait_come_in_their_order_and_nobody_overtakes_them,
            every_queue_with_room_shows_its_first,
            only_a_new_run_begins_or_waits_and_only_an_old_one_is_admitted,
            the_backlog_is_counted_no_further_than_asked,
        }
        exact::{
            json_comes_back_byte_for_byte,
            texts_of_all_kinds_come_back_as_they_were,
            a_large_value_is_stored_once,
            blobs_that_are_not_there_are_left_out,
        }
        work::{
            ready_steps_come_longest_first,
            what_was_published_long_ago_is_published_again_under_another_number,
            paused_and_ended_runs_have_nothing_ready,
            a_step_that_is_taken_is_no_longer_ready,
            steps_of_other_hosts_are_found,
            timers_come_earliest_first_and_only_when_due,
            a_timer_is_moved_and_cleared,
            item_results_come_in_the_order_of_the_items_and_go_with_the_join,
        }
        lists::{
            runs_come_newest_first_and_filters_hold,
            pages_are_stable_while_runs_are_added,
            a_cursor_that_no_list_gave_is_invalid,
            a_page_is_never_larger_than_the_limit,
            steps_are_listed_and_found,
            dead_steps_come_newest_first,
            events_are_read_in_parts,
            approvals_are_listed_decided_and_filtered,
            what_runs_have_is_counted,
            keys_are_found_revoked_and_touched,
            log_lines_come_oldest_first,
        }
        definitions::{
            the_same_content_again_is_the_same_version,
            other_content_under_the_same_label_is_a_conflict,
            versions_without_a_label_are_numbered,
            a_version_must_or_must_not_exist,
            an_older_version_that_is_saved_again_is_in_force_again,
            versions_are_found_by_label_number_and_digest,
            workflows_are_listed_searched_and_switched,
            realms_do_not_see_each_other,
            a_workflow_with_runs_cannot_be_deleted,
            numbers_about_runs_are_right,
        }
        journal::{
            records_come_back_in_order_and_by_entry,
            answers_come_back_byte_for_byte,
            the_same_record_again_is_fine_and_its_effects_are_not_repeated,
            another_record_under_the_same_number_is_refused,
            a_record_that_would_leave_a_gap_is_refused,
            only_the_attempt_and_the_claim_that_run_may_append,
            a_step_that_does_not_run_takes_no_records,
            another_host_goes_on_from_the_same_records,
            records_go_with_the_commit_that_ends_the_step,
            records_stay_while_the_step_is_open,
            a_refused_commit_ends_no_journal,
            record_and_effects_are_stored_together_or_not_at_all,
        }
        kv::{
            values_are_set_replaced_and_deleted,
            keys_come_sorted_by_bytes_and_prefixes_are_literal,
            the_quota_of_keys_is_exact,
            the_quota_of_bytes_is_exact,
            a_quota_that_was_lowered_refuses_and_deletes_nothing,
            scopes_never_see_each_other,
            effects_without_a_journal_are_stored_together_or_not_at_all,
        }
        left::{
            an_event_is_stored_once,
            events_come_newest_first_and_filters_hold,
            pages_of_events_are_stable_while_events_are_added,
            payloads_come_back_byte_for_byte,
            files_are_found_listed_and_replaced,
            a_cursor_that_no_list_gave_is_invalid,
            the_latest_time_is_raised_by_what_guests_leave,
        }
        sessions::{
            a_session_grows_with_the_records_of_its_calls,
            a_refused_record_adds_no_line,
            sessions_outlive_their_step_and_are_listed_as_they_began,
            lines_come_back_byte_for_byte,
        }
        plugins::{
            rows_come_back_as_they_were_and_are_replaced,
            versions_come_newest_first,
            every_row_of_every_realm_is_read_at_start,
            a_component_is_kept_once_by_its_digest,
            a_plugin_that_an_open_run_needs_cannot_be_deleted,
            a_component_stays_while_another_row_names_it,
            users_come_newest_first_and_only_while_open,
            realms_have_plugins_of_their_own,
            a_refused_run_pins_nothing,
        }
        resources::{
            a_text_comes_back_byte_for_byte_as_a_numbered_version,
            a_text_that_was_there_before_is_the_version_it_was,
            a_disabled_resource_keeps_its_history_and_is_enabled_by_saving,
            all_are_listed_by_realm_kind_and_name_and_the_mark_moves,
        }
        retention::{
            runs_that_ended_long_ago_are_found_by_what_is_left_of_them,
            erased_data_is_gone_and_the_chain_still_holds,
            erasing_part_by_part_comes_to_the_same_end,
            a_large_value_goes_with_the_last_run_that_has_it,
            large_values_of_a_run_are_given_a_few_at_a_time,
            an_open_run_is_never_erased_and_a_whole_one_never_deleted,
            a_deleted_run_is_gone_everywhere,
            files_are_forgotten_one_by_one,
            workflows_of_all_realms_are_listed_with_the_version_in_force,
        }
    );
}
