//! Components for tests: built from source as the build of the host builds its own plugins, and repacked under other names.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Only one cargo at a time: the tests of one binary run side by side.
static BUILDING: Mutex<()> = Mutex::new(());

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A plugin of the folder `plugins/`.
pub fn component(name: &str) -> Vec<u8> {
    let _turn = BUILDING.lock();
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
        .current_dir(root())
        .args(["build", "--locked", "--package", &format!("caisson-plugin-{name}"), "--target", "wasm32-wasip2"])
        .args(["--profile", "guest", "--target-dir"])
        .arg(&target)
        .output()
        .unwrap();
    assert!(built.status.success(), "{name} does not build: {}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(target.join("wasm32-wasip2/guest").join(format!("caisson_plugin_{name}.wasm"))).unwrap()
}

/// The actions of `core` (`echo`, `fail`, `sleep`, `wait_signal`) under another id, with a version and what it asks for.
pub fn probe(id: &str, version: &str, asks: &[&str]) -> Vec<u8> {
    let manifest = std::fs::read_to_string(root().join("plugins/core/caisson-plugin.toml")).unwrap();
    let asks: Vec<String> = asks.iter().map(|ask| format!("{ask:?}")).collect();
    let line = |line: &str| match line.split_once(" = ") {
        Some(("id", _)) => format!("id = {id:?}"),
        Some(("version", _)) => format!("version = {version:?}"),
        Some(("capabilities", _)) => format!("capabilities = [{}]", asks.join(", ")),
        _ => line.to_owned(),
    };
    let manifest: String = manifest.lines().map(|text| line(text) + "\n").collect();
    caisson_runtime::embed(&component("core"), &manifest, &[], None).unwrap()
}

/// A plugin that is one `plugin.js`.
pub fn script(manifest: &str, script: &str) -> Vec<u8> {
    caisson_runtime::javascript_package(manifest, script.as_bytes()).unwrap()
}
