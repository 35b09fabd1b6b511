//! Commits: whole or not at all.

use super::make;
use crate::ids::{ApprovalId, RunId, StepId};
use crate::ports::{
    ApprovalFilter, Commit, CommitError, IdempotencyRow, ItemRow, OutboxRow, RunFilter, Store, StoreError,
};
use crate::status::RunStatus;
use crate::time::Timestamp;

/// A commit that writes to every table.
fn wide(run: &mut crate::ports::RunRow) -> Commit {
    let commit = make::commit(run, 3, 1_500);
    Commit {
        blobs: Vec::new(),
        steps: vec![make::ready(1, 1_400), make::claimed(2, "h1")],
        timers_set: vec![make::timer(run, "t", 2_000)],
        approvals: vec![make::approval(run, &format!("a-{}", run.id), 1_500)],
        items: vec![ItemRow { step: 2, index: 0, result: make::payload("[1]") }],
        outbox: vec![message(&format!("m-{}", run.id))],
        snapshot: Some(make::json("{\"state\":1}")),
        ..commit
    }
}

fn message(id: &str) -> OutboxRow {
    OutboxRow { id: id.into(), target: RunId::new("other"), message: make::json("{\"signal\":{}}") }
}

pub(super) async fn a_commit_is_seen_whole_when_it_returns(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let first = wide(&mut run);
    store.commit(first.clone()).await.expect("commits");
    assert_eq!(store.run(&run.id).await.expect("answers"), Some(run.clone()));
    assert_eq!(store.events(&run.id, 0, 10).await.expect("answers"), first.events);
    assert_eq!(store.steps(&run.id, &make::page(10)).await.expect("answers").items, first.steps);
    assert_eq!(store.due_timers(Timestamp(9_999), 10).await.expect("answers"), first.timers_set);
    assert_eq!(store.approval(&first.approvals[0].id).await.expect("answers").as_ref(), first.approvals.first());
    assert_eq!(store.items(&run.id, 2).await.expect("answers"), first.items);
    assert_eq!(store.outbox(10).await.expect("answers"), first.outbox);
    let loaded = store.load(&run.id).await.expect("answers").expect("is there");
    assert_eq!((loaded.row, loaded.snapshot), (run, Some((3, make::json("{\"state\":1}")))));
}

pub(super) async fn a_second_decision_on_the_same_version_is_a_conflict_and_leaves_nothing(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    let mut late = run.clone();
    store.commit(make::commit(&mut run, 1, 1_100)).await.expect("commits");
    let refused = store.commit(wide(&mut late)).await;
    assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
    assert_eq!(store.run(&run.id).await.expect("answers"), Some(run.clone()));
    assert_eq!(store.events(&run.id, 0, 10).await.expect("answers").len(), 2);
    assert!(store.steps(&run.id, &make::page(10)).await.expect("answers").items.is_empty());
    assert!(store.ready(10).await.expect("answers").is_empty());
    assert_eq!(store.next_timer().await.expect("answers"), None);
    assert!(store.outbox(10).await.expect("answers").is_empty());
    assert!(store.items(&run.id, 2).await.expect("answers").is_empty());
    let filter = ApprovalFilter::default();
    assert!(store.approvals("acme", None, &filter, &make::page(10)).await.expect("answers").items.is_empty());
    assert_eq!(store.load(&run.id).await.expect("answers").expect("is there").snapshot, None);
}

pub(super) async fn a_run_that_does_not_exist_cannot_be_moved(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let _first = make::commit(&mut run, 1, 1_000);
    let refused = store.commit(make::commit(&mut run, 1, 1_100)).await;
    assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
    assert_eq!(store.run(&run.id).await.expect("answers"), None);
}

pub(super) async fn a_run_cannot_be_made_twice(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    store.commit(make::commit(&mut run, 2, 1_000)).await.expect("commits");
    let refused = store.commit(wide(&mut make::run("r", 2_000))).await;
    assert!(matches!(&refused, Err(CommitError::Exists(id)) if *id == run.id), "{refused:?}");
    assert_eq!(store.run(&run.id).await.expect("answers"), Some(run));
    assert!(store.outbox(10).await.expect("answers").is_empty());
}

pub(super) async fn an_idempotency_key_gives_the_run_that_it_made(store: &dyn Store) {
    let key =
        |request: &str| Some(IdempotencyRow { key: "acme/default/k".to_owned(), request_hash: request.to_owned() });
    let mut run = make::run("r1", 1_000);
    let first = Commit { idempotency: key("h1"), ..make::commit(&mut run, 1, 1_000) };
    store.commit(first).await.expect("commits");
    let again = Commit { idempotency: key("h1"), ..make::commit(&mut make::run("r2", 1_100), 1, 1_100) };
    let refused = store.commit(again).await;
    assert!(matches!(&refused, Err(CommitError::Exists(id)) if id.as_str() == "r1"), "{refused:?}");
    let other = Commit { idempotency: key("h2"), ..make::commit(&mut make::run("r3", 1_200), 1, 1_200) };
    let refused = store.commit(other).await;
    assert!(matches!(refused, Err(CommitError::KeyReused)), "{refused:?}");
    let found = store.run_by_key("acme/default/k").await.expect("answers");
    assert_eq!(found, Some((RunId::new("r1"), "h1".to_owned())));
    assert_eq!(store.run_by_key("acme/default/other").await.expect("answers"), None);
    let all = store.runs("acme", None, &RunFilter::default(), &make::page(10)).await.expect("answers");
    assert_eq!(all.items.len(), 1);
}

pub(super) async fn what_a_run_is_made_with_never_changes(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    run.name = Some("night".to_owned());
    store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    let made = run.clone();
    run.name = None;
    run.input = make::payload("0");
    run.created_by = "bob".into();
    run.status = RunStatus::Completed;
    run.output = Some(make::payload("{\"ok\":true}"));
    run.completed_at = Some(Timestamp(3_000));
    run.current_states = Vec::new();
    store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    let stored = store.run(&run.id).await.expect("answers").expect("is there");
    assert_eq!((&stored.name, &stored.input, &stored.created_by), (&made.name, &made.input, &made.created_by));
    assert_eq!((stored.status, stored.output, stored.completed_at), (run.status, run.output, run.completed_at));
    assert!(stored.current_states.is_empty());
}

pub(super) async fn a_commit_that_does_not_hold_together_is_refused(store: &dyn Store) {
    let sound = || make::commit(&mut make::run("r", 1_000), 2, 1_000);
    let mut gap = sound();
    gap.events[1].seq = 3;
    let mut short = sound();
    short.run.as_mut().expect("has a run").last_seq = 1;
    let mut unraised = sound();
    unraised.expected = 1;
    let homeless = Commit { run: None, ..sound() };
    let foreign = Commit { timers_set: vec![make::timer(&make::run("x", 1), "t", 2)], ..sound() };
    for (fault, commit) in [gap, short, unraised, homeless, foreign].into_iter().enumerate() {
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(CommitError::Store(StoreError::Other(_)))), "{fault}: {refused:?}");
    }
    assert_eq!(store.run(&RunId::new("r")).await.expect("answers"), None);
}

pub(super) async fn events_never_have_gaps(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    store.commit(make::commit(&mut run, 2, 1_000)).await.expect("commits");
    let mut ahead = run.clone();
    ahead.last_seq = 5;
    let mut behind = run.clone();
    behind.last_seq = 1;
    for mut wrong in [ahead, behind] {
        for events in [0, 1] {
            let refused = store.commit(make::commit(&mut wrong.clone(), events, 1_100)).await;
            assert!(matches!(refused, Err(CommitError::Store(StoreError::Other(_)))), "{refused:?}");
        }
        wrong.version += 1;
    }
    assert_eq!(store.run(&run.id).await.expect("answers"), Some(run));
}

pub(super) async fn a_snapshot_spares_the_events_before_it(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    store.commit(make::commit(&mut run, 3, 1_000)).await.expect("commits");
    let loaded = store.load(&run.id).await.expect("answers").expect("is there");
    assert_eq!((loaded.snapshot, loaded.events.len()), (None, 3));
    for state in ["{\"old\":1}", "{\"z\":1.0,\"a\":9007199254740993}"] {
        let snapshot = Commit { snapshot: Some(make::json(state)), ..make::commit(&mut run, 2, 1_100) };
        store.commit(snapshot).await.expect("commits");
    }
    let last = make::commit(&mut run, 2, 1_200);
    store.commit(last.clone()).await.expect("commits");
    let loaded = store.load(&run.id).await.expect("answers").expect("is there");
    assert_eq!(loaded.snapshot, Some((7, make::json("{\"z\":1.0,\"a\":9007199254740993}"))));
    assert_eq!(loaded.events, last.events);
    assert_eq!(store.events(&run.id, 0, 100).await.expect("answers").len(), 9, "the history stays whole");
}

pub(super) async fn a_message_is_deleted_with_the_commit_that_takes_it_in(store: &dyn Store) {
    let mut source = make::run("source", 1_000);
    let sent = Commit { outbox: vec![message("m1"), message("m2")], ..make::commit(&mut source, 1, 1_000) };
    store.commit(sent).await.expect("commits");
    let mut target = make::run("target", 1_000);
    let taken = Commit { outbox_done: vec!["m1".into()], ..make::commit(&mut target, 1, 1_100) };
    store.commit(taken).await.expect("commits");
    assert_eq!(store.outbox(10).await.expect("answers"), vec![message("m2")]);
    let again = Commit { outbox_done: vec!["m1".into()], ..make::commit(&mut target, 1, 1_200) };
    store.commit(again).await.expect("a message that is gone is no error");
    let alone = Commit { outbox_done: vec!["m2".into()], ..Commit::default() };
    store.commit(alone).await.expect("a commit may only take messages");
    assert!(store.outbox(10).await.expect("answers").is_empty());
}

pub(super) async fn a_refused_commit_takes_no_message_in(store: &dyn Store) {
    let mut source = make::run("source", 1_000);
    let sent = Commit { outbox: vec![message("m1")], ..make::commit(&mut source, 1, 1_000) };
    store.commit(sent).await.expect("commits");
    let mut target = make::run("target", 1_000);
    target.version = 3;
    let taken = Commit { outbox_done: vec!["m1".into()], ..make::commit(&mut target, 1, 1_100) };
    assert!(matches!(store.commit(taken).await, Err(CommitError::Conflict)));
    assert_eq!(store.outbox(10).await.expect("answers").len(), 1);
}

pub(super) async fn messages_come_in_the_order_of_their_making(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    for ids in [["z", "y"], ["b", "c"], ["z", "a"]] {
        let sent = Commit { outbox: ids.iter().map(|id| message(id)).collect(), ..make::commit(&mut run, 1, 1_000) };
        store.commit(sent).await.expect("commits");
    }
    let ids = async |limit| -> Vec<String> {
        store.outbox(limit).await.expect("answers").iter().map(|row| row.id.to_string()).collect()
    };
    assert_eq!(ids(10).await, ["z", "y", "b", "c", "a"], "the same message is stored once");
    assert_eq!(ids(2).await, ["z", "y"]);
    store.outbox_delete(&["y".into(), "nobody".into()]).await.expect("deletes");
    assert_eq!(ids(10).await, ["z", "b", "c", "a"]);
}

pub(super) async fn the_latest_time_is_that_of_the_latest_event(store: &dyn Store) {
    assert_eq!(store.latest_time().await.expect("answers"), None);
    let mut run = make::run("r", 1_000);
    store.commit(make::commit(&mut run, 1, 5_000)).await.expect("commits");
    store.commit(make::commit(&mut run, 1, 4_000)).await.expect("commits");
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(5_000)));
    let mut late = make::run("r", 9_000);
    assert!(store.commit(make::commit(&mut late, 1, 9_000)).await.is_err());
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(5_000)));
    store.save_version(make::version("w", None, "{}", 6_000)).await.expect("saves");
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(6_000)));
}

pub(super) async fn a_run_nobody_knows_is_absent_everywhere(store: &dyn Store) {
    let id = RunId::new("nobody");
    assert!(store.load(&id).await.expect("answers").is_none());
    assert!(store.run(&id).await.expect("answers").is_none());
    assert!(store.events(&id, 0, 10).await.expect("answers").is_empty());
    assert!(store.events_at(&id, &[1, 2]).await.expect("answers").is_empty());
    assert!(store.step(&id, &StepId::new("s")).await.expect("answers").is_none());
    assert!(store.steps(&id, &make::page(10)).await.expect("answers").items.is_empty());
    assert!(store.items(&id, 1).await.expect("answers").is_empty());
    assert!(store.approval(&ApprovalId::new("a")).await.expect("answers").is_none());
    assert!(store.logs(&id, None, &make::page(10)).await.expect("answers").items.is_empty());
    store.ping().await.expect("answers");
}
