//! What the service is asked for.

use std::sync::Arc;

use caisson_core::engine::Actor;
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::ports::IdempotencyRow;

/// A run to start.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// Whose.
    pub realm: Realm,
    /// The workflow's id.
    pub workflow: String,
    /// A version's label or number; the one in force when absent.
    pub version: Option<String>,
    /// The input.
    pub input: Json,
    /// A name for people.
    pub name: Option<String>,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// Who starts it.
    pub actor: Arc<str>,
    /// The client's `Idempotency-Key`: the same key again gives the same run.
    pub idempotency: Option<IdempotencyRow>,
    /// The client's `traceparent`: the run's trace hangs there.
    pub trace: Option<Arc<str>>,
}

/// A definition to save.
#[derive(Clone, Debug)]
pub struct SaveDefinition {
    /// Whose.
    pub realm: Realm,
    /// The definition, read and without errors.
    pub definition: Arc<caisson_core::model::Definition>,
    /// Its document as JSON.
    pub json: Json,
    /// Who saves it.
    pub actor: Arc<str>,
    /// `Some(false)`: it must not exist yet (409); `Some(true)`: it must (404); `None`: either.
    pub must_exist: Option<bool>,
}

/// A signal for a run.
#[derive(Clone, Debug)]
pub struct SendSignal {
    /// Unique, from the client; made when absent. The same id again is accepted and changes nothing.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Which of several like it.
    pub correlation: Option<String>,
    /// Its data.
    pub payload: Json,
}

/// A human's answer.
#[derive(Clone, Debug)]
pub struct Decide {
    /// The run.
    pub run: RunId,
    /// The approval's id.
    pub approval: caisson_core::ids::ApprovalId,
    /// Yes or no.
    pub approve: bool,
    /// Who.
    pub actor: Actor,
    /// With which words.
    pub comment: Option<String>,
}
