//! The tree of a document into the model.
//!
//! Every function reports what it finds and goes on, so that one reading shows all that is wrong. What stands
//! in the model after an error is never seen: with any error there is no definition.

mod block;
mod fields;
mod kind;
mod load;
mod operation;
mod pipeline;
mod top;

use std::collections::HashMap;
use std::sync::Arc;

pub(super) use operation::is_action_name;

use super::catalog::{Place, Places, diagnostic};
use super::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity, Sink, code, did_you_mean, quoted};
use super::document::{Node, Source, Span};
use super::graph::{self, Finding};
use crate::model::{Block, BlockId, Definition, State, StateId};

/// What came of a tree.
pub(super) struct Outcome {
    pub definition: Option<Definition>,
    pub diagnostics: Vec<Diagnostic>,
    pub places: Places,
    /// The label as written.
    pub version: Option<String>,
}

pub(super) fn read(root: &Node, source: &Source, sink: Sink) -> Outcome {
    let mut reader = Reader {
        source,
        sink,
        blocks: Vec::new(),
        states: Vec::new(),
        names: HashMap::new(),
        wanted: Vec::new(),
        phases: Vec::new(),
        places: Places::new(),
    };
    let top = reader.workflow(root);
    reader.report_wanted();
    let version = top.as_ref().and_then(|top| top.version.clone());
    let definition = match (top, std::mem::take(&mut reader.states).into_iter().collect::<Option<Vec<State>>>()) {
        (Some(top), Some(states)) if !reader.sink.has_errors() => {
            let blocks = std::mem::take(&mut reader.blocks);
            let definition = top.definition(blocks, states, std::mem::take(&mut reader.phases));
            reader.warn_of_graph(&definition);
            Some(definition)
        }
        _ => None,
    };
    Outcome { definition, diagnostics: reader.sink.finish(), places: reader.places, version }
}

/// Where a finding stands.
#[derive(Clone, Debug)]
struct At {
    span: Span,
    path: String,
}

struct Reader<'a> {
    source: &'a Source,
    sink: Sink,
    blocks: Vec<Block>,
    /// `None` while a state is being read, and for ever if it could not be.
    states: Vec<Option<State>>,
    /// In which blocks a name stands.
    names: HashMap<&'a str, Vec<String>>,
    /// Transitions that lead nowhere: reported when all names are known.
    wanted: Vec<Wanted<'a>>,
    phases: Vec<Arc<str>>,
    places: Places,
}

/// A transition to a state that its block does not have.
struct Wanted<'a> {
    name: &'a str,
    at: At,
    message: String,
    suggestion: Option<String>,
}

/// The states that a transition may lead to.
struct Scope<'a, 's> {
    block: BlockId,
    names: &'s HashMap<&'a str, StateId>,
    /// Whether all states of the block have a name; else one of them may have been meant.
    complete: bool,
}

impl<'a> Reader<'a> {
    fn error(&mut self, code: &'static str, at: At, message: String, suggestion: Option<String>) {
        let diagnostic = self.source.diagnostic(Severity::Error, code, at.span, at.path, message);
        self.sink.push(diagnostic.suggest(suggestion));
    }

    fn warn(&mut self, code: &'static str, at: At, message: String) {
        self.sink.push(self.source.diagnostic(Severity::Warning, code, at.span, at.path, message));
    }

    fn place(&self, at: &At) -> Place {
        let (line, column) = self.source.position(at.span.start);
        let offset = at.span.start + self.source.skipped();
        Place { path: at.path.clone(), line, column, offset, length: at.span.end - at.span.start }
    }

    /// The state of that name in the block, or a finding later.
    fn target(&mut self, scope: &Scope<'a, '_>, name: &'a str, at: At, message: String) -> Option<StateId> {
        let found = scope.names.get(name).copied();
        // Comparing names takes time: past the limit nobody reads the result.
        if found.is_none() && scope.complete {
            let few = self.wanted.len() < DIAGNOSTICS_MAX;
            let suggestion = few.then(|| did_you_mean(name, scope.names.keys().copied())).flatten();
            self.wanted.push(Wanted { name, at, message, suggestion });
        }
        found
    }

    fn report_wanted(&mut self) {
        for Wanted { name, at, message, suggestion } in std::mem::take(&mut self.wanted) {
            let suggestion = match self.names.get(name) {
                Some(blocks) => {
                    let elsewhere = blocks.first().map_or("another block", String::as_str);
                    Some(format!("{} stands in {elsewhere}: a transition stays in its block", quoted(name)))
                }
                None if matches!(name, "end" | "End" | "END") => Some("to end here, write end: true".to_owned()),
                None => suggestion,
            };
            self.error(code::UNKNOWN_TARGET, at, message, suggestion);
        }
    }

    fn warn_of_graph(&mut self, definition: &Definition) {
        for finding in graph::look_at(definition) {
            let name = |id: StateId| &*definition.state(id).name;
            let (code, id, message) = match finding {
                Finding::Unreachable(id) => (
                    code::UNREACHABLE_STATE,
                    id,
                    format!("unreachable state {}: no transition leads to it", quoted(name(id))),
                ),
                Finding::Circle(circle) => (
                    code::CIRCULAR_TRANSITION,
                    circle[0],
                    format!("circular transition detected: {}", round(&circle, name)),
                ),
            };
            let place = self.places.get(&id).map(|places| places.state.clone()).unwrap_or_default();
            self.sink.push(diagnostic(Severity::Warning, code, place, message));
        }
    }
}

/// "a → b → a", the middle of a long one left out.
fn round<'d>(circle: &[StateId], name: impl Fn(StateId) -> &'d str) -> String {
    const SHOWN_MAX: usize = 8;
    let mut names: Vec<&str> = circle.iter().take(SHOWN_MAX).map(|id| name(*id)).collect();
    if circle.len() > SHOWN_MAX {
        names.push("…");
    }
    names.push(name(circle[0]));
    names.join(" → ")
}
