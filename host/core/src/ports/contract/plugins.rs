//! Installed plugins: rows, code, and the runs that need them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Whole, make};
use crate::ids::Realm;
use crate::plugin::PluginStatus;
use crate::ports::{Commit, CommitError, PluginRow, RunRow, StoreError};
use crate::status::RunStatus;
use crate::time::Timestamp;

/// A run that has pinned these digests.
async fn pinning(store: &dyn Whole, mut run: RunRow, digests: &[&str]) -> RunRow {
    let pins = digests.iter().map(|digest| (*digest).into()).collect();
    store.commit(Commit { pins, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    run
}

async fn moves_to(store: &dyn Whole, run: &mut RunRow, status: RunStatus) {
    run.status = status;
    store.commit(make::commit(run, 1, 1_000)).await.expect("commits");
}

async fn install(store: &dyn Whole, row: &PluginRow) {
    let code = Bytes::from(row.package.digest.clone());
    store.put_component(&row.package.digest, &code).await.expect("puts");
    store.save_plugins(std::slice::from_ref(row)).await.expect("saves");
}

async fn delete(store: &dyn Whole, realm: &Realm, digests: &[&str]) -> Result<(), StoreError> {
    let digests: Vec<Arc<str>> = digests.iter().map(|digest| (*digest).into()).collect();
    store.delete_plugin(realm, "notify", &digests).await
}

async fn digests(store: &dyn Whole, realm: &Realm) -> Vec<String> {
    let rows = store.plugin(realm, "notify").await.expect("answers");
    rows.into_iter().map(|row| row.package.digest).collect()
}

async fn has_code(store: &dyn Whole, digest: &str) -> bool {
    store.component(digest).await.expect("answers").is_some()
}

async fn users(store: &dyn Whole, realm: &Realm, digest: &str) -> Vec<String> {
    let users = store.pinned_by(realm, digest, 10).await.expect("answers");
    users.iter().map(ToString::to_string).collect()
}

pub(super) async fn rows_come_back_as_they_were_and_are_replaced(store: &dyn Whole) {
    let realm = make::realm();
    let row = make::plugin("notify", "d1", 1_000);
    store.save_plugins(&[row.clone(), make::plugin("other", "d1", 1_000)]).await.expect("saves");
    assert_eq!(store.plugin(&realm, "notify").await.expect("answers"), std::slice::from_ref(&row));
    for status in ["COMPILING", "FAILED", "PENDING", "ACTIVE", "DISABLED", "SUPERSEDED"] {
        let mut changed = row.clone();
        changed.status = PluginStatus::parse(status).expect("is a status");
        changed.package.version = format!("1.0.0-{status}");
        changed.package.engine = crate::plugin::Engine::JavaScript;
        changed.grants = make::grants(&["http:a.example.com:8443", "events:order.*", "approval", "model:m"]);
        changed.config = make::json("{\"e\\u0000\": 9007199254740993}");
        changed.source = "plugins/\"notify\".wasm".into();
        changed.error = Some("it does not\nlink".to_owned());
        changed.installed_by = "bob".into();
        changed.installed_at = Timestamp(2_000);
        changed.decided_by = Some("eve".into());
        changed.decided_at = Some(Timestamp(3_000));
        store.save_plugins(std::slice::from_ref(&changed)).await.expect("saves");
        assert_eq!(store.plugin(&realm, "notify").await.expect("answers"), [changed]);
    }
    store.save_plugins(std::slice::from_ref(&row)).await.expect("saves");
    assert_eq!(store.plugin(&realm, "notify").await.expect("answers"), [row]);
    store.save_plugins(&[]).await.expect("saves nothing");
    assert!(store.plugin(&realm, "nobody").await.expect("answers").is_empty());
}

pub(super) async fn versions_come_newest_first(store: &dyn Whole) {
    // The same label may name several digests.
    for (digest, at) in [("d2", 2_000), ("d3", 3_000), ("d1", 1_000), ("d4", 2_000)] {
        store.save_plugins(&[make::plugin("notify", digest, at)]).await.expect("saves");
    }
    assert_eq!(digests(store, &make::realm()).await, ["d3", "d4", "d2", "d1"]);
}

pub(super) async fn every_row_of_every_realm_is_read_at_start(store: &dyn Whole) {
    assert!(store.all_plugins().await.expect("answers").is_empty());
    let mut rows = Vec::new();
    for (tenant, environment) in [("acme", "default"), ("acme", "staging"), ("umbrella", "default")] {
        for (id, digest) in [("notify", "d1"), ("notify", "d2"), ("other", "d3")] {
            rows.push(PluginRow { realm: Realm::new(tenant, environment), ..make::plugin(id, digest, 1_000) });
        }
    }
    store.save_plugins(&rows).await.expect("saves");
    let mut all = store.all_plugins().await.expect("answers");
    let key = |row: &PluginRow| (row.realm.clone(), row.package.id.clone(), row.package.digest.clone());
    all.sort_by_key(key);
    assert_eq!(all, rows);
}

pub(super) async fn a_component_is_kept_once_by_its_digest(store: &dyn Whole) {
    let every_byte = Bytes::from((0..=255).collect::<Vec<u8>>().repeat(8_192));
    assert_eq!(store.component("d1").await.expect("answers"), None);
    for _ in 0..2 {
        store.put_component("d1", &every_byte).await.expect("puts");
    }
    store.put_component("d2", &Bytes::new()).await.expect("puts");
    assert_eq!(store.component("d1").await.expect("answers"), Some(every_byte));
    assert_eq!(store.component("d2").await.expect("answers"), Some(Bytes::new()));
    assert_eq!(store.component("D1").await.expect("answers"), None);
}

pub(super) async fn a_plugin_that_an_open_run_needs_cannot_be_deleted(store: &dyn Whole) {
    let realm = make::realm();
    for (number, status) in RunStatus::ALL.iter().enumerate() {
        let (old, new) = (format!("old{number}"), format!("new{number}"));
        for (digest, at) in [(&old, 1_000), (&new, 2_000)] {
            install(store, &make::plugin("notify", digest, at)).await;
        }
        let mut run = pinning(store, make::run(status.as_str(), 1_000), &[&old, "something else"]).await;
        moves_to(store, &mut run, *status).await;
        for together in [&[&*old][..], &[&new, &old]] {
            if !status.is_terminal() {
                let refused = delete(store, &realm, together).await;
                let Err(StoreError::Conflict(said)) = refused else { panic!("{status}: {refused:?}") };
                assert!(said.contains("notify") && said.contains(status.as_str()), "{said}");
            }
        }
        if !status.is_terminal() {
            assert_eq!(digests(store, &realm).await, [&*new, &*old], "nothing is deleted by halves");
            assert!(has_code(store, &old).await && has_code(store, &new).await);
            moves_to(store, &mut run, RunStatus::Completed).await;
        }
        delete(store, &realm, &[&old, &new, "nobody"]).await.expect("nothing open needs it");
        assert!(digests(store, &realm).await.is_empty());
        assert!(!has_code(store, &old).await && !has_code(store, &new).await);
    }
}

pub(super) async fn a_component_stays_while_another_row_names_it(store: &dyn Whole) {
    let (here, there) = (make::realm(), Realm::new("umbrella", "default"));
    let of_there = PluginRow { realm: there.clone(), ..make::plugin("notify", "d1", 1_000) };
    for row in [&make::plugin("notify", "d1", 1_000), &make::plugin("notify", "d2", 1_000), &of_there] {
        install(store, row).await;
    }
    store.put_component("on its way", &Bytes::from_static(b"x")).await.expect("puts");
    delete(store, &here, &["d1", "d2"]).await.expect("deletes");
    assert!(digests(store, &here).await.is_empty());
    assert_eq!(digests(store, &there).await, ["d1"]);
    assert!(has_code(store, "d1").await && !has_code(store, "d2").await);
    assert!(has_code(store, "on its way").await, "its row is yet to come");
    // An open run keeps its code, whatever became of the rows.
    let mut run = pinning(store, make::run("r", 1_000), &["d1"]).await;
    delete(store, &there, &["d1"]).await.expect("no run of this realm needs it");
    assert!(digests(store, &there).await.is_empty() && has_code(store, "d1").await);
    moves_to(store, &mut run, RunStatus::Failed).await;
    delete(store, &there, &["d1"]).await.expect("deletes");
    assert!(!has_code(store, "d1").await);
}

pub(super) async fn users_come_newest_first_and_only_while_open(store: &dyn Whole) {
    let realm = make::realm();
    let mut runs = Vec::new();
    for (id, at) in [("b", 2_000), ("a", 2_000), ("c", 1_000), ("d", 3_000)] {
        runs.push(pinning(store, make::run(id, at), &["d1", "d2", "d1"]).await);
    }
    pinning(store, make::run("e", 1_000), &["d2"]).await;
    pinning(store, make::run("f", 1_000), &[]).await;
    assert_eq!(users(store, &realm, "d1").await, ["d", "b", "a", "c"]);
    assert_eq!(users(store, &realm, "d2").await, ["d", "b", "a", "e", "c"]);
    assert_eq!(store.pinned_by(&realm, "d1", 2).await.expect("answers").len(), 2);
    assert!(store.pinned_by(&realm, "d1", 0).await.expect("answers").is_empty());
    assert!(users(store, &realm, "nobody").await.is_empty());
    moves_to(store, &mut runs[3], RunStatus::TimedOut).await;
    moves_to(store, &mut runs[0], RunStatus::Paused).await;
    assert_eq!(users(store, &realm, "d1").await, ["b", "a", "c"]);
    let mut at_once = make::run("g", 9_000);
    at_once.status = RunStatus::Completed;
    pinning(store, at_once, &["d1"]).await;
    assert_eq!(users(store, &realm, "d1").await, ["b", "a", "c"], "it was over when it was made");
}

pub(super) async fn realms_have_plugins_of_their_own(store: &dyn Whole) {
    let here = make::realm();
    for there in [Realm::new("acme", "staging"), Realm::new("umbrella", "default")] {
        install(store, &PluginRow { realm: there.clone(), ..make::plugin("notify", "d1", 1_000) }).await;
        let run = RunRow { realm: there.clone(), ..make::run(&format!("{there:?}"), 1_000) };
        let run = pinning(store, run, &["d1"]).await;
        assert!(digests(store, &here).await.is_empty());
        assert!(users(store, &here, "d1").await.is_empty());
        delete(store, &here, &["d1"]).await.expect("has none");
        assert_eq!(digests(store, &there).await, ["d1"]);
        assert_eq!(users(store, &there, "d1").await, [run.id.as_str()]);
        assert!(matches!(delete(store, &there, &["d1"]).await, Err(StoreError::Conflict(_))));
    }
}

pub(super) async fn a_refused_run_pins_nothing(store: &dyn Whole) {
    let realm = make::realm();
    let mut run = pinning(store, make::run("r", 1_000), &["d1"]).await;
    let again = Commit { pins: vec!["d2".into()], ..make::commit(&mut make::run("r", 1_000), 1, 1_000) };
    let refused = store.commit(again).await;
    assert!(matches!(refused, Err(CommitError::Exists(_))), "{refused:?}");
    let moved = Commit { pins: vec!["d2".into()], ..make::commit(&mut run.clone(), 1, 1_000) };
    let refused = store.commit(moved).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Other(_)))), "only a new run pins: {refused:?}");
    let homeless = Commit { pins: vec!["d2".into()], ..Commit::default() };
    assert!(store.commit(homeless).await.is_err());
    assert!(users(store, &realm, "d2").await.is_empty());
    moves_to(store, &mut run, RunStatus::Running).await;
    assert_eq!(users(store, &realm, "d1").await, ["r"]);
}
