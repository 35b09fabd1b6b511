//! Sessions of agents: who worked in a step, on what, and every line of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Realm, RunId, StepId};
use crate::json::Json;
use crate::status::StepStatus;
use crate::time::Timestamp;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SessionStatus {
    /// The agent works.
    Running,
    /// It has given an answer.
    Completed,
    /// It ended without one.
    Failed,
}

impl SessionStatus {
    /// As it is written in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    /// Reads it back; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Completed, Self::Failed].into_iter().find(|status| status.as_str() == text)
    }
}

/// A session of an agent. Its lines are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    /// Unique; a hash of the place in the journal of the call that began it.
    pub id: Arc<str>,
    /// Whose.
    pub realm: Realm,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step_id: StepId,
    /// The step's attempt, from 1: each begins sessions of its own.
    pub attempt: u32,
    /// The session of the agent that called this one as a tool.
    pub parent: Option<Arc<str>>,
    /// Unlike that of any other session of the attempt.
    pub name: Arc<str>,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Where it stands, as far as its own lines tell: see [`SessionRow::status_in`].
    pub status: SessionStatus,
    /// Answers of the model.
    pub turns: u32,
    /// Lines that are kept.
    pub lines: u32,
    /// Bytes of these.
    pub bytes: u64,
    /// Tokens that the model read.
    pub input_tokens: u64,
    /// Tokens that it wrote.
    pub output_tokens: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When its last line came.
    pub updated_at: Timestamp,
}

impl SessionRow {
    /// Where it stands within its step: what nobody ended ends with its attempt.
    pub fn status_in(&self, step: StepStatus, attempt: u32) -> SessionStatus {
        match self.status {
            SessionStatus::Running if attempt > self.attempt => SessionStatus::Failed,
            SessionStatus::Running if step == StepStatus::Succeeded => SessionStatus::Completed,
            SessionStatus::Running if step.is_terminal() || step == StepStatus::Retrying => SessionStatus::Failed,
            status => status,
        }
    }
}

/// What a call changes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// As it is after the call. What it began with is not changed any more.
    pub row: SessionRow,
    /// The number of the first line that it adds, from 1.
    pub first: u32,
    /// The lines: each one JSON object without line breaks.
    pub lines: Vec<Json>,
}

/// A line of a session's transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLine {
    /// From 1, without gaps.
    pub number: u32,
    /// One JSON object without line breaks.
    pub line: Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_nobody_ended_ends_with_its_attempt() {
        let row = |status| SessionRow {
            id: "s".into(),
            realm: Realm::new("t", "e"),
            run: RunId::new("r"),
            step_id: StepId::new("s1"),
            attempt: 1,
            parent: None,
            name: "n".into(),
            agent: "a".into(),
            status,
            turns: 0,
            lines: 0,
            bytes: 0,
            input_tokens: 0,
            output_tokens: 0,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        use SessionStatus::{Completed, Failed, Running};
        for (stored, step, attempt, shown) in [
            (Running, StepStatus::Running, 1, Running),
            (Running, StepStatus::WaitingSignal, 1, Running),
            (Running, StepStatus::Running, 2, Failed),
            (Running, StepStatus::Retrying, 1, Failed),
            (Running, StepStatus::Succeeded, 1, Completed),
            (Running, StepStatus::Succeeded, 2, Failed),
            (Running, StepStatus::Failed, 1, Failed),
            (Running, StepStatus::Cancelled, 1, Failed),
            (Running, StepStatus::TimedOut, 1, Failed),
            (Completed, StepStatus::Failed, 1, Completed),
            (Failed, StepStatus::Succeeded, 1, Failed),
        ] {
            assert_eq!(row(stored).status_in(step, attempt), shown, "{stored:?} {step} {attempt}");
        }
    }
}
