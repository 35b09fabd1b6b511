//! What tags do, beside the library's own `if`, `unless`, `each` and `with`.

use std::sync::Arc;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderErrorReason, Renderable,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Said, Written};

/// The names of what the check puts in: no template can write them, since it refuses names that it does not know.
pub(super) const VALUE: &str = "-value";
pub(super) const STEP: &str = "-step";

/// Roles as dotprompt names them, and as messages do.
pub(super) const ROLES: &[(&str, &str)] =
    &[("system", "system"), ("user", "user"), ("model", "assistant"), ("assistant", "assistant")];

/// Names that a message lists: enough to see which input it is.
const GIVEN_MAX: usize = 20;

pub(super) fn register(registry: &mut Handlebars<'_>, written: &Arc<Mutex<Written>>) {
    registry.register_helper(VALUE, Box::new(Write { written: Arc::clone(written), json: false }));
    registry.register_helper("json", Box::new(Write { written: Arc::clone(written), json: true }));
    registry.register_helper(STEP, Box::new(Step(Arc::clone(written))));
    registry.register_helper("role", Box::new(Role(Arc::clone(written))));
    registry.register_helper("ifEquals", Box::new(Equals(true)));
    registry.register_helper("unlessEquals", Box::new(Equals(false)));
}

/// Writes a value: text as it is unless JSON is asked for, all else as JSON.
struct Write {
    written: Arc<Mutex<Written>>,
    json: bool,
}

impl HelperDef for Write {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        self.written.lock().step()?;
        let Some(value) = helper.param(0).filter(|value| !value.is_value_missing()) else {
            let path = helper.param(0).and_then(|value| value.relative_path().cloned());
            return Err(RenderErrorReason::MissingVariable(path).into());
        };
        match value.value() {
            Value::String(text) if !self.json => out.write(text)?,
            other => out.write(&other.to_string())?,
        }
        Ok(())
    }
}

struct Step(Arc<Mutex<Written>>);

impl HelperDef for Step {
    fn call<'reg: 'rc, 'rc>(
        &self,
        _: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        _: &mut dyn Output,
    ) -> HelperResult {
        self.0.lock().step()
    }
}

struct Role(Arc<Mutex<Written>>);

impl HelperDef for Role {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        _: &mut dyn Output,
    ) -> HelperResult {
        let name = helper.param(0).and_then(|value| value.value().as_str()).unwrap_or_default();
        let role = ROLES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role);
        let mut written = self.0.lock();
        written.step()?;
        written.said.push(Said { role, text: String::new() });
        Ok(())
    }
}

/// Whether two values are the same: as in dotprompt, lists and objects never are.
struct Equals(bool);

impl HelperDef for Equals {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let same = match (helper.param(0), helper.param(1)) {
            (Some(one), Some(other)) => same(one.value(), other.value()),
            _ => false,
        };
        let body = if same == self.0 { helper.template() } else { helper.inverse() };
        body.map_or(Ok(()), |body| body.render(registry, context, render, out))
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(_) | Value::Object(_), _) => false,
        (one, other) => one == other,
    }
}

/// Which value a tag misses, and which may be meant.
pub(super) fn missing(path: &str, input: &Value) -> String {
    let mut known = input;
    let mut wanted = path;
    for part in path.split(['.', '/']) {
        match known.get(part) {
            Some(value) if value.is_object() => known = value,
            _ => {
                wanted = part;
                break;
            }
        }
    }
    let names = || known.as_object().into_iter().flat_map(|object| object.keys().map(String::as_str));
    let mut given: Vec<&str> = names().take(GIVEN_MAX).collect();
    if names().nth(GIVEN_MAX).is_some() {
        given.push("…");
    }
    let given = if given.is_empty() { "none".to_owned() } else { given.join(", ") };
    match nearest(wanted, names()) {
        Some(near) => format!("needs the variable '{path}': did you mean '{near}'? (given: {given})"),
        None => format!("needs the variable '{path}' (given: {given})"),
    }
}

/// The nearest name that is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known.map(|one| (strsim::damerau_levenshtein(name, one), one)).min()?;
    (distance <= 2.max(nearest.len() / 3) && distance > 0).then_some(nearest)
}
