//! What moves runs: ready steps, claims, timers, items.

use super::make;
use crate::engine::StepNo;
use crate::ids::RunId;
use crate::ports::{Commit, ItemRow, ReadyRow, RunRow, StepRow, Store, TimerRow};
use crate::status::RunStatus;
use crate::time::Timestamp;

async fn run_with(store: &dyn Store, id: &str, steps: Vec<StepRow>) -> RunRow {
    let mut run = make::run(id, 1_000);
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    run
}

async fn ready(store: &dyn Store, limit: u32) -> Vec<(String, StepNo)> {
    let rows = store.ready(limit).await.expect("answers");
    rows.into_iter().map(|row| (row.run.to_string(), row.step)).collect()
}

fn at(run: &str, step: StepNo) -> (String, StepNo) {
    (run.to_owned(), step)
}

pub(super) async fn ready_steps_come_longest_first(store: &dyn Store) {
    run_with(store, "b", vec![make::ready(1, 3_000), make::ready(2, 1_000), make::step(3)]).await;
    run_with(store, "a", vec![make::ready(7, 2_000), make::ready(8, 1_000)]).await;
    assert_eq!(ready(store, 10).await, [at("a", 8), at("b", 2), at("a", 7), at("b", 1)]);
    assert_eq!(ready(store, 2).await, [at("a", 8), at("b", 2)]);
    assert!(ready(store, 0).await.is_empty());
    run_with(store, "c", vec![StepRow { dispatch: 4, ..make::ready(1, 1) }]).await;
    let first = store.ready(1).await.expect("answers");
    assert_eq!(first, [ReadyRow { run: RunId::new("c"), step: 1, attempt: 1, entry: 0, dispatch: 4 }]);
}

pub(super) async fn what_was_published_long_ago_is_published_again_under_another_number(store: &dyn Store) {
    let step = |number, at| StepRow { dispatch: 65_536, entry: 2, ..make::ready(number, at) };
    let mut run = run_with(store, "r", vec![step(1, 1_000), step(2, 2_000), make::step(3)]).await;
    let now = Timestamp(9_000);
    assert!(store.redispatch(Timestamp(1_000), now, 10).await.expect("answers").is_empty(), "before, and not at");
    let again = store.redispatch(Timestamp(1_500), now, 10).await.expect("answers");
    assert_eq!(again, [ReadyRow { run: run.id.clone(), step: 1, attempt: 1, entry: 2, dispatch: 65_537 }]);
    assert!(store.redispatch(Timestamp(1_500), now, 10).await.expect("answers").is_empty(), "it is published now");
    let numbers: Vec<_> = store.ready(10).await.expect("answers").iter().map(|row| row.dispatch).collect();
    assert_eq!(numbers, [65_537, 65_536]);
    // By then everything was published before; the limit holds, and who waited longest comes first.
    let far = Timestamp(i64::MAX);
    let one = store.redispatch(far, now, 1).await.expect("answers");
    assert_eq!(one.iter().map(|row| (row.step, row.dispatch)).collect::<Vec<_>>(), [(1, 65_538)]);
    run.status = RunStatus::Paused;
    store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    assert!(store.redispatch(far, now, 10).await.expect("answers").is_empty(), "its run is paused");
}

pub(super) async fn paused_and_ended_runs_have_nothing_ready(store: &dyn Store) {
    let mut runs = Vec::new();
    for status in RunStatus::ALL {
        let mut run = make::run(status.as_str(), 1_000);
        run.status = *status;
        let commit = Commit { steps: vec![make::ready(1, 1_000)], ..make::commit(&mut run, 1, 1_000) };
        store.commit(commit).await.expect("commits");
        runs.push(run);
    }
    let open = ["PENDING", "RUNNING", "WAITING_APPROVAL", "WAITING_SIGNAL"];
    assert_eq!(ready(store, 10).await, open.map(|run| at(run, 1)));
    let mut paused = runs.into_iter().find(|run| run.status == RunStatus::Paused).expect("is one of them");
    paused.status = RunStatus::Running;
    store.commit(make::commit(&mut paused, 1, 1_000)).await.expect("commits");
    assert_eq!(ready(store, 2).await, [at("PAUSED", 1), at("PENDING", 1)], "it was ready all the time");
}

pub(super) async fn a_step_that_is_taken_is_no_longer_ready(store: &dyn Store) {
    let mut run = run_with(store, "r", vec![make::ready(1, 1_000), make::ready(2, 1_000)]).await;
    let taken = Commit { steps: vec![make::claimed(1, "h1")], ..make::commit(&mut run, 1, 1_000) };
    store.commit(taken).await.expect("commits");
    assert_eq!(ready(store, 10).await, [at("r", 2)]);
    let back = Commit { steps: vec![make::ready(1, 500)], ..make::commit(&mut run, 1, 1_000) };
    store.commit(back).await.expect("commits");
    assert_eq!(ready(store, 10).await, [at("r", 1), at("r", 2)]);
    assert!(store.claimed_by_others("h2", 10).await.expect("answers").is_empty());
}

pub(super) async fn steps_of_other_hosts_are_found(store: &dyn Store) {
    let steps = vec![make::claimed(1, "h1"), StepRow { claim: 3, ..make::claimed(2, "h2") }, make::step(3)];
    let mut run = run_with(store, "r", steps).await;
    run_with(store, "q", vec![make::claimed(9, "h2")]).await;
    let others = store.claimed_by_others("h1", 10).await.expect("answers");
    assert_eq!(others, [(RunId::new("q"), 9, 1), (RunId::new("r"), 2, 3)]);
    assert_eq!(store.claimed_by_others("h1", 1).await.expect("answers").len(), 1);
    assert_eq!(store.claimed_by_others("new", 10).await.expect("answers").len(), 3);
    let ended = Commit { steps: vec![StepRow { claim: 3, ..make::step(2) }], ..make::commit(&mut run, 1, 1_000) };
    store.commit(ended).await.expect("commits");
    assert_eq!(store.claimed_by_others("h1", 10).await.expect("answers"), [(RunId::new("q"), 9, 1)]);
}

pub(super) async fn timers_come_earliest_first_and_only_when_due(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let timers: Vec<TimerRow> =
        [("c", 3_000), ("a", 1_000), ("b", 2_000)].iter().map(|(key, due)| make::timer(&run, key, *due)).collect();
    store.commit(Commit { timers_set: timers, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert_eq!(store.next_timer().await.expect("answers"), Some(Timestamp(1_000)));
    let keys = async |now, limit| -> Vec<String> {
        let due = store.due_timers(Timestamp(now), limit).await.expect("answers");
        due.iter().map(|timer| timer.key.to_string()).collect()
    };
    assert!(keys(999, 10).await.is_empty());
    assert_eq!(keys(2_000, 10).await, ["a", "b"]);
    assert_eq!(keys(9_000, 10).await, ["a", "b", "c"]);
    assert_eq!(keys(9_000, 1).await, ["a"]);
}

pub(super) async fn a_timer_is_moved_and_cleared(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let mut other = make::run("q", 1_000);
    for run in [&mut run, &mut other] {
        let set = vec![make::timer(run, "t", 1_000), make::timer(run, "u", 1_500)];
        store.commit(Commit { timers_set: set, ..make::commit(run, 1, 1_000) }).await.expect("commits");
    }
    // Cleared first, then set: the same key in both is a timer that goes on.
    let moved = Commit {
        timers_cleared: vec!["t".into(), "u".into(), "nobody".into()],
        timers_set: vec![make::timer(&run, "t", 5_000)],
        ..make::commit(&mut run, 1, 1_000)
    };
    store.commit(moved).await.expect("commits");
    let due = store.due_timers(Timestamp(9_000), 10).await.expect("answers");
    assert_eq!(due, [make::timer(&other, "t", 1_000), make::timer(&other, "u", 1_500), make::timer(&run, "t", 5_000)]);
    let sooner = Commit { timers_set: vec![make::timer(&run, "t", 500)], ..make::commit(&mut run, 1, 1_000) };
    store.commit(sooner).await.expect("commits");
    assert_eq!(store.next_timer().await.expect("answers"), Some(Timestamp(500)));
}

pub(super) async fn item_results_come_in_the_order_of_the_items_and_go_with_the_join(store: &dyn Store) {
    let item = |step, index| ItemRow { step, index, result: make::payload(&format!("{{\"i\":{index}.0}}")) };
    let mut run = make::run("r", 1_000);
    for indexes in [[10, 2], [1, 0]] {
        let items = indexes.iter().map(|index| item(5, *index)).chain([item(6, indexes[0])]).collect();
        store.commit(Commit { items, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    }
    assert_eq!(store.items(&run.id, 5).await.expect("answers"), [0, 1, 2, 10].map(|index| item(5, index)));
    let joined = Commit { items: vec![item(5, 3)], items_dropped: vec![5], ..make::commit(&mut run, 1, 1_000) };
    store.commit(joined).await.expect("commits");
    assert!(store.items(&run.id, 5).await.expect("answers").is_empty());
    assert_eq!(store.items(&run.id, 6).await.expect("answers").len(), 2);
}
