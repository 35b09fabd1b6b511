//! Runs that count together: no more of them begin than may, and those that wait come in their order.

use super::{make, side_by_side};
use crate::ids::{Realm, RunId};
use crate::ports::{Admission, Commit, CommitError, Place, RunRow, SlotKey, Store};
use crate::status::RunStatus;
use crate::time::Timestamp;

fn asks(key: &str, limit: u32, place: Place) -> Admission {
    Admission { key: key.into(), limit, place }
}

const BEGIN: Place = Place::Begin { overtakes: false };
const WAIT: Place = Place::Wait { queued_max: 3 };

/// Makes a run that asks for a place.
async fn add(
    store: &dyn Store,
    id: &str,
    at: i64,
    admission: impl Into<Option<Admission>>,
    change: impl FnOnce(&mut RunRow),
) -> Result<RunRow, CommitError> {
    let mut run = make::run(id, at);
    change(&mut run);
    let admission = admission.into();
    store.commit(Commit { admission, ..make::commit(&mut run, 1, at) }).await?;
    Ok(run)
}

async fn end(store: &dyn Store, run: &mut RunRow) {
    run.status = RunStatus::Completed;
    run.completed_at = Some(Timestamp(9_000));
    store.commit(make::commit(run, 1, 9_000)).await.expect("commits");
}

async fn admit(store: &dyn Store, run: &mut RunRow, limit: u32) -> Result<(), CommitError> {
    let mut next = run.clone();
    let commit = Commit { admission: Some(asks("k", limit, Place::Admit)), ..make::commit(&mut next, 1, 2_000) };
    store.commit(commit).await?;
    *run = next;
    Ok(())
}

fn key(key: &str) -> SlotKey {
    SlotKey { realm: make::realm(), workflow: "triage".into(), key: key.into() }
}

async fn admissible(store: &dyn Store, of: Option<&SlotKey>) -> Vec<String> {
    store.admissible(of, 10).await.expect("answers").iter().map(ToString::to_string).collect()
}

async fn admitted(store: &dyn Store, of: &SlotKey) -> Vec<String> {
    store.admitted(of, 10).await.expect("answers").iter().map(ToString::to_string).collect()
}

pub(super) async fn no_more_runs_of_a_key_begin_than_may(store: &dyn Store) {
    let mut first = add(store, "a", 1_000, asks("k", 2, BEGIN), |_| {}).await.expect("begins");
    add(store, "b", 1_100, asks("k", 2, BEGIN), |_| {}).await.expect("begins");
    let refused = add(store, "c", 1_200, asks("k", 2, BEGIN), |_| {}).await;
    assert!(matches!(refused, Err(CommitError::NoRoom)), "{refused:?}");
    assert_eq!(store.run(&RunId::new("c")).await.expect("answers"), None, "nothing of it is stored");
    // Other keys, workflows and realms have room of their own.
    add(store, "d", 1_300, asks("other", 1, BEGIN), |_| {}).await.expect("begins");
    add(store, "e", 1_300, asks("k", 1, BEGIN), |run| run.workflow_id = "other".into()).await.expect("begins");
    let staging = |run: &mut RunRow| run.realm = Realm::new("acme", "staging");
    add(store, "f", 1_300, asks("k", 1, BEGIN), staging).await.expect("begins");
    assert_eq!(admitted(store, &key("k")).await, ["a", "b"]);
    end(store, &mut first).await;
    assert_eq!(admitted(store, &key("k")).await, ["b"], "an end gives the place back");
    add(store, "g", 1_400, asks("k", 2, BEGIN), |_| {}).await.expect("begins");
}

pub(super) async fn many_at_once_still_leave_no_more_than_may(store: &dyn Store) {
    let all = (0..40).map(|n| add_owned(store, format!("r{n:02}"), n));
    let results = side_by_side(all).await;
    assert_eq!(results.iter().filter(|ok| **ok).count(), 3);
    assert_eq!(admitted(store, &key("k")).await.len(), 3);
}

async fn add_owned(store: &dyn Store, id: String, at: i64) -> bool {
    match add(store, &id, 1_000 + at, asks("k", 3, BEGIN), |_| {}).await {
        Ok(_) => true,
        Err(CommitError::NoRoom) => false,
        Err(other) => panic!("{other}"),
    }
}

pub(super) async fn those_that_wait_come_in_their_order_and_nobody_overtakes_them(store: &dyn Store) {
    let mut first = add(store, "a", 1_000, asks("k", 1, BEGIN), |_| {}).await.expect("begins");
    let mut late = add(store, "x", 1_300, asks("k", 1, WAIT), |_| {}).await.expect("waits");
    let mut early = add(store, "y", 1_200, asks("k", 1, WAIT), |_| {}).await.expect("waits");
    let third = add(store, "z", 1_400, asks("k", 1, WAIT), |_| {}).await.expect("waits");
    let refused = add(store, "over", 1_500, asks("k", 1, WAIT), |_| {}).await;
    assert!(matches!(refused, Err(CommitError::QueueFull)), "{refused:?}");
    assert!(admissible(store, None).await.is_empty(), "there is no room");
    assert!(admissible(store, Some(&key("k"))).await.is_empty());
    assert!(matches!(admit(store, &mut early, 1).await, Err(CommitError::NoRoom)));
    end(store, &mut first).await;
    assert_eq!(admissible(store, None).await, ["y"]);
    assert_eq!(admissible(store, Some(&key("k"))).await, ["y"]);
    assert!(admissible(store, Some(&key("other"))).await.is_empty());
    let refused = add(store, "new", 1_600, asks("k", 1, BEGIN), |_| {}).await;
    assert!(matches!(refused, Err(CommitError::NoRoom)), "others wait: {refused:?}");
    admit(store, &mut early, 1).await.expect("begins");
    assert_eq!(admitted(store, &key("k")).await, ["y"]);
    assert!(admissible(store, None).await.is_empty());
    // One that waits and is cancelled is no longer in the way.
    end(store, &mut late).await;
    end(store, &mut early).await;
    assert_eq!(admissible(store, None).await, [third.id.as_str()]);
    add(store, "pushy", 1_700, asks("k", 1, Place::Begin { overtakes: true }), |_| {}).await.expect("overtakes");
    assert!(admissible(store, None).await.is_empty());
}

pub(super) async fn every_queue_with_room_shows_its_first(store: &dyn Store) {
    for (id, at, of) in [("a", 1_400, "k1"), ("b", 1_300, "k1"), ("c", 1_200, "k2"), ("d", 1_100, "k3")] {
        add(store, id, at, asks(of, 1, WAIT), |_| {}).await.expect("waits");
    }
    add(store, "full", 1_000, asks("k3", 1, Place::Begin { overtakes: true }), |_| {}).await.expect("begins");
    assert_eq!(admissible(store, None).await, ["c", "b"]);
    assert_eq!(store.admissible(None, 1).await.expect("answers").len(), 1);
}

pub(super) async fn only_a_new_run_begins_or_waits_and_only_an_old_one_is_admitted(store: &dyn Store) {
    let refused = add(store, "a", 1_000, asks("k", 1, Place::Admit), |_| {}).await;
    assert!(matches!(refused, Err(CommitError::Store(_))), "{refused:?}");
    let mut run = add(store, "a", 1_000, None, |_| {}).await.expect("commits");
    let again = Commit { admission: Some(asks("k", 1, BEGIN)), ..make::commit(&mut run, 1, 1_000) };
    assert!(matches!(store.commit(again).await, Err(CommitError::Store(_))));
}

pub(super) async fn the_backlog_is_counted_no_further_than_asked(store: &dyn Store) {
    assert_eq!(store.backlog(10).await.expect("answers"), 0);
    let mut run = make::run("r", 1_000);
    let steps = (1..=5).map(|number| make::ready(number, 1_000)).chain([make::step(6)]).collect();
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert_eq!(store.backlog(10).await.expect("answers"), 5);
    assert_eq!(store.backlog(3).await.expect("answers"), 3);
}
