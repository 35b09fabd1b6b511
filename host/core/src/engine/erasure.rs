//! What stands where data was erased.

use serde_json::{Value, json};

use super::RunError;
use crate::error::Failure;
use crate::json::{Json, Payload, sha256_hex};

/// What an error says once its words are erased; its code and category stay.
pub const ERASED: &str = "erased";

/// What is shown instead of a value: `{"erased": true, "sha256": …}`.
pub fn value(sha256: &str) -> Json {
    Json::of(&json!({"erased": true, "sha256": sha256}))
}

/// Where not even a hash is left: what a plugin emitted.
pub fn nothing() -> Json {
    Json::of(&json!({"erased": true}))
}

/// The same for a payload.
pub fn payload(payload: &Payload) -> Payload {
    match payload {
        Payload::Inline(json) => Payload::Inline(value(&sha256_hex(json.get().as_bytes()))),
        Payload::Stored(blob) => Payload::Inline(value(&blob.sha256)),
    }
}

/// A step's error without its words.
pub fn failure(stored: &Json) -> Json {
    let of = |key: &str| stored.value().get(key).cloned().unwrap_or(Value::Null);
    Json::of(&json!({"code": of("code"), "category": of("category"), "message": ERASED}))
}

/// A run's error without its words.
pub fn run_error(stored: &Json) -> Json {
    match serde_json::from_str::<RunError>(stored.get()) {
        Ok(RunError { failure, state, step_id }) => {
            let failure = Failure::new(failure.category, &failure.code, ERASED);
            Json::of(&RunError { failure, state, step_id })
        }
        Err(_) => value(&sha256_hex(stored.get().as_bytes())),
    }
}
