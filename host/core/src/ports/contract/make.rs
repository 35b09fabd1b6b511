//! Rows and commits to test with. Their values mean nothing, but hold together.

use std::sync::Arc;

use crate::engine::ApprovalStatus;
use crate::ids::{ApprovalId, Realm, RunId, StepId};
use crate::json::{Json, Payload, sha256_hex};
use crate::ports::{ApprovalRow, Commit, EventRow, NewVersion, PageRequest, RunRow, StepRow, TimerRow};
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
