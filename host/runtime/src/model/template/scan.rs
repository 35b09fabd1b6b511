//! What is refused before a body is parsed, because a parser that recurses would have to follow it down.

use super::Fault;

/// Blocks inside blocks: deeper is no prompt any more.
const DEPTH_MAX: usize = 16;

/// Looks at every tag as the grammar would find it: how deep blocks nest, and that nothing nests within a tag.
pub(super) fn scan(source: &str) -> Result<(), Fault> {
    // Name and place of every block that is open.
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut at = 0;
    while let Some(found) = source[at..].find("{{") {
        let start = at + found;
        if is_escaped(source, start) {
            at = start + if source[start..].starts_with("{{{{") { 4 } else { 2 };
            continue;
        }
        let fault = |message: &str| Err(fault(source, start, message));
        let inner = &source[start + 2..];
        if let Some(comment) = inner.strip_prefix('!') {
            let end = if comment.starts_with("--") { "--}}" } else { "}}" };
            let Some(length) = comment.find(end) else { return fault("a comment without its end") };
            at = start + 3 + length + end.len();
            continue;
        }
        if inner.starts_with("{{") {
            return fault("raw blocks ('{{{{') are not supported");
        }
        let Some(length) = tag(inner) else { return fault("'{{' without '}}'") };
        let text = &inner[..length];
        if let Some(nested) = unquoted(text).find(|c| matches!(c, '(' | '[')) {
            let what = if nested == '(' { "sub-expressions" } else { "lists and keys in brackets" };
            return fault(&format!("'{nested}' in a tag: {what} are not supported"));
        }
        let tag = text.trim_matches('~').trim();
        if let Some(block) = tag.strip_prefix('#') {
            open.push((block.split_whitespace().next().unwrap_or_default(), start));
        } else if let Some(name) = tag.strip_prefix('/').map(str::trim) {
            match open.pop() {
                Some((block, _)) if block == name => {}
                Some((block, _)) => return fault(&format!("'{{{{/{name}}}}}' where '{{{{/{block}}}}}' has to be")),
                None => return fault(&format!("'{{{{/{name}}}}}' closes no block")),
            }
        }
        if open.len() > DEPTH_MAX {
            return fault(&format!("blocks nest more than {DEPTH_MAX} deep"));
        }
        at = start + 2 + length + 2;
    }
    match open.pop() {
        Some((block, start)) => Err(fault(source, start, &format!("block '{block}' without '{{{{/{block}}}}}'"))),
        None => Ok(()),
    }
}

/// One backslash before the braces makes them text; two are a backslash, or more, before a tag.
fn is_escaped(source: &str, start: usize) -> bool {
    let before = source[..start].bytes().rev().take_while(|byte| *byte == b'\\').count();
    before == 1
}

/// The length of a tag's text: up to the braces that close it, not counting those in its quotes.
fn tag(inner: &str) -> Option<usize> {
    let mut quotes = Quotes::default();
    inner.char_indices().find(|(at, c)| quotes.passes(*c) && inner[*at..].starts_with("}}")).map(|(at, _)| at)
}

/// A tag's characters outside of its quotes.
fn unquoted(text: &str) -> impl Iterator<Item = char> {
    let mut quotes = Quotes::default();
    text.chars().filter(move |c| quotes.passes(*c))
}

/// Texts in a tag, character by character.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
    escaped: bool,
}

impl Quotes {
    /// Takes the next character; whether it stands outside.
    fn passes(&mut self, c: char) -> bool {
        match self.open {
            Some(_) if self.escaped => self.escaped = false,
            Some(_) if c == '\\' => self.escaped = true,
            Some(open) if c == open => self.open = None,
            None if matches!(c, '"' | '\'') => self.open = Some(c),
            Some(_) => {}
            None => return true,
        }
        false
    }
}

fn fault(source: &str, at: usize, message: &str) -> Fault {
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Fault { line, column, message: message.to_owned() }
}
