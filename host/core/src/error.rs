//! Errors of runs and steps: data that is stored, shown and selected by, not Rust errors.

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// What kind of error it is: `retryOn` and `catch` select by it, or by the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Category {
    /// Data that does not fit its schema. Never retried.
    ValidationError,
    /// A template or an expression that could not be evaluated.
    ExpressionError,
    /// The action failed.
    ActionError,
    /// The action failed in a way that may pass.
    TransientError,
    /// Something took too long.
    TimeoutError,
    /// Something was not allowed.
    PolicyError,
    /// A limit was passed: the code names it.
    LimitError,
}

impl Category {
    /// Every category.
    pub const ALL: &'static [Self] = &[
        Self::ValidationError,
        Self::ExpressionError,
        Self::ActionError,
        Self::TransientError,
        Self::TimeoutError,
        Self::PolicyError,
        Self::LimitError,
    ];

    /// The name as definitions and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidationError => "ValidationError",
            Self::ExpressionError => "ExpressionError",
            Self::ActionError => "ActionError",
            Self::TransientError => "TransientError",
            Self::TimeoutError => "TimeoutError",
            Self::PolicyError => "PolicyError",
            Self::LimitError => "LimitError",
        }
    }

    /// Reads it back; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.as_str() == text)
    }
}

/// Why a step, or a run, failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable, upper snake case, for example `APPROVAL_REJECTED`.
    pub code: String,
    /// Its kind.
    pub category: Category,
    /// What a person should know and do.
    pub message: String,
    /// More, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Json>,
    /// What the failed action itself said about trying again.
    #[serde(default, skip_serializing_if = "RetryHint::is_default")]
    pub retry: RetryHint,
}

/// An action's own word on trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryHint {
    /// As the definition's `retry` says.
    #[default]
    Default,
    /// Not again, whatever the definition says.
    Never,
    /// Again, but not before so many milliseconds; still bounded by the definition's `maxAttempts`.
    AfterMs(u64),
}

impl RetryHint {
    fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

impl Failure {
    /// An error without details.
    pub fn new(category: Category, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), category, message: message.into(), details: None, retry: RetryHint::Default }
    }

    /// The same error, never tried again.
    #[must_use]
    pub fn never_retried(mut self) -> Self {
        self.retry = RetryHint::Never;
        self
    }

    /// The same error with details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Json) -> Self {
        self.details = Some(details);
        self
    }

    /// Whether a selector of `retryOn` or `catch.errors` means this error: a category, a code, or `*`.
    pub fn matches(&self, selector: &str) -> bool {
        selector == "*" || selector == self.code || selector == self.category.as_str()
    }
}
