//! What servers write without end is never held. Alone in its process: it measures the memory of all of it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use caisson_core::ports::ToolError;
use serde_json::json;
use support::Host;

fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Whatever is written, memory stays where it is, and who waits is told.
#[tokio::test]
async fn a_flood_is_cut_off() {
    let host = Host::new("well");
    for tool in ["flood", "lines", "notify"] {
        host.pid().await;
        let before = memory_bytes();
        let error = host.call(tool, json!({})).await.unwrap_err();
        let ToolError::Unavailable(why) = error else { panic!("{tool}: {error:?}") };
        assert!(why.contains("wrote without end and answered nothing"), "{tool}: {why}");
        let more = memory_bytes().saturating_sub(before);
        assert!(more < 24 << 20, "{tool}: {more} bytes more");
    }
    assert_eq!(host.call("text", json!({})).await, Ok(json!("hello")), "it is back");
}
