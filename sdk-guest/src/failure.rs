mod convert;

use std::fmt;

use serde::Serialize;

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

/// Why an action failed.
///
/// Any [`std::error::Error`] becomes one with `?`. The first error that is known, in the order from the error to its sources, decides
/// category and code; the message is that of the whole chain:
///
/// | error | category | code |
/// |---|---|---|
/// | [`CapabilityError::Denied`](crate::CapabilityError) | policy, never retried | `CAPABILITY_DENIED` |
/// | `…::NotFound` | action | `NOT_FOUND` |
/// | `…::Invalid` | validation | `INVALID_REQUEST` |
/// | `…::TooLarge` | limit | `TOO_LARGE` |
/// | `…::Quota` | limit | `QUOTA` |
/// | `…::Timeout` | timeout | `CAPABILITY_TIMEOUT` |
/// | `…::Unavailable` | transient | `UNAVAILABLE` |
/// | `…::Other` | action | `CAPABILITY_FAILED` |
/// | [`serde_json::Error`] | validation | `JSON_INVALID` |
/// | numbers, characters and UTF-8 that do not read | validation | `DATA_INVALID` |
/// | [`std::io::Error`], by its kind | timeout, transient, policy, validation or action | `IO_TIMEOUT`, `IO_UNAVAILABLE`, `IO_DENIED`, `DATA_INVALID`, `IO_FAILED` |
/// | any other | action | `ACTION_FAILED` |
///
/// An error type of your own that should choose for itself implements `From` for `Failure`, and leaves `std::error::Error` out. An action's
/// function may return it, or use `?` on it:
///
/// ```
/// use caisson_sdk::{Context, Failure, Retry};
///
/// enum OrderError { SoldOut { item: String } }
///
/// impl From<OrderError> for Failure {
///     fn from(error: OrderError) -> Self {
///         match error {
///             OrderError::SoldOut { item } => Failure::action("SOLD_OUT", format!("there is no {item} left")).retry(Retry::Never),
///         }
///     }
/// }
///
/// fn order(_: &Context, item: String) -> Result<String, OrderError> {
///     Err(OrderError::SoldOut { item })
/// }
/// ```
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

    /// The run is being cancelled: what a step answers to [`Wake::Cancelled`](crate::Wake::Cancelled) when it has cleaned up.
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Self::action("CANCELLED", reason).retry(Retry::Never)
    }

    /// The same failure with another code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// The same failure in another category.
    #[must_use]
    pub fn with_category(mut self, category: Category) -> Self {
        self.category = category;
        self
    }

    /// The same failure with what was being done before its message: `failed to read the order: …`.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
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

    /// What kind of error it is.
    pub fn category(&self) -> Category {
        self.category
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What a person should know and do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The data for programs, as JSON text.
    pub fn details_json(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// What it says about trying again.
    pub fn advice(&self) -> Retry {
        self.retry
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
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
