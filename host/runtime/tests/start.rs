//! Starting: the cache, the pool and its fallback, the built-in plugins.

mod support;

use std::os::unix::fs::PermissionsExt;

use caisson_core::plugin::RESERVED_IDS;
use caisson_core::ports::{ActionRunner, PluginHost};
use caisson_runtime::{Allocation, Runtime, RuntimeConfig, built_in_packages};
use serde_json::json;
use support::{cache_dir, done, invocation};

/// The cache as another test left it, to spoil.
fn copied_cache() -> tempfile::TempDir {
    support::runtime();
    let copy = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(cache_dir()).expect("a cache") {
        let entry = entry.expect("an entry");
        if !entry.file_name().to_string_lossy().ends_with(".tmp") {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
        }
    }
    copy
}

#[tokio::test]
async fn without_a_pool_it_runs_all_the_same() {
    let config = RuntimeConfig { pooled: false, cache_dir: Some(cache_dir()), ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(|| Runtime::new(config).expect("it starts")).await.expect("it starts");
    assert_eq!(runtime.allocation(), Allocation::OnDemand);
    assert_eq!(done(&runtime.run(invocation(&runtime, "core.echo", &json!(1))).await), json!(1));
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}

#[tokio::test]
async fn more_entries_than_slots_wait_their_turn() {
    let config = RuntimeConfig { slots: 2, cache_dir: Some(cache_dir()), ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(|| Runtime::new(config).expect("it starts")).await.expect("it starts");
    let runtime = std::sync::Arc::new(runtime);
    let all: Vec<_> = (0..100)
        .map(|number| {
            let runtime = runtime.clone();
            tokio::spawn(async move { runtime.run(invocation(&runtime, "core.echo", &json!(number))).await })
        })
        .collect();
    for (number, one) in all.into_iter().enumerate() {
        assert_eq!(done(&one.await.expect("it ends")), json!(number));
    }
}

#[test]
fn the_cache_is_private_and_a_damaged_entry_is_not_loaded() {
    let cache = copied_cache();
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&cache_dir()), 0o700);
    assert_eq!(mode(&cache_dir().join("key")), 0o600);
    // Everything but the slow one, so that the test stays quick.
    let mut spoiled = 0;
    for entry in std::fs::read_dir(cache.path()).expect("a cache") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "cwasm") && !path.to_string_lossy().contains("-warm-")
        {
            let mut code = std::fs::read(&path).expect("code");
            let middle = code.len() / 2;
            code[middle] ^= 1;
            std::fs::write(&path, code).expect("it is ours");
            spoiled += 1;
        }
    }
    assert!(spoiled >= 3, "{spoiled}");
    let config = RuntimeConfig { cache_dir: Some(cache.path().to_path_buf()), ..RuntimeConfig::default() };
    let runtime = Runtime::new(config).expect("it starts");
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let entry = executor.block_on(runtime.run(invocation(&runtime, "core.echo", &json!(1))));
    assert_eq!(done(&entry), json!(1));
}

#[test]
fn built_in_actions_are_listed_in_every_realm() {
    let runtime = support::runtime();
    for realm in [caisson_core::ids::Realm::new("t", "e"), caisson_core::ids::Realm::new("other", "default")] {
        let actions = runtime.actions(&realm);
        let names: Vec<&str> = actions.iter().map(|action| &*action.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for name in [
            "agent.run",
            "core.echo",
            "core.fail",
            "core.sleep",
            "core.wait_signal",
            "human.approval",
            "script.evaluate",
            "script.run",
        ] {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
        assert!(actions.iter().all(|action| action.built_in));
    }
    let packages = runtime.built_in();
    assert_eq!(packages.len(), built_in_packages().len());
    assert!(packages.iter().all(|package| RESERVED_IDS.contains(&package.id.as_str())));
}

#[tokio::test]
async fn what_executes_is_counted_when_asked() {
    let config = RuntimeConfig { fuel: true, cache_dir: Some(cache_dir()), ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(|| Runtime::new(config).expect("it starts")).await.expect("it starts");
    let fuel = async |input: serde_json::Value| {
        let measured = runtime.run_measured(invocation(&runtime, "core.echo", &input)).await;
        assert_eq!(done(&measured.entry), input);
        measured.fuel.expect("it is counted")
    };
    let (little, much) = (fuel(json!(1)).await, fuel(json!(vec![1; 1000])).await);
    assert!(little > 0 && much > little, "{little} {much}");
    assert_eq!(fuel(json!(1)).await, little, "the same every time");
    let without = support::runtime().run_measured(invocation(support::runtime(), "core.echo", &json!(1))).await;
    assert_eq!(without.fuel, None);
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}
