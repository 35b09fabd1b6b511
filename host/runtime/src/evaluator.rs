use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::plugin::Effective;
use caisson_core::ports::{Evaluation, Evaluator, Outcome};

use crate::builtin::{EVALUATE, SCRIPT};
use crate::config::RuntimeConfig;
use crate::entry::{self, Call};
use crate::limits::Limits;
use crate::plugin::Compiled;
use crate::runtime::Runtime;
use crate::state::Shared;

/// An expression takes microseconds; one that takes a second of CPU is an attack or a mistake.
pub const EVALUATION_CPU_MS: u64 = 1_000;
/// Starlark's image has 4 MB; the rest is for the data.
pub const EVALUATION_MEMORY_BYTES: u64 = 64 << 20;
/// The longest source: an expression, not a program.
pub const SOURCE_BYTES_MAX: usize = 64 << 10;

/// Evaluates expressions in the built-in Starlark guest, in a fresh instance each.
pub struct StarlarkEvaluator {
    runtime: Arc<Runtime>,
    compiled: Arc<Compiled>,
    /// Nothing is granted.
    effective: Arc<Effective>,
    action: Arc<str>,
    limits: Limits,
    shared: Arc<Shared>,
}

impl StarlarkEvaluator {
    /// Uses a runtime's engine and threads.
    ///
    /// # Panics
    /// If the runtime has no built-in Starlark guest: it does not start without.
    pub fn new(runtime: Arc<Runtime>) -> Self {
        let (package, compiled) = runtime.script().expect("the script plugin is built in");
        let limits = Limits {
            cpu_ms: EVALUATION_CPU_MS.min(compiled.limits.cpu_ms),
            memory_bytes: EVALUATION_MEMORY_BYTES.min(compiled.limits.memory_bytes),
            ..compiled.limits
        };
        Self {
            runtime,
            compiled,
            effective: Arc::new(Effective::new(package, Arc::default(), None)),
            action: format!("{SCRIPT}.{EVALUATE}").into(),
            limits,
            // Nobody listens, and there is nothing to keep.
            shared: Arc::new(Shared::new(&RuntimeConfig::default())),
        }
    }
}

#[async_trait]
impl Evaluator for StarlarkEvaluator {
    async fn evaluate(&self, evaluation: &Evaluation) -> Result<Json, Failure> {
        if evaluation.source.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "the expression has {} bytes, more than the {SOURCE_BYTES_MAX} that are allowed",
                evaluation.source.len()
            );
            return Err(Failure::new(Category::LimitError, "EXPRESSION_SIZE_LIMIT", message).never_retried());
        }
        let call = Call {
            effective: Arc::clone(&self.effective),
            limits: self.limits,
            invocation: entry::standalone(&self.effective, Arc::clone(&self.action), input(evaluation)),
            shared: Arc::clone(&self.shared),
            deadline: None,
        };
        let (compiled, code) = (Arc::clone(&self.compiled), Arc::clone(&self.compiled.code));
        match self.runtime.enter(compiled, code, Json::of(&serde_json::Map::new()), call).await.entry.result {
            Ok(Outcome::Done(value)) => Ok(value),
            Ok(Outcome::Suspend(_)) => Err(failed("the expression suspended")),
            Err(failure) => Err(renamed(failure)),
        }
    }
}

/// The action's input, put together from the bindings' own bytes.
fn input(evaluation: &Evaluation) -> Json {
    use serde::ser::{Serialize, SerializeMap, Serializer};

    struct Input<'a>(&'a Evaluation);
    struct Names<'a>(&'a [(String, Json)]);

    impl Serialize for Input<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("source", &*self.0.source)?;
            map.serialize_entry("bindings", &Names(&self.0.bindings.0))?;
            map.end()
        }
    }

    impl Serialize for Names<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
        }
    }

    Json::of(&Input(evaluation))
}

/// Limits and traps under the names that expressions have for them.
fn renamed(mut failure: Failure) -> Failure {
    let (code, message) = match failure.code.as_str() {
        "CPU_TIME_LIMIT" | "WALL_TIME_LIMIT" => {
            ("EXPRESSION_TIME_LIMIT", format!("the expression took more than {EVALUATION_CPU_MS} ms"))
        }
        "MEMORY_LIMIT" | "TABLE_LIMIT" => (
            "EXPRESSION_MEMORY_LIMIT",
            format!("the expression needed more than {EVALUATION_MEMORY_BYTES} bytes of memory"),
        ),
        "STACK_LIMIT" => ("EXPRESSION_STACK_LIMIT", "the expression is nested too deeply".to_owned()),
        "OUTPUT_LIMIT" | "CALL_BYTES_LIMIT" => {
            ("EXPRESSION_OUTPUT_LIMIT", "the expression's value is too large".to_owned())
        }
        "PLUGIN_TRAP" => {
            return Failure { code: "EXPRESSION_FAILED".to_owned(), category: Category::ExpressionError, ..failure };
        }
        _ => return failure,
    };
    code.clone_into(&mut failure.code);
    failure.message = message;
    failure.never_retried()
}

fn failed(message: &str) -> Failure {
    Failure::new(Category::ExpressionError, "EXPRESSION_FAILED", message)
}
