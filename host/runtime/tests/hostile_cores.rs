//! Components that somebody wrote to harm the host, in raw WebAssembly: each is refused or ends with a typed failure, and the host serves
//! the next call. What can be written in Rust is in `hostile.rs`.

mod cores;
mod support;

use caisson_core::plugin::Grants;
use cores::{Core, install};
use serde_json::json;
use support::{done, failure};

/// How a component ends.
enum End {
    /// Refused with one of these codes before it runs.
    Refused(&'static [&'static str]),
    /// Fails with one of these codes when it runs.
    Fails(&'static [&'static str]),
    /// The one or the other: a pool refuses what does not fit its slots before it runs, memory that is mapped on demand is refused when it is.
    Ends(&'static [&'static str]),
}
use End::{Ends, Fails, Refused};

const CPU: &[&str] = &["CPU_TIME_LIMIT"];
const STACK: &[&str] = &["STACK_LIMIT"];
const MEMORY: &[&str] = &["MEMORY_LIMIT"];
const TRAP: &[&str] = &["PLUGIN_TRAP"];
const TABLE: &[&str] = &["TABLE_LIMIT"];

const LOG: &str = r#"(import "caisson:step/log@1.0.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))"#;
const LOG_WIT: &str = "import caisson:step/log@1.0.0;";
const POLL: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))"#;
const POLL_WIT: &str = "import wasi:io/poll@0.2.0; import wasi:clocks/monotonic-clock@0.2.0;";
const STREAM: &str = r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-flush" (func $flush (param i32 i32)))
    (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop_stream (param i32)))"#;
const RANDOM: &str = r#"(import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))"#;

fn cases() -> Vec<(&'static str, Core, End)> {
    let core = Core::default;
    vec![
        // CPU
        ("a tight loop", core().body("(loop $l (br $l)) (unreachable)"), Fails(CPU)),
        ("a start function that loops", core().fields("(func $s (loop $l (br $l))) (start $s)"), Fails(CPU)),
        (
            "a storm of memory.copy",
            core().pages("64").body(
                "(loop $l (memory.copy (i32.const 0) (i32.const 2097152) (i32.const 2097152)) (br $l)) (unreachable)",
            ),
            Fails(CPU),
        ),
        (
            "a storm of memory.fill",
            core().pages("64").body("(loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 4194304)) (br $l)) (unreachable)"),
            Fails(CPU),
        ),
        (
            "a loop that grows memory by nothing",
            core().body("(loop $l (drop (memory.grow (i32.const 0))) (br $l)) (unreachable)"),
            Fails(CPU),
        ),
        ("an allocator that loops", core().realloc("(loop $l (br $l)) (unreachable)"), Fails(CPU)),
        (
            "a clean-up after the call that loops",
            core().fields(
                r#"(func (export "cabi_post_caisson:step/executor@1.0.0#execute") (param i32) (loop $l (br $l)))"#,
            ),
            Fails(CPU),
        ),
        (
            "a loop of integer division",
            core().body("(local i64) (local.set 1 (i64.const -1)) (loop $l (local.set 1 (i64.div_u (local.get 1) (i64.const 1))) (br_if $l (i64.ne (local.get 1) (i64.const 0)))) (unreachable)"),
            Fails(CPU),
        ),
        // Stack
        ("a function that calls itself", core().fields("(func $r (call $r))").body("(call $r) (call $ok)"), Fails(STACK)),
        (
            "two functions that call each other through a table",
            core()
                .fields("(table 2 funcref) (elem (i32.const 0) $a $b) (type $v (func)) (func $a (call_indirect (type $v) (i32.const 1))) (func $b (call_indirect (type $v) (i32.const 0)))")
                .body("(call $a) (call $ok)"),
            Fails(STACK),
        ),
        (
            "large frames",
            core()
                .fields("(func $r (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i64) (i64.add (local.get 11) (call $r (local.get 1) (local.get 0) (local.get 3) (local.get 2) (local.get 5) (local.get 4) (local.get 7) (local.get 6) (local.get 9) (local.get 8) (local.get 11) (local.get 10))))")
                .body("(drop (call $r (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))) (call $ok)"),
            Fails(STACK),
        ),
        // Memory and tables
        (
            "memory that grows without end",
            core().body("(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable))) (br $l)) (unreachable)"),
            Fails(MEMORY),
        ),
        ("a memory of 4 GiB from the start", core().pages("65536"), Fails(MEMORY)),
        ("nine memories", core().fields(&"(memory 1)".repeat(8)), Refused(&["PLUGIN_SHAPE"])),
        (
            "eight memories that together are too large",
            core().fields(&"(memory 100)".repeat(7)),
            Fails(MEMORY),
        ),
        ("a 64-bit memory", core().fields("(memory i64 1)"), Refused(&["PLUGIN_COMPILE"])),
        ("a shared memory", core().fields("(memory 1 2 shared)"), Refused(&["PLUGIN_COMPILE", "PLUGIN_MALFORMED", "PLUGIN_LINK"])),
        ("a huge table", core().fields("(table 5000000 funcref)"), Ends(&["PLUGIN_COMPILE", "TABLE_LIMIT"])),
        (
            "a table that grows without end",
            core().fields("(table $t 1 funcref)").body("(loop $l (if (i32.eq (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)) (then (unreachable))) (br $l)) (unreachable)"),
            Fails(TABLE),
        ),
        ("seventy tables", core().fields(&"(table 1 funcref)".repeat(70)), Refused(&["PLUGIN_SHAPE"])),
        // What goes over the boundary
        ("a result of 4 GiB", core().answer(64, -1), Fails(&["PLUGIN_TRAP", "CALL_BYTES_LIMIT"])),
        ("a result outside memory", core().answer(0x7fff_0000, 100), Fails(TRAP)),
        ("a result larger than a value may be", core().pages("64").answer(0, 2 << 20), Fails(&["OUTPUT_LIMIT", "RESULT_INVALID", "PLUGIN_TRAP"])),
        ("a result larger than a call may carry", core().pages("400").answer(0, 20 << 20), Fails(&["CALL_BYTES_LIMIT", "OUTPUT_LIMIT"])),
        ("a result that is no UTF-8", core().data(r"\ff\fe\fd\fc").answer(64, 4), Fails(TRAP)),
        ("a result that is no JSON", core().data("{{]]").answer(64, 4), Fails(&["RESULT_INVALID", "OUTPUT_INVALID", "PLUGIN_RESULT_INVALID"])),
        ("a place of the result outside memory", core().body("(i32.const -8)"), Fails(TRAP)),
        ("a place of the result that is not aligned", core().body("(drop (call $ok)) (i32.const 3)"), Fails(TRAP)),
        ("a result of a kind that there is not", core().body("(drop (call $ok)) (i32.store8 (i32.const 0) (i32.const 9)) (i32.const 0)"), Fails(TRAP)),
        ("an outcome of a kind that there is not", core().body("(drop (call $ok)) (i32.store8 (i32.const 8) (i32.const 77)) (i32.const 0)"), Fails(TRAP)),
        (
            "a suspension with a list of 200 million signals",
            core().body("(i32.store8 (i32.const 8) (i32.const 1)) (i32.store (i32.const 28) (i32.const 200000000)) (i32.const 0)"),
            Fails(&["PLUGIN_TRAP", "CALL_BYTES_LIMIT"]),
        ),
        (
            "a suspension with a million empty signals",
            core().pages("160").body("(i32.store8 (i32.const 8) (i32.const 1)) (i32.store (i32.const 24) (i32.const 65536)) (i32.store (i32.const 28) (i32.const 1000000)) (i32.const 0)"),
            Fails(&["CALL_BYTES_LIMIT", "OUTPUT_LIMIT", "SUSPENSION_INVALID"]),
        ),
        (
            "an approval that nobody granted",
            core().body("(memory.fill (i32.const 0) (i32.const 0) (i32.const 128)) (i32.store8 (i32.const 8) (i32.const 1)) (i32.store8 (i32.const 48) (i32.const 1)) (i32.store (i32.const 56) (i32.const 128)) (i32.const 0)"),
            Fails(&["CAPABILITY_DENIED"]),
        ),
        // Calls of the host
        (
            "a flood of log lines",
            core().imports(LOG, LOG_WIT).body("(loop $l (call $log (i32.const 2) (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0)) (br $l)) (unreachable)"),
            Fails(&["LOG_LIMIT"]),
        ),
        (
            "one line of 20 MiB",
            core().pages("400").imports(LOG, LOG_WIT).body("(call $log (i32.const 2) (i32.const 0) (i32.const 20971520) (i32.const 0) (i32.const 0) (i32.const 0)) (call $ok)"),
            Fails(&["CALL_BYTES_LIMIT", "LOG_LIMIT"]),
        ),
        (
            "a line outside memory",
            core().imports(LOG, LOG_WIT).body("(call $log (i32.const 2) (i32.const 65000) (i32.const 65000) (i32.const 0) (i32.const 0) (i32.const 0)) (call $ok)"),
            Fails(TRAP),
        ),
        (
            "a level that there is not",
            core().imports(LOG, LOG_WIT).body("(call $log (i32.const 200) (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0)) (call $ok)"),
            Fails(TRAP),
        ),
        (
            "a flood of random bytes",
            core().imports(RANDOM, "import wasi:random/random@0.2.0;").body("(loop $l (call $random (i64.const 1024) (i32.const 128)) (br $l)) (unreachable)"),
            Fails(&["RANDOM_LIMIT", "MEMORY_LIMIT", "PLUGIN_TRAP"]),
        ),
        (
            "all random bytes at once",
            core().imports(RANDOM, "import wasi:random/random@0.2.0;").body("(call $random (i64.const -1) (i32.const 128)) (call $ok)"),
            Fails(&["RANDOM_LIMIT"]),
        ),
        // Handles
        (
            "handles that are never given back",
            core().imports(POLL, POLL_WIT).body("(loop $l (drop (call $subscribe (i64.const 1))) (br $l)) (unreachable)"),
            Fails(&["HANDLE_LIMIT"]),
        ),
        ("a forged handle", core().imports(POLL, POLL_WIT).body("(call $block (i32.const 12345)) (call $ok)"), Fails(TRAP)),
        (
            "a handle that is given back twice",
            core().imports(POLL, POLL_WIT).body("(local i32) (local.set 1 (call $subscribe (i64.const 1))) (call $drop (local.get 1)) (call $drop (local.get 1)) (call $ok)"),
            Fails(TRAP),
        ),
        (
            "a handle of another kind",
            core()
                .imports(&format!("{POLL}{STREAM}"), &format!("{POLL_WIT} import wasi:cli/stdout@0.2.0; import wasi:io/streams@0.2.0;"))
                .body("(call $flush (call $subscribe (i64.const 1)) (i32.const 128)) (call $ok)"),
            Fails(TRAP),
        ),
        (
            "a wait of a century",
            core().imports(POLL, POLL_WIT).body("(call $block (call $subscribe (i64.const 3153600000000000000))) (call $ok)"),
            Fails(&["WALL_TIME_LIMIT"]),
        ),
        // Traps
        ("unreachable", core().body("(unreachable)"), Fails(TRAP)),
        ("a division by zero", core().body("(i32.div_u (i32.const 1) (i32.const 0))"), Fails(TRAP)),
        ("a load outside memory", core().body("(i32.load (i32.const 0x7fff0000))"), Fails(TRAP)),
        (
            "a call of a null reference",
            core().fields("(table 1 funcref) (type $v (func))").body("(call_indirect (type $v) (i32.const 0)) (call $ok)"),
            Fails(TRAP),
        ),
        (
            "a call of another type",
            core().fields("(table 1 funcref) (elem (i32.const 0) $ok) (type $v (func))").body("(call_indirect (type $v) (i32.const 0)) (call $ok)"),
            Fails(TRAP),
        ),
        ("data outside memory", core().fields(r#"(data (i32.const 70000) "x")"#), Fails(TRAP)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_component_ends_with_a_name_and_harms_nobody() {
    let mut wrong = Vec::new();
    for (at, (name, core, end)) in cases().into_iter().enumerate() {
        let id = format!("case{at}");
        let installed = install(&core.component(&id), Grants::default()).await;
        match (&end, installed) {
            (Refused(codes), Err(failure)) if codes.contains(&failure.code.as_str()) => {}
            (Ends(codes), Err(failure)) if codes.contains(&failure.code.as_str()) => {}
            (Refused(codes), other) => wrong.push(format!("{name}: expected a refusal with {codes:?}, got {other:?}")),
            (Fails(_) | Ends(_), Err(failure)) => wrong.push(format!("{name}: refused: {failure:?}")),
            (Fails(codes) | Ends(codes), Ok(())) => {
                let entry = cores::run(&format!("{id}.go"), &json!({})).await;
                if entry.result.is_ok() || !codes.contains(&failure(&entry).code.as_str()) {
                    wrong.push(format!("{name}: expected one of {codes:?}, got {:?}", entry.result));
                }
            }
        }
        let after = cores::run("core.echo", &json!(at)).await;
        assert_eq!(done(&after), json!(at), "an innocent call after '{name}'");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
