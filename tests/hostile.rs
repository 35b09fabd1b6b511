//! A plugin that means harm, loaded into a real host: its step fails with a code that names the limit, and the host goes on with
//! other runs.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::Setup;

/// Built from source, as the build of the host builds its own plugins.
fn hostile_plugin() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests");
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        // What the outer cargo set for this test is not meant for another target.
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" || text.starts_with("RUSTC") || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    let built = cargo
        .current_dir(&root)
        .args(["build", "--locked", "--package", "caisson-plugin-hostile", "--target", "wasm32-wasip2"])
        .args(["--profile", "guest", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success(), "the hostile plugin does not build");
    target.join("wasm32-wasip2/guest/caisson_plugin_hostile.wasm")
}

#[tokio::test]
async fn a_hostile_step_fails_by_name_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("env/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::copy(hostile_plugin(), plugins.join("hostile.wasm")).unwrap();
    let host = Setup::new(dir.path()).arg("--env", dir.path().join("env").to_str().unwrap()).start().await;
    host.save("id: innocent\nstates: [{name: a, type: operation, action: core.echo, input: {n: 1}, end: true}]").await;
    for (action, code) in [
        ("spin", "CPU_TIME_LIMIT"),
        ("allocate", "MEMORY_LIMIT"),
        ("recurse", "STACK_LIMIT"),
        ("output", "OUTPUT_LIMIT"),
        ("flood_log", "LOG_LIMIT"),
        ("trap", "PLUGIN_TRAP"),
        ("panic", "PLUGIN_TRAP"),
        ("denied", "CAPABILITY_DENIED"),
    ] {
        let id = action.replace('_', "-");
        host.save(&format!(
            "id: {id}\nstates: [{{name: a, type: operation, action: hostile.{action}, input: {{}}, end: true}}]"
        ))
        .await;
        let harm = host.start_run(&id, json!({})).await;
        // While it does its harm, and after.
        for _ in 0..2 {
            let innocent = host.start_run("innocent", json!({})).await;
            assert_eq!(host.end(&innocent).await["status"], "COMPLETED", "beside {action}");
            let harmed = host.end(&harm).await;
            assert_eq!((&harmed["status"], &harmed["error"]["code"]), (&json!("FAILED"), &json!(code)), "{action}");
        }
    }
}
