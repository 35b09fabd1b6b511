//! One evaluation, from source to JSON.

use std::sync::OnceLock;

use caisson_sdk::{Failure, RawJson};
use serde_json::{Map, Value as Json};
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::Evaluator;
use starlark::syntax::{AstModule, Dialect, DialectTypes};
use starlark::values::Value;
use starlark::{PrintHandler, Result};

use crate::{error, json, scope};

/// The longest source: people write expressions and small scripts, and a parser's work grows with its input.
pub const SOURCE_BYTES_MAX: usize = 64 << 10;

/// The name that locations in messages carry; they show line and column alone.
const FILE: &str = "source";

/// What gives the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The last expression.
    Expression,
    /// What `main(input)` returns, else the global `result`, else the last expression.
    Script,
}

const DIALECT: Dialect = Dialect {
    enable_def: true,
    enable_lambda: true,
    enable_load: false,
    enable_keyword_only_arguments: true,
    enable_positional_only_arguments: true,
    enable_types: DialectTypes::Disable,
    enable_load_reexport: false,
    enable_top_level_stmt: true,
    enable_f_strings: true,
    _non_exhaustive: (),
};

/// Runs the source with the bindings as global names.
pub fn execute(source: &str, bindings: &Map<String, Json>, entry: Entry) -> std::result::Result<RawJson, Failure> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(crate::too_long(source.len()));
    }
    // Expressions come out of YAML, where they may be indented as a whole.
    let source = source.trim();
    let ast = AstModule::parse(FILE, source.to_owned(), &DIALECT).map_err(|e| error::invalid(&e))?;
    Module::with_temp_heap(|module| {
        for (name, value) in bindings {
            module.set(name, json::read(module.frozen_heap(), value));
        }
        let mut evaluator = Evaluator::new(&module);
        evaluator.set_print_handler(&Log);
        let last = evaluator.eval_module(ast, globals()).map_err(|e| error::failed(&e, bindings))?;
        let value = match entry {
            Entry::Expression => last,
            Entry::Script => result(&module, &mut evaluator, last).map_err(|e| error::failed(&e, bindings))?,
        };
        json::write(value).map_err(|e| error::not_json(&e))
    })
}

fn result<'v>(module: &Module<'v>, evaluator: &mut Evaluator<'v, '_, '_>, last: Value<'v>) -> Result<Value<'v>> {
    if let Some(main) = module.get("main").filter(|main| main.get_type() == "function") {
        let input = module.get("input").unwrap_or_else(Value::new_none);
        return evaluator.eval_function(main, &[input], &[]);
    }
    Ok(module.get("result").unwrap_or(last))
}

/// Built once, and then part of the component's image.
fn globals() -> &'static Globals {
    static GLOBALS: OnceLock<Globals> = OnceLock::new();
    GLOBALS.get_or_init(|| {
        GlobalsBuilder::extended_by(&[
            LibraryExtension::StructType,
            LibraryExtension::Map,
            LibraryExtension::Filter,
            LibraryExtension::Partial,
            LibraryExtension::Print,
            LibraryExtension::Json,
            LibraryExtension::SetType,
        ])
        .with(scope::names)
        .build()
    })
}

/// `print` goes to the log.
struct Log;

impl PrintHandler for Log {
    fn println(&self, text: &str) -> Result<()> {
        crate::printed(text);
        Ok(())
    }
}
