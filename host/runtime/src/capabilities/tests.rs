//! The capabilities as a guest calls them, without a guest: on a store's state, with a journal in memory.

mod artifacts;
mod journal;
mod kept;
mod secrets;
mod tools;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::plugin::{Effective, Engine, Grants, Package};
use caisson_core::ports::{Invocation, LogLine, LogSink, PluginRef, Secret, Secrets};
use caisson_core::time::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::assets::{Assets, Components};
use crate::bindings::caisson::step::capability::Error;
use crate::config::RuntimeConfig;
use crate::entry::{self, Call};
use crate::limits::Limits;
use crate::memory::MemoryJournal;
use crate::state::{Shared, State};

/// Secrets by realm and name, as an operator changes them.
#[derive(Default)]
struct Vault(Mutex<BTreeMap<(Realm, String), String>>);

impl Vault {
    fn set(&self, realm: &Realm, name: &str, value: &str) {
        self.0.lock().insert((realm.clone(), name.to_owned()), value.to_owned());
    }
}

impl Secrets for Vault {
    fn get(&self, realm: &Realm, name: &str) -> Option<Secret> {
        self.0.lock().get(&(realm.clone(), name.to_owned())).map(|value| Secret::new(value.as_str()))
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<LogLine>>);

impl LogSink for Lines {
    fn write(&self, _: &RunId, _: &StepId, line: LogLine) {
        self.0.lock().push(line);
    }
}

/// A host with a store.
struct Host {
    journal: Arc<MemoryJournal>,
    vault: Arc<Vault>,
    lines: Arc<Lines>,
    shared: Arc<Shared>,
    /// Goes with its files.
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, vault, lines) =
            (Arc::<MemoryJournal>::default(), Arc::<Vault>::default(), Arc::<Lines>::default());
        let config = RuntimeConfig {
            journal: journal.clone(),
            secrets: vault.clone(),
            log_sink: lines.clone(),
            artifacts_dir: Some(folder.path().join("artifacts")),
            ..RuntimeConfig::default()
        };
        Self { journal, vault, lines, shared: Arc::new(Shared::new(&config)), folder }
    }

    fn artifacts_dir(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }
}

/// Who calls, and from where.
#[derive(Clone)]
struct Guest {
    plugin: &'static str,
    realm: Realm,
    workflow: &'static str,
    run: &'static str,
    step: &'static str,
    attempt: u32,
    entry: u32,
    claim: Option<u32>,
    asks: Value,
    grants: Value,
    narrowed: Option<Value>,
}

impl Guest {
    /// Asks for and is granted this.
    fn with(grants: Value) -> Self {
        Self {
            plugin: "mail",
            realm: Realm::new("tenant", "default"),
            workflow: "orders",
            run: "run-1",
            step: "step-1",
            attempt: 1,
            entry: 0,
            claim: Some(1),
            asks: grants.clone(),
            grants,
            narrowed: None,
        }
    }

    /// Its entry begins, again or for the first time.
    fn enter(&self, host: &Host) -> State {
        let package = Package {
            id: self.plugin.to_owned(),
            version: "1.0.0".to_owned(),
            digest: "d1".to_owned(),
            size: 0,
            wit: "1.0.0".to_owned(),
            description: String::new(),
            engine: Engine::Component,
            actions: Vec::new(),
            asks: Grants::parse(&self.asks).expect("asks"),
            limits: [].into(),
            imports: Vec::new(),
        };
        let grants = |value: &Value| Arc::new(Grants::parse(value).expect("grants"));
        let invocation = Invocation {
            realm: self.realm.clone(),
            action: format!("{}.do", self.plugin).into(),
            plugin: PluginRef { id: self.plugin.into(), version: "1.0.0".into(), digest: "d1".into() },
            workflow: self.workflow.into(),
            workflow_version: "1".into(),
            run: RunId::new(self.run),
            step: StepId::new(self.step),
            // "step-1" is the first.
            number: self.step.bytes().last().map_or(0, |digit| u64::from(digit - b'0')),
            state: "state".into(),
            attempt: self.attempt,
            entry: self.entry,
            claim: self.claim,
            narrowed: None,
            idempotency_key: format!("{}:{}", self.run, self.step).into(),
            deadline_ms: None,
            now: Timestamp(1_795_251_600_000),
            traceparent: None,
            input: Json::null(),
            resumed: None,
        };
        let effective = Effective::new(Arc::new(package), grants(&self.grants), self.narrowed.as_ref().map(grants));
        let call = Call {
            effective: Arc::new(effective),
            limits: Limits::default(),
            invocation,
            shared: Arc::clone(&host.shared),
            deadline: None,
        };
        entry::state(&call, Arc::new(Assets::new("d1".into(), Arc::new(Components::new(None)))))
    }
}

/// What a host function gives: it must not end the guest.
#[track_caller]
fn answer<T>(result: wasmtime::Result<Result<T, Error>>) -> Result<T, Error> {
    result.expect("the guest goes on")
}

#[track_caller]
fn denied<T: std::fmt::Debug>(result: wasmtime::Result<Result<T, Error>>, part: &str) {
    match answer(result) {
        Err(Error::Denied(why)) if why.contains(part) => {}
        other => panic!("expected a denial with '{part}', got {other:?}"),
    }
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(result: wasmtime::Result<Result<T, Error>>, part: &str) {
    match answer(result) {
        Err(Error::Invalid(why)) if why.contains(part) => {}
        other => panic!("expected 'invalid' with '{part}', got {other:?}"),
    }
}

#[track_caller]
fn over_quota<T: std::fmt::Debug>(result: wasmtime::Result<Result<T, Error>>) {
    assert!(matches!(answer(result), Err(Error::Quota(_))));
}

#[track_caller]
fn not_found<T: std::fmt::Debug>(result: wasmtime::Result<Result<T, Error>>) {
    match answer(result) {
        Err(Error::NotFound(_)) => {}
        other => panic!("expected 'not found', got {other:?}"),
    }
}

/// Nobody gets anything that was not asked for, granted and left, and the answer is the line to add.
#[tokio::test]
async fn every_capability_is_denied_by_default() {
    use crate::bindings::caisson::step::http::Request;
    use crate::bindings::caisson::step::{artifacts, events, http, kv, model, secrets, tools};
    let all = json!(["http", "secrets:A", "kv", "events", "artifacts", "model", "tools"]);
    let nothing = json!([]);
    let cases = [
        (&nothing, &all, None, "caisson-plugin.toml"),
        (&all, &nothing, None, "caisson plugin grant mail "),
        (&all, &all, Some(nothing.clone()), "the state's 'capabilities'"),
    ];
    for (asks, grants, narrowed, part) in cases {
        let host = Host::new();
        host.vault.set(&Realm::new("tenant", "default"), "A", "hunter2000");
        let guest = Guest { asks: asks.clone(), grants: grants.clone(), narrowed, ..Guest::with(json!([])) };
        let mut state = guest.enter(&host);
        let state = &mut state;
        let request = |url: &str| Request {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: None,
            timeout_ms: None,
        };
        denied(http::Host::send(state, request("http://127.0.0.1:1/")).await, part);
        denied(http::Host::send(state, request("no URL")).await, part);
        denied(secrets::Host::get(state, "A".to_owned()).await, part);
        denied(kv::Host::get(state, "a".to_owned()).await, part);
        denied(kv::Host::set(state, "a".to_owned(), Vec::new()).await, part);
        denied(kv::Host::set(state, String::new(), Vec::new()).await, part);
        denied(kv::Host::delete(state, "a".to_owned()).await, part);
        denied(kv::Host::keys(state, String::new(), 10).await, part);
        denied(events::Host::emit(state, "paid".to_owned(), None, "{}".to_owned()).await, part);
        denied(artifacts::Host::put(state, "a".to_owned(), "text/plain".to_owned(), Vec::new()).await, part);
        denied(artifacts::Host::get(state, "a".to_owned()).await, part);
        denied(model::Host::complete(state, r#"{"agent":"a"}"#.to_owned()).await, part);
        denied(model::Host::complete(state, "no JSON".to_owned()).await, part);
        denied(tools::Host::list_tools(state).await, part);
        denied(tools::Host::call(state, "git.log".to_owned(), "{}".to_owned()).await, part);
        denied(tools::Host::call(state, "no tool".to_owned(), "no JSON".to_owned()).await, part);
        assert_eq!(state.host_calls, 16);
        assert!(!host.artifacts_dir().exists() && host.journal.events().is_empty());
    }
}
