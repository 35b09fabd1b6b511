//! JSON into Starlark and back: integers stay exact, keys keep their order.

use std::fmt::{self, Display, Write};

use caisson_sdk::RawJson;
use num_bigint::BigInt;
use serde_json::value::RawValue;
use serde_json::{Number, Value as Json};
use starlark::collections::SmallMap;
use starlark::values::dict::DictRef;
use starlark::values::float::StarlarkFloat;
use starlark::values::list::{AllocList, ListRef};
use starlark::values::none::NoneType;
use starlark::values::tuple::TupleRef;
use starlark::values::{FrozenHeap, FrozenValue, Value, ValueLike};

use crate::record::Record;

/// As deep as the host reads JSON; a value that holds itself ends here too.
const DEPTH_MAX: usize = 120;

/// A JSON value as a frozen Starlark value.
pub fn read<'v>(heap: &FrozenHeap, value: &Json) -> Value<'v> {
    freeze(heap, value).to_value()
}

fn freeze(heap: &FrozenHeap, value: &Json) -> FrozenValue {
    match value {
        Json::Null => heap.alloc(NoneType),
        Json::Bool(value) => heap.alloc(*value),
        Json::Number(number) => freeze_number(heap, number),
        Json::String(text) => heap.alloc(text.as_str()),
        Json::Array(items) => {
            let items: Vec<FrozenValue> = items.iter().map(|item| freeze(heap, item)).collect();
            heap.alloc(AllocList(items))
        }
        Json::Object(map) => {
            let mut entries = SmallMap::with_capacity(map.len());
            for (key, value) in map {
                entries.insert(key.clone(), freeze(heap, value));
            }
            heap.alloc(Record::new(entries))
        }
    }
}

/// A number without point and exponent is an integer of any size.
fn freeze_number(heap: &FrozenHeap, number: &Number) -> FrozenValue {
    if let Some(integer) = number.as_i64() {
        return heap.alloc(integer);
    }
    match number.to_string().parse::<BigInt>() {
        Ok(integer) => heap.alloc(integer),
        Err(_) => heap.alloc(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// Why a value is no JSON.
#[derive(Debug)]
pub enum NotJson {
    /// A function or the like.
    Type(String),
    /// NaN or an infinity.
    NotFinite,
    /// A key that is no text.
    Key(String),
    /// Too deep, or it holds itself.
    Depth,
}

impl Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(name) => write!(f, "a value of type {name} is not JSON"),
            Self::NotFinite => f.write_str("NaN and infinities are not JSON"),
            Self::Key(name) => write!(f, "a dict with a key of type {name} is not JSON: keys are strings"),
            Self::Depth => write!(f, "the value is nested more than {DEPTH_MAX} deep, or holds itself"),
        }
    }
}

/// A Starlark value as JSON text.
pub fn write(value: Value<'_>) -> Result<RawJson, NotJson> {
    let mut text = String::new();
    write_value(&mut text, value, 0)?;
    RawValue::from_string(text).map_err(|e| NotJson::Type(e.to_string()))
}

fn write_value(text: &mut String, value: Value<'_>, depth: usize) -> Result<(), NotJson> {
    if depth > DEPTH_MAX {
        return Err(NotJson::Depth);
    }
    if value.is_none() {
        text.push_str("null");
    } else if let Some(boolean) = value.unpack_bool() {
        text.push_str(if boolean { "true" } else { "false" });
    } else if let Some(string) = value.unpack_str() {
        write_string(text, string);
    } else if let Some(StarlarkFloat(float)) = value.downcast_ref::<StarlarkFloat>() {
        write_float(text, *float)?;
    } else if value.get_type() == "int" {
        text.push_str(&value.to_repr());
    } else if let Some(list) = ListRef::from_value(value) {
        write_items(text, list.iter(), depth)?;
    } else if let Some(tuple) = TupleRef::from_value(value) {
        write_items(text, tuple.iter(), depth)?;
    } else if let Some(record) = Record::from_value(value) {
        write_entries(text, record.entries().map(|(key, value)| (Ok(key.as_str()), value.to_value())), depth)?;
    } else if let Some(dict) = DictRef::from_value(value) {
        let entries = dict
            .iter()
            .map(|(key, value)| (key.unpack_str().ok_or_else(|| NotJson::Key(key.get_type().to_owned())), value));
        write_entries(text, entries, depth)?;
    } else {
        return Err(NotJson::Type(value.get_type().to_owned()));
    }
    Ok(())
}

fn write_items<'v>(text: &mut String, items: impl Iterator<Item = Value<'v>>, depth: usize) -> Result<(), NotJson> {
    text.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_value(text, item, depth + 1)?;
    }
    text.push(']');
    Ok(())
}

fn write_entries<'a, 'v>(
    text: &mut String,
    entries: impl Iterator<Item = (Result<&'a str, NotJson>, Value<'v>)>,
    depth: usize,
) -> Result<(), NotJson> {
    text.push('{');
    for (at, (key, value)) in entries.enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_string(text, key?);
        text.push(':');
        write_value(text, value, depth + 1)?;
    }
    text.push('}');
    Ok(())
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// A float keeps its point: `1.0` does not become `1`.
fn write_float(text: &mut String, float: f64) -> Result<(), NotJson> {
    let number = Number::from_f64(float).ok_or(NotJson::NotFinite)?;
    text.push_str(&number.to_string());
    Ok(())
}
