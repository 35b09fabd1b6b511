//! What the service answers when it cannot do what was asked.

use std::borrow::Cow;

use caisson_core::engine::Refusal;
use caisson_core::json::Json;
use caisson_core::ports::StoreError;

/// The kind of an error: the server turns it into an HTTP status, the command line into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Valid in form, breaks a rule (422).
    Invalid,
    /// Malformed (400).
    Malformed,
    /// Not there, or another tenant's (404).
    NotFound,
    /// Not allowed for this actor (403).
    Forbidden,
    /// Wrong state or version (409).
    Conflict,
    /// Too large (413).
    TooLarge,
    /// A limit of load (429).
    TooMany,
    /// Cannot work now: disk full, shutting down (503).
    Unavailable,
    /// Our fault (500).
    Internal,
}

/// Why the service did not do it. Nothing was half done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Its kind.
    pub kind: Kind,
    /// Stable, upper snake case.
    pub code: &'static str,
    /// What a person should know and do.
    pub message: Cow<'static, str>,
    /// More, for programs.
    pub details: Option<Json>,
}

impl Error {
    /// An error without details.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, code, message: message.into(), details: None }
    }

    /// With details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Json) -> Self {
        self.details = Some(details);
        self
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Full(_) => Self::new(Kind::Unavailable, "STORE_FULL", message),
            StoreError::Locked(_) => Self::new(Kind::Unavailable, "STORE_LOCKED", message),
            StoreError::Newer(_) => Self::new(Kind::Unavailable, "STORE_NEWER", message),
            StoreError::Corrupt(_) => Self::new(Kind::Internal, "STORE_CORRUPT", message),
            StoreError::Conflict(_) => Self::new(Kind::Conflict, "CONFLICT", message),
            StoreError::NotFound(_) => Self::new(Kind::NotFound, "NOT_FOUND", message),
            StoreError::Invalid(_) => Self::new(Kind::Malformed, "INVALID", message),
            StoreError::Other(_) => Self::new(Kind::Unavailable, "STORE_FAILED", message),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (kind, code) = match refusal {
            Refusal::Ended(_) => (Kind::Conflict, "RUN_ENDED"),
            Refusal::AlreadyPaused => (Kind::Conflict, "RUN_ALREADY_PAUSED"),
            Refusal::NotPaused(_) => (Kind::Conflict, "RUN_NOT_PAUSED"),
            Refusal::NotQueued(_) => (Kind::Conflict, "RUN_NOT_QUEUED"),
            Refusal::NoSuchStep(_) => (Kind::NotFound, "STEP_NOT_FOUND"),
            Refusal::NotReady(_) => (Kind::Conflict, "STEP_NOT_READY"),
            Refusal::StaleClaim { .. } => (Kind::Conflict, "STALE_CLAIM"),
            Refusal::StaleTimer(_) => (Kind::Conflict, "STALE_TIMER"),
            Refusal::NoSuchApproval(_) => (Kind::NotFound, "APPROVAL_NOT_FOUND"),
            Refusal::AlreadyDecided(_) => (Kind::Conflict, "APPROVAL_DECIDED"),
            Refusal::NotApprover { .. } => (Kind::Forbidden, "NOT_AN_APPROVER"),
            Refusal::DuplicateSignal(_) => (Kind::Conflict, "DUPLICATE_SIGNAL"),
            Refusal::MailboxFull(_) => (Kind::TooMany, "SIGNALS_FULL"),
            Refusal::NoSuchChild(_) => (Kind::NotFound, "CHILD_NOT_FOUND"),
            Refusal::NoSuchScope(_) => (Kind::NotFound, "SCOPE_NOT_FOUND"),
        };
        Self::new(kind, code, message)
    }
}
