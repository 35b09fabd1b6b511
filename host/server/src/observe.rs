//! What is seen of a host from outside: whether it is ready, who else works on the same store, what was done and how long it took.
//!
//! Invariant: nobody waits for who watches. A sink works on what is in memory and drops what does not fit.
//!
//! Deliberately absent: rules about runs. Whatever is seen was decided and stored before.

pub mod logs;
pub mod metrics;
pub mod traces;

use std::sync::Arc;

use caisson_core::ports::{Cluster, EventRow, RunRow, StepRow};
use caisson_core::time::Timestamp;

use metrics::Metrics;

/// A part that the host cannot work without, beside its store.
pub trait Probe: Send + Sync {
    /// Its name among the parts: `queue`.
    fn name(&self) -> &'static str;
    /// What is in the way, in a few words; `None` if it works. Answers at once, from what is known.
    fn problem(&self) -> Option<String>;
}

/// What the API shows of the host itself.
#[derive(Clone, Default)]
pub struct Observe {
    /// Asked at every look at the readiness.
    pub probes: Vec<Arc<dyn Probe>>,
    /// Knows the other hosts; `None` where there can be none.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What people know the step's work by: its action, or the kind of its state.
fn executor(step: &StepRow) -> &str {
    step.action.as_deref().unwrap_or(&step.state_type)
}

/// When the run ended, if it did so with these events.
fn ended(run: &RunRow, events: &[EventRow]) -> Option<Timestamp> {
    let changed = events.iter().any(|event| &*event.kind == "run.status_changed");
    (changed && run.status.is_terminal()).then(|| events.last().map_or(run.created_at, |event| event.at))
}

/// How long a step waited for the host that takes it first, at that time; `None` if it was taken before.
fn first_wait_ms(step: &StepRow, taken_at: Timestamp) -> Option<u64> {
    let first = step.claim <= 1 && step.attempt == 1 && step.entry == 0;
    first.then(|| u64::try_from(taken_at.0.saturating_sub(step.created_at.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use caisson_core::status::{RunStatus, StepStatus};
    use serde_json::json;

    use super::*;

    /// A run that was made at 1 s.
    pub fn run(status: RunStatus) -> RunRow {
        serde_json::from_value(json!({
            "id": "r1", "realm": {"tenant": "acme", "environment": "default"}, "workflow_id": "triage", "workflow_version": "1",
            "digest": "d", "created_by": "ann", "status": status, "current_states": [], "input": {"json": {}}, "steps": 1,
            "created_at": Timestamp(1_000), "version": 1, "last_seq": 1, "last_hash": "0"
        }))
        .expect("a run")
    }

    /// An operation that was entered at 1 s.
    pub fn step(id: &str, status: StepStatus) -> StepRow {
        serde_json::from_value(json!({
            "number": 1, "id": id, "state": "first", "state_type": "operation", "branch_path": "", "action": "core.echo", "status": status,
            "attempt": 1, "entry": 0, "max_attempts": 3, "claim": 1, "dispatch": 0, "input_seq": 1, "usage": {},
            "created_at": Timestamp(1_000)
        }))
        .expect("a step")
    }

    /// An event without its data, which nothing here reads.
    pub fn event(kind: &str, step: Option<&str>, at: i64) -> EventRow {
        serde_json::from_value(json!({
            "seq": 1, "kind": kind, "at": Timestamp(at), "step_id": step, "v": 1, "data": {}, "prev_hash": "0", "hash": "1"
        }))
        .expect("an event")
    }
}
