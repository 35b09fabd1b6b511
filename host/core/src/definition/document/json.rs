//! JSON with positions. `serde_json` reads the strings and numbers, this walks the structure.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::diagnostic::{Diagnostic, Sink, code, quoted};
use super::{DEPTH_MAX, Data, Entry, Fatal, NODES_MAX, Node, Source, Span, join_key, scalar};

pub(super) fn parse(source: &Source, sink: &mut Sink) -> Result<Arc<Node>, Fatal> {
    let mut reader = Reader { source, bytes: source.text().as_bytes(), at: 0, nodes: 0, sink };
    reader.skip_space();
    if reader.at == reader.bytes.len() {
        return Err(reader.error_here("", "the document is empty"));
    }
    let root = reader.value(0, "")?;
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(reader.error_here("", "there is more after the end of the JSON document"));
    }
    Ok(root)
}

struct Reader<'a> {
    source: &'a Source,
    bytes: &'a [u8],
    at: usize,
    nodes: usize,
    sink: &'a mut Sink,
}

impl Reader<'_> {
    /// Calls itself for what is inside, so `depth` is checked first.
    fn value(&mut self, depth: usize, path: &str) -> Result<Arc<Node>, Fatal> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.limit_here(path, format!("the document has more than {NODES_MAX} values")));
        }
        if depth > DEPTH_MAX {
            return Err(self.limit_here(path, format!("the document is nested more than {DEPTH_MAX} deep")));
        }
        let start = self.at;
        let data = match self.peek() {
            Some(b'{') => self.object(depth, path)?,
            Some(b'[') => self.list(depth, path)?,
            Some(b'"') => Data::Text(self.string(path)?),
            Some(b'-' | b'0'..=b'9') => self.number(path)?,
            Some(byte) if byte.is_ascii_alphabetic() => self.word(path)?,
            Some(_) => return Err(self.error_here(path, "expected a value")),
            None => return Err(self.error_here(path, "the document ends where a value should be")),
        };
        Ok(Arc::new(Node { span: Span { start, end: self.at }, data }))
    }

    fn object(&mut self, depth: usize, path: &str) -> Result<Data, Fatal> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        self.at += 1;
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Data::Map(entries));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error_here(path, "expected a key in double quotes"));
            }
            let start = self.at;
            let key = self.string(path)?;
            let key_span = Span { start, end: self.at };
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.error_here(path, "expected ':' after a key"));
            }
            self.skip_space();
            let inner = join_key(path, &key);
            let value = self.value(depth + 1, &inner)?;
            if let Some(first) = seen.get(&key) {
                let diagnostic = duplicate(self.source, &key, key_span, *first, inner);
                self.sink.push(diagnostic);
            } else {
                seen.insert(key.clone(), key_span);
                entries.push(Entry { key, key_span, value });
            }
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Data::Map(entries));
            }
            if !self.eat(b',') {
                return Err(self.error_here(path, "expected ',' or '}'"));
            }
        }
    }

    fn list(&mut self, depth: usize, path: &str) -> Result<Data, Fatal> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.eat(b']') {
            return Ok(Data::List(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1, &format!("{path}[{}]", items.len()))?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Data::List(items));
            }
            if !self.eat(b',') {
                return Err(self.error_here(path, "expected ',' or ']'"));
            }
        }
    }

    fn string(&mut self, path: &str) -> Result<String, Fatal> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => {
                    let span = Span { start, end: start + 1 };
                    return Err(self.source.fatal(
                        code::SYNTAX,
                        span,
                        path.to_owned(),
                        "this text is not closed by '\"'",
                    ));
                }
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let span = Span { start, end: self.at };
        serde_json::from_str(self.source.slice(span)).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" at line").next().unwrap_or_default();
            self.source.fatal(code::SYNTAX, span, path.to_owned(), format!("broken text: {reason}"))
        })
    }

    fn number(&mut self, path: &str) -> Result<Data, Fatal> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let span = Span { start, end: self.at };
        let number = scalar::json_number(self.source.slice(span));
        number.map(Data::Number).map_err(|message| self.source.fatal(code::SYNTAX, span, path.to_owned(), message))
    }

    fn word(&mut self, path: &str) -> Result<Data, Fatal> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        let span = Span { start, end: self.at };
        match self.source.slice(span) {
            "null" => Ok(Data::Null),
            "true" => Ok(Data::Bool(true)),
            "false" => Ok(Data::Bool(false)),
            other => {
                let message = format!("{} is no JSON value: text stands in double quotes", quoted(other));
                Err(self.source.fatal(code::SYNTAX, span, path.to_owned(), message))
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn here(&self) -> Span {
        let start = self.at.min(self.bytes.len());
        let length = self.source.text().get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        Span { start, end: start + length }
    }

    fn error_here(&self, path: &str, message: &str) -> Fatal {
        self.source.fatal(code::SYNTAX, self.here(), path.to_owned(), message)
    }

    fn limit_here(&self, path: &str, message: String) -> Fatal {
        self.source.fatal(code::LIMIT_EXCEEDED, self.here(), path.to_owned(), message)
    }
}

/// The finding for a key that stands there again.
pub(super) fn duplicate(source: &Source, key: &str, span: Span, first: Span, path: String) -> Diagnostic {
    let (line, _) = source.position(first.start);
    let message = format!("the key {} stands here twice: first on line {line}", quoted(key));
    source.error(code::DUPLICATE_KEY, span, path, message)
}
