//! What is left of finished runs.

use super::{Whole, make};
use crate::engine::{StepNo, chain, erasure};
use crate::ids::{Realm, RunId};
use crate::json::{Blob, Json, Payload, sha256_hex};
use crate::ports::{
    ApprovalFilter, Commit, CommitError, Effect, EventRow, HostLogLine, IdempotencyRow, LogLine, RunFilter, RunRow,
    Stage, StepRow, StoreError,
};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

const ERROR: &str = r#"{"code":"NOPE","category":"ActionError","message":"secret words","details":{"a":1}}"#;

fn large(letter: &str) -> Blob {
    Payload::new(make::json(&format!("\"{}\"", letter.repeat(5_000)))).1.expect("is large")
}

/// Gives a commit's events the hashes that they should have.
fn hashed(run: &mut RunRow, mut commit: Commit) -> Commit {
    let mut prev = commit.events.first().map_or_else(|| run.last_hash.clone(), |event| event.prev_hash.clone());
    for event in &mut commit.events {
        event.prev_hash = prev;
        event.hash =
            chain::hash(&event.prev_hash, event.seq, &event.kind, event.at, event.actor.as_deref(), event.data.get());
        prev = event.hash.clone();
    }
    run.last_hash = prev;
    commit.run = Some(run.clone());
    commit
}

/// A run with something of everything that ended at that time.
async fn add(store: &dyn Whole, id: &str, ended_at: i64, blobs: Vec<Blob>) -> RunRow {
    let mut run = make::run(id, 1_000);
    let step = StepRow { error: Some(make::json(ERROR)), status: StepStatus::Failed, ..make::step(1) };
    let approval = make::approval(&run, &format!("a-{id}"), 1_000);
    let commit = Commit {
        steps: vec![step, make::step(2)],
        approvals: vec![approval],
        snapshot: Some(make::json("{\"state\":1}")),
        blobs,
        idempotency: Some(IdempotencyRow { key: format!("k-{id}"), request_hash: "h".to_owned() }),
        ..make::commit(&mut run, 5, 1_000)
    };
    let commit = hashed(&mut run, commit);
    store.commit(commit).await.expect("commits");
    let line =
        LogLine { at: Timestamp(1_000), level: None, message: "secret words".to_owned(), fields: None, percent: None };
    let lines: Vec<_> =
        (0..5).map(|_| HostLogLine { run: run.id.clone(), step: make::step(1).id, line: line.clone() }).collect();
    store.append_logs(&lines).await.expect("stores");
    let event = Effect::Emit(make::emitted(&run, &format!("e-{id}"), "order.paid", 1_000));
    let file = Effect::Artifact(make::artifact(&run, &format!("f-{id}"), 1_000));
    let lines = ["\"secret words\""; 5];
    let session = make::change(&make::session(&run, &format!("x-{id}"), 1_000), 1, &lines);
    store.apply(&[event, file, session]).await.expect("stores");
    run.status = RunStatus::Failed;
    run.completed_at = Some(Timestamp(ended_at));
    run.output = Some(make::payload("{\"secret\":\"words\"}"));
    run.error = Some(make::json(&format!("{{\"error\":{ERROR},\"state\":\"s\",\"stepId\":\"s1\"}}")));
    let commit = make::commit(&mut run, 1, ended_at);
    let commit = hashed(&mut run, commit);
    store.commit(commit).await.expect("commits");
    run
}

async fn erase(store: &dyn Whole, run: &RunId, limit: u32) -> u32 {
    let (mut after, mut calls) = (0, 0);
    loop {
        calls += 1;
        assert!(calls < 1_000, "erasing does not end");
        match store.erase(run, after, limit, Timestamp(9_000)).await.expect("erases") {
            Some(next) => after = next,
            None => return calls,
        }
    }
}

async fn ended(store: &dyn Whole, stage: Stage, before: i64) -> Vec<String> {
    let found = store.ended(&make::realm(), "triage", stage, Timestamp(before), 10).await.expect("answers");
    found.iter().map(ToString::to_string).collect()
}

async fn events(store: &dyn Whole, run: &RunRow) -> Vec<EventRow> {
    store.events(&run.id, 0, 100).await.expect("answers")
}

pub(super) async fn runs_that_ended_long_ago_are_found_by_what_is_left_of_them(store: &dyn Whole) {
    for (id, at) in [("a", 3_000), ("b", 2_000), ("c", 2_000)] {
        add(store, id, at, Vec::new()).await;
    }
    let mut open = make::run("open", 1_000);
    store.commit(make::commit(&mut open, 1, 1_000)).await.expect("commits");
    assert!(ended(store, Stage::Whole, 2_000).await.is_empty(), "before, and not at");
    assert_eq!(ended(store, Stage::Whole, 2_001).await, ["b", "c"]);
    assert_eq!(ended(store, Stage::Whole, 9_000).await, ["b", "c", "a"]);
    let one = store.ended(&make::realm(), "triage", Stage::Whole, Timestamp(9_000), 1).await.expect("answers");
    assert_eq!(one.len(), 1);
    for (realm, workflow) in [(make::realm(), "other"), (Realm::new("acme", "staging"), "triage")] {
        assert!(store.ended(&realm, workflow, Stage::Whole, Timestamp(9_000), 10).await.expect("answers").is_empty());
    }
    erase(store, &RunId::new("b"), 100).await;
    assert_eq!(ended(store, Stage::Whole, 9_000).await, ["c", "a"]);
    assert_eq!(ended(store, Stage::Erased, 9_000).await, ["b"]);
}

/// Everything that can be seen of a run.
async fn seen(store: &dyn Whole, run: &RunRow) -> String {
    let page = make::page(100);
    let filter = ApprovalFilter { run: Some(run.id.clone()), status: None };
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        store.load(&run.id).await.expect("answers"),
        store.steps(&run.id, &page).await.expect("answers"),
        store.approvals("acme", None, &filter, &page).await.expect("answers"),
        store.items(&run.id, 1).await.expect("answers"),
        store.logs(&run.id, None, &page).await.expect("answers"),
        store.emitted("acme", None, Some(&run.id), None, &page).await.expect("answers"),
        store.artifacts(&run.id, None, &page).await.expect("answers"),
        store.run_by_key(&format!("k-{}", run.id)).await.expect("answers"),
        store.sessions(&run.id, None, &page).await.expect("answers"),
        store.session_lines(&run.id, &format!("x-{}", run.id), 0, 100).await.expect("answers"),
    )
}

pub(super) async fn erased_data_is_gone_and_the_chain_still_holds(store: &dyn Whole) {
    let run = add(store, "r", 2_000, vec![large("x")]).await;
    let other = add(store, "q", 2_000, Vec::new()).await;
    let (before, untouched) = (events(store, &run).await, seen(store, &other).await);
    erase(store, &run.id, 100).await;
    assert_eq!(seen(store, &other).await, untouched, "nobody else loses anything");
    let text = seen(store, &run).await;
    for secret in ["secret words", "restart", "1e2", "{\"b\":1.0"] {
        assert!(!text.contains(secret), "{secret} is left: {text}");
    }
    let after = events(store, &run).await;
    let last = chain::verify(chain::GENESIS.into(), 0, &after).expect("holds");
    assert_eq!(last, run.last_hash);
    for (old, new) in before.iter().zip(&after) {
        let sha256 = sha256_hex(old.data.get().as_bytes());
        assert_eq!((new.data_sha256.as_deref(), &new.data), (Some(sha256.as_str()), &erasure::value(&sha256)));
        assert_eq!((new.seq, &new.kind, new.at, &new.actor), (old.seq, &old.kind, old.at, &old.actor));
    }
    let mut forged = after.clone();
    forged[2].data_sha256 = Some(sha256_hex(b"other").into());
    assert!(chain::verify(chain::GENESIS.into(), 0, &forged).is_err(), "a hash cannot be put in its place");
    let row = store.run(&run.id).await.expect("answers").expect("is there");
    assert_eq!((row.status, row.version, &row.last_hash), (run.status, run.version, &run.last_hash));
    assert_eq!(row.input, erasure::payload(&run.input));
    assert_eq!(row.output, run.output.as_ref().map(erasure::payload));
    assert_eq!(row.error, run.error.as_ref().map(erasure::run_error));
    let steps = store.steps(&run.id, &make::page(10)).await.expect("answers").items;
    assert_eq!((steps.len(), &steps[0].usage), (2, &make::step(1).usage));
    assert_eq!(steps[0].error, Some(erasure::failure(&make::json(ERROR))));
    assert!(store.blobs(&[large("x").id]).await.expect("answers").is_empty());
    assert!(store.logs(&run.id, None, &make::page(10)).await.expect("answers").items.is_empty());
    assert!(store.session_lines(&run.id, "x-r", 0, 10).await.expect("answers").is_empty());
    let session = store.session("x-r").await.expect("answers").expect("its numbers stay");
    assert_eq!((&*session.name, session.lines), ("triage", 2));
    assert_eq!(erase(store, &run.id, 100).await, 1, "again is fine");
    assert_eq!(events(store, &run).await, after);
}

pub(super) async fn erasing_part_by_part_comes_to_the_same_end(store: &dyn Whole) {
    let run = add(store, "r", 2_000, vec![large("x"), large("y"), large("z")]).await;
    // A sweep that died in between leaves it to be found again.
    store.erase(&run.id, 0, 2, Timestamp(9_000)).await.expect("erases");
    let first = &store.events(&run.id, 0, 1).await.expect("answers")[0];
    assert!(first.data_sha256.is_some(), "who looks at the first event knows whether the run is whole");
    let found = [ended(store, Stage::Whole, 9_000).await, ended(store, Stage::Erased, 9_000).await].concat();
    assert_eq!(found, ["r"]);
    erase(store, &run.id, 2).await;
    assert_eq!(ended(store, Stage::Erased, 9_000).await, ["r"]);
    let after = events(store, &run).await;
    assert!(after.iter().all(|event| event.data_sha256.is_some()));
    chain::verify(chain::GENESIS.into(), 0, &after).expect("holds");
    assert!(store.logs(&run.id, None, &make::page(10)).await.expect("answers").items.is_empty());
    assert!(store.session_lines(&run.id, "x-r", 0, 10).await.expect("answers").is_empty());
    let blobs = [large("x").id, large("y").id, large("z").id];
    assert!(store.blobs(&blobs).await.expect("answers").is_empty());
}

pub(super) async fn a_large_value_goes_with_the_last_run_that_has_it(store: &dyn Whole) {
    let first = add(store, "r", 2_000, vec![large("x"), large("y")]).await;
    let second = add(store, "q", 2_000, vec![large("x")]).await;
    let left = async || {
        let found = store.blobs(&[large("x").id, large("y").id]).await.expect("answers");
        found.iter().map(|blob| blob.id.clone()).collect::<Vec<_>>()
    };
    erase(store, &first.id, 100).await;
    assert_eq!(left().await, [large("x").id]);
    erase(store, &second.id, 100).await;
    assert!(left().await.is_empty());
    // It may come again.
    let third = add(store, "p", 2_000, vec![large("x")]).await;
    assert_eq!(left().await, [large("x").id]);
    erase(store, &third.id, 100).await;
    assert!(left().await.is_empty());
}

pub(super) async fn large_values_of_a_run_are_given_a_few_at_a_time(store: &dyn Whole) {
    let run = add(store, "r", 2_000, vec![large("x"), large("y"), large("z")]).await;
    add(store, "q", 2_000, vec![large("x"), large("w")]).await;
    let mut expected = [large("x"), large("y"), large("z")];
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    let first = store.values(&run.id, None, 2).await.expect("answers");
    assert_eq!(first, expected[..2]);
    let rest = store.values(&run.id, Some(&first[1].id.sha256), 2).await.expect("answers");
    assert_eq!(rest, expected[2..]);
    assert!(store.values(&run.id, Some(&rest[0].id.sha256), 2).await.expect("answers").is_empty());
    assert!(store.values(&RunId::new("nobody"), None, 2).await.expect("answers").is_empty());
}

pub(super) async fn an_open_run_is_never_erased_and_a_whole_one_never_deleted(store: &dyn Whole) {
    let mut open = make::run("open", 1_000);
    store.commit(make::commit(&mut open, 2, 1_000)).await.expect("commits");
    let refused = store.erase(&open.id, 0, 100, Timestamp(9_000)).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    let whole = add(store, "whole", 2_000, Vec::new()).await;
    for run in [&open, &whole] {
        let refused = store.delete(&run.id, 100).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
        assert!(events(store, run).await.iter().all(|event| event.data_sha256.is_none()));
    }
    let nobody = RunId::new("nobody");
    assert_eq!(store.erase(&nobody, 0, 100, Timestamp(9_000)).await.expect("answers"), None);
    assert!(store.delete(&nobody, 100).await.expect("answers"), "there is nothing");
}

pub(super) async fn a_deleted_run_is_gone_everywhere(store: &dyn Whole) {
    let run = add(store, "r", 2_000, vec![large("x")]).await;
    let mut child = make::run("child", 1_000);
    child.parent = Some((run.id.clone(), 1 as StepNo));
    child.forked_from = Some(run.id.clone());
    store.commit(make::commit(&mut child, 1, 1_000)).await.expect("commits");
    erase(store, &run.id, 100).await;
    let mut calls = 1;
    while !store.delete(&run.id, 2).await.expect("deletes") {
        calls += 1;
        assert!(calls < 100, "deleting does not end");
    }
    assert!(calls > 1, "a part at a time");
    let nobody = make::run("nobody", 1_000);
    let text = seen(store, &run).await;
    assert_eq!(text, seen(store, &nobody).await);
    assert!(ended(store, Stage::Erased, 9_000).await.is_empty());
    assert_eq!(store.run(&child.id).await.expect("answers"), Some(child.clone()), "what refers to it still reads");
    let filter = RunFilter { parent: Some(run.id.clone()), ..RunFilter::default() };
    assert_eq!(store.runs("acme", None, &filter, &make::page(10)).await.expect("answers").items, [child]);
    // Its idempotency key is free again.
    let again = add(store, "r", 2_000, Vec::new()).await;
    assert_eq!(events(store, &again).await.len(), 6);
    let twice = store.commit(make::commit(&mut make::run("r", 1_000), 1, 1_000)).await;
    assert!(matches!(twice, Err(CommitError::Exists(_))), "{twice:?}");
}

pub(super) async fn files_are_forgotten_one_by_one(store: &dyn Whole) {
    let run = make::run("r", 1_000);
    let files = ["a", "b", "c"].map(|id| make::artifact(&run, id, 1_000));
    for file in &files {
        store.apply(&[Effect::Artifact(file.clone())]).await.expect("stores");
    }
    let paths = store.files(&run.id, 10).await.expect("answers");
    assert_eq!(paths.len(), 3);
    assert_eq!(store.files(&run.id, 2).await.expect("answers").len(), 2);
    store.forget_files(&run.id, &paths[..2]).await.expect("forgets");
    assert_eq!(store.files(&run.id, 10).await.expect("answers"), paths[2..]);
    store.forget_files(&RunId::new("other"), &paths).await.expect("forgets nothing");
    assert_eq!(store.files(&run.id, 10).await.expect("answers").len(), 1);
}

pub(super) async fn workflows_of_all_realms_are_listed_with_the_version_in_force(store: &dyn Whole) {
    for (realm, workflow, definition) in [
        (make::realm(), "b", "{\"n\":1}"),
        (make::realm(), "b", "{\"n\":2}"),
        (make::realm(), "a", "{}"),
        (Realm::new("acme", "staging"), "a", "{}"),
        (Realm::new("umbrella", "default"), "a", "{}"),
    ] {
        let version = crate::ports::NewVersion { realm, ..make::version(workflow, None, definition, 1_000) };
        store.save_version(version).await.expect("saves");
    }
    let mut found = Vec::new();
    let mut after: Option<(Realm, String)> = None;
    loop {
        let last = after.as_ref().map(|(realm, id)| (realm, id.as_str()));
        let rows = store.workflows(last, 2).await.expect("answers");
        let Some(end) = rows.last() else { break };
        after = Some((end.realm.clone(), end.workflow.to_string()));
        found.extend(rows.iter().map(|row| {
            format!("{}/{}/{} {}", row.realm.tenant, row.realm.environment, row.workflow, Json::get(&row.definition))
        }));
    }
    assert_eq!(found, ["acme/default/a {}", "acme/default/b {\"n\":2}", "acme/staging/a {}", "umbrella/default/a {}",]);
}
