//! The engine: a context with the API in it, and one entry of a step run in it.

use std::path::Path;
use std::rc::Rc;

use boa_engine::builtins::promise::PromiseState;
use boa_engine::context::ContextBuilder;
use boa_engine::{Context, JsArgs, JsError, JsNativeError, JsObject, JsResult, JsString, JsValue, NativeFunction};

use crate::bindings::caisson::step::types::{Category, Failure, Invocation, Outcome};
use crate::clock::{HostClock, Utc};
use crate::host::Host;
use crate::jobs::Jobs;
use crate::loader::Modules;
use crate::program::{self, PLUGIN, Step};
use crate::{functions, wire};

/// The module of the API that has `install`.
const PRELUDE: &str = "caisson:api/prelude.js";

/// Calls within calls. A JavaScript call costs no native stack, but one that goes through `map` or a getter does, and the instance has
/// 512 KiB of it.
const RECURSION_MAX: usize = 1_000;
/// Values on the interpreter's own stack: memory, which the instance limits.
const STACK_VALUES_MAX: usize = 1 << 20;

/// A context that is ready to run one entry.
pub struct Engine {
    context: Context,
    host: Rc<dyn Host>,
    /// What `install` of the prelude gave: `begin` and `finish`.
    api: JsObject,
    /// `finder` of the prelude.
    finder: JsObject,
}

impl Engine {
    /// Builds the context and evaluates the prelude.
    pub fn new(host: Rc<dyn Host>) -> Result<Self, Failure> {
        Self::prepare(host).map_err(|e| engine_failure(&e))
    }

    fn prepare(host: Rc<dyn Host>) -> JsResult<Self> {
        let modules = Rc::new(Modules::new(Rc::clone(&host)));
        let mut context = ContextBuilder::new()
            .clock(Rc::new(HostClock))
            .host_hooks(Rc::new(Utc))
            .job_executor(Rc::new(Jobs::default()))
            .module_loader(Rc::clone(&modules))
            .can_block(false)
            .build()?;
        let limits = context.runtime_limits_mut();
        limits.set_recursion_limit(RECURSION_MAX);
        limits.set_stack_size_limit(STACK_VALUES_MAX);
        functions::read_json_as_data(&mut context)?;

        let prelude = modules.module(Path::new(PRELUDE), &mut context)?;
        let evaluated = prelude.load_link_evaluate(&mut context);
        context.run_jobs()?;
        if let PromiseState::Rejected(error) = evaluated.state() {
            return Err(JsError::from_opaque(error));
        }
        let exports = prelude.namespace(&mut context);
        let finder = method(&exports, "finder", &mut context)?;
        let install = method(&exports, "install", &mut context)?;
        let surroundings = [
            functions::host(Rc::clone(&host), &mut context).into(),
            functions::utf8(&mut context).into(),
            NativeFunction::from_fn_ptr(place).to_js_function(context.realm()).into(),
        ];
        let api = install.call(&JsValue::undefined(), &surroundings, &mut context)?.to_object(&mut context)?;
        Ok(Self { context, host, api, finder })
    }

    /// Runs one entry of a step. The engine is used up by it.
    pub fn enter(&mut self, call: &Invocation) -> Result<Outcome, Failure> {
        let plugin = self.host.asset(PLUGIN);
        let (source, input) = match &plugin {
            Some(source) => (String::from_utf8_lossy(source).into_owned(), call.input.as_str()),
            None => Step::read(&call.input)?,
        };
        self.run(call, source, input, plugin.is_some()).unwrap_or_else(|e| Err(engine_failure(&e)))
    }

    fn run(
        &mut self,
        call: &Invocation,
        source: String,
        input: &str,
        package: bool,
    ) -> JsResult<Result<Outcome, Failure>> {
        let context = &mut self.context;
        let find = if package {
            NativeFunction::from_copy_closure_with_captures(find_action, (source, self.finder.clone()))
        } else {
            NativeFunction::from_copy_closure_with_captures(find_script, source)
        };
        let find = find.to_js_function(context.realm());
        let call = wire::call(call, input, context)?;
        let begin = method(&self.api, "begin", context)?;
        begin.call(&JsValue::undefined(), &[find.into(), call.into()], context)?;
        context.run_jobs()?;
        let settled = method(&self.api, "finish", context)?.call(&JsValue::undefined(), &[], context)?;
        wire::result(&settled, context)
    }
}

/// `find` of a package: loads it, then finds the action's function in what it exports.
fn find_action(
    _: &JsValue,
    given: &[JsValue],
    (source, finder): &(String, JsObject),
    context: &mut Context,
) -> JsResult<JsValue> {
    let plugin = program::load(source, context)?;
    let find = |plugin: &JsValue, finder: &JsObject, action: &JsValue, context: &mut Context| {
        let find = finder.call(&JsValue::undefined(), std::slice::from_ref(plugin), context)?.to_object(context)?;
        find.call(&JsValue::undefined(), std::slice::from_ref(action), context)
    };
    let action = given.get_or_undefined(0);
    let Some(loading) = plugin.as_promise() else { return find(&plugin, finder, action, context) };
    let found = NativeFunction::from_copy_closure_with_captures(
        move |_, given, (finder, action): &(JsObject, JsValue), context| {
            find(given.get_or_undefined(0), finder, action, context)
        },
        (finder.clone(), action.clone()),
    );
    let found = found.to_js_function(context.realm());
    Ok(loading.then(Some(found), None, context)?.into())
}

/// `find` of a script step: a function that runs it.
#[expect(clippy::unnecessary_wraps, clippy::ptr_arg, reason = "the form of native functions")]
fn find_script(_: &JsValue, _: &[JsValue], source: &String, context: &mut Context) -> JsResult<JsValue> {
    let run = NativeFunction::from_copy_closure_with_captures(
        |_, given, source: &String, context| {
            program::run(source, given.get_or_undefined(0), given.get_or_undefined(1), context)
        },
        source.clone(),
    );
    Ok(run.to_js_function(context.realm()).into())
}

/// `places` of the prelude.
fn place(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let frame = given.get_or_undefined(0).to_string(context)?.to_std_string_lossy();
    Ok(program::frame(&frame, context).map_or_else(JsValue::null, |frame| JsString::from(frame.as_str()).into()))
}

fn method(object: &JsObject, name: &str, context: &mut Context) -> JsResult<JsObject> {
    let value = object.get(JsString::from(name), context)?;
    value.as_callable().ok_or_else(|| JsNativeError::typ().with_message(format!("{name} is no function")).into())
}

/// What the prelude could not catch: a limit of the engine, or an error of ours.
fn engine_failure(error: &JsError) -> Failure {
    if error.as_engine().is_some() {
        let message =
            format!("the script's calls are nested too deeply: {RECURSION_MAX} calls within calls are allowed");
        return wire::failure(Category::Limit, "SCRIPT_STACK_LIMIT", message);
    }
    wire::failure(Category::Action, "SCRIPT_ERROR", error.to_string())
}
