//! Rows and commits to test with. Their values mean nothing, but hold together.

use std::sync::Arc;

use crate::engine::{ApprovalStatus, StepNo};
use crate::ids::{ApprovalId, Realm, RunId, StepId};
use crate::json::{Json, Payload, sha256_hex};
use crate::plugin::{ActionSpec, Engine, Grants, Package, PluginStatus};
use crate::ports::{
    ApprovalRow, ArtifactRow, Commit, Effect, EmittedEvent, EntryKey, EventRow, KvScope, NewVersion, PageRequest,
    PluginRow, Record, RunRow, SessionChange, SessionRow, SessionStatus, StepRow, TimerRow,
};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

/// The realm that everything belongs to if nothing else is said.
pub fn realm() -> Realm {
    Realm::new("acme", "default")
}

/// A JSON value from its text.
pub fn json(text: &str) -> Json {
    Json::parse(text).expect("valid JSON")
}

/// A value that stands in place.
pub fn payload(text: &str) -> Payload {
    Payload::Inline(json(text))
}

/// A page of so many.
pub fn page(limit: u32) -> PageRequest {
    PageRequest { limit, cursor: None }
}

/// A run before its first commit: version 0, no events, made at `at`.
pub fn run(id: &str, at: i64) -> RunRow {
    RunRow {
        id: RunId::new(id),
        realm: realm(),
        workflow_id: "triage".into(),
        workflow_version: "1".into(),
        digest: "d1".into(),
        name: None,
        project_id: None,
        created_by: "ann".into(),
        status: RunStatus::Running,
        phase: None,
        current_states: vec!["first".into()],
        input: payload("{\"n\":1}"),
        output: None,
        error: None,
        parent: None,
        forked_from: None,
        steps: 0,
        created_at: Timestamp(at),
        started_at: None,
        completed_at: None,
        paused_at: None,
        cancelled_at: None,
        version: 0,
        last_seq: 0,
        last_hash: "0".repeat(64).into(),
    }
}

/// The next commit of a run, with so many events at `at`. The row is moved on with it.
pub fn commit(run: &mut RunRow, events: u64, at: i64) -> Commit {
    let expected = run.version;
    run.version += 1;
    let mut rows = Vec::new();
    for _ in 0..events {
        run.last_seq += 1;
        let hash: Arc<str> = sha256_hex(format!("{}{}", run.last_hash, run.last_seq).as_bytes()).into();
        rows.push(EventRow {
            seq: run.last_seq,
            kind: "step.completed".into(),
            at: Timestamp(at),
            actor: run.last_seq.is_multiple_of(2).then(|| "ann".into()),
            step_id: Some(StepId::new(format!("s{}", run.last_seq))),
            v: 1,
            data: json(&format!("{{\"step\":{},\"output\":{{\"json\":{{\"b\":1.0,\"a\":null}}}}}}", run.last_seq)),
            data_sha256: None,
            prev_hash: std::mem::replace(&mut run.last_hash, Arc::clone(&hash)),
            hash,
        });
    }
    Commit { run: Some(run.clone()), expected, events: rows, ..Commit::default() }
}

/// A step that waits for nothing.
pub fn step(number: u64) -> StepRow {
    StepRow {
        number,
        id: StepId::new(format!("s{number}")),
        state: "first".into(),
        state_type: "operation".into(),
        branch_path: String::new(),
        index: None,
        phase: None,
        action: Some("core.echo".into()),
        plugin: Some(json("{\"id\":\"core\",\"version\":\"1.0.0\",\"digest\":\"ab\"}")),
        status: StepStatus::Pending,
        attempt: 1,
        entry: 0,
        max_attempts: 3,
        claim: 0,
        host: None,
        ready_at: None,
        dispatch: 0,
        input_seq: number,
        result_seq: None,
        error: None,
        usage: json("{\"cpuUs\":0,\"peakMemoryBytes\":0,\"hostCalls\":0}"),
        child: None,
        created_at: Timestamp(1_000),
        started_at: None,
        completed_at: None,
    }
}

/// A step that waits for a host.
pub fn ready(number: u64, at: i64) -> StepRow {
    StepRow { ready_at: Some(Timestamp(at)), ..step(number) }
}

/// A step that a host has.
pub fn claimed(number: u64, host: &str) -> StepRow {
    StepRow { host: Some(host.into()), claim: 1, status: StepStatus::Running, ..step(number) }
}

/// A timer.
pub fn timer(run: &RunRow, key: &str, due: i64) -> TimerRow {
    TimerRow { run: run.id.clone(), key: key.into(), due_at: Timestamp(due) }
}

/// An approval that nobody decided yet.
pub fn approval(run: &RunRow, id: &str, at: i64) -> ApprovalRow {
    ApprovalRow {
        id: ApprovalId::new(id),
        realm: run.realm.clone(),
        run: run.id.clone(),
        step_id: StepId::new("s1"),
        step: 1,
        status: ApprovalStatus::Pending,
        message: "restart \"db\"?".to_owned(),
        summary: Some(payload("{\"z\":1e2}")),
        approvers: vec!["user:ann".to_owned(), "team:sre".to_owned()],
        deadline: Some(Timestamp(at + 5_000)),
        decided_by: None,
        comment: None,
        created_at: Timestamp(at),
        decided_at: None,
    }
}

/// A revision on its way in.
pub fn version(workflow: &str, label: Option<&str>, definition: &str, at: i64) -> NewVersion {
    NewVersion {
        realm: realm(),
        workflow: workflow.into(),
        label: label.map(Into::into),
        name: Some(format!("Workflow {workflow}")),
        description: None,
        definition: json(definition),
        created_by: "ann".into(),
        at: Timestamp(at),
        must_exist: None,
    }
}

/// The first entry of the first attempt of a step, under its first claim: see [`claimed`].
pub fn entry(run: &RunRow, step: StepNo) -> EntryKey {
    EntryKey { run: run.id.clone(), step, attempt: 1, entry: 0, claim: 1 }
}

/// A call with that answer.
pub fn record(answer: &str) -> Record {
    Record { call: "http.send".into(), request: "ab".repeat(32).into(), answer: json(answer), clock_ms: 7 }
}

/// The small state of plugin `notify` in workflow `triage`.
pub fn scope() -> KvScope {
    KvScope { realm: realm(), plugin: "notify".into(), workflow: "triage".into() }
}

/// A value for a key, with room for it.
pub fn set(key: &str, value: &[u8]) -> Effect {
    set_within(&scope(), key, value, 1_000, 1 << 20)
}

/// A value for a key of that scope, within that quota.
pub fn set_within(scope: &KvScope, key: &str, value: &[u8], max_keys: u64, max_bytes: u64) -> Effect {
    Effect::SetKey { scope: scope.clone(), key: key.to_owned(), value: value.to_vec(), max_keys, max_bytes }
}

/// A key that goes.
pub fn delete(key: &str) -> Effect {
    Effect::DeleteKey { scope: scope(), key: key.to_owned() }
}

/// A business event of a run's first step.
pub fn emitted(run: &RunRow, id: &str, name: &str, at: i64) -> EmittedEvent {
    EmittedEvent {
        id: id.into(),
        realm: run.realm.clone(),
        run: run.id.clone(),
        step_id: StepId::new("s1"),
        plugin: "notify".into(),
        name: name.into(),
        correlation_key: Some("order-7".into()),
        payload: payload("{\"b\":1.0,\"a\":null}"),
        at: Timestamp(at),
    }
}

/// A file of a run's first step.
pub fn artifact(run: &RunRow, id: &str, at: i64) -> ArtifactRow {
    ArtifactRow {
        id: id.into(),
        realm: run.realm.clone(),
        run: run.id.clone(),
        step_id: StepId::new("s1"),
        plugin: "notify".into(),
        name: format!("{id}.csv").into(),
        mime_type: "text/csv".into(),
        size: 5_000_000_000,
        sha256: "cd".repeat(32).into(),
        path: format!("{}/s1/notify/{id}", run.id).into(),
        at: Timestamp(at),
    }
}

/// A session of a run's first step.
pub fn session(run: &RunRow, id: &str, at: i64) -> SessionRow {
    SessionRow {
        id: id.into(),
        realm: run.realm.clone(),
        run: run.id.clone(),
        step_id: StepId::new("s1"),
        attempt: 1,
        parent: None,
        name: format!("secret words {id}").into(),
        agent: "triage".into(),
        status: SessionStatus::Running,
        turns: 0,
        lines: 2,
        bytes: 14,
        input_tokens: 0,
        output_tokens: 0,
        created_at: Timestamp(at),
        updated_at: Timestamp(at),
    }
}

/// A change that leaves a session so, and adds lines.
pub fn change(row: &SessionRow, first: u32, lines: &[&str]) -> Effect {
    let lines = lines.iter().map(|line| json(line)).collect();
    Effect::Session(Box::new(SessionChange { row: row.clone(), first, lines }))
}

/// An installed plugin that asks for little.
pub fn plugin(id: &str, digest: &str, at: i64) -> PluginRow {
    PluginRow {
        realm: realm(),
        package: Package {
            id: id.to_owned(),
            version: "1.0.0".to_owned(),
            digest: digest.to_owned(),
            size: 3,
            wit: "1.0.0".to_owned(),
            description: "posts \"messages\"".to_owned(),
            engine: Engine::Component,
            actions: vec![ActionSpec {
                name: "post".to_owned(),
                description: String::new(),
                config_schema: None,
                input_schema: Some(serde_json::json!({"type": "object", "maximum": 1.5})),
                output_schema: None,
            }],
            asks: grants(&["http:hooks.example.com", "kv", "secrets:TOKEN"]),
            limits: [("memoryBytes".to_owned(), 64 << 20)].into(),
            imports: vec!["caisson:step/http@1.0.0".to_owned()],
        },
        status: PluginStatus::Active,
        grants: grants(&["http", "kv"]),
        config: json("{ \"z\": 1.0, \"a\": [1e2] }"),
        source: "upload".into(),
        error: None,
        installed_by: "ann".into(),
        installed_at: Timestamp(at),
        decided_by: None,
        decided_at: None,
    }
}

/// Grants in their short form.
pub fn grants(texts: &[&str]) -> Grants {
    Grants::parse(&serde_json::json!(texts)).expect("valid grants")
}
