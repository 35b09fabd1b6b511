//! What every store must do, as checks over the port: the suite that SQLite, PostgreSQL and the store in memory pass alike.
//!
//! Each check gets a fresh, empty store and panics with what it found. [`transcript`] plays a seeded random sequence of operations and
//! writes down everything that can be seen: two stores that agree give the same text.
//!
//! Deliberately absent: an async runtime, and anything that is one store's own (files, locks, full disks): those tests live with it.

#![expect(clippy::missing_panics_doc, reason = "a check panics when it fails; that is what it is for")]

mod commits;
mod definitions;
mod exact;
mod lists;
pub mod make;
mod random;
mod work;

use std::sync::Arc;

pub use random::transcript;

use super::Store;

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
pub async fn check_store(make: impl AsyncFn() -> Arc<dyn Store>) {
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
        exact::{
            json_comes_back_byte_for_byte,
            texts_of_all_kinds_come_back_as_they_were,
            a_large_value_is_stored_once,
            blobs_that_are_not_there_are_left_out,
        }
        work::{
            ready_steps_come_longest_first,
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
            events_are_read_in_parts,
            approvals_are_listed_decided_and_filtered,
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
    );
}
