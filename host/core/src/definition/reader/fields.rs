//! One object of a document, field by field.

use serde_json::Value;

use super::super::diagnostic::{code, did_you_mean, quoted};
use super::super::document::{Data, Entry, Node, Span, join_key};
use super::{At, Reader};
use crate::expr::{Path, Template, TemplateError};
use crate::time::seconds_to_ms;

/// The fields of an object; remembers which were asked for.
pub(super) struct Fields<'a> {
    /// What it is, for messages: `state 'check'`; empty for the workflow itself.
    pub of: String,
    pub path: String,
    /// Where findings about the whole stand.
    pub span: Span,
    entries: &'a [Entry],
    used: Vec<bool>,
}

/// A field that is there.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub key: &'a str,
    pub key_span: Span,
    pub node: &'a Node,
}

impl<'a> Fields<'a> {
    /// The field, if it is there. Asking makes it known.
    pub fn get(&mut self, key: &str) -> Option<Field<'a>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        self.used[index] = true;
        let Entry { key, key_span, value } = &self.entries[index];
        Some(Field { key, key_span: *key_span, node: value })
    }

    /// Whether the field is there. Asking does not make it known.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The text of a field without making it known.
    pub fn peek_text(&self, key: &str) -> Option<&'a str> {
        self.entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.text())
    }

    /// The place of a field's value.
    pub fn at(&self, field: Field<'a>) -> At {
        let empty = field.node.span.start == field.node.span.end;
        let long = matches!(field.node.data, Data::Map(_) | Data::List(_)) || empty;
        let span = if long { field.key_span } else { field.node.span };
        At { span, path: join_key(&self.path, field.key) }
    }

    /// The place of the whole.
    pub fn here(&self) -> At {
        At { span: self.span, path: self.path.clone() }
    }

    /// `state 'x': message`
    pub fn says(&self, message: impl AsRef<str>) -> String {
        let message = message.as_ref();
        if self.of.is_empty() { message.to_owned() } else { format!("{}: {message}", self.of) }
    }
}

impl<'a> Reader<'a> {
    /// The fields of an object.
    pub(super) fn fields(&mut self, node: &'a Node, of: String, path: String) -> Option<Fields<'a>> {
        if let Data::Map(entries) = &node.data {
            let span = entries.first().map_or(node.span, |entry| entry.key_span);
            return Some(Fields { of, path, span, used: vec![false; entries.len()], entries });
        }
        let subject = if of.is_empty() { "a workflow".to_owned() } else { of };
        let message = format!("{subject} should be an object with fields, this is {}", node.what());
        self.error(code::WRONG_TYPE, At { span: node.span, path }, message, None);
        None
    }

    /// Reports every field that is none of `valid`. `hint` knows better than spelling what was meant.
    pub(super) fn finish(&mut self, fields: &Fields<'a>, valid: &[&str], hint: impl Fn(&str) -> Option<String>) {
        for (entry, _) in fields.entries.iter().zip(&fields.used).filter(|(_, used)| !**used) {
            if valid.contains(&entry.key.as_str()) {
                continue;
            }
            let at = At { span: entry.key_span, path: join_key(&fields.path, &entry.key) };
            let suggestion = if self.sink.is_full() {
                None
            } else {
                hint(&entry.key)
                    .or_else(|| did_you_mean(&entry.key, valid.iter().copied()))
                    .or_else(|| Some(format!("known here: {}", valid.join(", "))))
            };
            self.error(
                code::UNKNOWN_FIELD,
                at,
                fields.says(format!("unknown field {}", quoted(&entry.key))),
                suggestion,
            );
        }
    }

    pub(super) fn missing(&mut self, fields: &Fields<'a>, key: &str, suggestion: Option<String>) {
        self.error(code::MISSING_FIELD, fields.here(), fields.says(format!("'{key}' is missing")), suggestion);
    }

    pub(super) fn wrong_type(
        &mut self,
        fields: &Fields<'a>,
        field: Field<'a>,
        wanted: &str,
        suggestion: Option<String>,
    ) {
        let message = match field.node.data {
            Data::Null => format!("'{}' has no value: it should be {wanted}", field.key),
            _ => format!("'{}' should be {wanted}, this is {}", field.key, field.node.what()),
        };
        self.error(code::WRONG_TYPE, fields.at(field), fields.says(message), suggestion);
    }

    pub(super) fn invalid(
        &mut self,
        fields: &Fields<'a>,
        field: Field<'a>,
        message: String,
        suggestion: Option<String>,
    ) {
        self.error(code::INVALID_VALUE, fields.at(field), fields.says(message), suggestion);
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<&'a str> {
        let field = fields.get(key)?;
        self.text_of(fields, field)
    }

    pub(super) fn text_of(&mut self, fields: &Fields<'a>, field: Field<'a>) -> Option<&'a str> {
        match &field.node.data {
            Data::Text(text) if !text.trim().is_empty() => Some(text),
            Data::Text(_) => {
                self.invalid(fields, field, format!("'{}' is empty", field.key), None);
                None
            }
            Data::Number(_) | Data::Bool(_) => {
                self.wrong_type(fields, field, "text", Some("write it in quotes".to_owned()));
                None
            }
            Data::Null | Data::List(_) | Data::Map(_) => {
                self.wrong_type(fields, field, "text", None);
                None
            }
        }
    }

    /// The same, and it must be there.
    pub(super) fn required_text(&mut self, fields: &mut Fields<'a>, key: &str, hint: &str) -> Option<&'a str> {
        if !fields.has(key) {
            self.missing(fields, key, Some(hint.to_owned()));
        }
        self.text(fields, key)
    }

    pub(super) fn boolean(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<bool> {
        let field = fields.get(key)?;
        match &field.node.data {
            Data::Bool(value) => Some(*value),
            other => {
                let meant = match other {
                    Data::Text(text) => match text.to_lowercase().as_str() {
                        "yes" | "on" | "true" | "y" => Some("write true"),
                        "no" | "off" | "false" | "n" => Some("write false"),
                        _ => None,
                    },
                    _ => None,
                };
                self.wrong_type(fields, field, "true or false", meant.map(str::to_owned));
                None
            }
        }
    }

    pub(super) fn number(&mut self, fields: &mut Fields<'a>, key: &str, wanted: &str) -> Option<(f64, Field<'a>)> {
        let field = fields.get(key)?;
        if let Data::Number(number) = &field.node.data {
            return number.as_f64().map(|number| (number, field));
        }
        let numeric = field.node.text().is_some_and(|text| text.trim().parse::<f64>().is_ok());
        self.wrong_type(fields, field, wanted, numeric.then(|| "leave out the quotes".to_owned()));
        None
    }

    /// A number of seconds above 0, in milliseconds.
    pub(super) fn duration(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<u64> {
        let (seconds, field) = self.number(fields, key, "a number of seconds")?;
        let ms = seconds_to_ms(seconds).filter(|_| seconds > 0.0).map(|ms| ms.max(1));
        if ms.is_none() {
            self.invalid(
                fields,
                field,
                format!("'{key}' should be a number of seconds above 0 and under 100 years"),
                None,
            );
        }
        ms
    }

    pub(super) fn integer(&mut self, fields: &mut Fields<'a>, key: &str, least: u32, most: u32) -> Option<u32> {
        let (number, field) = self.number(fields, key, "a whole number")?;
        let fits = number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(&number);
        if !fits {
            self.invalid(fields, field, format!("'{key}' should be a whole number from {least} to {most}"), None);
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        Some(number as u32)
    }

    /// One text or a list of texts.
    pub(super) fn texts(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<Vec<(&'a str, At)>> {
        let field = fields.get(key)?;
        let Data::List(items) = &field.node.data else {
            let text = self.text_of(fields, field)?;
            return Some(vec![(text, fields.at(field))]);
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = At { span: item.span, path: format!("{}[{index}]", join_key(&fields.path, key)) };
            match &item.data {
                Data::Text(text) if !text.trim().is_empty() => texts.push((text.as_str(), at)),
                _ => {
                    let message = format!("'{key}' should be a list of texts, here is {}", item.what());
                    self.error(code::WRONG_TYPE, at, fields.says(message), None);
                }
            }
        }
        Some(texts)
    }

    /// A path into data.
    pub(super) fn path(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<Path> {
        let field = fields.get(key)?;
        let text = self.text_of(fields, field)?;
        let error = match Path::parse(text) {
            Ok(path) => return Some(path),
            Err(error) => error,
        };
        let inner = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
        let suggestion =
            inner.filter(|inner| Path::parse(inner).is_ok()).map(|inner| format!("a path has no braces: {inner}"));
        self.error(code::INVALID_PATH, fields.at(field), fields.says(format!("'{key}': {error}")), suggestion);
        None
    }

    /// Starlark. Whether it is well formed, its evaluator knows.
    pub(super) fn expression(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<&'a str> {
        let field = fields.get(key)?;
        if let Data::Bool(value) = field.node.data {
            return Some(if value { "True" } else { "False" });
        }
        let text = self.text_of(fields, field)?;
        let inner = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        if let Some(inner) = inner.filter(|inner| !inner.contains("{{")) {
            let suggestion = format!("an expression has no braces: {}", inner.trim());
            let message = fields.says(format!("'{key}' is an expression, this is a template"));
            self.error(code::INVALID_EXPRESSION, fields.at(field), message, Some(suggestion));
            return None;
        }
        Some(text)
    }

    /// Any value with templates in it.
    pub(super) fn template(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<Template> {
        let field = fields.get(key)?;
        self.template_of(fields, field, &field.node.to_value())
    }

    /// Text with templates in it.
    pub(super) fn text_template(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<Template> {
        let field = fields.get(key)?;
        let text = self.text_of(fields, field)?;
        self.template_of(fields, field, &Value::String(text.to_owned()))
    }

    /// `value` is what was made of the field.
    pub(super) fn template_of(&mut self, fields: &Fields<'a>, field: Field<'a>, value: &Value) -> Option<Template> {
        if !self.templates_are_sound(fields, field.node, &fields.at(field)) {
            return None;
        }
        // Sound in every text, so sound as a whole.
        let template = Template::parse(value);
        if let Err(error) = &template {
            self.error(code::INVALID_TEMPLATE, fields.at(field), fields.says(error.to_string()), None);
        }
        template.ok()
    }

    fn templates_are_sound(&mut self, fields: &Fields<'a>, node: &'a Node, at: &At) -> bool {
        match &node.data {
            Data::Text(text) if text.contains("{{") => {
                let Err(error) = Template::parse(&Value::String(text.clone())) else { return true };
                let at = At { span: self.braces(node.span), path: at.path.clone() };
                let reason = match error {
                    TemplateError::Unclosed(_) => "'{{' is not closed by '}}'",
                    TemplateError::Empty(_) => "'{{ }}' is empty",
                };
                self.error(code::INVALID_TEMPLATE, at, fields.says(format!("{reason} in {}", quoted(text))), None);
                false
            }
            Data::List(items) => items.iter().enumerate().fold(true, |sound, (index, item)| {
                let at = At { span: item.span, path: format!("{}[{index}]", at.path) };
                self.templates_are_sound(fields, item, &at) && sound
            }),
            Data::Map(entries) => entries.iter().fold(true, |sound, entry| {
                let at = At { span: entry.value.span, path: join_key(&at.path, &entry.key) };
                self.templates_are_sound(fields, &entry.value, &at) && sound
            }),
            Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) => true,
        }
    }

    /// The line of a text in which its first braces stand.
    fn braces(&self, span: Span) -> Span {
        let text = self.source.slice(span);
        let Some(at) = text.find("{{") else { return span };
        let length = text[at..].find('\n').unwrap_or(text.len() - at);
        Span { start: span.start + at, end: span.start + at + length }
    }
}
