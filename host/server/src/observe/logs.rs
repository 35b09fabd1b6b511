//! A line of the log for each step and each run that ended, with what a search needs as fields.
//!
//! Deliberately absent: data. Inputs and outputs are in the history, behind a key; the log has names, times and codes.

use caisson_core::engine::{Event, RunError};
use caisson_core::error::Failure;
use caisson_core::json::Json;
use caisson_core::ports::{EventRow, EventSink, RunRow, StepRow};
use caisson_core::status::StepStatus;
use caisson_core::time::Timestamp;

use super::{ended, executor};

/// Writes to the log, at `info`.
#[derive(Debug, Default)]
pub struct Logs;

impl EventSink for Logs {
    fn committed(&self, run: &RunRow, events: &[EventRow], steps: &[StepRow]) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        for step in steps {
            if let Some(end) = step.completed_at {
                let error_type = step.error.as_ref().and_then(code);
                line(run, step, (step.attempt, step.status), end, error_type.as_deref(), "step ended");
            }
        }
        for event in events.iter().filter(|event| &*event.kind == "step.retrying") {
            if let Some(step) = steps.iter().find(|step| Some(&step.id) == event.step_id.as_ref())
                && step.completed_at.is_none()
            {
                // The row is of the attempt that comes, or of what came after that within the same commit.
                let (next, error_type) = match Event::decode(&event.kind, event.data.get()) {
                    Ok(Event::StepRetrying { attempt, error, .. }) => (attempt, Some(error.code)),
                    Ok(_) | Err(_) => (step.attempt, step.error.as_ref().and_then(code)),
                };
                let failed = (next.saturating_sub(1), StepStatus::Retrying);
                line(run, step, failed, event.at, error_type.as_deref(), "attempt failed");
            }
        }
        if let Some(end) = ended(run, events) {
            tracing::info!(
                run_id = run.id.as_str(),
                workflow = &*run.workflow_id,
                version = &*run.workflow_version,
                environment = &*run.realm.environment,
                duration_ms = end.0.saturating_sub(run.created_at.0),
                status = run.status.as_str(),
                error_type = run.error.as_ref().and_then(run_code),
                "run ended"
            );
        }
    }
}

fn line(
    run: &RunRow,
    step: &StepRow,
    (attempt, status): (u32, StepStatus),
    end: Timestamp,
    error_type: Option<&str>,
    what: &str,
) {
    let start = step.started_at.unwrap_or(step.created_at);
    tracing::info!(
        run_id = run.id.as_str(),
        step_id = step.id.as_str(),
        workflow = &*run.workflow_id,
        state = &*step.state,
        attempt,
        executor = executor(step),
        duration_ms = end.0.saturating_sub(start.0),
        status = status.as_str(),
        error_type,
        "{what}"
    );
}

/// The stable code of a stored error.
fn code(error: &Json) -> Option<String> {
    Some(serde_json::from_str::<Failure>(error.get()).ok()?.code)
}

fn run_code(error: &Json) -> Option<String> {
    Some(serde_json::from_str::<RunError>(error.get()).ok()?.failure.code)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use caisson_core::error::Category;
    use caisson_core::status::RunStatus;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::super::tests::{event, run, step};
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(written.clone()).finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().clone();
        let lines = String::from_utf8(bytes).expect("text");
        lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["fields"].clone()).collect()
    }

    #[test]
    fn a_step_that_failed_and_its_run_are_a_line_each() {
        let failure = Failure::new(Category::ExpressionError, "NO_SUCH_HOST", "secret text of a guest");
        let failed = StepRow {
            error: Some(Json::of(&failure)),
            started_at: Some(Timestamp(1_500)),
            completed_at: Some(Timestamp(2_000)),
            attempt: 2,
            ..step("s1", StepStatus::Failed)
        };
        let over = RunRow {
            completed_at: Some(Timestamp(2_000)),
            error: Some(Json::of(&RunError { failure, state: None, step_id: None })),
            ..run(RunStatus::Failed)
        };
        let events = [event("step.completed", Some("s1"), 2_000), event("run.status_changed", None, 2_000)];
        let lines = logged(|| Logs.committed(&over, &events, &[failed]));
        assert_eq!(
            lines,
            [
                json!({"message": "step ended", "run_id": "r1", "step_id": "s1", "workflow": "triage", "state": "first", "attempt": 2,
                "executor": "core.echo", "duration_ms": 500, "status": "FAILED", "error_type": "NO_SUCH_HOST"}),
                json!({"message": "run ended", "run_id": "r1", "workflow": "triage", "version": "1", "environment": "default",
                "duration_ms": 1_000, "status": "FAILED", "error_type": "NO_SUCH_HOST"}),
            ]
        );
    }

    #[test]
    fn an_attempt_that_another_follows_is_a_line_and_a_step_that_goes_on_is_none() {
        let retrying = StepRow { attempt: 2, ..step("s1", StepStatus::Retrying) };
        let lines = logged(|| {
            Logs.committed(&run(RunStatus::Running), &[event("step.retrying", Some("s1"), 2_000)], &[retrying]);
            Logs.committed(
                &run(RunStatus::Running),
                &[event("step.started", Some("s1"), 2_100)],
                &[step("s1", StepStatus::Running)],
            );
        });
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["message"], &lines[0]["status"]), (&json!("attempt failed"), &json!("RETRYING")));
        assert_eq!(lines[0]["attempt"], 1, "the one that failed, not the one that comes");
    }
}
