//! `steps.pods[0].name`, `labels["app.kubernetes.io/name"]`: dots, brackets, nothing else.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest path in segments: deeper data is no longer something a person refers to by hand.
const SEGMENTS_MAX: usize = 32;

/// Where something is in the data of a scope. A leading `ctx.` means the root and is not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path(Vec<Segment>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A key of an object.
    Key(Arc<str>),
    /// An index of a list; negative counts from its end.
    Index(i64),
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a path: {reason}")]
pub struct PathError {
    text: String,
    reason: &'static str,
}

impl Path {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path of keys.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| Segment::Key(key.into())).collect())
    }

    /// A path of these parts.
    pub fn of(segments: &[Segment]) -> Self {
        Self(segments.to_vec())
    }

    /// Reads a path. `ctx` alone, and the empty text, are the root.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let fail = |reason| PathError { text: text.to_owned(), reason };
        let mut segments = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Ok(Self::root());
        }
        let mut first = true;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (segment, after) = bracket(inner).map_err(fail)?;
                segments.push(segment);
                rest = after;
            } else {
                if let Some(after) = rest.strip_prefix('.') {
                    if first {
                        return Err(fail("it starts with a dot"));
                    }
                    rest = after;
                } else if !first {
                    return Err(fail("expected '.' or '[' after ']'"));
                }
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let key = &rest[..end];
                check_key(key).map_err(fail)?;
                segments.push(match key.parse::<u32>() {
                    Ok(index) if !first => Segment::Index(i64::from(index)),
                    _ => Segment::Key(key.into()),
                });
                rest = &rest[end..];
            }
            first = false;
            if segments.len() > SEGMENTS_MAX {
                return Err(fail("it has more than 32 parts"));
            }
        }
        if segments.first() == Some(&Segment::Key("ctx".into())) {
            segments.remove(0);
        }
        Ok(Self(segments))
    }

    /// Its parts.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// What follows `prefix`; `None` if it does not start with it.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<&[Segment]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }
}

/// A bare key: letters, digits, `_`, `-`, `$`, `@` and anything beyond ASCII.
fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("a part between two dots is empty");
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@') || !c.is_ascii();
    if key.chars().all(plain) {
        Ok(())
    } else {
        Err("a key with other characters than letters, digits, '_' and '-' goes in brackets: [\"…\"]")
    }
}

fn bracket(inner: &str) -> Result<(Segment, &str), &'static str> {
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let body = &inner[1..];
        let mut key = String::new();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                key.push(chars.next().ok_or("a quote is not closed")?.1);
            } else if c == quote {
                let after = body[at + 1..].strip_prefix(']').ok_or("expected ']' after the quoted key")?;
                return Ok((Segment::Key(key.into()), after));
            } else {
                key.push(c);
            }
        }
        return Err("a quote is not closed");
    }
    let end = inner.find(']').ok_or("a '[' is not closed")?;
    let index = inner[..end].trim().parse().map_err(|_| "what stands in brackets is an index or a quoted key")?;
    Ok((Segment::Index(index), &inner[end + 1..]))
}

/// Follows segments through a value. `None` as soon as one leads nowhere. A number after a dot also finds a key of an object.
pub(crate) fn descend<'a>(mut value: &'a Value, segments: &[Segment]) -> Option<&'a Value> {
    for segment in segments {
        value = match (segment, value) {
            (Segment::Key(key), Value::Object(map)) => map.get(&**key)?,
            (Segment::Index(index), Value::Object(map)) => map.get(&index.to_string())?,
            (Segment::Index(index), Value::Array(list)) => list.get(position(*index, list.len())?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// The place in a list of that length; negative counts from the end.
pub(crate) fn position(index: i64, len: usize) -> Option<usize> {
    if index < 0 { len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?) } else { usize::try_from(index).ok() }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if check_key(key).is_ok() && !(at == 0 && &**key == "ctx") => {
                    let dot = if at == 0 { "" } else { "." };
                    write!(f, "{dot}{key}")?;
                }
                Segment::Key(key) => {
                    write!(f, "[\"{}\"]", key.replace('\\', "\\\\").replace('"', "\\\""))?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_print() {
        for (text, printed) in [
            ("steps.pods", "steps.pods"),
            ("ctx.config.thresholds", "config.thresholds"),
            ("ctx", ""),
            ("", ""),
            ("a[0].b[-1]", "a[0].b[-1]"),
            ("a.0.b", "a[0].b"),
            ("labels[\"app.kubernetes.io/name\"]", "labels[\"app.kubernetes.io/name\"]"),
            ("x['it\\'s']", "x[\"it's\"]"),
            (" spaced ", "spaced"),
            ("größe", "größe"),
        ] {
            assert_eq!(Path::parse(text).expect(text).to_string(), printed, "{text}");
        }
        for text in [".a", "a..b", "a.", "a b", "a[", "a[x]", "a[\"x]", "a[0]b", "a+b", "f(x)"] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn descending_follows_keys_and_indices() {
        let value = serde_json::json!({"a": [{"b": 1}, {"b": 2}], "n": {"7": "x"}});
        for (text, found) in
            [("a[0].b", Some("1")), ("a[-1].b", Some("2")), ("a[2]", None), ("a.b", None), ("n.7", Some("\"x\""))]
        {
            let path = Path::parse(text).expect(text);
            assert_eq!(descend(&value, path.segments()).map(ToString::to_string).as_deref(), found, "{text}");
        }
    }
}
