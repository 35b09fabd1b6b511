//! YAML and JSON of people we do not trust, read into one tree that knows where everything stands.
//!
//! Strict: one document, text keys without duplicates, the scalars of YAML 1.2's core schema (so `no` and `on`
//! are text), no tags of anybody's own, no merge keys, no number that JSON could not carry exactly as written.
//! Bounded: every limit below is checked before memory is spent on what would pass it; aliases are counted as
//! what they stand for before they are followed. Deliberately absent: any knowledge of workflows.

mod json;
mod scalar;
mod yaml;

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::diagnostic::{Diagnostic, Severity, Sink, code, shortened};

/// Largest source. A definition that a person can review has a few tens of KiB.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting. A branch in a branch costs four levels, so that sixteen blocks fit in one another; and what
/// is read here may be written as JSON and read again within `serde_json`'s own 128.
pub const DEPTH_MAX: usize = 64;
/// Most values, counted after aliases were expanded: a hundred times a large definition.
pub const NODES_MAX: usize = 100_000;
/// Most text in keys and scalars, counted after aliases were expanded.
pub const TEXT_BYTES_MAX: usize = 2 * SOURCE_BYTES_MAX;

/// The language of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
    /// JSON if it starts like JSON and is, else YAML.
    Detect,
}

/// A part of the source in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub data: Data,
}

/// What a [`Node`] holds. Children are shared: an alias is the same node again.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Null, or nothing at all.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Arc<Node>>),
    /// An object; every key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub value: Arc<Node>,
}

/// A source that was read without an error.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its value.
    pub root: Arc<Node>,
    pub(super) source: Source,
}

/// Reads a source. The error lists everything that is wrong with it.
pub fn read_value(source: &[u8], format: Format) -> Result<Document, Vec<Diagnostic>> {
    let parsed = parse(source, format);
    match parsed.root {
        Some(root) if !parsed.sink.has_errors() => Ok(Document { root, source: parsed.source }),
        _ => Err(parsed.sink.finish()),
    }
}

/// A finding after which reading cannot go on.
struct Fatal(Box<Diagnostic>);

/// What came of a source: a tree even if it has errors, as far as one can be made of it.
pub(super) struct Parsed {
    pub root: Option<Arc<Node>>,
    pub source: Source,
    pub sink: Sink,
}

pub(super) fn parse(bytes: &[u8], format: Format) -> Parsed {
    let mut sink = Sink::default();
    let (source, fatal) = Source::new(bytes);
    let root = fatal.map_or_else(|| parse_text(&source, format, &mut sink), Err);
    let root = root.map_err(|fatal| sink.push(*fatal.0)).ok();
    Parsed { root, source, sink }
}

fn parse_text(source: &Source, format: Format, sink: &mut Sink) -> Result<Arc<Node>, Fatal> {
    match format {
        Format::Json => return json::parse(source, sink),
        Format::Detect if source.text().trim_start().starts_with(['{', '[']) => {}
        Format::Yaml | Format::Detect => return yaml::parse(source, sink),
    }
    let json = json::parse(source, sink);
    if !matches!(&json, Err(error) if error.0.code == code::SYNTAX) {
        return json;
    }
    // A flow mapping of YAML starts like JSON too. If it is neither, it was meant to be JSON.
    let mut yaml_sink = Sink::default();
    match yaml::parse(source, &mut yaml_sink) {
        Err(error) if error.0.code == code::SYNTAX => json,
        yaml => {
            *sink = yaml_sink;
            yaml
        }
    }
}

impl Document {
    /// The value without positions; keys in the author's order.
    pub fn to_value(&self) -> Value {
        self.root.to_value()
    }

    /// A finding at a place of this document.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        span: Span,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Diagnostic {
        self.source.diagnostic(severity, code, span, path.into(), message.into())
    }
}

impl Node {
    /// The value without positions; keys in the author's order.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => items.iter().map(|item| item.to_value()).collect(),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The value of a key, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &*entry.value),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages: "a list".
    pub fn what(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "an object",
        }
    }

    /// A tree without positions. `Err` if it is too deep or too large.
    pub(super) fn of_value(value: &Value) -> Result<Arc<Self>, &'static str> {
        fn convert(value: &Value, depth: usize, left: &mut usize) -> Result<Arc<Node>, &'static str> {
            *left = left.checked_sub(1).ok_or("it has more than 100,000 values")?;
            let inside = |nested: &Value, left: &mut usize| {
                if depth < DEPTH_MAX { convert(nested, depth + 1, left) } else { Err("it is nested more than 64 deep") }
            };
            let data = match value {
                Value::Null => Data::Null,
                Value::Bool(value) => Data::Bool(*value),
                Value::Number(number) => Data::Number(number.clone()),
                Value::String(text) => Data::Text(text.clone()),
                Value::Array(list) => Data::List(list.iter().map(|item| inside(item, left)).collect::<Result<_, _>>()?),
                Value::Object(map) => Data::Map(
                    map.iter()
                        .map(|(key, item)| {
                            Ok(Entry { key: key.clone(), key_span: Span::default(), value: inside(item, left)? })
                        })
                        .collect::<Result<_, &'static str>>()?,
                ),
            };
            Ok(Arc::new(Node { span: Span::default(), data }))
        }
        convert(value, 0, &mut { NODES_MAX })
    }
}

/// The text of a document, and where its lines start. Empty for a document that never was text.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    text: String,
    /// Bytes of a byte order mark before `text`.
    skipped: usize,
    /// Offsets in `text`.
    lines: Vec<usize>,
}

impl Source {
    /// The text, or as much of it as there is and why there is no more.
    fn new(bytes: &[u8]) -> (Self, Option<Fatal>) {
        if bytes.len() > SOURCE_BYTES_MAX {
            let message =
                format!("the source has {} bytes: more than {SOURCE_BYTES_MAX} (1 MiB) are not read", bytes.len());
            let source = Self::of(String::new(), 0);
            let fatal = source.fatal(code::LIMIT_EXCEEDED, Span::default(), String::new(), message);
            return (source, Some(fatal));
        }
        let skipped = if bytes.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let error = match std::str::from_utf8(&bytes[skipped..]) {
            Ok(text) => return (Self::of(text.to_owned(), skipped), None),
            Err(error) => error,
        };
        let start = error.valid_up_to();
        let source = Self::of(String::from_utf8_lossy(&bytes[skipped..skipped + start]).into_owned(), skipped);
        let span = Span { start, end: start + error.error_len().unwrap_or(1) };
        let message =
            format!("the text is not UTF-8: byte 0x{:02x} at offset {}", bytes[skipped + start], skipped + start);
        let fatal = source.fatal(code::SYNTAX, span, String::new(), message);
        (source, Some(fatal))
    }

    fn of(text: String, skipped: usize) -> Self {
        let lines = std::iter::once(0).chain(memchr_newlines(&text)).collect();
        Self { text, skipped, lines }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of a byte order mark before the text.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// What stands there; empty if nothing does.
    pub(super) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// Line and column of an offset, both from 1; zeros if there is no text.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let Some(line) = self.lines.partition_point(|start| *start <= offset).checked_sub(1) else { return (0, 0) };
        let start = self.lines[line];
        let end = (start..=offset.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at));
        let column = self.text[start..end.unwrap_or(start)].chars().count() + 1;
        (line + 1, column)
    }

    pub(super) fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        span: Span,
        path: String,
        message: String,
    ) -> Diagnostic {
        let (line, column) = self.position(span.start);
        Diagnostic {
            severity,
            code,
            path,
            line,
            column,
            offset: span.start + self.skipped,
            length: span.end.saturating_sub(span.start),
            message: shortened(message),
            suggestion: None,
        }
    }

    fn fatal(&self, code: &'static str, span: Span, path: String, message: impl Into<String>) -> Fatal {
        Fatal(Box::new(self.error(code, span, path, message)))
    }

    fn error(&self, code: &'static str, span: Span, path: String, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, code, span, path, message.into())
    }
}

fn memchr_newlines(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1)
}

/// How large a value is once aliases are followed.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    nodes: usize,
    text: usize,
    depth: usize,
}

impl Measure {
    fn scalar(text: usize) -> Self {
        Self { nodes: 1, text, depth: 0 }
    }

    /// Grows by a child.
    fn add(&mut self, child: Self) {
        self.nodes = self.nodes.saturating_add(child.nodes);
        self.text = self.text.saturating_add(child.text);
        self.depth = self.depth.max(child.depth + 1);
    }

    /// The limit that it passes when it stands so deep.
    fn exceeded(self, depth: usize) -> Option<String> {
        if self.nodes > NODES_MAX {
            Some(format!("the document has more than {NODES_MAX} values, aliases included"))
        } else if self.text > TEXT_BYTES_MAX {
            Some(format!("the document has more than {TEXT_BYTES_MAX} bytes of text, aliases included"))
        } else if depth + self.depth > DEPTH_MAX {
            Some(format!("the document is nested more than {DEPTH_MAX} deep"))
        } else {
            None
        }
    }
}

/// Appends to a path: `states[2]`, `states[2].next`, `labels["a b"]`.
pub(super) fn join_key(path: &str, key: &str) -> String {
    let key = if key.chars().count() > 64 { key.chars().take(64).collect::<String>() + "…" } else { key.to_owned() };
    let key = crate::expr::Path::keys([key.as_str()]).to_string();
    if path.is_empty() || key.starts_with('[') { format!("{path}{key}") } else { format!("{path}.{key}") }
}
