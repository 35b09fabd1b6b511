//! Invocations as JavaScript objects, and JavaScript objects as outcomes and failures.

use boa_engine::{Context, JsNativeError, JsObject, JsResult, JsString, JsValue, js_string};
use serde_json::{Value, json};

use crate::bindings::caisson::step::types::{
    ApprovalRequest, Category, Failure, Invocation, Outcome, Resumption, Retry, Suspension, Verdict, Wake,
};
use crate::functions::{bytes, to_bytes};

/// A failure of the engine's own.
pub fn failure(category: Category, code: &str, message: impl Into<String>) -> Failure {
    Failure { category, code: code.to_owned(), message: message.into(), details: None, retry: Retry::Never }
}

/// The invocation as `begin` of the prelude takes it. The input goes as text, to be read where its errors are caught.
pub fn call(call: &Invocation, input: &str, context: &mut Context) -> JsResult<JsObject> {
    let ids = &call.context;
    let parts = json!({
        "action": call.action,
        "config": call.config,
        "context": {
            "tenant": ids.tenant,
            "environment": ids.environment,
            "workflow": ids.workflow,
            "workflowVersion": ids.workflow_version,
            "runId": ids.run_id,
            "stepId": ids.step_id,
            "state": ids.state,
            "attempt": ids.attempt,
            "entry": ids.entry,
            "idempotencyKey": ids.idempotency_key,
            "deadlineMs": ids.deadline_ms,
            "traceparent": ids.traceparent,
        },
        "resumed": call.resumed.as_ref().map(|resumed| json!({ "wake": wake(&resumed.wake) })),
    });
    let value = JsValue::from_json(&parts, context)?;
    let object = value.to_object(context)?;
    object.set(js_string!("input"), JsString::from(input), true, context)?;
    if let Some(Resumption { state, .. }) = &call.resumed {
        let state = bytes(state.clone(), context)?;
        object.get(js_string!("resumed"), context)?.to_object(context)?.set(
            js_string!("state"),
            state,
            true,
            context,
        )?;
    }
    Ok(object)
}

fn wake(wake: &Wake) -> Value {
    match wake {
        Wake::Signal(signal) => {
            let val = json!({ "name": signal.name, "payload": signal.payload, "actor": signal.actor });
            json!({ "tag": "signal", "val": val })
        }
        Wake::Approval(decision) => {
            let verdict = match decision.verdict {
                Verdict::Approved => "approved",
                Verdict::Rejected => "rejected",
                Verdict::TimedOut => "timed-out",
            };
            let val = json!({ "verdict": verdict, "actor": decision.actor, "comment": decision.comment });
            json!({ "tag": "approval", "val": val })
        }
        Wake::Timer => json!({ "tag": "timer" }),
        Wake::Cancelled(reason) => json!({ "tag": "cancelled", "val": reason }),
    }
}

/// What `finish` of the prelude gives.
pub fn result(settled: &JsValue, context: &mut Context) -> JsResult<Result<Outcome, Failure>> {
    let settled = Reader::of(settled, context)?;
    match settled.part("failure", context)? {
        Some(failure) => read_failure(&failure, context).map(Err),
        None => read_outcome(&settled.needed("outcome", context)?, context).map(Ok),
    }
}

fn read_outcome(outcome: &Reader, context: &mut Context) -> JsResult<Outcome> {
    if outcome.text("tag", context)? == "done" {
        return Ok(Outcome::Done(outcome.text("val", context)?));
    }
    let suspension = outcome.needed("val", context)?;
    let state = suspension.value("state", context)?;
    let approval = match suspension.part("approval", context)? {
        None => None,
        Some(request) => Some(ApprovalRequest {
            message: request.text("message", context)?,
            summary: request.optional_text("summary", context)?,
            approvers: request.texts("approvers", context)?,
            deadline_ms: request.milliseconds("deadlineMs", context)?,
        }),
    };
    Ok(Outcome::Suspend(Suspension {
        state: to_bytes(&state, context)?,
        signals: suspension.texts("signals", context)?,
        wake_after_ms: suspension.milliseconds("wakeAfterMs", context)?,
        approval,
    }))
}

fn read_failure(failure: &Reader, context: &mut Context) -> JsResult<Failure> {
    let category = match failure.text("category", context)?.as_str() {
        "validation" => Category::Validation,
        "expression" => Category::Expression,
        "transient" => Category::Transient,
        "timeout" => Category::Timeout,
        "policy" => Category::Policy,
        "limit" => Category::Limit,
        _ => Category::Action,
    };
    let advice = failure.needed("retry", context)?;
    let retry = match advice.text("tag", context)?.as_str() {
        "never" => Retry::Never,
        "after-ms" => Retry::AfterMs(advice.milliseconds("val", context)?.unwrap_or(0)),
        _ => Retry::Default,
    };
    Ok(Failure {
        category,
        code: failure.text("code", context)?,
        message: failure.text("message", context)?,
        details: failure.optional_text("details", context)?,
        retry,
    })
}

/// Reads properties that the prelude wrote.
struct Reader(JsObject);

impl Reader {
    fn of(value: &JsValue, context: &mut Context) -> JsResult<Self> {
        value.to_object(context).map(Self)
    }

    fn value(&self, name: &str, context: &mut Context) -> JsResult<JsValue> {
        self.0.get(JsString::from(name), context)
    }

    fn part(&self, name: &str, context: &mut Context) -> JsResult<Option<Self>> {
        let value = self.value(name, context)?;
        if value.is_null_or_undefined() { Ok(None) } else { Self::of(&value, context).map(Some) }
    }

    fn needed(&self, name: &str, context: &mut Context) -> JsResult<Self> {
        self.part(name, context)?.ok_or_else(|| JsNativeError::typ().with_message(format!("{name} is missing")).into())
    }

    fn text(&self, name: &str, context: &mut Context) -> JsResult<String> {
        Ok(self.value(name, context)?.to_string(context)?.to_std_string_lossy())
    }

    fn optional_text(&self, name: &str, context: &mut Context) -> JsResult<Option<String>> {
        let value = self.value(name, context)?;
        if value.is_null_or_undefined() {
            return Ok(None);
        }
        Ok(Some(value.to_string(context)?.to_std_string_lossy()))
    }

    fn texts(&self, name: &str, context: &mut Context) -> JsResult<Vec<String>> {
        let list = self.needed(name, context)?;
        let length = list.value("length", context)?.to_length(context)?;
        (0..length).map(|at| Ok(list.0.get(at, context)?.to_string(context)?.to_std_string_lossy())).collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the prelude lets whole numbers from 0 to 2^53 pass"
    )]
    fn milliseconds(&self, name: &str, context: &mut Context) -> JsResult<Option<u64>> {
        Ok(self.value(name, context)?.as_number().map(|ms| ms as u64))
    }
}
