//! The top level of a workflow.

use std::sync::Arc;

use serde_json::Value;

use super::super::diagnostic::{code, quoted};
use super::super::document::{Data, Node, join_key};
use super::fields::{Field, Fields};
use super::{At, Reader};
use crate::model::{Block, BlockId, Concurrency, Definition, Retention, State};
use crate::schema::Validator;

const FIELDS: &[&str] = &[
    "id",
    "version",
    "name",
    "description",
    "inputSchema",
    "outputSchema",
    "start",
    "states",
    "phases",
    "timeoutSeconds",
    "triggers",
    "concurrency",
    "retention",
];

/// Known, but what they ask for has not been built.
const UNSUPPORTED: &[&str] = &["triggers"];

/// Longest id: it stands in URLs, file names and queue subjects.
pub(super) const ID_BYTES_MAX: usize = 128;

/// Everything but the states.
#[derive(Default)]
pub(super) struct Top {
    pub id: String,
    pub version: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub input: Option<Schema>,
    pub output: Option<Schema>,
    pub timeout_ms: Option<u64>,
    pub concurrency: Option<Concurrency>,
    pub retention: Retention,
    pub root: Option<BlockId>,
}

/// A schema and its compiled form.
pub(super) struct Schema(Value, Arc<Validator>);

impl Top {
    pub fn definition(self, blocks: Vec<Block>, states: Vec<State>, phases: Vec<Arc<str>>) -> Definition {
        let split = |schema: Option<Schema>| schema.map(|Schema(value, validator)| (value, validator)).unzip();
        let (input_schema, input_validator) = split(self.input);
        let (output_schema, output_validator) = split(self.output);
        Definition {
            id: self.id.into(),
            version: self.version,
            name: self.name,
            description: self.description,
            input_schema,
            output_schema,
            input_validator,
            output_validator,
            phases,
            timeout_ms: self.timeout_ms,
            concurrency: self.concurrency,
            retention: self.retention,
            root: self.root.unwrap_or(BlockId(0)),
            blocks,
            states,
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn workflow(&mut self, root: &'a Node) -> Option<Top> {
        let mut fields = self.fields(root, String::new(), String::new())?;
        let mut top = Top::default();
        self.common(&mut fields, &mut top);
        if fields.has("steps") && !fields.has("states") {
            self.pipeline(&mut fields, &mut top);
            return Some(top);
        }
        if let Some(id) = self.id(&mut fields) {
            id.clone_into(&mut top.id);
        }
        top.input = self.schema(&mut fields, "inputSchema");
        for key in UNSUPPORTED {
            if let Some(field) = fields.get(key) {
                let at = At { span: field.key_span, path: (*key).to_owned() };
                let message = format!("'{key}' is not supported yet: nothing would come of it");
                self.error(code::UNSUPPORTED_FIELD, at, message, Some("leave it out".to_owned()));
            }
        }
        top.root = self.top_block(&mut fields);
        let hint = |key: &str| match key {
            "args" | "argsSchema" | "input" => Some("did you mean 'inputSchema'?".to_owned()),
            "output" => Some("did you mean 'outputSchema'?".to_owned()),
            "timeout" => Some("did you mean 'timeoutSeconds'?".to_owned()),
            _ => None,
        };
        self.finish(&fields, FIELDS, hint);
        Some(top)
    }

    /// What workflows and pipelines share.
    fn common(&mut self, fields: &mut Fields<'a>, top: &mut Top) {
        top.version = self.label(fields, "version");
        top.name = self.text(fields, "name").map(str::to_owned);
        top.description = self.text(fields, "description").map(str::to_owned);
        top.output = self.schema(fields, "outputSchema");
        top.timeout_ms = self.duration(fields, "timeoutSeconds");
        top.concurrency = self.concurrency(fields);
        top.retention = self.retention(fields);
        for (phase, at) in self.texts(fields, "phases").unwrap_or_default() {
            if self.phases.iter().any(|known| **known == *phase) {
                self.error(code::INVALID_VALUE, at, format!("the phase {} is listed twice", quoted(phase)), None);
            } else {
                self.phases.push(phase.into());
            }
        }
    }

    fn id(&mut self, fields: &mut Fields<'a>) -> Option<&'a str> {
        let id = self.required_text(fields, "id", "give the workflow an id, for example id: incident-triage")?;
        self.check_id(fields, id).then_some(id)
    }

    pub(super) fn check_id(&mut self, fields: &mut Fields<'a>, id: &str) -> bool {
        let starts = id.starts_with(|c: char| c.is_ascii_alphanumeric());
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let fits = starts && plain && id.len() <= ID_BYTES_MAX;
        if let Some(field) = fields.get("id").filter(|_| !fits) {
            let message = format!(
                "{} is no id: letters, digits, '.', '_' and '-', at most {ID_BYTES_MAX}, a letter or digit first",
                quoted(id)
            );
            let slug = Some(slug(id)).filter(|slug| !slug.is_empty());
            self.invalid(fields, field, message, slug.map(|slug| format!("for example id: {slug}")));
        }
        fits
    }

    /// A label: text, or a number as it was written.
    fn label(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<String> {
        let field = fields.get(key)?;
        if let Data::Number(number) = &field.node.data {
            let written = self.source.slice(field.node.span).trim();
            return Some(if written.is_empty() { number.to_string() } else { written.to_owned() });
        }
        self.text_of(fields, field).map(str::to_owned)
    }

    pub(super) fn schema(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<Schema> {
        let field = fields.get(key)?;
        if !matches!(field.node.data, Data::Map(_) | Data::Bool(_)) {
            self.wrong_type(fields, field, "a JSON Schema", None);
            return None;
        }
        let value = field.node.to_value();
        match Validator::compile_at(&value) {
            Ok(validator) => Some(Schema(value, Arc::new(validator))),
            Err(problem) => {
                let at = inner(field, &problem.path, &join_key(&fields.path, key));
                let message = fields.says(format!("'{key}' is no JSON Schema that can be used: {problem}"));
                self.error(code::INVALID_SCHEMA, at, message, None);
                None
            }
        }
    }

    fn top_block(&mut self, fields: &mut Fields<'a>) -> Option<BlockId> {
        if !fields.has("states") {
            let at = fields.here();
            let suggestion = "list them: states: [{name: …, type: operation, …}]".to_owned();
            self.error(code::MISSING_FIELD, at, "workflow has no states".to_owned(), Some(suggestion));
            fields.get("start");
            return None;
        }
        let start_is_given = fields.has("start");
        let block = self.block(fields, "the workflow")?;
        if !start_is_given
            && let Some(first) = self.blocks[block.0 as usize].states.first()
            && let Some(field) = fields.get("states")
        {
            // One that is not understood has an error of its own.
            if let Some(name) = self.states[first.0 as usize].as_ref().map(|state| state.name.clone()) {
                let message = format!("'start' is not given: the workflow starts with {}", quoted(&name));
                self.warn(code::DEFAULT_START, At { span: field.key_span, path: "start".to_owned() }, message);
            }
        }
        Some(block)
    }
}

/// The place of a part of a field, as near as it can be found.
fn inner(field: Field<'_>, path: &str, outer: &str) -> At {
    let mut at = At { span: field.key_span, path: outer.to_owned() };
    let Ok(parsed) = crate::expr::Path::parse(path) else { return at };
    let mut node = field.node;
    for segment in parsed.segments() {
        let step = match (segment, &node.data) {
            (crate::expr::Segment::Key(key), Data::Map(entries)) => {
                let entry = entries.iter().find(|entry| entry.key == **key);
                entry.map(|entry| (&*entry.value, entry.key_span, join_key(&at.path, key)))
            }
            (crate::expr::Segment::Index(index), Data::List(items)) => {
                let item = usize::try_from(*index).ok().and_then(|index| items.get(index));
                item.map(|item| (&**item, item.span, format!("{}[{index}]", at.path)))
            }
            _ => None,
        };
        let Some((next, span, path)) = step else { break };
        node = next;
        at = At { span, path };
    }
    if !matches!(node.data, Data::Map(_) | Data::List(_)) {
        at.span = node.span;
    }
    at
}

/// A text as an id: `Simple Build Pipeline` is `simple-build-pipeline`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if slug.len() >= ID_BYTES_MAX {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}
