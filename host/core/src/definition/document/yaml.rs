//! YAML by the events of `saphyr-parser`: driven one event at a time, with a stack of our own.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::super::diagnostic::{Sink, code, quoted};
use super::{DEPTH_MAX, Data, Entry, Fatal, Measure, Node, Source, Span, join_key, json, scalar};

pub(super) fn parse(source: &Source, sink: &mut Sink) -> Result<Arc<Node>, Fatal> {
    let offsets = Offsets::new(source.text());
    let mut builder = Builder { source, sink, stack: Vec::new(), anchors: HashMap::new(), root: None };
    let mut documents = 0;
    for event in Parser::new_from_str(source.text()) {
        let (event, span) = event.map_err(|error| {
            let start = offsets.byte(*error.marker());
            source.fatal(code::SYNTAX, Span { start, end: start }, builder.path(), error.info())
        })?;
        let span = Span { start: offsets.byte(span.start), end: offsets.byte(span.end) };
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let message = "a second document starts here: one file holds one";
                    return Err(source.fatal(code::SYNTAX, span, String::new(), message));
                }
            }
            Event::SequenceStart(anchor, tag) => {
                builder.open(Inside::List(Vec::new()), anchor, tag.as_deref(), span)?;
            }
            Event::MappingStart(anchor, tag) => builder.open(Inside::map(), anchor, tag.as_deref(), span)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Scalar(text, style, anchor, tag) => builder.scalar(&text, style, anchor, tag.as_deref(), span)?,
            Event::Alias(anchor) => builder.alias(anchor, span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    builder.root.ok_or_else(|| source.fatal(code::SYNTAX, Span::default(), String::new(), "the document is empty"))
}

/// The parser counts characters, everything else here bytes.
struct Offsets {
    /// Byte of each character; `None` when all are ASCII.
    table: Option<Vec<usize>>,
    end: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let table = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { table, end: text.len() }
    }

    fn byte(&self, marker: Marker) -> usize {
        match &self.table {
            None => marker.index().min(self.end),
            Some(table) => table.get(marker.index()).copied().unwrap_or(self.end),
        }
    }
}

/// A list or map that is still open.
struct Frame {
    inside: Inside,
    span: Span,
    anchor: usize,
    measure: Measure,
}

enum Inside {
    List(Vec<Arc<Node>>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Span>, key: Option<Key> },
}

impl Inside {
    fn map() -> Self {
        Self::Map { entries: Vec::new(), seen: HashMap::new(), key: None }
    }
}

/// A key that waits for its value.
enum Key {
    Good(String, Span),
    /// Reported already: its value is read and dropped.
    Bad,
}

struct Builder<'a> {
    source: &'a Source,
    sink: &'a mut Sink,
    stack: Vec<Frame>,
    /// Finished values by their anchor.
    anchors: HashMap<usize, (Arc<Node>, Measure)>,
    root: Option<Arc<Node>>,
}

impl Builder<'_> {
    fn open(&mut self, inside: Inside, anchor: usize, tag: Option<&Tag>, span: Span) -> Result<(), Fatal> {
        if self.stack.len() >= DEPTH_MAX {
            let message = format!("the document is nested more than {DEPTH_MAX} deep");
            return Err(self.source.fatal(code::LIMIT_EXCEEDED, span, self.path(), message));
        }
        if let Some(tag) = tag {
            let own = if matches!(inside, Inside::List(_)) { "seq" } else { "map" };
            if !(tag.is_yaml_core_schema() && tag.suffix == own) {
                self.refuse_tag(tag, span);
            }
        }
        self.stack.push(Frame { inside, span, anchor, measure: Measure::scalar(0) });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fatal> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let data = match frame.inside {
            Inside::List(items) => Data::List(items),
            Inside::Map { entries, .. } => Data::Map(entries),
        };
        self.finish(Arc::new(Node { span: frame.span, data }), frame.measure, frame.anchor)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Fatal> {
        let is_key = matches!(self.stack.last(), Some(Frame { inside: Inside::Map { key: None, .. }, .. }));
        if is_key && style == ScalarStyle::Plain && text == "<<" {
            let message = "merge keys ('<<') are not part of YAML 1.2: write the fields out";
            self.sink.push(self.source.error(code::SYNTAX, span, self.path(), message));
            self.set_key(Key::Bad);
            return Ok(());
        }
        let data = match self.resolve(text, style, tag, span) {
            Ok(data) => data,
            Err(message) => {
                self.sink.push(self.source.error(code::INVALID_VALUE, span, self.path(), message));
                if is_key {
                    self.set_key(Key::Bad);
                    return Ok(());
                }
                Data::Text(text.to_owned())
            }
        };
        self.finish(Arc::new(Node { span, data }), Measure::scalar(text.len()), anchor)
    }

    fn resolve(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Data, String> {
        let Some(tag) = tag else {
            let plain = style == ScalarStyle::Plain;
            return if plain { scalar::plain(text) } else { Ok(Data::Text(text.to_owned())) };
        };
        let found = match tag.suffix.as_str() {
            "null" | "bool" | "int" | "float" => scalar::plain(text),
            _ => Ok(Data::Text(text.to_owned())),
        };
        let fits = match (tag.suffix.as_str(), &found) {
            (_, Err(_))
            | ("str", _)
            | ("null", Ok(Data::Null))
            | ("bool", Ok(Data::Bool(_)))
            | ("float", Ok(Data::Number(_))) => true,
            ("int", Ok(Data::Number(number))) => !number.is_f64(),
            _ => false,
        };
        if !tag.is_yaml_core_schema() || !fits {
            self.refuse_tag(tag, span);
            return Ok(Data::Text(text.to_owned()));
        }
        found
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fatal> {
        let Some((node, measure)) = self.anchors.get(&anchor).cloned() else {
            let message = "an alias stands inside of what it is an alias of";
            return Err(self.source.fatal(code::SYNTAX, span, self.path(), message));
        };
        if let Some(message) = measure.exceeded(self.stack.len()) {
            return Err(self.source.fatal(code::LIMIT_EXCEEDED, span, self.path(), message));
        }
        self.attach(node, measure, Some(span))
    }

    fn finish(&mut self, node: Arc<Node>, measure: Measure, anchor: usize) -> Result<(), Fatal> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), measure));
        }
        self.attach(node, measure, None)
    }

    /// Puts a finished value where it belongs.
    fn attach(&mut self, node: Arc<Node>, measure: Measure, alias: Option<Span>) -> Result<(), Fatal> {
        let depth = self.stack.len();
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.span.end = frame.span.end.max(node.span.end);
        let is_key = matches!(frame.inside, Inside::Map { key: None, .. });
        frame.measure.add(Measure { nodes: if is_key { 0 } else { measure.nodes }, ..measure });
        if let Some(message) = frame.measure.exceeded(depth - 1) {
            let span = alias.unwrap_or(Span { start: node.span.start, end: node.span.start });
            return Err(self.source.fatal(code::LIMIT_EXCEEDED, span, self.path(), message));
        }
        match &mut frame.inside {
            Inside::List(items) => items.push(node),
            Inside::Map { entries, key, .. } => match key.take() {
                Some(Key::Good(key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                Some(Key::Bad) => {}
                None => self.key(&node, alias),
            },
        }
        Ok(())
    }

    fn key(&mut self, node: &Node, alias: Option<Span>) {
        let span = alias.unwrap_or(node.span);
        let Some(text) = node.text() else {
            let message = format!("a key must be text, this is {}: write it in quotes", node.what());
            self.sink.push(self.source.error(code::WRONG_TYPE, span, self.path(), message));
            return self.set_key(Key::Bad);
        };
        let Some(Frame { inside: Inside::Map { seen, .. }, .. }) = self.stack.last_mut() else { return };
        if let Some(first) = seen.get(text) {
            let first = *first;
            let path = join_key(&self.path(), text);
            self.sink.push(json::duplicate(self.source, text, span, first, path));
            self.set_key(Key::Bad);
        } else {
            seen.insert(text.to_owned(), span);
            self.set_key(Key::Good(text.to_owned(), span));
        }
    }

    fn set_key(&mut self, waiting: Key) {
        if let Some(Frame { inside: Inside::Map { key, .. }, .. }) = self.stack.last_mut() {
            *key = Some(waiting);
        }
    }

    fn refuse_tag(&mut self, tag: &Tag, span: Span) {
        let message = if tag.is_yaml_core_schema() {
            format!("the tag {} does not fit here: leave it out", quoted(&format!("!!{}", tag.suffix)))
        } else {
            format!("the tag {} has no meaning here: leave it out", quoted(&tag.to_string()))
        };
        self.sink.push(self.source.error(code::INVALID_VALUE, span, self.path(), message));
    }

    /// Where the next value will stand.
    fn path(&self) -> String {
        self.stack.iter().fold(String::new(), |path, frame| match &frame.inside {
            Inside::List(items) => format!("{path}[{}]", items.len()),
            Inside::Map { key: Some(Key::Good(key, _)), .. } => join_key(&path, key),
            Inside::Map { .. } => path,
        })
    }
}
