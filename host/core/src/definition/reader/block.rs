//! Blocks, and what all states share.

use std::collections::HashMap;

use super::super::catalog::StatePlaces;
use super::super::diagnostic::{code, did_you_mean, nearest, quoted};
use super::super::document::{Data, Node, join_key};
use super::fields::Fields;
use super::kind::{Reads, TYPES, TypeFields, type_fields};
use super::{At, Reader, Scope};
use crate::expr::{Path, Segment};
use crate::model::{Block, BlockId, Next, State, StateId, StateKind};

/// Longest name of a state: it is a key in the data and stands in every event.
const NAME_BYTES_MAX: usize = 128;

/// A state whose name is known and whose fields are not read yet.
struct Head<'a> {
    id: StateId,
    name: &'a str,
    fields: Fields<'a>,
}

impl<'a> Reader<'a> {
    /// The block of an object's `states` and `start`.
    pub(super) fn block(&mut self, fields: &mut Fields<'a>, of: &str) -> Option<BlockId> {
        if !fields.has("states") {
            self.missing(fields, "states", None);
        }
        let start = self.text(fields, "start").map(|name| (name, fields.get("start").map(|field| fields.at(field))));
        let field = fields.get("states")?;
        let start = start.and_then(|(name, at)| at.map(|at| (name, at)));
        let at = At { span: field.key_span, path: join_key(&fields.path, "states") };
        self.states_of(field.node, at, start, of)
    }

    /// The block of a list of states.
    pub(super) fn states_of(
        &mut self,
        list: &'a Node,
        at: At,
        start: Option<(&'a str, At)>,
        of: &str,
    ) -> Option<BlockId> {
        let prefix = if of == "the workflow" { String::new() } else { format!("{of}: ") };
        let Data::List(items) = &list.data else {
            let message = format!("{prefix}the states should be a list, this is {}", list.what());
            self.error(code::WRONG_TYPE, at, message, Some("write each state as an item: - name: …".to_owned()));
            return None;
        };
        if items.is_empty() {
            let subject = if prefix.is_empty() { "workflow" } else { of };
            self.error(code::MISSING_FIELD, at, format!("{subject} has no states"), None);
            return None;
        }
        let block = BlockId(u32::try_from(self.blocks.len()).unwrap_or(u32::MAX));
        self.blocks.push(Block { start: StateId(0), states: Vec::new() });
        let mut names = HashMap::new();
        let heads: Vec<Head<'a>> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| self.head(item, format!("{}[{index}]", at.path), of, &mut names))
            .collect();
        let complete = heads.len() == items.len() && heads.iter().all(|head| !head.name.is_empty());
        let scope = Scope { block, names: &names, complete };
        let ids: Vec<StateId> = heads.iter().map(|head| head.id).collect();
        let first = match start {
            Some((name, at)) => {
                let message = format!("{prefix}start state not found: {}", quoted(name));
                self.target(&scope, name, at, message)
            }
            None => None,
        };
        for head in heads {
            let id = head.id;
            self.states[id.0 as usize] = self.state(head, &scope);
        }
        let start = first.or(ids.first().copied())?;
        self.blocks[block.0 as usize] = Block { start, states: ids };
        Some(block)
    }

    /// Reads the name of a state and makes it known in its block.
    fn head(
        &mut self,
        item: &'a Node,
        path: String,
        of: &str,
        names: &mut HashMap<&'a str, StateId>,
    ) -> Option<Head<'a>> {
        let mut fields = self.fields(item, "a state".to_owned(), path)?;
        let name = self.state_name(&mut fields);
        let id = StateId(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
        self.states.push(None);
        if let Some((name, at)) = &name {
            fields.span = at.span;
            fields.of = format!("state {}", quoted(name));
            if let Some(first) = names.get(name) {
                let line = self.places.get(first).map_or(0, |places| places.state.line);
                let where_first = if line > 0 { format!(": first on line {line}") } else { String::new() };
                let message = format!("two states of {of} are named {}{where_first}", quoted(name));
                self.error(code::DUPLICATE_STATE, at.clone(), message, None);
            } else {
                names.insert(name, id);
                self.names.entry(name).or_default().push(of.to_owned());
            }
        }
        let state = self.place(&fields.here());
        self.places.insert(id, StatePlaces { state, ..StatePlaces::default() });
        Some(Head { id, name: name.map_or("", |(name, _)| name), fields })
    }

    /// `name` or `id`. A signal's `name` is the signal's when there is an `id`.
    fn state_name(&mut self, fields: &mut Fields<'a>) -> Option<(&'a str, At)> {
        let is_signal = fields.peek_text("type") == Some("signal");
        let id = self.text(fields, "id").map(|text| (text, fields.get("id")));
        let name = if is_signal && id.is_some() && !super::kind::names_signal(fields) {
            None
        } else {
            self.text(fields, "name").map(|text| (text, fields.get("name")))
        };
        if let (Some((id, _)), Some((name, Some(field)))) = (&id, &name)
            && id != name
        {
            let message = format!("'id' is {} and 'name' is {}: a state has one name", quoted(id), quoted(name));
            self.invalid(fields, *field, message, Some("leave out one of them".to_owned()));
        }
        let Some((text, Some(field))) = name.or(id) else {
            if !fields.has("name") && !fields.has("id") {
                self.missing(fields, "name", None);
            }
            return None;
        };
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) || text.trim() != text {
            let message = format!(
                "{} is no name for a state: at most {NAME_BYTES_MAX} bytes, no control characters, no space around it",
                quoted(text)
            );
            self.invalid(fields, field, message, None);
        }
        Some((text, fields.at(field)))
    }

    fn state(&mut self, head: Head<'a>, scope: &Scope<'a, '_>) -> Option<State> {
        let Head { id, name, mut fields } = head;
        let phase = self.phase(&mut fields);
        let known = self.type_of(&mut fields)?;
        let TypeFields { name: type_name, fields: own, reads } = known;
        let mut state = State {
            name: name.into(),
            title: None,
            block: scope.block,
            phase,
            timeout_ms: None,
            retry: None,
            on_error: None,
            result_path: Path::keys(["steps", name]),
            next: Next::End,
            kind: StateKind::Return { output: None },
        };
        if *reads == Reads::Flow {
            state.next = self.next(&mut fields, scope);
            if let Some(path) = self.result_path(&mut fields) {
                state.result_path = path;
            }
            state.timeout_ms = self.duration(&mut fields, "timeoutSeconds");
        }
        if *reads != Reads::Ending {
            state.on_error = self.on_error(&mut fields, scope);
        }
        let kind = self.kind(type_name, id, &mut fields, scope, &mut state);
        let valid: Vec<&str> = reads.fields().chain(own.iter().copied()).collect();
        self.finish(&fields, &valid, |key| hint(key, type_name, &valid));
        state.kind = kind?;
        Some(state)
    }

    fn type_of(&mut self, fields: &mut Fields<'a>) -> Option<&'static TypeFields> {
        let names = || TYPES.iter().map(|known| known.name);
        if !fields.has("type") {
            let guess = TYPES.iter().find(|known| known.fields.iter().any(|key| fields.has(key)));
            let misspelt = fields.keys().find(|key| nearest(key, ["type"]).is_some());
            let suggestion = match (misspelt, guess) {
                (Some(key), _) => format!("write 'type' instead of {}", quoted(key)),
                (None, Some(known)) => format!("did you mean type: {}?", known.name),
                (None, None) => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
            };
            self.missing(fields, "type", Some(suggestion));
            return None;
        }
        let text = self.text(fields, "type")?;
        if let Some(known) = type_fields(text) {
            return Some(known);
        }
        let meant = match text.to_lowercase().as_str() {
            "task" | "action" | "step" | "agent" => Some("operation"),
            "choice" | "branch" | "if" | "condition" => Some("switch"),
            "map" | "loop" | "for" | "each" => Some("foreach"),
            "sleep" | "delay" | "timer" | "pause" => Some("wait"),
            "event" | "callback" => Some("signal"),
            "subflow" | "workflow" | "subworkflow" | "child" => Some("call"),
            "succeed" | "success" | "end" | "stop" => Some("return"),
            "error" | "throw" | "raise" => Some("fail"),
            "pass" | "set" | "assign" => Some("inject"),
            "fork" => Some("parallel"),
            _ => None,
        };
        let at = fields.get("type").map_or_else(|| fields.here(), |field| fields.at(field));
        let suggestion = match meant {
            Some(meant) => Some(format!("did you mean '{meant}'?")),
            None => did_you_mean(text, names())
                .or_else(|| Some(format!("one of {}", names().collect::<Vec<_>>().join(", ")))),
        };
        self.error(code::UNKNOWN_TYPE, at, fields.says(format!("unknown type {}", quoted(text))), suggestion);
        None
    }

    pub(super) fn phase(&mut self, fields: &mut Fields<'a>) -> Option<std::sync::Arc<str>> {
        let phase = self.text(fields, "phase")?;
        if !self.phases.is_empty() && !self.phases.iter().any(|known| **known == *phase) {
            let at = fields.get("phase").map_or_else(|| fields.here(), |field| fields.at(field));
            let suggestion = did_you_mean(phase, self.phases.iter().map(|known| &**known));
            let message = fields.says(format!("'phases' does not list {}", quoted(phase)));
            self.error(code::UNKNOWN_PHASE, at, message, suggestion);
        }
        Some(phase.into())
    }

    /// `next`, `transition` or `end: true`: exactly one way on.
    fn next(&mut self, fields: &mut Fields<'a>, scope: &Scope<'a, '_>) -> Next {
        let next = self.target_field(fields, "next", scope);
        let transition = self.target_field(fields, "transition", scope);
        let end = self.boolean(fields, "end");
        let texts = (fields.peek_text("next"), fields.peek_text("transition"));
        if let (Some(next), Some(transition)) = texts
            && next != transition
        {
            let message = fields.says("'next' and 'transition' are the same field and say different things");
            self.error(code::INVALID_VALUE, fields.here(), message, Some("leave out one of them".to_owned()));
        }
        let given = fields.has("next") || fields.has("transition");
        if given && end == Some(true) {
            let message = fields.says("it has both 'next' and 'end: true'");
            self.error(code::INVALID_VALUE, fields.here(), message, Some("leave out one of them".to_owned()));
        } else if !given && (end == Some(false) || !fields.has("end")) {
            let message = fields.says("it says neither where to go nor that it ends");
            self.error(code::MISSING_FIELD, fields.here(), message, Some("add end: true, or next: STATE".to_owned()));
        }
        next.or(transition).map_or(Next::End, Next::Goto)
    }

    /// A field that names a state.
    pub(super) fn target_field(
        &mut self,
        fields: &mut Fields<'a>,
        key: &str,
        scope: &Scope<'a, '_>,
    ) -> Option<StateId> {
        let name = self.text(fields, key)?;
        let at = fields.get(key).map_or_else(|| fields.here(), |field| fields.at(field));
        let message =
            fields.says(format!("'{key}' leads to {}, and there is no such state in its block", quoted(name)));
        self.target(scope, name, at, message)
    }

    /// A state's name, or `{next: NAME}`.
    fn on_error(&mut self, fields: &mut Fields<'a>, scope: &Scope<'a, '_>) -> Option<StateId> {
        let field = fields.get("onError")?;
        if !matches!(field.node.data, Data::Map(_)) {
            return self.target_field(fields, "onError", scope);
        }
        let mut inner = self.fields(field.node, fields.of.clone(), join_key(&fields.path, "onError"))?;
        if !inner.has("next") {
            self.missing(&inner, "next", None);
        }
        let target = self.target_field(&mut inner, "next", scope);
        self.finish(&inner, &["next"], |_| None);
        target
    }

    pub(super) fn result_path(&mut self, fields: &mut Fields<'a>) -> Option<Path> {
        let path = self.path(fields, "resultPath")?;
        let at = fields.get("resultPath").map_or_else(|| fields.here(), |field| fields.at(field));
        if path.is_root() {
            let message = fields.says("'resultPath' is the root: a result may not replace all data");
            self.error(code::INVALID_PATH, at, message, Some("for example resultPath: steps.NAME".to_owned()));
            return None;
        }
        if let Some(Segment::Index(index)) = path.segments().iter().find(|part| matches!(part, Segment::Index(_))) {
            let message =
                fields.says(format!("'resultPath' has the index [{index}]: results go into objects, not into lists"));
            self.error(
                code::INVALID_PATH,
                at,
                message,
                Some("a transform gives a list with the item changed".to_owned()),
            );
            return None;
        }
        Some(path)
    }
}

/// What was meant by a field that this type does not have.
fn hint(key: &str, type_name: &str, valid: &[&str]) -> Option<String> {
    let meant = match key {
        "onFailure" | "on_error" | "catch" => "onError",
        "timeout" | "timeoutMs" => "timeoutSeconds",
        "retries" => "retry",
        "args" | "params" | "parameters" | "with" | "arguments" => "input",
        "items" | "in" => "itemsPath",
        "then" | "goto" => "next",
        "default" | "next" | "transition" | "else" => "defaultNext",
        "result" | "output" | "saveAs" => "resultPath",
        "task" | "uses" => "action",
        "when" | "cases" | "choices" => "conditions",
        "seconds" | "durationSeconds" => "duration",
        "condition" | "script" | "code" => "expression",
        _ => "",
    };
    if valid.contains(&meant) {
        return Some(format!("did you mean '{meant}'?"));
    }
    if did_you_mean(key, valid.iter().copied()).is_some() {
        return None;
    }
    let others: Vec<&str> = TYPES.iter().filter(|known| known.fields.contains(&key)).map(|known| known.name).collect();
    let plural = if others.len() == 1 { "" } else { "s" };
    (!others.is_empty()).then(|| format!("it is a field of type{plural} {}, this is '{type_name}'", others.join(", ")))
}
