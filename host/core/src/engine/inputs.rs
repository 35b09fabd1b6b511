//! What a decision may ask for, and the answers: the clock and every value from outside come in here.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{Refusal, StepNo};
use crate::error::Failure;
use crate::json::{Blob, BlobRef, Json};
use crate::ports::{Evaluation, ItemRow};
use crate::time::Timestamp;

/// What a decision rests on beside the state and the stimulus.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The time of the decision: the same each time it is asked again.
    pub now: Timestamp,
    /// Values of expressions, in the order in which the decision asked for them. A decision is deterministic, so
    /// it asks in the same order each time.
    pub evaluations: Vec<Result<Json, Failure>>,
    /// Large values.
    pub blobs: Blobs,
    /// Results of foreach items.
    pub items: HashMap<StepNo, Vec<ItemRow>>,
}

/// A question that a decision cannot go on without.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// The value of an expression: goes to the end of [`Inputs::evaluations`].
    Evaluate(Evaluation),
    /// A large value: goes into [`Inputs::blobs`].
    Blob(BlobRef),
    /// The results of a foreach: go into [`Inputs::items`].
    Items(StepNo),
}

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// Answer this and ask again.
    Need(Question),
    /// The stimulus changes nothing.
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Large values that are at hand, each parsed at most once.
#[derive(Clone, Debug, Default)]
pub struct Blobs(HashMap<Arc<str>, Arc<Loaded>>);

/// A large value.
#[derive(Debug)]
pub struct Loaded {
    json: Json,
    value: OnceLock<Value>,
}

impl Blobs {
    /// Adds one.
    pub fn insert(&mut self, blob: &Blob) {
        self.0
            .entry(blob.id.sha256.clone())
            .or_insert_with(|| Arc::new(Loaded { json: blob.json.clone(), value: OnceLock::new() }));
    }

    /// Finds one.
    pub fn get(&self, id: &BlobRef) -> Option<&Arc<Loaded>> {
        self.0.get(&id.sha256)
    }

    /// The size of all texts in bytes.
    pub fn bytes(&self) -> usize {
        self.0.values().map(|loaded| loaded.json.get().len()).sum()
    }
}

impl Loaded {
    /// Its text.
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// Its value.
    pub fn value(&self) -> &Value {
        self.value.get_or_init(|| self.json.value())
    }
}
