//! What is run: a package's `plugin.js`, or the source of a script step.

use std::path::Path;

use boa_engine::property::PropertyDescriptor;
use boa_engine::{Context, JsError, JsNativeError, JsResult, JsString, JsValue, Module, Script, Source, js_string};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bindings::caisson::step::types::{Category, Failure};
use crate::wire::failure;

/// The asset of a package without a toolchain.
pub const PLUGIN: &str = "plugin.js";
/// The name that the source of a script step has in errors.
const SCRIPT: &str = "script.js";
/// What makes a script with `return` or `await` a program; its line is taken off again in errors.
const HEAD: &str = "(async function (input, context) {\n";
const TAIL: &str = "\n})";

/// A script step's input, as the plugin `script` takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step<'a> {
    #[serde(rename = "language")]
    _language: Option<String>,
    source: Option<String>,
    script: Option<String>,
    code: Option<String>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

impl<'a> Step<'a> {
    /// Reads the step's input into its source and what the script sees as `input`.
    pub fn read(input: &'a str) -> Result<(String, &'a str), Failure> {
        let step: Self = serde_json::from_str(input).map_err(|e| {
            failure(Category::Validation, "INPUT_INVALID", format!("the input does not fit a script: {e}"))
        })?;
        let refuse = |message| failure(Category::Validation, "SCRIPT_SOURCE_REQUIRED", message);
        let mut given = [step.source, step.script, step.code].into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(source), None) => Ok((source, step.input.map_or("null", RawValue::get))),
            (None, _) => Err(refuse("a script needs its `source`")),
            (Some(_), Some(_)) => Err(refuse("source, script and code mean the same: give one of them")),
        }
    }
}

/// How many lines the frames of [`SCRIPT`] are off.
#[derive(Clone, Copy, Default)]
pub struct Shift(u32);

/// Loads a package's source and gives (a promise of) the object that has its functions: what a module exports, or the global functions of a
/// plain script.
pub fn load(source: &str, context: &mut Context) -> JsResult<JsValue> {
    let read = || Source::from_bytes(source).with_path(Path::new(PLUGIN));
    // A source with `export`, `import` or a top-level `await` is no script.
    if let Ok(script) = Script::parse(read(), None, context) {
        script.evaluate(context)?;
        return Ok(context.global_object().into());
    }
    let module = Module::parse(read(), None, context).map_err(|e| placed(&e, PLUGIN, Shift::default()))?;
    let evaluated = module.load_link_evaluate(context);
    let namespace = boa_engine::NativeFunction::from_copy_closure_with_captures(
        |_, _, module: &Module, context| Ok(module.namespace(context).into()),
        module,
    );
    let namespace = namespace.to_js_function(context.realm());
    Ok(evaluated.then(Some(namespace), None, context)?.into())
}

/// Runs a script step's source and gives its value, or a promise of it: that of its last expression, or what `main(input, context)` returns
/// if it defines such a function, or what it `return`s.
pub fn run(source: &str, input: &JsValue, ids: &JsValue, context: &mut Context) -> JsResult<JsValue> {
    for (name, value) in [("input", input), ("context", ids)] {
        let property = PropertyDescriptor::builder().value(value.clone()).writable(true).configurable(true);
        context.global_object().define_property_or_throw(JsString::from(name), property, context)?;
    }
    if let Ok(script) = Script::parse(Source::from_bytes(source).with_path(Path::new(SCRIPT)), None, context) {
        let last = script.evaluate(context)?;
        let main = context.global_object().get(js_string!("main"), context)?;
        return match main.as_callable() {
            Some(main) => main.call(&JsValue::undefined(), &[input.clone(), ids.clone()], context),
            None => Ok(last),
        };
    }
    context.insert_data(Shift(1));
    let wrapped = format!("{HEAD}{source}{TAIL}");
    let script = Script::parse(Source::from_bytes(&wrapped).with_path(Path::new(SCRIPT)), None, context)
        .map_err(|e| placed(&e, SCRIPT, Shift(1)))?;
    let function = script.evaluate(context)?;
    let function = function
        .as_callable()
        .ok_or_else(|| JsNativeError::syntax().with_message("the source closes more braces than it opens"))?;
    function.call(&JsValue::undefined(), &[input.clone(), ids.clone()], context)
}

/// A frame of a stack as its author has it; none if it is not the author's.
pub fn frame(frame: &str, context: &Context) -> Option<String> {
    if !frame.ends_with(')') || frame.contains("(native") || frame.contains(crate::loader::API) {
        return None;
    }
    let shift = context.get_data::<Shift>().copied().unwrap_or_default();
    let (rest, column) = frame.trim_end_matches(')').rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    match line.parse::<u32>() {
        Ok(line) if file.ends_with(SCRIPT) && shift.0 > 0 => {
            Some(format!("{file}:{}:{column})", line.saturating_sub(shift.0)))
        }
        _ => Some(frame.to_owned()),
    }
}

/// A parser's error with its place as those of other errors are written.
fn placed(error: &JsError, file: &str, shift: Shift) -> JsError {
    let message = error.as_native().map_or_else(|| error.to_string(), |native| native.message().to_string());
    let place = message.rsplit_once(" at line ").and_then(|(before, place)| {
        let (line, column) = place.split_once(", col ")?;
        Some((before.trim_end_matches(','), line.parse::<u32>().ok()?, column.trim().parse::<u32>().ok()?))
    });
    let message = match place {
        Some((before, line, column)) => format!("{before} ({file}:{}:{column})", line.saturating_sub(shift.0)),
        None => message,
    };
    JsNativeError::syntax().with_message(message).into()
}
