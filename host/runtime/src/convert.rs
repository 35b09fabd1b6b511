//! Between core's types and the wire's. Wire types are not domain types, though they look alike.

use caisson_core::engine::{ApprovalStatus, Wake};
use caisson_core::error::{Category, Failure, RetryHint};
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{ApprovalRequest, Invocation, Outcome, Resumption, Suspension};

use crate::bindings::caisson::step::types as wire;

/// What the guest is called with.
pub(crate) fn invocation(call: Invocation, action: &str, config: String) -> Result<wire::Invocation, Failure> {
    let resumed = match call.resumed {
        Some(Resumption { state, wake }) => Some(wire::Resumption { state, wake: woken(wake)? }),
        None => None,
    };
    Ok(wire::Invocation {
        action: action.to_owned(),
        config,
        input: call.input.get().to_owned(),
        context: wire::Context {
            tenant: call.realm.tenant.to_string(),
            environment: call.realm.environment.to_string(),
            workflow: call.workflow.to_string(),
            workflow_version: call.workflow_version.to_string(),
            run_id: call.run.to_string(),
            step_id: call.step.to_string(),
            state: call.state.to_string(),
            attempt: call.attempt,
            entry: call.entry,
            idempotency_key: call.idempotency_key.to_string(),
            deadline_ms: call.deadline_ms,
            traceparent: call.traceparent.as_deref().map(str::to_owned),
        },
        resumed,
    })
}

fn woken(wake: Wake) -> Result<wire::Wake, Failure> {
    Ok(match wake {
        Wake::Signal { name, payload, actor } => {
            let payload = match payload {
                Payload::Inline(json) => json.get().to_owned(),
                Payload::Stored(blob) => {
                    // The orchestrator reads blobs before it calls; the runtime has no store.
                    let message =
                        format!("the payload of signal '{name}' ({} bytes) was not read from the store", blob.size);
                    return Err(Failure::new(Category::ActionError, "SIGNAL_PAYLOAD_MISSING", message));
                }
            };
            wire::Wake::Signal(wire::Signal {
                name: name.to_string(),
                payload,
                actor: actor.as_deref().map(str::to_owned),
            })
        }
        Wake::Approval { status, actor, comment } => {
            let verdict = match status {
                ApprovalStatus::Approved => wire::Verdict::Approved,
                ApprovalStatus::Rejected => wire::Verdict::Rejected,
                ApprovalStatus::TimedOut => wire::Verdict::TimedOut,
                ApprovalStatus::Pending | ApprovalStatus::Cancelled => {
                    let message = "the step was woken by an approval that nobody decided";
                    return Err(Failure::new(Category::ActionError, "APPROVAL_UNDECIDED", message));
                }
            };
            wire::Wake::Approval(wire::Decision { verdict, actor: actor.as_deref().map(str::to_owned), comment })
        }
        Wake::Timer => wire::Wake::Timer,
        Wake::Cancelled { reason } => wire::Wake::Cancelled(reason),
    })
}

/// What the guest answered. Its JSON is hostile until parsed.
pub(crate) fn outcome(outcome: wire::Outcome) -> Result<Outcome, Failure> {
    match outcome {
        wire::Outcome::Done(text) => json(text, "result").map(Outcome::Done),
        wire::Outcome::Suspend(wire::Suspension { state, signals, wake_after_ms, approval }) => {
            if signals.is_empty() && wake_after_ms.is_none() && approval.is_none() {
                let message =
                    "the plugin suspended the step without a signal, a time or an approval that could wake it";
                return Err(Failure::new(Category::ActionError, "SUSPENSION_ENDLESS", message).never_retried());
            }
            let approval = match approval {
                Some(wire::ApprovalRequest { message, summary, approvers, deadline_ms }) => {
                    let summary = summary.map(|text| json(text, "approval summary")).transpose()?;
                    Some(ApprovalRequest { message, summary, approvers, deadline_ms })
                }
                None => None,
            };
            Ok(Outcome::Suspend(Suspension { state, signals, wake_after_ms, approval }))
        }
    }
}

/// What the guest failed with.
pub(crate) fn failure(failure: wire::Failure) -> Failure {
    let wire::Failure { category, code, message, details, retry } = failure;
    let category = match category {
        wire::Category::Validation => Category::ValidationError,
        wire::Category::Expression => Category::ExpressionError,
        wire::Category::Action => Category::ActionError,
        wire::Category::Transient => Category::TransientError,
        wire::Category::Timeout => Category::TimeoutError,
        wire::Category::Policy => Category::PolicyError,
        wire::Category::Limit => Category::LimitError,
    };
    let retry = match retry {
        wire::Retry::Default => RetryHint::Default,
        wire::Retry::Never => RetryHint::Never,
        wire::Retry::AfterMs(ms) => RetryHint::AfterMs(ms),
    };
    // Details that are no JSON are kept as text rather than lost.
    let details = details.map(|text| Json::parse(text.as_str()).unwrap_or_else(|_| Json::of(&text)));
    let code = if well_formed(&code) { code } else { "ACTION_FAILED".to_owned() };
    Failure { code, category, message, details, retry }
}

/// Codes are selected by and shown: upper snake case, short.
fn well_formed(code: &str) -> bool {
    const LENGTH_MAX: usize = 64;
    (1..=LENGTH_MAX).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn json(text: String, what: &str) -> Result<Json, Failure> {
    let text = match Json::plain(text) {
        Ok(json) => return Ok(json),
        Err(text) => text,
    };
    // serde_json bounds nesting when a value is read, but not when it is only scanned: read it, so that no later reader fails.
    let parsed = serde_json::from_str::<Checked>(&text).map_err(|e| e.to_string());
    parsed.and_then(|Checked| Json::parse(text).map_err(|e| e.to_string())).map_err(|e| {
        Failure::new(Category::ActionError, "OUTPUT_INVALID", format!("the plugin's {what} is not JSON: {e}"))
            .never_retried()
    })
}

/// Reads any JSON within the nesting limit and keeps nothing.
struct Checked;

impl<'de> serde::Deserialize<'de> for Checked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::Deserializer::deserialize_any(deserializer, CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> serde::de::Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Checked, A::Error> {
        while seq.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
        while map.next_entry::<serde::de::IgnoredAny, Checked>()?.is_some() {}
        Ok(Checked)
    }
}
