//! The types of states, one function each.

use super::super::catalog::Place;
use super::super::diagnostic::{code, quoted};
use super::super::document::{Data, join_key};
use super::fields::{Field, Fields};
use super::{At, Reader, Scope};
use crate::error::Category;
use crate::expr::{Path, Template};
use crate::model::{
    BlockId, Branch, Call, Catch, Condition, Fail, Foreach, Join, Next, OnError, Parallel, SignalWait, State, StateId,
    StateKind, Switch, Try, Wait,
};
use crate::time::{Timestamp, parse_duration_ms};

/// Items that may be open at once: each is a scope in memory and a row in the store.
const CONCURRENCY_MAX: u32 = 1000;

/// A type and the fields that only it has.
pub(super) struct TypeFields {
    pub name: &'static str,
    pub fields: &'static [&'static str],
    pub reads: Reads,
}

/// Which of the common fields a type has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// It goes on to another state and has a result.
    Flow,
    /// It chooses where to go and has no result.
    Choice,
    /// It ends the run.
    Ending,
}

impl Reads {
    pub fn fields(self) -> impl Iterator<Item = &'static str> {
        const COMMON: &[&str] = &["name", "id", "type", "phase"];
        const FLOW: &[&str] = &["next", "transition", "end", "onError", "resultPath", "timeoutSeconds"];
        const CHOICE: &[&str] = &["end", "onError"];
        let more = match self {
            Self::Flow => FLOW,
            Self::Choice => CHOICE,
            Self::Ending => &[],
        };
        COMMON.iter().chain(more).copied()
    }
}

/// Every type.
pub(super) const TYPES: &[TypeFields] = &[
    TypeFields {
        name: "operation",
        fields: &["action", "input", "retry", "idempotencyKey", "onReject", "capabilities"],
        reads: Reads::Flow,
    },
    TypeFields { name: "switch", fields: &["conditions", "defaultNext", "dataPath"], reads: Reads::Choice },
    TypeFields { name: "parallel", fields: &["branches", "join", "onBranchError"], reads: Reads::Flow },
    TypeFields {
        name: "foreach",
        fields: &["itemsPath", "itemName", "maxConcurrency", "iterator", "onItemError"],
        reads: Reads::Flow,
    },
    TypeFields { name: "inject", fields: &["data"], reads: Reads::Flow },
    TypeFields { name: "transform", fields: &["expression"], reads: Reads::Flow },
    TypeFields { name: "try", fields: &["try", "catch", "finally"], reads: Reads::Flow },
    TypeFields { name: "wait", fields: &["duration", "until"], reads: Reads::Flow },
    TypeFields {
        name: "signal",
        fields: &["signal", "signalName", "event", "correlation", "filter"],
        reads: Reads::Flow,
    },
    TypeFields { name: "call", fields: &["workflow", "version", "input", "output", "retry"], reads: Reads::Flow },
    TypeFields { name: "return", fields: &["output"], reads: Reads::Ending },
    TypeFields { name: "fail", fields: &["error"], reads: Reads::Ending },
];

/// The type of that name.
pub(super) fn type_fields(name: &str) -> Option<&'static TypeFields> {
    TYPES.iter().find(|known| known.name == name)
}

/// Fields that hold a signal's name; without them it is `name` beside an `id`, or the state's own name.
const SIGNAL_NAMES: &[&str] = &["signal", "signalName", "event"];

/// Whether a signal state says its signal's name apart from its own.
pub(super) fn names_signal(fields: &Fields<'_>) -> bool {
    SIGNAL_NAMES.iter().any(|key| fields.has(key))
}

impl<'a> Reader<'a> {
    pub(super) fn kind(
        &mut self,
        type_name: &str,
        id: StateId,
        fields: &mut Fields<'a>,
        scope: &Scope<'a, '_>,
        state: &mut State,
    ) -> Option<StateKind> {
        match type_name {
            "operation" => self.operation(id, fields, scope, state),
            "switch" => self.switch(fields, scope),
            "parallel" => self.parallel(fields),
            "foreach" => self.foreach(fields),
            "inject" => {
                if !fields.has("data") {
                    self.missing(fields, "data", None);
                }
                Some(StateKind::Inject { data: self.template(fields, "data")? })
            }
            "transform" => {
                if !fields.has("expression") {
                    self.missing(fields, "expression", None);
                }
                Some(StateKind::Transform { expression: self.expression(fields, "expression")?.into() })
            }
            "try" => self.try_(fields),
            "wait" => self.wait(fields),
            "signal" => self.signal(fields, &state.name),
            "call" => {
                state.retry = self.retry(fields);
                self.call(id, fields)
            }
            "return" => {
                let given = fields.has("output");
                let output = self.template(fields, "output");
                (!given || output.is_some()).then_some(StateKind::Return { output })
            }
            "fail" => self.fail(fields),
            _ => None,
        }
    }

    fn switch(&mut self, fields: &mut Fields<'a>, scope: &Scope<'a, '_>) -> Option<StateKind> {
        let data_path = self.path(fields, "dataPath");
        let ends = self.boolean(fields, "end") == Some(true);
        let default = self.target_field(fields, "defaultNext", scope).map(Next::Goto);
        if ends && fields.has("defaultNext") {
            let message = fields.says("it has both 'defaultNext' and 'end: true'");
            self.error(code::INVALID_VALUE, fields.here(), message, Some("leave out one of them".to_owned()));
        }
        let default = default.or(ends.then_some(Next::End));
        if !fields.has("conditions") {
            self.missing(
                fields,
                "conditions",
                Some("for example conditions: [{if: \"x > 1\", next: STATE}]".to_owned()),
            );
        }
        let items = self.items(fields, "conditions", "a list of {if, next}")?;
        let mut conditions = Vec::with_capacity(items.len());
        for (item, path) in items {
            let Some(mut condition) = self.fields(item, fields.says("a condition"), path) else { continue };
            for key in ["if", "next"] {
                if !(condition.has(key) || key == "next" && condition.has("end")) {
                    self.missing(&condition, key, None);
                }
            }
            let expression = self.expression(&mut condition, "if");
            let target = self.target_field(&mut condition, "next", scope).map(Next::Goto);
            let end = (self.boolean(&mut condition, "end") == Some(true)).then_some(Next::End);
            if end.is_some() && condition.has("next") {
                let message = condition.says("it has both 'next' and 'end: true'");
                self.error(code::INVALID_VALUE, condition.here(), message, Some("leave out one of them".to_owned()));
            } else if condition.has("end") && end.is_none() && !condition.has("next") {
                self.missing(&condition, "next", None);
            }
            self.finish(&condition, &["if", "next", "end"], |key| match key {
                "condition" | "when" | "expression" => Some("did you mean 'if'?".to_owned()),
                "then" | "goto" | "transition" => Some("did you mean 'next'?".to_owned()),
                _ => None,
            });
            if let (Some(expression), Some(next)) = (expression, target.or(end)) {
                conditions.push(Condition { expression: expression.into(), next });
            }
        }
        Some(StateKind::Switch(Switch { data_path, conditions, default }))
    }

    /// The items of a list that may not be empty, with their paths.
    fn items(&mut self, fields: &mut Fields<'a>, key: &str, wanted: &str) -> Option<Vec<(&'a super::Node, String)>> {
        let field = fields.get(key)?;
        let Data::List(items) = &field.node.data else {
            self.wrong_type(fields, field, wanted, None);
            return None;
        };
        if items.is_empty() {
            self.invalid(fields, field, format!("'{key}' is empty"), None);
            return None;
        }
        let path = join_key(&fields.path, key);
        Some(items.iter().enumerate().map(|(index, item)| (&**item, format!("{path}[{index}]"))).collect())
    }

    fn parallel(&mut self, fields: &mut Fields<'a>) -> Option<StateKind> {
        let on_branch_error = self.failing(fields, "onBranchError");
        if !fields.has("branches") {
            self.missing(fields, "branches", None);
        }
        let items = self.items(fields, "branches", "a list of {name, states}")?;
        let count = items.len();
        let mut branches: Vec<Branch> = Vec::with_capacity(count);
        let mut lines: std::collections::HashMap<&'a str, usize> = std::collections::HashMap::new();
        for (item, path) in items {
            let Some(mut branch) = self.fields(item, fields.says("a branch"), path) else { continue };
            let name = self.required_text(&mut branch, "name", "it is the key of the branch's result");
            if let (Some(name), Some(field)) = (name, branch.get("name")) {
                let at = branch.at(field);
                let (line, _) = self.source.position(at.span.start);
                branch.of = fields.says(format!("branch {}", quoted(name)));
                branch.span = at.span;
                if let Some(first) = lines.insert(name, line) {
                    let where_first = if first > 0 { format!(": first on line {first}") } else { String::new() };
                    let message = fields.says(format!("two branches are named {}{where_first}", quoted(name)));
                    self.error(code::DUPLICATE_BRANCH, at, message, None);
                }
            }
            let of = branch.of.clone();
            let block = self.block(&mut branch, &of);
            self.finish(&branch, &["name", "start", "states"], |_| None);
            if let (Some(name), Some(block)) = (name, block) {
                branches.push(Branch { name: name.into(), block });
            }
        }
        let join = self.join(fields, count)?;
        Some(StateKind::Parallel(Parallel { branches, join, on_branch_error }))
    }

    fn join(&mut self, fields: &mut Fields<'a>, branches: usize) -> Option<Join> {
        let Some(field) = fields.get("join") else { return Some(Join::All) };
        let modes = &["all", "any", "count"];
        if let Data::Text(text) = &field.node.data {
            return match text.as_str() {
                "all" => Some(Join::All),
                "any" => Some(Join::Any),
                other => {
                    self.not_one_of(fields, "join", other, &["all", "any", "{mode: count, count: N}"]);
                    None
                }
            };
        }
        let mut join = self.fields(field.node, fields.says("join"), join_key(&fields.path, "join"))?;
        let most = u32::try_from(branches).unwrap_or(u32::MAX);
        let count = self.integer(&mut join, "count", 1, most);
        let mode = self.required_text(&mut join, "mode", "one of all, any, count");
        self.finish(&join, &["mode", "count"], |_| None);
        let refuse_count = |reader: &mut Self, join: &mut Fields<'a>| {
            if let Some(field) = join.get("count") {
                reader.invalid(
                    join,
                    field,
                    "'count' is for mode: count alone".to_owned(),
                    Some("write mode: count".to_owned()),
                );
            }
        };
        match mode? {
            "all" => {
                refuse_count(self, &mut join);
                Some(Join::All)
            }
            "any" => {
                refuse_count(self, &mut join);
                Some(Join::Any)
            }
            "count" => {
                if !join.has("count") {
                    self.missing(&join, "count", Some(format!("how many branches must succeed: 1 to {most}")));
                }
                count.map(Join::Count)
            }
            other => {
                self.not_one_of(&mut join, "mode", other, modes);
                None
            }
        }
    }

    fn failing(&mut self, fields: &mut Fields<'a>, key: &str) -> OnError {
        match self.text(fields, key) {
            None | Some("fail") => OnError::Fail,
            Some("continue") => OnError::Continue,
            Some(other) => {
                self.not_one_of(fields, key, other, &["fail", "continue"]);
                OnError::Fail
            }
        }
    }

    fn foreach(&mut self, fields: &mut Fields<'a>) -> Option<StateKind> {
        let on_item_error = self.failing(fields, "onItemError");
        let max_concurrency = self.integer(fields, "maxConcurrency", 1, CONCURRENCY_MAX).unwrap_or(1);
        let item_name = self.binding(fields, "itemName").unwrap_or("item");
        for key in ["itemsPath", "iterator"] {
            if !fields.has(key) {
                self.missing(fields, key, None);
            }
        }
        let items = self.path(fields, "itemsPath");
        let field = fields.get("iterator")?;
        let block = self.section(fields, field, "iterator", false);
        Some(StateKind::Foreach(Foreach {
            items: items?,
            item_name: item_name.into(),
            max_concurrency,
            block: block?,
            on_item_error,
        }))
    }

    /// A name that data is bound to.
    fn binding(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<&'a str> {
        let name = self.text(fields, key)?;
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let plain = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(field) = fields.get(key) {
            if !starts || !plain {
                let message = format!("{} is no name for data: letters, digits and '_', no digit first", quoted(name));
                self.invalid(fields, field, message, None);
            } else if matches!(name, "ctx" | "steps" | "input" | "_index" | "_total") {
                self.invalid(
                    fields,
                    field,
                    format!("'{name}' means something else already"),
                    Some("take another name".to_owned()),
                );
            }
        }
        Some(name)
    }

    /// `{start, states}`, or where that is allowed a list of states.
    fn section(&mut self, fields: &Fields<'a>, field: Field<'a>, key: &str, list: bool) -> Option<BlockId> {
        let of = fields.says(format!("'{key}'"));
        let path = join_key(&fields.path, key);
        if list && matches!(field.node.data, Data::List(_)) {
            return self.states_of(field.node, At { span: field.key_span, path }, None, &of);
        }
        let mut section = self.fields(field.node, of.clone(), path)?;
        section.span = field.key_span;
        let block = self.block(&mut section, &of);
        self.finish(&section, &["start", "states"], |_| None);
        block
    }

    fn try_(&mut self, fields: &mut Fields<'a>) -> Option<StateKind> {
        if !fields.has("try") {
            self.missing(fields, "try", Some("try: {states: […]} or a list of states".to_owned()));
        }
        if !fields.has("catch") && !fields.has("finally") {
            let message = fields.says("it has neither 'catch' nor 'finally'");
            self.error(code::MISSING_FIELD, fields.here(), message, None);
        }
        let body = fields.get("try").and_then(|field| self.section(fields, field, "try", true));
        let catch = fields.get("catch").map(|field| self.catch(fields, field));
        let finally = fields.get("finally").map(|field| self.section(fields, field, "finally", true));
        let (catch, finally) =
            (catch.map_or(Some(None), |catch| catch.map(Some)), finally.map_or(Some(None), |f| f.map(Some)));
        Some(StateKind::Try(Try { body: body?, catch: catch?, finally: finally? }))
    }

    fn catch(&mut self, fields: &Fields<'a>, field: Field<'a>) -> Option<Catch> {
        let of = fields.says("'catch'");
        let mut catch = self.fields(field.node, of.clone(), join_key(&fields.path, "catch"))?;
        catch.span = field.key_span;
        let errors = self.selectors(&mut catch, "errors");
        let bind = self.binding(&mut catch, "as").unwrap_or("error").into();
        let block = if catch.has("states") || catch.has("start") { Some(self.block(&mut catch, &of)?) } else { None };
        self.finish(&catch, &["errors", "as", "start", "states"], |key| match key {
            "error" | "codes" | "on" => Some("did you mean 'errors'?".to_owned()),
            _ => None,
        });
        Some(Catch { errors, bind, block })
    }

    fn wait(&mut self, fields: &mut Fields<'a>) -> Option<StateKind> {
        match (fields.get("duration"), fields.get("until")) {
            (Some(_), Some(_)) => {
                let message = fields.says("it has both 'duration' and 'until'");
                self.error(code::INVALID_VALUE, fields.here(), message, Some("leave out one of them".to_owned()));
                None
            }
            (None, None) => {
                self.missing(
                    fields,
                    "duration",
                    Some("for example duration: 90, duration: 1h 30m, or until: TIME".to_owned()),
                );
                None
            }
            (Some(field), None) => {
                if let Data::Number(_) = field.node.data {
                    self.duration(fields, "duration")?;
                    return Some(StateKind::Wait(Wait::Duration(Template::Constant(field.node.to_value()))));
                }
                let template = self.text_template(fields, "duration")?;
                let text = field.node.text().unwrap_or_default();
                if template.is_constant() && parse_duration_ms(text).is_none() {
                    let suggestion = Some("a number of seconds, '90s', '5m', '1h 30m' or 'PT5M'".to_owned());
                    self.invalid(fields, field, format!("{} is no duration", quoted(text)), suggestion);
                }
                Some(StateKind::Wait(Wait::Duration(template)))
            }
            (None, Some(field)) => {
                let template = self.text_template(fields, "until")?;
                let text = field.node.text().unwrap_or_default();
                if template.is_constant() && Timestamp::parse(text).is_none() {
                    let suggestion = Some("for example 2026-11-21T09:00:00Z".to_owned());
                    self.invalid(fields, field, format!("{} is no time in RFC 3339", quoted(text)), suggestion);
                }
                Some(StateKind::Wait(Wait::Until(template)))
            }
        }
    }

    fn signal(&mut self, fields: &mut Fields<'a>, own_name: &str) -> Option<StateKind> {
        let given: Vec<&str> = SIGNAL_NAMES.iter().copied().filter(|key| fields.has(key)).collect();
        if given.len() > 1 {
            let message = fields.says(format!("'{}' and '{}' are the same field", given[0], given[1]));
            self.error(code::INVALID_VALUE, fields.here(), message, Some("leave out one of them".to_owned()));
        }
        let name = match given.first() {
            Some(key) => self.text_template(fields, key),
            None if fields.has("id") && fields.has("name") => self.text_template(fields, "name"),
            None => Some(Template::Constant(own_name.into())),
        };
        let correlation = self.text_template(fields, "correlation");
        let filter = self.expression(fields, "filter").map(Into::into);
        Some(StateKind::Signal(SignalWait { name: name?, correlation, filter }))
    }

    fn call(&mut self, id: StateId, fields: &mut Fields<'a>) -> Option<StateKind> {
        if !fields.has("workflow") {
            self.missing(fields, "workflow", Some("the id of the workflow to run".to_owned()));
        }
        if let Some(field) = fields.get("workflow") {
            let place: Place = self.place(&fields.at(field));
            self.places.entry(id).or_default().workflow = Some(place);
        }
        let workflow = self.text_template(fields, "workflow");
        let version = match fields.get("version") {
            Some(Field { node: super::Node { data: Data::Number(number), .. }, .. }) if !number.is_f64() => {
                Some(Template::Constant(number.to_string().into()))
            }
            _ => self.text_template(fields, "version"),
        };
        let input = self.template(fields, "input");
        let output = self.template(fields, "output");
        Some(StateKind::Call(Call { workflow: workflow?, version, input, output }))
    }

    fn fail(&mut self, fields: &mut Fields<'a>) -> Option<StateKind> {
        if !fields.has("error") {
            self.missing(fields, "error", Some("a message, or {code, message}".to_owned()));
        }
        let field = fields.get("error")?;
        let default_code = || Template::Constant("FAILED".into());
        if let Data::Text(_) = field.node.data {
            let message = self.text_template(fields, "error")?;
            let category = Category::ActionError;
            return Some(StateKind::Fail(Fail { code: default_code(), category, message, details: None }));
        }
        let mut error = self.fields(field.node, fields.says("error"), join_key(&fields.path, "error"))?;
        error.span = field.key_span;
        let code = self.text_template(&mut error, "code").unwrap_or_else(default_code);
        let category = match self.text(&mut error, "category") {
            None => Category::ActionError,
            Some(text) => Category::parse(text).unwrap_or_else(|| {
                let all: Vec<&str> = Category::ALL.iter().map(|category| category.as_str()).collect();
                self.not_one_of(&mut error, "category", text, &all);
                Category::ActionError
            }),
        };
        let message = self.required_text(&mut error, "message", "what a person should know");
        let message = message.and_then(|_| self.text_template(&mut error, "message"));
        let details = self.template(&mut error, "details");
        self.finish(&error, &["code", "category", "message", "details"], |_| None);
        Some(StateKind::Fail(Fail { code, category, message: message?, details }))
    }
}

/// The path of a result when none is given.
pub(super) fn default_result_path(name: &str) -> Path {
    Path::keys(["steps", name])
}
