//! `caisson bench --hosts` with the real binary, a real PostgreSQL and a real nats-server. What it measures is for people; here it has to
//! measure it, and leave nothing behind.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use caisson_test_servers::{nats, postgres::PostgresServer};
use serde_json::Value;
use support::run_caisson;

#[test]
fn several_hosts_are_measured_beside_embedded_parts_and_their_databases_dropped() {
    let server = PostgresServer::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    let program = nats::binary();
    let output = run_caisson(&[
        "--json",
        "bench",
        "--quick",
        "--hosts",
        "1,2",
        "--database-url",
        &server.url(),
        "--nats-server",
        program.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sections = report["sections"].as_array().unwrap();
    assert_eq!(sections.iter().map(|section| &section["name"]).collect::<Vec<_>>(), ["embedded", "cluster", "cluster"]);
    let figure = |section: &Value, name: &str| {
        let all = section["figures"].as_array().unwrap();
        all.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name} in {section:#}"))["value"]
            .as_f64()
            .unwrap()
    };
    for cluster in &sections[1..] {
        for name in [
            "steps",
            "hosts' CPU, a step",
            "PostgreSQL's statements, a step",
            "PostgreSQL's log, a step",
            "messages to NATS, a step",
            "bytes from NATS, a step",
            "a single run of 1 step, to embedded",
        ] {
            assert!(figure(cluster, name) > 0.0, "{name} in {cluster:#}");
        }
    }
    assert_eq!(server.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'caisson_bench%'"), "0");
}
