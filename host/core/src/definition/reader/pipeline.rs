//! Linear pipelines: `phases` and `steps`, read into the same model as a chain of operations.
//!
//! | step | operation |
//! |---|---|
//! | `agent` with `agent`, `prompt` | `agent.run` with `agent`, `task` |
//! | `script` with `source` or `script` | `script.run` with `source` |
//! | `script` with `command`, `cwd` | `process.exec` with `command`, `cwd` |
//! | `function` with `action` or `function` | that action with `input` |
//!
//! `{{ args.x }}` is `x` of the run's input.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::catalog::{Place, StatePlaces};
use super::super::diagnostic::{code, did_you_mean, quoted};
use super::super::document::{Data, Node};
use super::fields::Fields;
use super::kind::default_result_path;
use super::top::{Top, slug};
use super::{At, Reader, is_action_name};
use crate::expr::{Part, Path, Piece, Segment, Template};
use crate::model::{Block, BlockId, Next, Operation, State, StateId, StateKind};

const TOP_FIELDS: &[&str] = &[
    "id",
    "version",
    "name",
    "description",
    "argsSchema",
    "inputSchema",
    "outputSchema",
    "phases",
    "steps",
    "timeoutSeconds",
    "concurrency",
    "retention",
];
const STEP_FIELDS: &[&str] = &["id", "name", "phase", "type", "timeoutSeconds", "retry", "resultPath"];
const TYPES: &[&str] = &["agent", "script", "function"];

impl<'a> Reader<'a> {
    pub(super) fn pipeline(&mut self, fields: &mut Fields<'a>, top: &mut Top) {
        top.id = self.pipeline_id(fields, top.name.as_deref());
        if let Some(concurrency) = &mut top.concurrency {
            concurrency.key = concurrency.key.take().map(from_args);
        }
        if fields.has("argsSchema") && fields.has("inputSchema") {
            let message = "'argsSchema' and 'inputSchema' are the same field".to_owned();
            self.error(code::INVALID_VALUE, fields.here(), message, Some("leave out one of them".to_owned()));
        }
        top.input = self.schema(fields, "argsSchema").or_else(|| self.schema(fields, "inputSchema"));
        if let Some(field) = fields.get("steps") {
            let Data::List(items) = &field.node.data else {
                return self.wrong_type(fields, field, "a list of steps", None);
            };
            if items.is_empty() {
                let at = At { span: field.key_span, path: "steps".to_owned() };
                self.error(code::MISSING_FIELD, at, "workflow has no steps".to_owned(), None);
            }
            let mut seen = HashMap::new();
            let states: Vec<StateId> = items
                .iter()
                .enumerate()
                .map(|(index, item)| self.step(item, format!("steps[{index}]"), index + 1 == items.len(), &mut seen))
                .collect();
            if let Some(start) = states.first() {
                self.blocks.push(Block { start: *start, states });
                top.root = Some(BlockId(0));
            }
        }
        self.finish(fields, TOP_FIELDS, |_| None);
    }

    fn pipeline_id(&mut self, fields: &mut Fields<'a>, name: Option<&str>) -> String {
        if fields.has("id") {
            let id = self.text(fields, "id").unwrap_or_default();
            if !id.is_empty() {
                self.check_id(fields, id);
            }
            return id.to_owned();
        }
        let id = slug(name.unwrap_or_default());
        if id.is_empty() {
            self.missing(fields, "id", Some("give the pipeline an id or a name".to_owned()));
        }
        id
    }

    fn step(&mut self, item: &'a Node, path: String, is_last: bool, seen: &mut HashMap<&'a str, Place>) -> StateId {
        let id = StateId(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
        self.states.push(None);
        let next = if is_last { Next::End } else { Next::Goto(StateId(id.0 + 1)) };
        let state = self.step_state(id, item, path, next, seen);
        self.states[id.0 as usize] = state;
        id
    }

    fn step_state(
        &mut self,
        id: StateId,
        item: &'a Node,
        path: String,
        next: Next,
        seen: &mut HashMap<&'a str, Place>,
    ) -> Option<State> {
        let mut fields = self.fields(item, "a step".to_owned(), path)?;
        let title = self.text(&mut fields, "name");
        let key = if fields.has("id") { "id" } else { "name" };
        let name = self.required_text(&mut fields, key, "give the step an id")?;
        if let Some(field) = fields.get(key) {
            fields.span = field.node.span;
        }
        fields.of = format!("step {}", quoted(name));
        let place = self.place(&fields.here());
        self.places.insert(id, StatePlaces { state: place.clone(), ..StatePlaces::default() });
        if let Some(first) = seen.insert(name, place) {
            let where_first = if first.line > 0 { format!(": first on line {}", first.line) } else { String::new() };
            let message = format!("two steps are named {}{where_first}", quoted(name));
            self.error(code::DUPLICATE_STATE, fields.here(), message, None);
        }
        let phase = self.phase(&mut fields);
        let timeout_ms = self.duration(&mut fields, "timeoutSeconds");
        let retry = self.retry(&mut fields);
        let result_path = self.result_path(&mut fields).unwrap_or_else(|| default_result_path(name));
        let operation = self.step_operation(id, &mut fields)?;
        Some(State {
            name: name.into(),
            title: title.filter(|title| *title != name).map(Arc::from),
            block: BlockId(0),
            phase,
            timeout_ms,
            retry,
            on_error: None,
            result_path,
            next,
            kind: StateKind::Operation(operation),
        })
    }

    fn step_operation(&mut self, id: StateId, fields: &mut Fields<'a>) -> Option<Operation> {
        let kind = self.required_text(fields, "type", "one of agent, script, function")?;
        let (action, input, own): (&str, Option<Template>, &[&str]) = match kind {
            "agent" => {
                if let Some(field) = fields.get("agent") {
                    let place = self.place(&fields.at(field));
                    self.places.entry(id).or_default().agent = Some(place);
                }
                self.unsupported(fields, "permission");
                let parts = [("agent", "agent", true), ("prompt", "task", true), ("variables", "variables", false)];
                ("agent.run", self.input_of(fields, &parts), &["agent", "prompt", "variables"])
            }
            "script" if fields.has("command") => {
                if let Some(field) = fields.get("command") {
                    let place = self.place(&fields.at(field));
                    self.places.entry(id).or_default().action = Some(place);
                }
                let parts = [("command", "command", true), ("cwd", "cwd", false)];
                ("process.exec", self.input_of(fields, &parts), &["command", "cwd"])
            }
            "script" => {
                let key = if fields.has("script") { "script" } else { "source" };
                let parts = [(key, "source", true), ("language", "language", false), ("input", "input", false)];
                ("script.run", self.input_of(fields, &parts), &["source", "command", "cwd", "language", "input"])
            }
            "function" => {
                let key = if fields.has("function") { "function" } else { "action" };
                let action = self.required_text(fields, key, "the full name of an action")?;
                if let Some(field) = fields.get(key) {
                    let place = self.place(&fields.at(field));
                    self.places.entry(id).or_default().action = Some(place);
                }
                if !is_action_name(action) {
                    let at = fields.get(key).map_or_else(|| fields.here(), |field| fields.at(field));
                    let message = fields.says(format!(
                        "{} is no name of an action: it is a plugin's id, a dot, a name",
                        quoted(action)
                    ));
                    self.error(code::UNKNOWN_ACTION, at, message, None);
                }
                let input = if fields.has("input") {
                    self.template(fields, "input")
                } else {
                    Some(Template::Constant(serde_json::json!({})))
                };
                (action, input, &["action", "input"])
            }
            other => {
                let at = fields.get("type").map_or_else(|| fields.here(), |field| fields.at(field));
                let suggestion =
                    did_you_mean(other, TYPES.iter().copied()).unwrap_or("one of agent, script, function".to_owned());
                self.error(
                    code::UNKNOWN_TYPE,
                    at,
                    fields.says(format!("unknown type {}", quoted(other))),
                    Some(suggestion),
                );
                return None;
            }
        };
        let valid: Vec<&str> = STEP_FIELDS.iter().chain(own).copied().collect();
        self.finish(fields, &valid, |_| None);
        let input = from_args(input?);
        Some(Operation { action: action.into(), input, idempotency_key: None, on_reject: None, capabilities: None })
    }

    fn unsupported(&mut self, fields: &mut Fields<'a>, key: &str) {
        if let Some(field) = fields.get(key) {
            let message = fields.says(format!("'{key}' is not supported yet: nothing would come of it"));
            self.error(code::UNSUPPORTED_FIELD, fields.at(field), message, Some("leave it out".to_owned()));
        }
    }

    /// An input made of fields of the step: (field, name in the input, whether it must be there).
    fn input_of(&mut self, fields: &mut Fields<'a>, parts: &[(&str, &str, bool)]) -> Option<Template> {
        let mut input = Some(Vec::new());
        for (key, name, required) in parts {
            let template = match (fields.has(key), required) {
                (false, false) => continue,
                (false, true) => {
                    self.missing(fields, key, None);
                    None
                }
                (true, true) => self.text_template(fields, key),
                (true, false) => self.template(fields, key),
            };
            match (template, &mut input) {
                (Some(template), Some(input)) => input.push(((*name).to_owned(), template)),
                _ => input = None,
            }
        }
        let input = input?;
        let constants = input.iter().map(|(key, template)| match template {
            Template::Constant(value) => Some((key.clone(), value.clone())),
            _ => None,
        });
        // A template without anything to fill in is a constant, here as in `Template::parse`.
        Some(match constants.collect::<Option<serde_json::Map<_, _>>>() {
            Some(map) => Template::Constant(serde_json::Value::Object(map)),
            None => Template::Object(input),
        })
    }
}

/// `args` is the run's input, which stands at the root.
fn from_args(template: Template) -> Template {
    match template {
        Template::Constant(value) => Template::Constant(value),
        Template::Whole(piece) => Template::Whole(piece_from_args(piece)),
        Template::Text(parts) => Template::Text(
            parts
                .into_iter()
                .map(|part| match part {
                    Part::Fill(piece) => Part::Fill(piece_from_args(piece)),
                    Part::Literal(text) => Part::Literal(text),
                })
                .collect(),
        ),
        Template::Object(fields) => {
            Template::Object(fields.into_iter().map(|(key, value)| (key, from_args(value))).collect())
        }
        Template::List(items) => Template::List(items.into_iter().map(from_args).collect()),
    }
}

fn piece_from_args(piece: Piece) -> Piece {
    match piece {
        Piece::Path(path) => match path.segments() {
            [Segment::Key(first), rest @ ..] if &**first == "args" => Piece::Path(Path::of(rest)),
            _ => Piece::Path(path),
        },
        Piece::Expression(source) => Piece::Expression(expression_from_args(&source).into()),
    }
}

/// The name `args` outside of quotes and after no dot is `ctx`, which is the root.
fn expression_from_args(source: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut result = String::with_capacity(source.len());
    let (mut quote, mut before, mut rest) = (None, ' ', source);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let ends = |tail: &str| !tail.starts_with(is_name);
        match quote {
            None if !is_name(before) && before != '.' && rest.strip_prefix("args").is_some_and(ends) => {
                result.push_str("ctx");
                (before, rest) = ('s', &rest[4..]);
                continue;
            }
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if c == open && before != '\\' => quote = None,
            _ => {}
        }
        result.push(c);
        (before, rest) = (c, after);
    }
    result
}
