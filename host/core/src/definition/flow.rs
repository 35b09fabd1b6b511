//! Data between steps: what is given to a step, held against what its agent or action takes.
//!
//! The input of an agent is the result of the step before it with its `variables` laid over; at the start of a
//! workflow it is the run's input, at the start of an item the item. Every step that can come directly before is
//! looked at, through `switch` and `wait`, which give nothing themselves. An error only if it is certain on each
//! of these ways. The input of another action is what the definition says: what certainly does not fit there is a
//! warning, since the step may have an `onError` for it.
//!
//! Deliberately absent: results of joins and of expressions, which are not known before they run; after an error
//! nothing is said.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::catalog::{Catalog, Places, diagnostic};
use super::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity, code};
use crate::expr::{Path, Piece, Segment, Template};
use crate::model::{BlockId, Definition, Next, StateId, StateKind};
use crate::schema::closed;
use crate::schema::compatible::{Report, check_between};

/// The action whose input is laid over the result before it.
const AGENT: &str = "agent.run";

/// Steps that may come directly before one, looked at; a switch of hundreds of ways is cut short.
const BEFORE_MAX: usize = 32;

/// What comes before a step.
struct Before {
    name: String,
    gives: Option<Value>,
}

pub(super) fn check(definition: &Definition, places: &Places, catalog: &dyn Catalog) -> Vec<Diagnostic> {
    let flow = Flow { definition, catalog, owners: owners(definition), before: before(definition) };
    let mut found = Vec::new();
    for (id, state) in (0..).map(StateId).zip(&definition.states) {
        let StateKind::Operation(operation) = &state.kind else { continue };
        if found.len() >= DIAGNOSTICS_MAX {
            break;
        }
        let (reports, all_fail) = match agent_of(&state.kind) {
            Some((agent, input)) => {
                let Some(takes) = catalog.agent_schemas(agent).and_then(|schemas| schemas.input) else { continue };
                let reports = flow.reports(id, input, &takes);
                let all_fail = reports.iter().all(Report::has_errors);
                (reports, all_fail)
            }
            None if &*operation.action == AGENT => continue,
            None => {
                let Some(takes) = catalog.action_schemas(&operation.action).and_then(|schemas| schemas.input) else {
                    continue;
                };
                (vec![flow.action(id, &operation.input, &takes)], false)
            }
        };
        let place = places.get(&id).map(|places| places.state.clone()).unwrap_or_default();
        for finding in reports.into_iter().flat_map(|report| report.findings) {
            let severity = if all_fail { finding.severity } else { Severity::Warning };
            let step = if finding.message.starts_with(&*state.name) { "step " } else { "" };
            let message = format!("{step}{}", finding.message);
            if found.iter().any(|other: &Diagnostic| other.message == message && other.path == place.path) {
                continue;
            }
            let suggestion = finding.suggestion;
            found.push(diagnostic(severity, code::SCHEMA_COMPATIBILITY, place.clone(), message).suggest(suggestion));
        }
    }
    found
}

/// The agent of a step, if it is named there, and the step's input.
fn agent_of(kind: &StateKind) -> Option<(&str, &Template)> {
    match kind {
        StateKind::Operation(operation) if &*operation.action == AGENT => match field(&operation.input, "agent") {
            Some(Field::Value(Value::String(name)) | Field::Template(Template::Constant(Value::String(name)))) => {
                Some((name, &operation.input))
            }
            _ => None,
        },
        _ => None,
    }
}

enum Field<'a> {
    Value(&'a Value),
    Template(&'a Template),
}

fn field<'a>(input: &'a Template, name: &str) -> Option<Field<'a>> {
    match input {
        Template::Constant(value) => value.get(name).map(Field::Value),
        Template::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| Field::Template(value)),
        Template::Whole(_) | Template::Text(_) | Template::List(_) => None,
    }
}

/// The state that each inner block belongs to.
fn owners(definition: &Definition) -> HashMap<BlockId, StateId> {
    let mut owners = HashMap::new();
    for (id, state) in (0..).map(StateId).zip(&definition.states) {
        match &state.kind {
            StateKind::Parallel(parallel) => owners.extend(parallel.branches.iter().map(|branch| (branch.block, id))),
            StateKind::Foreach(foreach) => {
                owners.insert(foreach.block, id);
            }
            StateKind::Try(attempt) => {
                let sections = [Some(attempt.body), attempt.catch.as_ref().and_then(|c| c.block), attempt.finally];
                owners.extend(sections.into_iter().flatten().map(|block| (block, id)));
            }
            _ => {}
        }
    }
    owners
}

/// For each state those that lead to it, and whether by an error or a refusal.
fn before(definition: &Definition) -> HashMap<StateId, Vec<(StateId, bool)>> {
    let mut before: HashMap<StateId, Vec<(StateId, bool)>> = HashMap::new();
    for (id, state) in (0..).map(StateId).zip(&definition.states) {
        let mut ways = Vec::new();
        let mut add = |next: &Next| {
            if let Next::Goto(to) = next {
                ways.push((*to, false));
            }
        };
        match &state.kind {
            StateKind::Switch(switch) => {
                switch.conditions.iter().for_each(|condition| add(&condition.next));
                switch.default.iter().for_each(add);
            }
            StateKind::Return { .. } | StateKind::Fail(_) => {}
            _ => add(&state.next),
        }
        ways.extend(state.on_error.map(|to| (to, true)));
        if let StateKind::Operation(operation) = &state.kind {
            ways.extend(operation.on_reject.map(|to| (to, true)));
        }
        for (to, by_error) in ways {
            before.entry(to).or_default().push((id, by_error));
        }
    }
    before
}

struct Flow<'a> {
    definition: &'a Definition,
    catalog: &'a dyn Catalog,
    owners: HashMap<BlockId, StateId>,
    before: HashMap<StateId, Vec<(StateId, bool)>>,
}

impl Flow<'_> {
    /// One report for each way.
    fn reports(&self, id: StateId, input: &Template, takes: &Value) -> Vec<Report> {
        let variables = match field(input, "variables") {
            Some(Field::Value(value)) => Some(literal(value)),
            Some(Field::Template(template)) => Some(self.template(id, template)),
            None => None,
        };
        let name = &self.definition.state(id).name;
        let ways = self.ways(id);
        ways.into_iter()
            .map(|before| {
                let gives = match &variables {
                    Some(variables) => {
                        let base = before.gives.unwrap_or_else(any_object);
                        Some(overlay(taken(base, takes), variables))
                    }
                    None => before.gives.map(|gives| taken(gives, takes)),
                };
                let with = if variables.is_some() { " with the variables" } else { "" };
                check_between(gives.as_ref(), Some(takes), &format!("{}{with}", before.name), name)
            })
            .collect()
    }

    /// What is certain about the input of an action as the definition has it.
    fn action(&self, id: StateId, input: &Template, takes: &Value) -> Report {
        let gives = self.template(id, input);
        let mut report = check_between(Some(&gives), Some(takes), "its input", &self.definition.state(id).name);
        report.findings.retain(|finding| finding.severity == Severity::Error);
        report
    }

    fn ways(&self, id: StateId) -> Vec<Before> {
        let (mut found, mut seen, mut open) = (Vec::new(), HashSet::from([id]), vec![id]);
        while let Some(id) = open.pop() {
            let state = self.definition.state(id);
            if self.definition.block(state.block).start == id {
                match self.owners.get(&state.block) {
                    None => found.push(Before {
                        name: "the run's input".to_owned(),
                        gives: self.definition.input_schema.clone().map(opened),
                    }),
                    // A branch and a `try` begin with what their state was given.
                    Some(owner) if self.hands_on(*owner, state.block) => {
                        if seen.insert(*owner) {
                            open.push(*owner);
                        }
                    }
                    Some(owner) => found.push(self.item(*owner)),
                }
            }
            for (from, by_error) in self.before.get(&id).into_iter().flatten() {
                let kind = &self.definition.state(*from).kind;
                let silent = matches!(kind, StateKind::Switch(_) | StateKind::Wait(_)) && !by_error;
                if silent && seen.insert(*from) {
                    open.push(*from);
                } else if !silent {
                    let gives = if *by_error { None } else { self.result(*from) };
                    found.push(Before { name: self.definition.state(*from).name.to_string(), gives });
                }
            }
            if found.len() >= BEFORE_MAX {
                break;
            }
        }
        found
    }

    fn hands_on(&self, owner: StateId, block: BlockId) -> bool {
        match &self.definition.state(owner).kind {
            StateKind::Parallel(_) => true,
            StateKind::Try(attempt) => attempt.body == block,
            _ => false,
        }
    }

    /// What an item's first agent is given: an object as it is, anything else under its name. Of what comes before a
    /// `catch` or `finally` nothing is known.
    fn item(&self, owner: StateId) -> Before {
        let state = self.definition.state(owner);
        let StateKind::Foreach(foreach) = &state.kind else {
            return Before { name: state.name.to_string(), gives: None };
        };
        let list = self.at(owner, &foreach.items);
        let item = list.and_then(|list| descend(&list, &[Segment::Index(0)]));
        let gives = item.and_then(|item| match item.get("type")?.as_str()? {
            "object" => Some(item),
            _ => Some(closed_object(&Map::from_iter([(foreach.item_name.to_string(), item)]))),
        });
        Before { name: format!("an item of {}", state.name), gives }
    }

    /// What a state gives, if that is known.
    fn result(&self, id: StateId) -> Option<Value> {
        match &self.definition.state(id).kind {
            StateKind::Inject { data: Template::Constant(value) } => Some(literal(value)),
            StateKind::Operation(operation) if &*operation.action == AGENT => {
                let output = self.catalog.agent_schemas(agent_of(&self.definition.state(id).kind)?.0)?.output?;
                match output.get("type")?.as_str()? {
                    "object" => Some(output),
                    _ => Some(closed_object(&Map::from_iter([("result".to_owned(), output)]))),
                }
            }
            StateKind::Operation(operation) => self.catalog.action_schemas(&operation.action)?.output,
            _ => None,
        }
    }

    fn template(&self, id: StateId, template: &Template) -> Value {
        match template {
            Template::Constant(value) => literal(value),
            Template::Text(_) => json!({"type": "string"}),
            Template::Whole(Piece::Path(path)) => self.at(id, path).unwrap_or_else(|| json!({})),
            Template::Whole(Piece::Expression(_)) => json!({}),
            Template::Object(fields) => {
                closed_object(&fields.iter().map(|(key, value)| (key.clone(), self.template(id, value))).collect())
            }
            Template::List(items) => tuple(&items.iter().map(|item| self.template(id, item)).collect::<Vec<_>>()),
        }
    }

    /// What stands at a path: the result of the only state that writes there, or a part of the run's input.
    fn at(&self, id: StateId, path: &Path) -> Option<Value> {
        let mut blocks = vec![self.definition.state(id).block];
        while let Some(owner) = blocks.last().and_then(|block| self.owners.get(block)) {
            blocks.push(self.definition.state(*owner).block);
        }
        let mut writers = (0..).map(StateId).zip(&self.definition.states).filter(|(_, state)| {
            blocks.contains(&state.block)
                && (path.strip_prefix(&state.result_path).is_some() || state.result_path.strip_prefix(path).is_some())
        });
        match (writers.next(), writers.next()) {
            (Some((writer, state)), None) => descend(&self.result(writer)?, path.strip_prefix(&state.result_path)?),
            (None, _) => descend(self.definition.input_schema.as_ref()?, path.segments()),
            (Some(_), Some(_)) => None,
        }
    }
}

/// The schema of a part, if it stands there without references.
fn descend(schema: &Value, segments: &[Segment]) -> Option<Value> {
    let mut schema = schema;
    for segment in segments {
        schema = match segment {
            Segment::Key(key) => schema.get("properties")?.get(&**key)?,
            Segment::Index(_) => schema.get("items").filter(|_| schema.get("prefixItems").is_none())?,
        };
    }
    (!refers(schema)).then(|| schema.clone())
}

fn refers(schema: &Value) -> bool {
    schema.to_string().contains("\"$ref\"")
}

/// What of it is taken along: see [`crate::schema::taken`]. A giver that may give more may give whatever is named.
fn taken(mut gives: Value, takes: &Value) -> Value {
    let Some(names) = closed(takes) else { return gives };
    if !plain(&gives) || gives.get("patternProperties").is_some() {
        return gives;
    }
    let given = gives.get("properties").and_then(Value::as_object);
    let open = match gives.get("additionalProperties") {
        Some(rest) => rest != &Value::Bool(false),
        None => given.is_none_or(Map::is_empty),
    };
    let along = names.keys().filter_map(|name| {
        let schema = given.and_then(|given| given.get(name)).cloned();
        Some((name.clone(), schema.or_else(|| open.then(|| json!({})))?))
    });
    gives["properties"] = Value::Object(along.collect());
    gives["additionalProperties"] = json!(false);
    gives
}

/// An object that its properties describe and nothing else.
fn plain(schema: &Value) -> bool {
    let combined =
        ["allOf", "anyOf", "oneOf", "not", "if", "enum", "const"].iter().any(|key| schema.get(key).is_some());
    schema.get("type") == Some(&json!("object")) && !combined && !refers(schema)
}

/// An object of which nothing else is known.
fn any_object() -> Value {
    json!({"type": "object", "additionalProperties": true})
}

/// Whoever starts a run may give more than its schema names, unless it says otherwise.
fn opened(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.entry("additionalProperties").or_insert(json!(true));
    }
    schema
}

/// The variables over what there was; of that nothing is known unless it is a plain object.
fn overlay(base: Value, variables: &Value) -> Value {
    let Some(more) = variables.get("properties").and_then(Value::as_object) else { return any_object() };
    let mut merged = if plain(&base) { base } else { any_object() };
    let mut properties = merged.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut required = merged.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    required
        .extend(more.keys().filter(|key| !required.contains(&json!(key))).map(|key| json!(key)).collect::<Vec<_>>());
    properties.extend(more.clone());
    merged["properties"] = Value::Object(properties);
    merged["required"] = Value::Array(required);
    merged
}

/// The schema of just this value, with paths into it.
fn literal(value: &Value) -> Value {
    match value {
        Value::Object(map) => closed_object(&map.iter().map(|(key, value)| (key.clone(), literal(value))).collect()),
        Value::Array(items) => tuple(&items.iter().map(literal).collect::<Vec<_>>()),
        other => json!({"const": other}),
    }
}

fn closed_object(properties: &Map<String, Value>) -> Value {
    let required: Vec<&String> = properties.keys().collect();
    let required = json!(required);
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn tuple(items: &[Value]) -> Value {
    let count = items.len();
    json!({"type": "array", "prefixItems": items, "items": false, "minItems": count, "maxItems": count})
}
