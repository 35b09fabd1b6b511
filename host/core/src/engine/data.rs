//! Reading the data of a scope: its own writes laid over its parent's, down to the run's input at the root.

use serde_json::{Map, Value};

use super::decide::Decider;
use super::inputs::{Question, Stop};
use super::state::ROOT;
use super::{Activity, ScopeNo, ScopeRole};
use crate::error::{Category, Failure};
use crate::expr::{Path, Piece, Segment, Template};
use crate::json::{Json, Payload};
use crate::model::StateKind;
use crate::ports::{Bindings, Evaluation};

/// In a message, so many names are listed at most.
const NAMES_SHOWN: usize = 20;

/// Data that could not be had: a failure of the step, or a question.
#[derive(Debug)]
pub(super) enum Missing {
    /// The step fails with this.
    Failed(Failure),
    /// No decision yet.
    Stop(Stop),
}

impl From<Stop> for Missing {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Failure> for Missing {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Names that are bound beside the data: keys found at `dataPath`, a child's output, a signal's payload.
pub(super) type Locals = Vec<(String, Value)>;

impl Decider<'_> {
    /// Looks at a payload, wherever it stands.
    pub(super) fn with_value<T>(&self, payload: &Payload, look: impl FnOnce(&Value) -> T) -> Result<T, Stop> {
        match payload {
            Payload::Inline(json) => Ok(look(&json.value())),
            Payload::Stored(id) => match self.fresh_blobs.get(id).or_else(|| self.inputs.blobs.get(id)) {
                Some(loaded) => Ok(look(loaded.value())),
                None => Err(Stop::Need(Question::Blob(id.clone()))),
            },
        }
    }

    /// The text of a payload, wherever it stands.
    pub(super) fn json_of(&self, payload: &Payload) -> Result<Json, Stop> {
        match payload {
            Payload::Inline(json) => Ok(json.clone()),
            Payload::Stored(id) => match self.fresh_blobs.get(id).or_else(|| self.inputs.blobs.get(id)) {
                Some(loaded) => Ok(loaded.json().clone()),
                None => Err(Stop::Need(Question::Blob(id.clone()))),
            },
        }
    }

    /// What stands at a path, seen from a scope; `None` if nothing does.
    pub(super) fn value_at(&self, scope: ScopeNo, path: &Path) -> Result<Option<Value>, Stop> {
        let mut chain = Vec::new();
        let mut at = Some(scope);
        while let Some(number) = at {
            chain.push(number);
            at = self.state.scopes.get(&number).and_then(|scope| scope.parent);
        }
        let mut found = None;
        for number in chain.into_iter().rev() {
            if number == ROOT {
                self.overlay(&mut found, path, &Path::root(), &self.state.input)?;
            }
            let Some(scope) = self.state.scopes.get(&number) else { continue };
            for (name, value) in self.scope_locals(number, path)? {
                overlay_value(&mut found, path, &Path::keys([name.as_str()]), &value);
            }
            for (at, payload) in &scope.writes {
                self.overlay(&mut found, path, at, payload)?;
            }
        }
        Ok(found)
    }

    fn overlay(&self, found: &mut Option<Value>, path: &Path, at: &Path, payload: &Payload) -> Result<(), Stop> {
        if path.strip_prefix(at).is_none() && at.strip_prefix(path).is_none() {
            return Ok(());
        }
        self.with_value(payload, |value| overlay_value(found, path, at, value))
    }

    /// What a scope binds by its role: the current item, the caught error. Only what the path can mean.
    pub(super) fn scope_locals(&self, number: ScopeNo, path: &Path) -> Result<Locals, Stop> {
        let Some(scope) = self.state.scopes.get(&number) else { return Ok(Locals::new()) };
        let Some(owner) = scope.owner.and_then(|owner| self.state.steps.get(&owner)) else { return Ok(Locals::new()) };
        let wanted = |name: &str| match path.segments().first() {
            None => true,
            Some(Segment::Key(key)) => &**key == name,
            Some(Segment::Index(_)) => false,
        };
        let mut locals = Locals::new();
        match (&scope.role, &self.kind_of(owner), &owner.activity) {
            (ScopeRole::Item(index), StateKind::Foreach(foreach), Activity::Foreach { items, total }) => {
                if wanted(&foreach.item_name) {
                    let item = self.with_value(items, |list| {
                        usize::try_from(*index).ok().and_then(|at| list.get(at)).cloned().unwrap_or(Value::Null)
                    })?;
                    locals.push((foreach.item_name.to_string(), item));
                }
                if wanted("_index") {
                    locals.push(("_index".into(), (*index).into()));
                }
                if wanted("_total") {
                    locals.push(("_total".into(), (*total).into()));
                }
            }
            (ScopeRole::Catch, StateKind::Try(section), _) => {
                if let (super::open::Progress::Sections(sections), Some(catch)) = (&owner.progress, &section.catch)
                    && let Some(error) = &sections.error
                    && wanted(&catch.bind)
                {
                    locals.push((catch.bind.to_string(), super::error_value(error)));
                }
            }
            _ => {}
        }
        Ok(locals)
    }

    /// What a scope wrote, as one object: its result.
    pub(super) fn written(&self, scope: ScopeNo) -> Result<Value, Stop> {
        let mut found = Some(Value::Object(Map::new()));
        if let Some(scope) = self.state.scopes.get(&scope) {
            for (at, payload) in &scope.writes {
                self.overlay(&mut found, &Path::root(), at, payload)?;
            }
        }
        Ok(found.unwrap_or_default())
    }

    /// Fills in a template.
    pub(super) fn render(&mut self, scope: ScopeNo, template: &Template, locals: &Locals) -> Result<Value, Missing> {
        if let Template::Constant(value) = template {
            return Ok(value.clone());
        }
        template.render(&mut |piece| match piece {
            Piece::Path(path) => self.read(scope, path, locals),
            Piece::Expression(source) => self.evaluate(scope, source, locals),
        })
    }

    /// What stands at a path that must lead somewhere.
    pub(super) fn read(&self, scope: ScopeNo, path: &Path, locals: &Locals) -> Result<Value, Missing> {
        if let Some(Segment::Key(first)) = path.segments().first()
            && let Some((_, value)) = locals.iter().find(|(name, _)| **name == **first)
        {
            return crate::expr::descend(value, &path.segments()[1..])
                .cloned()
                .ok_or_else(|| Missing::Failed(nothing_at(path, value.as_object())));
        }
        // `input.x` means the run's input, and only what is not there the data's own `input`: the same as in an expression.
        if path.segments().first() == Some(&Segment::Key("input".into())) {
            let inner = &path.segments()[1..];
            if let Some(value) = self.with_value(&self.state.input, |v| crate::expr::descend(v, inner).cloned())? {
                return Ok(value);
            }
        }
        if let Some(value) = self.value_at(scope, path)? {
            return Ok(value);
        }
        let around = self.deepest(scope, path)?;
        Err(Missing::Failed(nothing_at(path, around.as_ref().and_then(Value::as_object))))
    }

    /// The innermost thing on the way to a path that is there.
    fn deepest(&self, scope: ScopeNo, path: &Path) -> Result<Option<Value>, Stop> {
        for length in (0..path.segments().len()).rev() {
            if let Some(value) = self.value_at(scope, &Path::of(&path.segments()[..length]))? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of an expression: the recorded answer, or a question.
    pub(super) fn evaluate(&mut self, scope: ScopeNo, source: &str, locals: &Locals) -> Result<Value, Missing> {
        let asked = self.asked;
        self.asked += 1;
        match self.inputs.evaluations.get(asked) {
            Some(Ok(json)) => Ok(json.value()),
            Some(Err(failure)) => Err(Missing::Failed(failure.clone())),
            None => {
                let bindings = self.bindings(scope, source, locals)?;
                Err(Missing::Stop(Stop::Need(Question::Evaluate(Evaluation { source: source.into(), bindings }))))
            }
        }
    }

    /// What an expression may use: `ctx`, `steps` and `input`, then the locals, then every name at the root. The first three come first:
    /// data must not be able to say what they mean. `ctx` repeats everything, so it is bound only where the source mentions it.
    fn bindings(&self, scope: ScopeNo, source: &str, locals: &Locals) -> Result<Bindings, Stop> {
        let root = self.value_at(scope, &Path::root())?.unwrap_or_default();
        let steps = root.get("steps").map_or_else(|| Json::of(&Map::new()), Json::of);
        let whole = if source.contains("ctx") { Json::of(&root) } else { Json::null() };
        let mut bound: Vec<(String, Json)> =
            [("ctx", whole), ("steps", steps), ("input", self.json_of(&self.state.input)?)]
                .map(|(name, json)| (name.to_owned(), json))
                .into();
        let data = root.as_object().into_iter().flatten();
        for (name, value) in locals.iter().map(|(name, value)| (name, value)).chain(data) {
            if !bound.iter().any(|(known, _)| known == name) {
                bound.push((name.clone(), Json::of(value)));
            }
        }
        Ok(Bindings(bound))
    }
}

fn nothing_at(path: &Path, around: Option<&Map<String, Value>>) -> Failure {
    let there = match around {
        Some(map) if map.is_empty() => "the object around it is empty".to_owned(),
        Some(map) => {
            let names: Vec<&str> = map.keys().map(String::as_str).collect();
            let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
            format!("there is: {}{more}", names[..names.len().min(NAMES_SHOWN)].join(", "))
        }
        None => "what stands around it is no object".to_owned(),
    };
    Failure::new(Category::ExpressionError, "PATH_NOT_FOUND", format!("nothing at '{path}'; {there}"))
}

/// Lays the value that stands at `at` over what was found at `path` so far.
fn overlay_value(found: &mut Option<Value>, path: &Path, at: &Path, value: &Value) {
    if let Some(rest) = path.strip_prefix(at) {
        *found = crate::expr::descend(value, rest).cloned();
    } else if let Some(rest) = at.strip_prefix(path) {
        set(found.get_or_insert_with(|| Value::Object(Map::new())), rest, value.clone());
    }
}

/// Puts a value at a place, making objects on the way; what is no object there is replaced.
fn set(target: &mut Value, segments: &[Segment], value: Value) {
    let Some((first, rest)) = segments.split_first() else {
        *target = value;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let key = match first {
        Segment::Key(key) => key.to_string(),
        Segment::Index(index) => index.to_string(),
    };
    if let Value::Object(map) = target {
        set(map.entry(key).or_insert(Value::Null), rest, value);
    }
}
