//! Starting: the cache, the pool and its fallback, folders of plugins.

mod support;

use std::os::unix::fs::PermissionsExt;

use caisson_core::ports::ActionRunner;
use caisson_runtime::{Allocation, PackageError, Runtime, RuntimeConfig};
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
fn a_folder_of_plugins_reports_the_bad_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bad.wasm"), "nonsense").expect("written");
    let core = std::path::Path::new(env!("CAISSON_GUESTS")).join("wasm32-wasip2/guest/caisson_plugin_core.wasm");
    std::fs::copy(core, folder.path().join("core.wasm")).expect("copied");
    std::fs::write(folder.path().join("readme.txt"), "no plugin").expect("written");
    let (loaded, refused) = support::runtime().load_dir(folder.path()).expect("a folder");
    assert!(loaded.is_empty());
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("bad.wasm") && said[0].contains("not a WebAssembly component"), "{said:?}");
    assert!(said[1].contains("the id 'core' is reserved"), "{said:?}");
    let core = std::fs::read(folder.path().join("core.wasm")).expect("it is there");
    assert!(matches!(support::runtime().load(&core), Err(PackageError::Reserved(_))));
}

#[test]
fn built_in_actions_are_listed() {
    let realm = caisson_core::ids::Realm::new("t", "e");
    let names: Vec<String> = support::runtime().actions(&realm).iter().map(|action| action.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "agent.run",
            "core.echo",
            "core.fail",
            "core.sleep",
            "core.wait_signal",
            "human.approval",
            "script.evaluate",
            "script.run"
        ]
    );
    assert_eq!(support::runtime().packages().len(), 4);
}
