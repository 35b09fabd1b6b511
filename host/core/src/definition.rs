//! Definitions: text in, [`Definition`] out, or findings that say what to write instead.
//!
//! A document is read in three steps: its text into a tree with positions ([`document`]), the tree into the
//! model (`reader`), and the model is looked at as a graph (`graph`). What only somebody with plugins and agents
//! can know is asked of a [`Catalog`]. Strict throughout: a definition that is accepted does what it says; what
//! is not understood is an error, and what is understood but not built is refused by name.
//!
//! Deliberately absent: files, a network, evaluation of expressions.

pub mod diagnostic;
pub mod document;

mod catalog;
mod flow;
mod graph;
mod reader;

use std::sync::Arc;

use serde_json::Value;

pub use catalog::{BUILT_IN_ACTIONS, Catalog, Schemas, check};
pub use diagnostic::{Diagnostic, Severity, Validation, code, nearest};
pub use document::Format;

use crate::model::Definition;
use catalog::Places;
use diagnostic::Sink;
use document::{Node, Source, Span};

/// What came of reading a definition.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The definition; none if there is any error.
    pub definition: Option<Arc<Definition>>,
    /// The whole document, keys in the author's order; none if it is no document at all. This is what is
    /// stored: [`from_json`] reads the same definition from it.
    pub json: Option<Value>,
    /// Errors and warnings in the order of the source.
    pub diagnostics: Vec<Diagnostic>,
    places: Places,
}

impl Reading {
    /// Looks up actions, agents and workflows; the findings have positions. Nothing if there is no definition.
    pub fn check(&self, catalog: &dyn Catalog) -> Vec<Diagnostic> {
        match &self.definition {
            Some(definition) => catalog::check_with(definition, &self.places, catalog),
            None => Vec::new(),
        }
    }

    /// The findings as the API answers them, those of [`Reading::check`] included.
    pub fn validation(&self, catalog: &dyn Catalog) -> Validation {
        let mut diagnostics = self.diagnostics.clone();
        diagnostics.extend(self.check(catalog));
        // What has no line is about all of the document.
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line == 0, diagnostic.offset));
        Validation::of(diagnostics)
    }
}

/// Reads a definition from its source.
pub fn read(source: &[u8], format: Format) -> Reading {
    let parsed = document::parse(source, format);
    let mut sink = parsed.sink;
    let Some(root) = parsed.root else {
        return Reading { definition: None, json: None, diagnostics: sink.finish(), places: Places::default() };
    };
    suggest_action_for_second_task(&root, &parsed.source, &mut sink);
    read_tree(&root, &parsed.source, sink)
}

/// Reads a definition that is JSON already, for instance a stored one. Findings have no positions.
pub fn from_json(value: &Value) -> Reading {
    let source = Source::default();
    match Node::of_value(value) {
        Ok(root) => read_tree(&root, &source, Sink::default()),
        Err(reason) => {
            let message = format!("the document is too large: {reason}");
            let diagnostic =
                source.diagnostic(Severity::Error, code::LIMIT_EXCEEDED, Span::default(), String::new(), message);
            Reading { definition: None, json: None, diagnostics: vec![diagnostic], places: Places::default() }
        }
    }
}

/// The identity of a revision: SHA-256 of its stored JSON text.
pub fn digest(json_text: &str) -> String {
    crate::json::sha256_hex(json_text.as_bytes())
}

fn read_tree(root: &Node, source: &Source, sink: Sink) -> Reading {
    let document_is_sound = !sink.has_errors();
    let outcome = reader::read(root, source, sink);
    let json = document_is_sound.then(|| {
        let mut json = root.to_value();
        // 1.10 is another label than 1.1, but the same number.
        if let (Some(label), Some(version @ Value::Number(_))) = (outcome.version, json.get_mut("version")) {
            *version = Value::String(label);
        }
        json
    });
    Reading {
        definition: outcome.definition.map(Arc::new),
        json,
        diagnostics: outcome.diagnostics,
        places: outcome.places,
    }
}

/// Some write the action as `task` and then, below it, the task of the agent: the second is an error, and this
/// says where the first belongs.
fn suggest_action_for_second_task(root: &Node, source: &Source, sink: &mut Sink) {
    fn first_task(node: &Node, offset: usize) -> Option<&str> {
        let document::Data::Map(entries) = &node.data else {
            let document::Data::List(items) = &node.data else { return None };
            return items.iter().filter(|item| contains(item, offset)).find_map(|item| first_task(item, offset));
        };
        let inner = entries.iter().filter(|entry| contains(&entry.value, offset));
        inner
            .map(|entry| &*entry.value)
            .find_map(|value| first_task(value, offset))
            .or_else(|| node.get("task").and_then(Node::text).filter(|text| reader::is_action_name(text)))
    }
    fn contains(node: &Node, offset: usize) -> bool {
        node.span.start <= offset && offset <= node.span.end
    }
    for diagnostic in sink.found_mut() {
        if diagnostic.code == code::DUPLICATE_KEY
            && diagnostic.path.rsplit('.').next() == Some("task")
            && let Some(action) = first_task(root, diagnostic.offset.saturating_sub(source.skipped()))
        {
            let hint = format!("; an action is named beside 'input', not in it: action: {action}");
            diagnostic.message.push_str(&hint);
            diagnostic.suggestion =
                Some(format!("write action: {action} beside 'input', and keep 'task' for the task"));
        }
    }
}
