//! Secrets do not leave by any text that the host writes: their exact values are replaced by `[secret:NAME]`.
//!
//! A value is found as it is and as the usual writers escape it: in JSON, in a URL, in HTML. Where values overlap, everything that belongs to
//! any of them goes. Deliberately absent: encodings that a guest chooses itself. Who may read a secret can disguise it; who must not know it
//! gets it filled in by the host and never sees it.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use caisson_core::error::Failure;
use caisson_core::json::Json;
use caisson_core::ports::Secret;

/// What an entry may know, and how it is hidden. A snapshot of the entry's beginning: what is handed out is always what is redacted.
pub(crate) struct Redactor {
    secrets: Vec<(Arc<str>, Secret)>,
    finder: Option<Finder>,
}

struct Finder {
    automaton: AhoCorasick,
    /// Of each pattern, which secret it belongs to.
    of: Vec<usize>,
}

/// Bytes that belong to a secret.
struct Span {
    start: usize,
    end: usize,
    secret: usize,
}

impl Redactor {
    /// Hides nothing.
    pub(crate) fn none() -> Self {
        Self { secrets: Vec::new(), finder: None }
    }

    /// Hides these, by name.
    pub(crate) fn new(secrets: Vec<(String, Secret)>) -> Self {
        let secrets: Vec<(Arc<str>, Secret)> =
            secrets.into_iter().map(|(name, secret)| (Arc::from(name), secret)).collect();
        let mut patterns: Vec<(String, usize)> = Vec::new();
        for (at, (_, secret)) in secrets.iter().enumerate() {
            if secret.expose().len() >= Secret::BYTES_MIN {
                patterns.extend(spellings(secret.expose()).into_iter().map(|spelling| (spelling, at)));
            }
        }
        let finder = if patterns.is_empty() { None } else { Finder::new(patterns) };
        Self { secrets, finder }
    }

    /// A secret's value as it was when the entry began.
    pub(crate) fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|(known, _)| **known == *name).map(|(_, secret)| secret)
    }

    /// A text without secrets.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(finder) = &self.finder else { return Cow::Borrowed(text) };
        let spans = finder.spans(text.as_bytes());
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut clean = String::with_capacity(text.len());
        let mut at = 0;
        for span in &spans {
            // Patterns are UTF-8 and so is the text: a span begins and ends between characters.
            clean.push_str(&text[at..span.start]);
            clean.push_str(&self.mark(span));
            at = span.end;
        }
        clean.push_str(&text[at..]);
        Cow::Owned(clean)
    }

    /// Bytes without secrets.
    pub(crate) fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(finder) = &self.finder else { return Cow::Borrowed(bytes) };
        let spans = finder.spans(bytes);
        if spans.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut clean = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for span in &spans {
            clean.extend_from_slice(&bytes[at..span.start]);
            clean.extend_from_slice(self.mark(span).as_bytes());
            at = span.end;
        }
        clean.extend_from_slice(&bytes[at..]);
        Cow::Owned(clean)
    }

    /// A value without secrets, in keys and texts however they are escaped, and in numbers. Stays JSON.
    pub(crate) fn json(&self, json: Json) -> Json {
        let Some(finder) = &self.finder else { return json };
        let text = json.get();
        if !text.contains('\\') && !finder.automaton.is_match(text) {
            return json;
        }
        match self.json_text(finder, text).map(Json::parse) {
            None => json,
            Some(Ok(clean)) => clean,
            // Not to be expected; a text is always JSON.
            Some(Err(_)) => Json::of(&*self.text(text)),
        }
    }

    /// `None` if there is nothing to hide.
    fn json_text(&self, finder: &Finder, text: &str) -> Option<String> {
        let tokens = tokens(text);
        // A value that reaches over several tokens cannot be cut out of the text and leave JSON.
        let within = |span: &Span| {
            let next = tokens.partition_point(|token| token.end < span.end);
            tokens.get(next).is_some_and(|token| token.start <= span.start)
        };
        if !finder.spans(text.as_bytes()).iter().all(within) {
            return Some(quoted(&self.text(text)));
        }
        let mut clean = String::with_capacity(text.len());
        let mut at = 0;
        let mut changed = false;
        for token in tokens {
            let replaced = match &text[token.clone()] {
                string if string.starts_with('"') => self.json_string(finder, string),
                number if finder.automaton.is_match(number) => Some(quoted(&self.text(number))),
                _ => None,
            };
            if let Some(replaced) = replaced {
                clean.push_str(&text[at..token.start]);
                clean.push_str(&replaced);
                at = token.end;
                changed = true;
            }
        }
        clean.push_str(&text[at..]);
        changed.then_some(clean)
    }

    /// A text's token, quotes and all; `None` if it hides nothing.
    fn json_string(&self, finder: &Finder, token: &str) -> Option<String> {
        let raw = finder.automaton.is_match(token);
        if !token.contains('\\') {
            return raw.then(|| quoted(&self.text(&token[1..token.len() - 1])));
        }
        let Ok(said) = serde_json::from_str::<String>(token) else {
            // Half of a surrogate pair: no text, and nobody can tell what it hides.
            return Some(quoted("\u{fffd}"));
        };
        match self.text(&said) {
            Cow::Owned(clean) => Some(quoted(&clean)),
            Cow::Borrowed(_) => raw.then(|| quoted(&self.text(token))),
        }
    }

    /// A failure without secrets.
    pub(crate) fn failure(&self, mut failure: Failure) -> Failure {
        if self.finder.is_none() {
            return failure;
        }
        failure.code = self.text(&failure.code).into_owned();
        failure.message = self.text(&failure.message).into_owned();
        failure.details = failure.details.map(|details| self.json(details));
        failure
    }

    /// The name of a secret that is in there.
    pub(crate) fn holds(&self, bytes: &[u8]) -> Option<&str> {
        let finder = self.finder.as_ref()?;
        let found = finder.automaton.find(bytes)?;
        Some(&*self.secrets[finder.of[found.pattern().as_usize()]].0)
    }

    fn mark(&self, span: &Span) -> String {
        format!("[secret:{}]", self.secrets[span.secret].0)
    }
}

impl Finder {
    fn new(patterns: Vec<(String, usize)>) -> Option<Self> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            // A certificate is a pattern of kilobytes: this kind's size is in proportion.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns.iter().map(|(spelling, _)| spelling));
        match automaton {
            Ok(automaton) => Some(Self { automaton, of: patterns.into_iter().map(|(_, of)| of).collect() }),
            Err(error) => {
                // Some 2^31 states: gigabytes of secrets.
                tracing::error!(%error, "secrets are too large to be redacted");
                None
            }
        }
    }

    /// What belongs to any secret, in order, apart from each other.
    fn spans(&self, bytes: &[u8]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        // They come by their ends, so whatever a match touches is at the list's end.
        for found in self.automaton.find_overlapping_iter(bytes) {
            let mut span = Span { start: found.start(), end: found.end(), secret: self.of[found.pattern().as_usize()] };
            while let Some(last) = spans.pop_if(|last| last.end > span.start) {
                if last.end - last.start >= span.end - span.start {
                    span.secret = last.secret;
                }
                span.start = span.start.min(last.start);
            }
            spans.push(span);
        }
        spans
    }
}

/// A value as it may stand in a text, itself first, each once.
fn spellings(value: &str) -> Vec<String> {
    let json = quoted(value);
    let json = &json[1..json.len() - 1];
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let mut all = vec![value.to_owned()];
    for spelling in [
        json.to_owned(),
        json.replace('/', "\\/"),
        ascii(json),
        percent(value, |nibble| char::from(b"0123456789ABCDEF"[usize::from(nibble)])),
        percent(value, |nibble| char::from(b"0123456789abcdef"[usize::from(nibble)])),
        html.replace('\'', "&#39;"),
        html.replace('\'', "&#x27;"),
        html,
    ] {
        if !all.contains(&spelling) {
            all.push(spelling);
        }
    }
    all
}

/// JSON as cautious writers have it: nothing but ASCII.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// As in a URL's query: everything but RFC 3986's unreserved characters is escaped.
fn percent(value: &str, digit: impl Fn(u8) -> char) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

/// A JSON text's token.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where a valid JSON text has its strings, with their quotes, and its numbers, in order.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                while let Some(byte) = bytes.get(at) {
                    at += if *byte == b'\\' { 2 } else { 1 };
                    if *byte == b'"' {
                        break;
                    }
                }
                at = at.min(bytes.len());
                tokens.push(start..at);
            }
            b'-' | b'0'..=b'9' => {
                while bytes.get(at).is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
                    at += 1;
                }
                tokens.push(start..at);
            }
            _ => {}
        }
    }
    tokens
}

#[cfg(test)]
mod tests;
