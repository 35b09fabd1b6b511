//! Data between steps: what the steps before an agent give, held against what the agent takes.
//!
//! The input of an agent is the result of the step before it with its `variables` laid over; at the start of a
//! workflow it is the run's input. Every step that can come directly before is looked at, through `switch` and
//! `wait`, which give nothing themselves. An error only if it is certain on each of these ways.
//!
//! Deliberately absent: results of other actions than agents, of joins and of expressions: what they give is
//! not known before they run, and at the start of an item or after an error nothing is said.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::catalog::{Catalog, Places, diagnostic};
use super::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity, code};
use crate::expr::{Path, Piece, Segment, Template};
use crate::model::{BlockId, Definition, Next, StateId, StateKind};
use crate::schema::compatible::{Report, check_between};

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
        let Some((agent, input)) = agent_of(&state.kind) else { continue };
        let Some(takes) = catalog.agent_schemas(agent).and_then(|schemas| schemas.input) else { continue };
        if found.len() >= DIAGNOSTICS_MAX {
            break;
        }
        let reports = flow.reports(id, input, &takes);
        let all_fail = reports.iter().all(Report::has_errors);
        let place = places.get(&id).map(|places| places.state.clone()).unwrap_or_default();
        for finding in reports.into_iter().flat_map(|report| report.findings) {
            let severity = if all_fail { finding.severity } else { Severity::Warning };
            let message = format!("step {}", finding.message);
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
        StateKind::Operation(operation) if &*operation.action == "agent.run" => {
            match field(&operation.input, "agent") {
                Some(Field::Value(Value::String(name)) | Field::Template(Template::Constant(Value::String(name)))) => {
                    Some((name, &operation.input))
                }
                _ => None,
            }
        }
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
                    Some(variables) => Some(overlay(before.gives, variables)),
                    None => before.gives,
                };
                let with = if variables.is_some() { " with the variables" } else { "" };
                check_between(gives.as_ref(), Some(takes), &format!("{}{with}", before.name), name)
            })
            .collect()
    }

    fn ways(&self, id: StateId) -> Vec<Before> {
        let (mut found, mut seen, mut open) = (Vec::new(), HashSet::from([id]), vec![id]);
        while let Some(id) = open.pop() {
            let state = self.definition.state(id);
            if self.definition.block(state.block).start == id {
                match self.owners.get(&state.block) {
                    None => found.push(Before {
                        name: "the run's input".to_owned(),
                        gives: self.definition.input_schema.clone(),
                    }),
                    // A branch begins with what its state was given.
                    Some(owner) if matches!(self.definition.state(*owner).kind, StateKind::Parallel(_)) => {
                        if seen.insert(*owner) {
                            open.push(*owner);
                        }
                    }
                    Some(owner) => {
                        found.push(Before { name: self.definition.state(*owner).name.to_string(), gives: None });
                    }
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

    /// What a state gives, if that is known.
    fn result(&self, id: StateId) -> Option<Value> {
        let kind = &self.definition.state(id).kind;
        if let StateKind::Inject { data: Template::Constant(value) } = kind {
            return Some(literal(value));
        }
        let schemas = self.catalog.agent_schemas(agent_of(kind)?.0)?;
        Some(schemas.output.unwrap_or_else(
            || json!({"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]}),
        ))
    }

    fn template(&self, id: StateId, template: &Template) -> Value {
        match template {
            Template::Constant(value) => literal(value),
            Template::Text(_) => json!({"type": "string"}),
            Template::Whole(Piece::Path(path)) => self.at(id, path).unwrap_or_else(|| json!({})),
            Template::Whole(Piece::Expression(_)) => json!({}),
            Template::Object(fields) => {
                closed(&fields.iter().map(|(key, value)| (key.clone(), self.template(id, value))).collect())
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

/// The variables over what there was; of that nothing is known unless it is a plain object.
fn overlay(base: Option<Value>, variables: &Value) -> Value {
    let plain = |base: &Value| {
        let combined =
            ["allOf", "anyOf", "oneOf", "not", "if", "enum", "const"].iter().any(|key| base.get(key).is_some());
        base.get("type") == Some(&json!("object")) && !combined && !refers(base)
    };
    let mut merged = base.filter(plain).unwrap_or_else(|| json!({"type": "object", "additionalProperties": true}));
    let Some(more) = variables.get("properties").and_then(Value::as_object) else {
        return json!({"type": "object", "additionalProperties": true});
    };
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
        Value::Object(map) => closed(&map.iter().map(|(key, value)| (key.clone(), literal(value))).collect()),
        Value::Array(items) => tuple(&items.iter().map(literal).collect::<Vec<_>>()),
        other => json!({"const": other}),
    }
}

fn closed(properties: &Map<String, Value>) -> Value {
    let required: Vec<&String> = properties.keys().collect();
    let required = json!(required);
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn tuple(items: &[Value]) -> Value {
    let count = items.len();
    json!({"type": "array", "prefixItems": items, "items": false, "minItems": count, "maxItems": count})
}
