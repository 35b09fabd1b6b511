//! A plugin that misbehaves ends with a code that names what it did, and the next call works.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::error::{Category, Failure};
use caisson_core::ids::StepId;
use caisson_core::ports::{ActionRunner, Entry, Invocation};
use caisson_runtime::{Limits, Runtime, RuntimeConfig, inspect};
use serde_json::{Value, json};
use support::{done, failure, invocation, start};
use tokio::sync::OnceCell;

/// Tight enough for quick tests.
fn limits() -> Limits {
    Limits { cpu_ms: 1_000, memory_bytes: 32 << 20, ..Limits::default() }
}

/// The hostile plugin, built as the built-in ones are.
fn component() -> Vec<u8> {
    let guests = std::path::Path::new(env!("CAISSON_GUESTS"));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a workspace");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" || text.starts_with("RUSTC") || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    let built = cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--target",
            "wasm32-wasip2",
            "--profile",
            "guest",
            "--package",
            "caisson-plugin-hostile",
        ])
        .arg("--target-dir")
        .arg(guests)
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(guests.join("wasm32-wasip2/guest/caisson_plugin_hostile.wasm")).expect("the component is there")
}

/// A runtime with the hostile plugin in it.
async fn hosting(config: RuntimeConfig) -> Runtime {
    let started = tokio::task::spawn_blocking(move || (start(config), component())).await;
    let (runtime, component) = started.expect("the runtime starts");
    support::load(&runtime, &component, &[]).await.expect("the hostile plugin loads");
    runtime
}

async fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceCell<Arc<Runtime>> = OnceCell::const_new();
    RUNTIME
        .get_or_init(|| async {
            let config =
                RuntimeConfig { limits: limits(), log_sink: support::lines().clone(), ..RuntimeConfig::default() };
            Arc::new(hosting(config).await)
        })
        .await
}

async fn attack(action: &str, input: Value) -> Entry {
    let runtime = runtime().await;
    let entry = runtime.run(invocation(runtime, &format!("hostile.{action}"), &input)).await;
    let after = runtime.run(invocation(runtime, "core.echo", &json!(7))).await;
    assert_eq!(done(&after), json!(7), "an innocent call after {action}");
    entry
}

async fn attacked(action: &str, input: Value) -> Failure {
    failure(&attack(action, input).await).clone()
}

#[tokio::test]
async fn a_passed_limit_is_named() {
    for (action, input, code) in [
        ("spin", Value::Null, "CPU_TIME_LIMIT"),
        ("allocate", Value::Null, "MEMORY_LIMIT"),
        ("recurse", Value::Null, "STACK_LIMIT"),
        ("output", json!({"bytes": 2 << 20}), "OUTPUT_LIMIT"),
        ("output", json!({"bytes": 1 << 30}), "MEMORY_LIMIT"),
        ("flood_log", Value::Null, "LOG_LIMIT"),
        ("flood_stdout", Value::Null, "LOG_LIMIT"),
        ("call_host", Value::Null, "HOST_CALL_LIMIT"),
    ] {
        let failure = attacked(action, input).await;
        assert_eq!(
            (failure.code.as_str(), failure.category),
            (code, Category::LimitError),
            "{action}: {}",
            failure.message
        );
        assert!(failure.message.contains("hostile@0.1.0"), "{}", failure.message);
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_even_copied() {
    let limits = Limits { memory_bytes: 512 << 20, cpu_ms: 5_000, ..Limits::default() };
    let runtime = hosting(RuntimeConfig { limits, limits_max: limits, ..RuntimeConfig::default() }).await;
    for (action, input, code) in
        [("output", json!({"bytes": 100 << 20}), "OUTPUT_LIMIT"), ("big_call", Value::Null, "CALL_BYTES_LIMIT")]
    {
        let entry = runtime.run(invocation(&runtime, &format!("hostile.{action}"), &input)).await;
        assert_eq!(failure(&entry).code, code, "{}", failure(&entry).message);
    }
}

#[tokio::test]
async fn a_trap_says_where_and_what_was_logged() {
    let trap = attacked("trap", Value::Null).await;
    assert_eq!((trap.code.as_str(), trap.category), ("PLUGIN_TRAP", Category::ActionError));
    let details = trap.details.expect("details").value();
    assert_eq!(details["log"], json!(["before the trap"]));
    let frames = details["frames"].as_array().expect("frames");
    assert!(
        frames.iter().any(|frame| frame.as_str().is_some_and(|name| name.ends_with("hostile::step_on_it"))),
        "{frames:?}"
    );

    let panic = attacked("panic", Value::Null).await;
    assert_eq!(panic.code, "PLUGIN_TRAP");
    assert!(panic.message.contains("seven is not eight"), "{}", panic.message);
    assert!(panic.message.contains("hostile@0.1.0"), "{}", panic.message);

    assert_eq!(attacked("exit", Value::Null).await.code, "PLUGIN_TRAP");
}

#[tokio::test]
async fn what_was_not_granted_is_denied_and_says_what_to_add() {
    for action in ["denied", "ask"] {
        let failure = attacked(action, Value::Null).await;
        assert_eq!((failure.code.as_str(), failure.category), ("CAPABILITY_DENIED", Category::PolicyError));
        assert!(failure.message.contains("`caisson plugin grant hostile "), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_suspension_needs_a_reason_to_wake() {
    assert_eq!(attacked("suspend_for_ever", Value::Null).await.code, "SUSPENSION_ENDLESS");
}

#[tokio::test]
async fn output_that_does_not_fit_is_a_warning() {
    let entry = attack("lie", Value::Null).await;
    assert_eq!(done(&entry), json!("no object"));
    let codes: Vec<&str> = entry.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["SCHEMA_VALIDATION_OUTPUT"]);
}

#[tokio::test]
async fn a_guest_learns_nothing_of_its_host_and_the_same_every_time() {
    let first = done(&attack("surroundings", Value::Null).await);
    assert_eq!(first, done(&attack("surroundings", Value::Null).await), "the same entry sees the same");
    for nothing in ["args", "vars"] {
        assert_eq!(first[nothing], json!(0), "{nothing}");
    }
    for nothing in ["root", "passwd", "socket"] {
        assert_eq!(first[nothing], json!(false), "{nothing}");
    }
    assert_eq!(first["seconds"], json!(1_795_251_600), "the clock starts at the invocation");
    let runtime = runtime().await;
    let other = Invocation { attempt: 2, ..invocation(runtime, "hostile.surroundings", &Value::Null) };
    assert_ne!(first["random"], done(&runtime.run(other).await)["random"], "another attempt has other numbers");
}

#[tokio::test]
async fn dropping_a_run_ends_its_guest() {
    let limits = Limits { cpu_ms: 60_000, ..Limits::default() };
    let patient =
        hosting(RuntimeConfig { limits, limits_max: limits, guest_threads: 1, ..RuntimeConfig::default() }).await;
    {
        let stuck = patient.run(invocation(&patient, "hostile.spin", &Value::Null));
        assert!(tokio::time::timeout(Duration::from_millis(50), stuck).await.is_err(), "it spins");
    }
    // The one thread that guests have is free again, or this would wait for a minute.
    let began = Instant::now();
    assert_eq!(done(&patient.run(invocation(&patient, "core.echo", &json!(1))).await), json!(1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    tokio::task::spawn_blocking(move || drop(patient)).await.expect("the runtime stops");
}

#[tokio::test]
async fn the_steps_own_time_is_a_timeout_and_no_limit() {
    let runtime = runtime().await;
    let call = Invocation { deadline_ms: Some(30), ..invocation(runtime, "hostile.spin", &Value::Null) };
    let entry = runtime.run(call).await;
    assert_eq!((failure(&entry).code.as_str(), failure(&entry).category), ("STEP_TIMEOUT", Category::TimeoutError));
    assert!(entry.usage.cpu_us > 0, "usage is counted on failure too");
}

#[tokio::test]
async fn a_stuck_guest_leaves_its_callers_thread() {
    let runtime = runtime().await;
    let mut stuck = Box::pin(runtime.run(invocation(runtime, "hostile.spin", &Value::Null)));
    let began = Instant::now();
    assert!(tokio::time::timeout(Duration::ZERO, &mut stuck).await.is_err(), "it spins");
    assert!(began.elapsed() < Duration::from_millis(500), "half of its CPU time: {:?}", began.elapsed());
    assert_eq!(failure(&stuck.await).code, "CPU_TIME_LIMIT");
}

#[tokio::test]
async fn innocents_run_beside_attackers() {
    let runtime = runtime().await;
    let attackers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(async move { runtime.run(invocation(runtime, "hostile.spin", &Value::Null)).await }))
        .collect();
    for number in 0..200 {
        let entry = runtime.run(invocation(runtime, "core.echo", &json!(number))).await;
        assert_eq!(done(&entry), json!(number));
    }
    for attacker in attackers {
        assert_eq!(failure(&attacker.await.expect("it ends")).code, "CPU_TIME_LIMIT");
    }
}

#[tokio::test]
async fn log_lines_arrive_with_their_step() {
    let runtime = runtime().await;
    let call = Invocation { step: StepId::new("logged"), ..invocation(runtime, "hostile.trap", &Value::Null) };
    runtime.run(call).await;
    assert_eq!(support::lines().of("logged"), ["before the trap"]);
}

#[test]
fn a_package_is_read_without_running_it() {
    let info = inspect(&component()).expect("a package");
    assert_eq!((info.id.as_str(), info.version.as_str()), ("hostile", "0.1.0"));
    assert!(info.imports.iter().any(|import| import == "caisson:step/kv@1.0.0"), "{:?}", info.imports);
    assert!(
        !info.imports.iter().any(|import| import.contains("step/model")),
        "what is unused is not imported: {:?}",
        info.imports
    );
    assert_eq!(info.digest.len(), 64);
    assert!(inspect(b"\0asm\x01\0\0\0").is_err(), "a core module is no package");
    assert!(inspect(b"nonsense").is_err());
}

#[tokio::test]
async fn an_import_that_the_manifest_does_not_ask_for_is_refused_at_load() {
    let (asked, silent) = (&b"\nkv = {}"[..], &b"\n#v = {}"[..]);
    assert_eq!(asked.len(), silent.len());
    let mut lying = component();
    let places: Vec<usize> = (0..lying.len() - asked.len()).filter(|at| lying[*at..].starts_with(asked)).collect();
    assert!(!places.is_empty(), "the manifest is in the component");
    for at in places {
        lying[at..at + asked.len()].copy_from_slice(silent);
    }
    let refused = inspect(&lying).expect_err("it imports kv and does not say so").to_string();
    assert!(refused.contains("kv"), "{refused}");
    let refused = support::load(runtime().await, &lying, &[]).await.expect_err("it was loaded");
    assert_eq!(refused.code, "PLUGIN_IMPORT_UNDECLARED");
}
