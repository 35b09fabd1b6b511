//! The built-in plugin `human`: asks people. Who may answer, and until when, is the host's to enforce.

use caisson_sdk::{Approval, Category, Context, Failure, Outcome, RawJson, Retry, Suspend, Verdict, Wake};
use serde::{Deserialize, Serialize};
use serde_json::json;

caisson_sdk::plugin!(approval);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Ask {
    message: String,
    summary: Option<RawJson>,
    #[serde(default)]
    approvers: Vec<String>,
    timeout_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Decided {
    decision: &'static str,
    approved: bool,
    actor: Option<String>,
    comment: Option<String>,
}

fn approval(context: &Context, ask: Ask) -> Result<Outcome<Decided>, Failure> {
    match context.resumed() {
        Some(Wake::Approval { verdict, actor, comment }) => {
            decided(*verdict, actor.clone(), comment.clone()).map(Outcome::Done)
        }
        Some(Wake::Cancelled(reason)) => Err(Failure::cancelled(reason.as_str())),
        // Nothing else was asked for, so nothing else decides.
        Some(Wake::Signal { .. } | Wake::Timer) | None => Ok(Suspend::new().on_approval(request(ask)).into()),
    }
}

fn request(ask: Ask) -> Approval {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of floats stays within the range"
    )]
    let deadline_ms = ask.timeout_seconds.map(|seconds| (seconds * 1000.0).ceil() as u64);
    let summary = ask.summary.map(|summary| summary.get().to_owned());
    Approval { message: ask.message, summary, approvers: ask.approvers, deadline_ms }
}

fn decided(verdict: Verdict, actor: Option<String>, comment: Option<String>) -> Result<Decided, Failure> {
    let failure = match verdict {
        Verdict::Approved => return Ok(Decided { decision: "approved", approved: true, actor, comment }),
        Verdict::Rejected => {
            let who = actor.as_deref().unwrap_or("somebody");
            let why = comment.as_deref().filter(|comment| !comment.is_empty());
            let message = match why {
                Some(why) => format!("rejected by {who}: {why}"),
                None => format!("rejected by {who}"),
            };
            Failure::new(Category::Policy, "APPROVAL_REJECTED", message)
                .details(&json!({"decision": "rejected", "actor": actor, "comment": comment}))
        }
        Verdict::TimedOut => Failure::new(Category::Timeout, "APPROVAL_TIMED_OUT", "nobody decided in time")
            .details(&json!({"decision": "timed-out"})),
    };
    Err(failure.retry(Retry::Never))
}
