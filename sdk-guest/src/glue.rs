//! Between the export and the plugin's typed functions.

use serde::de::DeserializeOwned;

use crate::bindings::caisson::step::types as wire;
use crate::context::Context;
use crate::failure::{Category, Failure, Retry};
use crate::log;
use crate::outcome::IntoOutcome;
use crate::schema::{self, Schemas};

/// What a dispatched action answers; `None` when the plugin has no action of that name.
pub type Answer = Option<Result<wire::Outcome, Failure>>;

/// Runs one entry: reads the invocation, finds the function, writes its answer.
pub fn enter(
    call: wire::Invocation,
    dispatch: impl FnOnce(&Context, &str) -> Answer,
    schemas: impl FnOnce() -> Schemas,
) -> Result<wire::Outcome, wire::Failure> {
    report_panics();
    let (context, input) = Context::new(call)?;
    if let Some(answer) = dispatch(&context, &input).or_else(|| schema::answer(context.action(), schemas)) {
        return answer.map_err(Into::into);
    }
    let message = format!("the plugin has no action '{}'", context.action());
    Err(Failure::validation("UNKNOWN_ACTION", message).retry(Retry::Never).into())
}

/// Calls one action's function with its typed input.
pub fn call<I: DeserializeOwned, O: IntoOutcome, E: Into<Failure>>(
    action: impl FnOnce(&Context, I) -> Result<O, E>,
    context: &Context,
    input: &str,
) -> Result<wire::Outcome, Failure> {
    let input = serde_json::from_str(input).map_err(|e| {
        let message = format!("the input does not fit action '{}': {e}", context.action());
        Failure::new(Category::Validation, "INPUT_INVALID", message).retry(Retry::Never)
    })?;
    action(context, input).map_err(Into::into)?.into_wire()
}

/// A panic ends the instance; its message and place go to the log first, as a fatal line, where the host finds them for the step's failure.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        log::write(log::Level::Fatal, &info.to_string().replace('\n', " "), None);
    }));
}
