use async_trait::async_trait;

use crate::error::Failure;
use crate::json::Json;

/// One expression to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Starlark: an expression, or statements whose last one is an expression.
    pub source: std::sync::Arc<str>,
    /// The names it may use.
    pub bindings: Bindings,
}

/// Names and their values, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings(pub Vec<(String, Json)>);

/// Evaluates expressions that come from people we do not trust: within limits of time, memory, stack and source size.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// The value of the expression, or a failure: `ExpressionError` (`EXPRESSION_INVALID`, `EXPRESSION_UNDEFINED_NAME` with the
    /// names there are, `EXPRESSION_FAILED`) or `LimitError` (`EXPRESSION_TIME_LIMIT`, `EXPRESSION_MEMORY_LIMIT`, `EXPRESSION_STACK_LIMIT`,
    /// `EXPRESSION_SIZE_LIMIT`). Deterministic: the engine records the answer and never asks twice.
    async fn evaluate(&self, evaluation: &Evaluation) -> Result<Json, Failure>;
}
