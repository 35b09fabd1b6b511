//! What the tests of the runtime share: one runtime per test binary, and invocations to give it.
#![allow(dead_code, reason = "every test binary uses a part of it")]

pub mod dying;
pub mod provider;
pub mod store;
pub mod wat;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use caisson_core::error::Failure;
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Package};
use caisson_core::ports::{ActionRunner, Entry, Invocation, LogLine, LogSink, Outcome, Resumption, Suspension};
use caisson_core::time::Timestamp;
use caisson_runtime::{Runtime, RuntimeConfig};
use parking_lot::Mutex;
use serde_json::Value;

/// Compiled code is kept between test runs: compiling Starlark takes seconds.
pub fn cache_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// Keeps every line.
#[derive(Default)]
pub struct Lines(pub Mutex<Vec<(String, LogLine)>>);

impl LogSink for Lines {
    fn write(&self, _: &RunId, step: &StepId, line: LogLine) {
        self.0.lock().push((step.to_string(), line));
    }
}

impl Lines {
    /// The messages of one step.
    pub fn of(&self, step: &str) -> Vec<String> {
        self.0.lock().iter().filter(|(of, _)| of == step).map(|(_, line)| line.message.clone()).collect()
    }
}

pub fn lines() -> &'static Arc<Lines> {
    static LINES: OnceLock<Arc<Lines>> = OnceLock::new();
    LINES.get_or_init(Arc::default)
}

/// The one runtime of the test binary.
pub fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Arc::new(start(RuntimeConfig { log_sink: lines().clone(), ..RuntimeConfig::default() })))
}

pub fn start(config: RuntimeConfig) -> Runtime {
    let config = RuntimeConfig { cache_dir: Some(cache_dir()), ..config };
    Runtime::new(config).expect("the runtime starts")
}

/// The realm of [`invocation`].
pub fn realm() -> Realm {
    Realm::new("tenant", "default")
}

/// Puts a package in force in [`realm`], with grants in their short form.
pub async fn load(runtime: &Runtime, bytes: &[u8], grants: &[&str]) -> Result<Arc<Package>, Failure> {
    let mut granted = Grants::default();
    for grant in grants {
        granted.add(grant).expect("a grant");
    }
    runtime.load(&realm(), &Bytes::copy_from_slice(bytes), granted, Json::of(&serde_json::json!({}))).await
}

/// An invocation of an action of `runtime`, as the executor would make it.
pub fn invocation(runtime: &Runtime, action: &str, input: &Value) -> Invocation {
    let realm = realm();
    let info = runtime.resolve(&realm, action).unwrap_or_else(|| panic!("no action {action}"));
    Invocation {
        realm,
        action: action.into(),
        plugin: info.plugin,
        workflow: "workflow".into(),
        workflow_version: "1".into(),
        run: RunId::new("run"),
        step: StepId::new("step"),
        number: 1,
        state: "state".into(),
        attempt: 1,
        entry: 0,
        claim: None,
        narrowed: None,
        idempotency_key: "run:step".into(),
        deadline_ms: None,
        now: Timestamp(1_795_251_600_000),
        traceparent: None,
        input: Json::of(input),
        resumed: None,
    }
}

pub async fn run(action: &str, input: Value) -> Entry {
    runtime().run(invocation(runtime(), action, &input)).await
}

pub async fn resume(action: &str, input: Value, resumption: Resumption) -> Entry {
    let call = Invocation { resumed: Some(resumption), entry: 1, ..invocation(runtime(), action, &input) };
    runtime().run(call).await
}

#[track_caller]
pub fn done(entry: &Entry) -> Value {
    match &entry.result {
        Ok(Outcome::Done(value)) => value.value(),
        other => panic!("expected a result, got {other:?}"),
    }
}

#[track_caller]
pub fn suspended(entry: &Entry) -> &Suspension {
    match &entry.result {
        Ok(Outcome::Suspend(suspension)) => suspension,
        other => panic!("expected a suspension, got {other:?}"),
    }
}

#[track_caller]
pub fn failure(entry: &Entry) -> &Failure {
    match &entry.result {
        Err(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}
