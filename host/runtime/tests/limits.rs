//! Limits that a guest in Rust does not reach easily: WAT does.

mod support;

use caisson_core::error::Category;
use caisson_core::ports::ActionRunner;
use serde_json::Value;
use support::{done, failure, invocation, runtime, wat};

#[tokio::test]
async fn what_a_manifest_asks_for_bounds_the_guest() {
    for (id, limit, code, guest) in [
        (
            "leaker",
            "handles = 50",
            "HANDLE_LIMIT",
            "(func $main (param $call i32) (loop $again (drop (call $timer (i64.const 1))) (br $again)))",
        ),
        (
            "gambler",
            "random_bytes = 1000",
            "RANDOM_LIMIT",
            "(func $main (param $call i32) (loop $again (drop (call $random_u64)) (br $again)))",
        ),
        (
            "gambler-at-once",
            "random_bytes = 1000",
            "RANDOM_LIMIT",
            "(func $main (param $call i32) (call $random_bytes (i64.const 0x7fffffffffffffff) (i32.const 2048)))",
        ),
        (
            "grower",
            "table_elements = 5000",
            "TABLE_LIMIT",
            "(table $many 1 funcref)
             (func $main (param $call i32) (loop $again
               (br_if $again (i32.ne (table.grow $many (ref.null func) (i32.const 1000)) (i32.const -1)))
               (unreachable)))",
        ),
        (
            "sleeper",
            "wall_ms = 100",
            "WALL_TIME_LIMIT",
            "(func $main (param $call i32) (call $block (call $timer (i64.const 60000000000))))",
        ),
        (
            "asker",
            "host_calls = 100",
            "HOST_CALL_LIMIT",
            "(func $main (param $call i32) (loop $again (drop (call $now)) (br $again)))",
        ),
    ] {
        let package = wat::package(id, "1.0.0", &format!("[limits]\n{limit}"), guest);
        support::load(runtime(), &package, &[]).await.unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let entry = runtime().run(invocation(runtime(), &format!("{id}.go"), &Value::Null)).await;
        let failure = failure(&entry);
        assert_eq!(
            (failure.code.as_str(), failure.category),
            (code, Category::LimitError),
            "{id}: {}",
            failure.message
        );
    }
}

#[tokio::test]
async fn a_sleep_is_real_and_moves_the_clock_to_its_end() {
    // The difference of two readings around a sleep, in hexadecimal.
    let guest = "(func $main (param $call i32) (local $before i64)
        (local.set $before (call $now))
        (call $block (call $timer (i64.const 30000000)))
        (i32.store8 (i32.const 1024) (i32.const 34))
        (call $hex (i64.sub (call $now) (local.get $before)) (i32.const 1025))
        (i32.store8 (i32.const 1041) (i32.const 34))
        (call $done (i32.const 1024) (i32.const 18)))";
    support::load(runtime(), &wat::package("dozer", "1.0.0", "", guest), &[]).await.expect("it loads");
    let began = std::time::Instant::now();
    let slept = done(&runtime().run(invocation(runtime(), "dozer.go", &Value::Null)).await);
    assert_eq!(slept, format!("{:016x}", 30_001_000), "thirty milliseconds and one reading");
    assert!(began.elapsed().as_millis() >= 30);
}
