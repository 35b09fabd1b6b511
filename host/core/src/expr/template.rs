//! A JSON value with `{{ … }}` in its texts.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Path;

/// A value of a definition, with its templates found.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// No template anywhere in it.
    Constant(Value),
    /// The whole text is one template: it takes the value's own type.
    Whole(Piece),
    /// A text with templates in it.
    Text(Vec<Part>),
    /// An object with templates somewhere in it.
    Object(Vec<(String, Template)>),
    /// A list with templates somewhere in it.
    List(Vec<Template>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// As it is.
    Literal(String),
    /// To be filled in.
    Fill(Piece),
}

/// What stands between the braces.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A path; never reaches the evaluator.
    Path(Path),
    /// Anything else: a Starlark expression.
    Expression(Arc<str>),
}

/// `{{secret:NAME}}` is no template: it goes on as it is, and the plugin host fills it in on the way out, where that is granted. So no secret is
/// ever in a run's data.
const SECRET: &str = "secret:";

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An opening without its end.
    #[error("'{{{{' is not closed by '}}}}' in \"{0}\"")]
    Unclosed(String),
    /// Nothing between the braces.
    #[error("'{{{{ }}}}' is empty in \"{0}\"")]
    Empty(String),
}

impl Template {
    /// Finds the templates in a value, at any depth.
    pub fn parse(value: &Value) -> Result<Self, TemplateError> {
        match value {
            Value::String(text) => parse_text(text),
            Value::Object(map) => {
                let fields: Vec<_> =
                    map.iter().map(|(k, v)| Ok((k.clone(), Self::parse(v)?))).collect::<Result<_, _>>()?;
                let constant = fields.iter().all(|(_, v)| v.is_constant());
                Ok(if constant { Self::Constant(value.clone()) } else { Self::Object(fields) })
            }
            Value::Array(list) => {
                let items: Vec<_> = list.iter().map(Self::parse).collect::<Result<_, _>>()?;
                let constant = items.iter().all(Self::is_constant);
                Ok(if constant { Self::Constant(value.clone()) } else { Self::List(items) })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Self::Constant(value.clone())),
        }
    }

    /// Whether nothing is to be filled in.
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// Everything that is to be filled in, in order.
    pub fn pieces(&self) -> Vec<&Piece> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Piece>) {
        match self {
            Self::Constant(_) => {}
            Self::Whole(piece) => found.push(piece),
            Self::Text(parts) => found.extend(parts.iter().filter_map(|part| match part {
                Part::Fill(piece) => Some(piece),
                Part::Literal(_) => None,
            })),
            Self::Object(fields) => fields.iter().for_each(|(_, value)| value.collect(found)),
            Self::List(items) => items.iter().for_each(|item| item.collect(found)),
        }
    }

    /// Fills in. `resolve` gives the value of a piece; its first error ends the rendering.
    pub fn render<E>(&self, resolve: &mut impl FnMut(&Piece) -> Result<Value, E>) -> Result<Value, E> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Whole(piece) => resolve(piece),
            Self::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Literal(literal) => text.push_str(literal),
                        Part::Fill(piece) => push_value(&mut text, &resolve(piece)?),
                    }
                }
                Ok(Value::String(text))
            }
            Self::Object(fields) => {
                let mut map = Map::with_capacity(fields.len());
                for (key, value) in fields {
                    map.insert(key.clone(), value.render(resolve)?);
                }
                Ok(Value::Object(map))
            }
            Self::List(items) => {
                items.iter().map(|item| item.render(resolve)).collect::<Result<_, _>>().map(Value::Array)
            }
        }
    }
}

/// In a text, a string stands without quotes and everything else as JSON.
fn push_value(text: &mut String, value: &Value) {
    match value {
        Value::String(inner) => text.push_str(inner),
        other => text.push_str(&other.to_string()),
    }
}

fn parse_text(text: &str) -> Result<Template, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let inner = &rest[start + 2..];
        let end = closing(inner).ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
        let source = inner[..end].trim();
        if source.is_empty() {
            return Err(TemplateError::Empty(text.to_owned()));
        }
        if start > 0 {
            parts.push(Part::Literal(rest[..start].to_owned()));
        }
        parts.push(match (source.strip_prefix(SECRET), Path::parse(source)) {
            (Some(name), _) => Part::Literal(format!("{{{{{SECRET}{}}}}}", name.trim())),
            (None, Ok(path)) => Part::Fill(Piece::Path(path)),
            (None, Err(_)) => Part::Fill(Piece::Expression(source.into())),
        });
        rest = &inner[end + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    let fills = parts.iter().any(|part| matches!(part, Part::Fill(_)));
    match <[Part; 1]>::try_from(parts) {
        Ok([Part::Fill(piece)]) => Ok(Template::Whole(piece)),
        Ok([Part::Literal(text)]) => Ok(Template::Constant(Value::String(text))),
        Err(parts) if fills => Ok(Template::Text(parts)),
        Err(parts) => Ok(Template::Constant(Value::String(parts.into_iter().map(literal).collect()))),
    }
}

fn literal(part: Part) -> String {
    match part {
        Part::Literal(text) => text,
        Part::Fill(_) => String::new(),
    }
}

/// Where the closing braces stand: outside quotes and outside the braces of a dict.
fn closing(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let (mut depth, mut quote, mut at) = (0usize, None, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        match quote {
            Some(_) if byte == b'\\' => at += 1,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None => match byte {
                b'"' | b'\'' => quote = Some(byte),
                b'{' => depth += 1,
                b'}' if depth > 0 => depth -= 1,
                b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
                _ => {}
            },
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &Value) -> Value {
        let data = json!({"n": 5, "s": "x", "o": {"k": [1, 2]}, "it's": 1});
        Template::parse(template)
            .expect("parses")
            .render(&mut |piece| match piece {
                Piece::Path(path) => {
                    super::super::path::descend(&data, path.segments()).cloned().ok_or("nothing there")
                }
                Piece::Expression(source) => Ok(json!(format!("<{source}>"))),
            })
            .unwrap_or_else(|e| json!({ "error": e }))
    }

    #[test]
    fn a_whole_template_keeps_the_type_and_a_part_becomes_text() {
        for (template, expected) in [
            (json!("{{ n }}"), json!(5)),
            (json!("{{ctx.o}}"), json!({"k": [1, 2]})),
            (json!("n={{ n }}, o={{ o }}, s={{ s }}."), json!("n=5, o={\"k\":[1,2]}, s=x.")),
            (json!({"a": ["{{ s }}", 1], "b": true}), json!({"a": ["x", 1], "b": true})),
            (json!("{{ n + 1 }}"), json!("<n + 1>")),
            (json!("{{ {'a': '}}'} }}"), json!("<{'a': '}}'}>")),
            (json!("no braces } {"), json!("no braces } {")),
            (json!("Bearer {{secret:TOKEN}}"), json!("Bearer {{secret:TOKEN}}")),
            (json!("{{ secret:TOKEN }}"), json!("{{secret:TOKEN}}")),
            (json!("{{secret:A}}{{secret:B}} {{ s }}"), json!("{{secret:A}}{{secret:B}} x")),
            (json!("{{secret:A}} {{secret:B}}"), json!("{{secret:A}} {{secret:B}}")),
            (json!(""), json!("")),
            (json!("{{ nope }}"), json!({"error": "nothing there"})),
        ] {
            assert_eq!(render(&template), expected, "{template}");
        }
        for broken in ["{{ n", "{{ }}", "a {{ 'x }}"] {
            assert!(Template::parse(&json!(broken)).is_err(), "{broken}");
        }
    }
}
