//! The first thing that a newcomer runs: `caisson up`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::process::Stdio;

use support::{cache_dir, caisson};

#[test]
fn up_runs_the_demonstration_to_its_end_and_says_where_to_look_next() {
    let dir = tempfile::tempdir().unwrap();
    let output = caisson(&["up", "--once", "--listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .arg("--cache-dir")
        .arg(cache_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for words in [
        "scripted model",
        "inject_defaults",
        "check_pods",
        "check_errors",
        "decide",
        "request_approval",
        "mitigate",
        "notify",
        "COMPLETED",
    ] {
        assert!(said.contains(words), "nothing about '{words}' in:\n{said}");
    }
    assert!(said.contains("demo-approver decides"), "the approver does not say who it is:\n{said}");
    assert!(!said.contains('\u{1b}'), "colours in a pipe");
}
