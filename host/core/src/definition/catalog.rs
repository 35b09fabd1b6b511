//! What a definition needs from its surroundings: actions, agents, other workflows.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::Value;

use super::diagnostic::{Diagnostic, Severity, code, did_you_mean, quoted};
use super::flow;
use crate::expr::Template;
use crate::model::{BlockId, Definition, StateId, StateKind};

/// Actions that every host has.
pub const BUILT_IN_ACTIONS: &[&str] = &[
    "agent.run",
    "human.approval",
    "script.run",
    "script.evaluate",
    "core.echo",
    "core.fail",
    "core.sleep",
    "core.wait_signal",
];

/// What there is. `None` means "not known here": then nothing is refused, and a warning says so.
pub trait Catalog {
    /// Full names of all actions.
    fn actions(&self) -> Option<Vec<String>>;
    /// Names of all agents of the environment.
    fn agents(&self) -> Option<Vec<String>>;
    /// What an agent takes and gives; `None` if the agent is not known here.
    fn agent_schemas(&self, _agent: &str) -> Option<Schemas> {
        None
    }
    /// What an action takes and gives; `None` if the action is not known here.
    fn action_schemas(&self, _action: &str) -> Option<Schemas> {
        None
    }
    /// Ids of all workflows of the environment.
    fn workflows(&self) -> Option<Vec<String>> {
        None
    }
}

/// The JSON Schemas of an agent or an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schemas {
    /// What it takes; anything when absent. An agent's has no property as required that it has a default for.
    pub input: Option<Value>,
    /// What it gives; not known when absent.
    pub output: Option<Value>,
}

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub path: String,
    pub line: usize,
    pub column: usize,
    pub offset: usize,
    pub length: usize,
}

/// Where the names of a state stand that a catalog is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct StatePlaces {
    pub state: Place,
    pub action: Option<Place>,
    pub agent: Option<Place>,
    pub workflow: Option<Place>,
}

/// The same for all states.
pub(super) type Places = HashMap<StateId, StatePlaces>;

/// Looks up the actions, agents and workflows of a definition. Findings have a path and no line: see
/// [`super::Reading::check`] for both.
pub fn check(definition: &Definition, catalog: &dyn Catalog) -> Vec<Diagnostic> {
    let mut places = Places::new();
    let mut open: Vec<(BlockId, String)> = vec![(definition.root, "states".to_owned())];
    while let Some((block, path)) = open.pop() {
        for (index, id) in definition.block(block).states.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match &definition.state(*id).kind {
                StateKind::Parallel(parallel) => {
                    for (index, branch) in parallel.branches.iter().enumerate() {
                        open.push((branch.block, format!("{path}.branches[{index}].states")));
                    }
                }
                StateKind::Foreach(foreach) => open.push((foreach.block, format!("{path}.iterator.states"))),
                StateKind::Try(attempt) => {
                    open.push((attempt.body, format!("{path}.try")));
                    open.extend(
                        attempt.catch.iter().filter_map(|c| c.block).map(|b| (b, format!("{path}.catch.states"))),
                    );
                    open.extend(attempt.finally.map(|block| (block, format!("{path}.finally"))));
                }
                _ => {}
            }
            places.insert(*id, StatePlaces { state: Place { path, ..Place::default() }, ..StatePlaces::default() });
        }
    }
    check_with(definition, &places, catalog)
}

/// Who asks for a name, in the order of the definition.
type Wanted<'a> = IndexMap<&'a str, Vec<StateId>>;

pub(super) fn check_with(definition: &Definition, places: &Places, catalog: &dyn Catalog) -> Vec<Diagnostic> {
    let (mut actions, mut agents, mut workflows) = (Wanted::new(), Wanted::new(), Wanted::new());
    let mut found = Vec::new();
    let look = Look { definition, places };
    for (id, state) in (0..).map(StateId).zip(&definition.states) {
        match &state.kind {
            StateKind::Operation(operation) => {
                actions.entry(&operation.action).or_default().push(id);
                if &*operation.action == "agent.run" {
                    match agent(&operation.input) {
                        Agent::Named(name) => agents.entry(name).or_default().push(id),
                        Agent::Later => {}
                        Agent::ById => found.push(look.agent_by_id(id)),
                        Agent::Missing => found.push(look.missing_agent(id)),
                    }
                }
            }
            StateKind::Call(call) => {
                if let Template::Constant(Value::String(name)) = &call.workflow {
                    workflows.entry(name).or_default().push(id);
                }
            }
            _ => {}
        }
    }
    look.actions(&actions, catalog.actions().as_deref(), &mut found);
    look.agents(&agents, catalog.agents().as_deref(), &mut found);
    look.workflows(&workflows, catalog.workflows().as_deref(), &mut found);
    found.extend(flow::check(definition, places, catalog));
    found.sort_by_key(|diagnostic| diagnostic.offset);
    found
}

enum Agent<'a> {
    Named(&'a str),
    /// Known when the step runs.
    Later,
    /// By `agent_id`, as definitions of the seeds did: its text is the name. Looked up when the step runs.
    ById,
    Missing,
}

fn agent(input: &Template) -> Agent<'_> {
    let named = |name: &str| !name.trim().is_empty();
    let by_id = |id: &Value| id.is_number() || id.as_str().is_some_and(named);
    match input {
        Template::Constant(Value::Object(map)) => match (map.get("agent"), map.get("agent_id")) {
            (Some(Value::String(name)), _) if named(name) => Agent::Named(name),
            (_, Some(id)) if by_id(id) => Agent::ById,
            _ => Agent::Missing,
        },
        Template::Object(fields) => {
            let field = |wanted: &str| fields.iter().find(|(key, _)| key == wanted).map(|(_, value)| value);
            match (field("agent"), field("agent_id")) {
                (Some(Template::Constant(Value::String(name))), _) if named(name) => Agent::Named(name),
                (None | Some(Template::Constant(_)), Some(Template::Constant(id))) if by_id(id) => Agent::ById,
                (None | Some(Template::Constant(_)), None | Some(Template::Constant(_))) => Agent::Missing,
                (Some(_), _) => Agent::Later,
                (None, Some(_)) => Agent::ById,
            }
        }
        _ => Agent::Later,
    }
}

struct Look<'a> {
    definition: &'a Definition,
    places: &'a Places,
}

impl Look<'_> {
    fn actions(&self, wanted: &Wanted<'_>, known: Option<&[String]>, found: &mut Vec<Diagnostic>) {
        for (action, states) in wanted {
            let at = |id: &StateId| self.place(*id, |places| places.action.as_ref());
            match known {
                Some(known) if known.iter().any(|name| name == action) => {}
                Some(known) => found.extend(states.iter().map(|id| {
                    let message = format!("state {}: no plugin has the action {}", self.name(*id), quoted(action));
                    let suggestion = did_you_mean(action, known.iter().map(String::as_str));
                    diagnostic(Severity::Error, code::UNKNOWN_ACTION, at(id), message).suggest(suggestion)
                })),
                None if BUILT_IN_ACTIONS.contains(action) => {}
                None => {
                    let message = format!(
                        "whether the action {} exists was not checked: no plugins are known here",
                        quoted(action)
                    );
                    let suggestion = did_you_mean(action, BUILT_IN_ACTIONS.iter().copied());
                    let place = at(&states[0]);
                    found.push(
                        diagnostic(Severity::Warning, code::ACTION_NOT_CHECKED, place, message).suggest(suggestion),
                    );
                }
            }
        }
    }

    fn agents(&self, wanted: &Wanted<'_>, known: Option<&[String]>, found: &mut Vec<Diagnostic>) {
        let at = |id: StateId| self.place(id, |places| places.agent.as_ref());
        let Some(known) = known else {
            let Some((_, states)) = wanted.first() else { return };
            let names: Vec<_> = wanted.keys().map(|name| quoted(name)).collect();
            let message =
                format!("whether these agents exist was not checked, none are known here: {}", names.join(", "));
            found.push(diagnostic(Severity::Warning, code::AGENT_NOT_CHECKED, at(states[0]), message));
            return;
        };
        for (agent, states) in wanted {
            if known.iter().any(|name| name == agent) {
                continue;
            }
            let names: Vec<_> = states.iter().map(|id| self.name(*id)).collect();
            let plural = if names.len() == 1 { "" } else { "s" };
            let message =
                format!("agent {} not found in environment (state{plural} {})", quoted(agent), names.join(", "));
            let suggestion = did_you_mean(agent, known.iter().map(String::as_str));
            found.push(diagnostic(Severity::Error, code::AGENT_NOT_FOUND, at(states[0]), message).suggest(suggestion));
        }
    }

    /// Only warnings: workflows that call each other cannot both be there first.
    fn workflows(&self, wanted: &Wanted<'_>, known: Option<&[String]>, found: &mut Vec<Diagnostic>) {
        let Some(known) = known else { return };
        for (workflow, states) in wanted {
            if *workflow == &*self.definition.id || known.iter().any(|id| id == workflow) {
                continue;
            }
            let message = format!("state {}: there is no workflow {} yet", self.name(states[0]), quoted(workflow));
            let suggestion = did_you_mean(workflow, known.iter().map(String::as_str));
            let place = self.place(states[0], |places| places.workflow.as_ref());
            found.push(diagnostic(Severity::Warning, code::WORKFLOW_NOT_FOUND, place, message).suggest(suggestion));
        }
    }

    fn agent_by_id(&self, id: StateId) -> Diagnostic {
        let message = format!("state {}: 'agent_id' is deprecated", self.name(id));
        let place = self.place(id, |places| places.agent.as_ref());
        diagnostic(Severity::Warning, code::AGENT_ID_DEPRECATED, place, message)
            .suggest(Some("write agent: NAME instead".to_owned()))
    }

    fn missing_agent(&self, id: StateId) -> Diagnostic {
        let message = format!("state {}: agent name is required", self.name(id));
        let place = self.place(id, |places| places.agent.as_ref());
        diagnostic(Severity::Error, code::MISSING_FIELD, place, message)
            .suggest(Some("name it in the input: agent: NAME".to_owned()))
    }

    fn name(&self, id: StateId) -> String {
        quoted(&self.definition.state(id).name)
    }

    fn place(&self, id: StateId, part: impl Fn(&StatePlaces) -> Option<&Place>) -> Place {
        let places = self.places.get(&id);
        places.and_then(|places| part(places).or(Some(&places.state))).cloned().unwrap_or_default()
    }
}

pub(super) fn diagnostic(severity: Severity, code: &'static str, place: Place, message: String) -> Diagnostic {
    let Place { path, line, column, offset, length } = place;
    Diagnostic { severity, code, path, line, column, offset, length, message, suggestion: None }
}
