//! The built-in plugin `core`: small actions, for workflows, tests and benchmarks.

#![expect(clippy::unnecessary_wraps, clippy::needless_pass_by_value, reason = "actions have one form")]

use caisson_sdk::{Category, Context, Failure, Outcome, RawJson, Retry, Suspend, Wake};
use serde::{Deserialize, Serialize};
use serde_json::Value;

caisson_sdk::plugin!(echo, fail, sleep, wait_signal);

fn echo(_: &Context, input: RawJson) -> Result<RawJson, Failure> {
    Ok(input)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    code: Option<String>,
    #[serde(default)]
    category: Kind,
    message: Option<String>,
    attempts: Option<u32>,
    retry: Option<Never>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[expect(clippy::enum_variant_names, reason = "the names that workflows use")]
enum Kind {
    ValidationError,
    ExpressionError,
    #[default]
    ActionError,
    TransientError,
    TimeoutError,
    PolicyError,
    LimitError,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Never {
    Never,
}

#[derive(Serialize)]
struct Succeeded {
    attempt: u32,
}

fn fail(context: &Context, input: Fail) -> Result<Succeeded, Failure> {
    let attempt = context.attempt();
    if input.attempts.is_some_and(|attempts| attempt > attempts) {
        return Ok(Succeeded { attempt });
    }
    let category = match input.category {
        Kind::ValidationError => Category::Validation,
        Kind::ExpressionError => Category::Expression,
        Kind::ActionError => Category::Action,
        Kind::TransientError => Category::Transient,
        Kind::TimeoutError => Category::Timeout,
        Kind::PolicyError => Category::Policy,
        Kind::LimitError => Category::Limit,
    };
    let code = input.code.unwrap_or_else(|| "FAILED_ON_PURPOSE".to_owned());
    let message = input.message.unwrap_or_else(|| "failed as it was told".to_owned());
    let retry = match input.retry {
        Some(Never::Never) => Retry::Never,
        None => Retry::Default,
    };
    Err(Failure::new(category, code, message).details(&Succeeded { attempt }).retry(retry))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: Option<u64>,
    seconds: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Slept {
    slept_ms: u64,
}

fn sleep(context: &Context, input: Sleep) -> Result<Outcome<Slept>, Failure> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of floats stays within the range"
    )]
    let slept_ms = input.ms.unwrap_or_else(|| (input.seconds.unwrap_or_default() * 1000.0).round() as u64);
    if context.resumed().is_some() || slept_ms == 0 {
        return Ok(Outcome::Done(Slept { slept_ms }));
    }
    Ok(Suspend::new().after_ms(slept_ms).into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WaitSignal {
    signal: String,
    timeout_ms: Option<u64>,
}

fn wait_signal(context: &Context, input: WaitSignal) -> Result<Outcome<Value>, Failure> {
    match context.resumed() {
        Some(Wake::Signal { payload, .. }) => Ok(Outcome::Done(payload.clone())),
        Some(Wake::Timer) => {
            let message =
                format!("no signal '{}' came within {} ms", input.signal, input.timeout_ms.unwrap_or_default());
            Err(Failure::new(Category::Timeout, "SIGNAL_TIMED_OUT", message).retry(Retry::Never))
        }
        Some(Wake::Cancelled(reason)) => Err(Failure::cancelled(reason.as_str())),
        Some(Wake::Approval { .. }) | None => {
            let suspend = Suspend::new().on_signal(input.signal);
            Ok(match input.timeout_ms {
                Some(ms) => suspend.after_ms(ms),
                None => suspend,
            }
            .into())
        }
    }
}
