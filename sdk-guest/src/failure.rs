use std::fmt;

use serde::Serialize;

use crate::bindings::caisson::step::capability::Error as CapabilityError;
use crate::bindings::caisson::step::types as wire;

/// What kind of error it is: `retryOn` and `catch` of a workflow select by it, or by the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Data that does not fit. Never retried.
    Validation,
    /// An expression that could not be evaluated.
    Expression,
    /// The action failed.
    Action,
    /// The action failed in a way that may pass.
    Transient,
    /// Something took too long.
    Timeout,
    /// Something was not allowed.
    Policy,
    /// A limit was passed.
    Limit,
}

/// What the action itself says about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// As the workflow says.
    #[default]
    Default,
    /// Not again.
    Never,
    /// Again, but not before so many milliseconds.
    AfterMs(u64),
}

/// Why an action failed. Any [`std::error::Error`] becomes one with `?`: category action, code `ACTION_FAILED`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    category: Category,
    code: String,
    message: String,
    details: Option<String>,
    retry: Retry,
}

impl Failure {
    /// A failure with a stable code in upper snake case, and what a person should know and do.
    pub fn new(category: Category, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { category, code: code.into(), message: message.into(), details: None, retry: Retry::Default }
    }

    /// The action failed.
    pub fn action(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Category::Action, code, message)
    }

    /// The action failed in a way that may pass.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Category::Transient, code, message)
    }

    /// The data does not fit.
    pub fn validation(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Category::Validation, code, message)
    }

    /// The same failure with data for programs. What cannot be serialised is left out.
    #[must_use]
    pub fn details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::to_string(details).ok();
        self
    }

    /// The same failure with advice on trying again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What a person should know and do.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// `Failure` itself is deliberately no `std::error::Error`, or this would not be allowed.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(Category::Action, "ACTION_FAILED", message)
    }
}

impl Failure {
    /// A capability's refusal, as a failure with a code and category that fit.
    pub fn of_capability(error: &CapabilityError) -> Self {
        match error {
            CapabilityError::Denied(what) => Self::new(Category::Policy, "CAPABILITY_DENIED", what).retry(Retry::Never),
            CapabilityError::NotFound(what) => Self::new(Category::Action, "NOT_FOUND", what),
            CapabilityError::Invalid(what) => Self::new(Category::Validation, "INVALID_REQUEST", what),
            CapabilityError::TooLarge(max) => {
                Self::new(Category::Limit, "TOO_LARGE", format!("more than the {max} bytes that are allowed"))
            }
            CapabilityError::Quota(what) => Self::new(Category::Limit, "QUOTA", what),
            CapabilityError::Timeout => {
                Self::new(Category::Timeout, "CAPABILITY_TIMEOUT", "the host's answer took too long")
            }
            CapabilityError::Unavailable(what) => Self::new(Category::Transient, "UNAVAILABLE", what),
            CapabilityError::Other(what) => Self::new(Category::Action, "CAPABILITY_FAILED", what),
        }
    }
}

impl From<Category> for wire::Category {
    fn from(category: Category) -> Self {
        match category {
            Category::Validation => Self::Validation,
            Category::Expression => Self::Expression,
            Category::Action => Self::Action,
            Category::Transient => Self::Transient,
            Category::Timeout => Self::Timeout,
            Category::Policy => Self::Policy,
            Category::Limit => Self::Limit,
        }
    }
}

impl From<Failure> for wire::Failure {
    fn from(failure: Failure) -> Self {
        let Failure { category, code, message, details, retry } = failure;
        let retry = match retry {
            Retry::Default => wire::Retry::Default,
            Retry::Never => wire::Retry::Never,
            Retry::AfterMs(ms) => wire::Retry::AfterMs(ms),
        };
        Self { category: category.into(), code, message, details, retry }
    }
}
