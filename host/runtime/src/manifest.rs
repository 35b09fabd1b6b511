//! `caisson-plugin.toml`: what a plugin says about itself. Read from the component, without running anything.
//!
//! Read field by field and not by serde, because it is written by hand: an error names the field, what stands there,
//! what is expected and, for a name that does not exist, the one that was probably meant.

use std::collections::BTreeSet;

use caisson_core::plugin::{ActionSpec, Engine, Grants};
use caisson_core::schema::Validator;
use serde_json::Value;
use toml::Table;

use crate::limits::AskedLimits;

/// The longest manifest that is read: schemas are its bulk, and the largest of ours has 5 KB.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Actions in one plugin.
pub const ACTIONS_MAX: usize = 256;
/// The major version of `caisson:step` that this host speaks.
pub const WIT_MAJOR: u64 = 1;

const NAME_CHARS_MAX: usize = 64;
const VERSION_CHARS_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 2_000;

/// A manifest that was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The plugin's id: the first part of its actions' names.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The version of `caisson:step` that it was built against.
    pub wit: String,
    /// What it is for.
    pub description: String,
    /// What runs it.
    pub engine: Engine,
    /// What it does, in the manifest's order.
    pub actions: Vec<ActionSpec>,
    /// What it asks for.
    pub asks: Grants,
    /// The limits that it asks for.
    pub limits: AskedLimits,
}

/// Why a manifest was refused: a sentence for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub(crate) String);

fn error<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error(message.into()))
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return error(format!("it has {} bytes, more than the {MANIFEST_BYTES_MAX} that are allowed", bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| Error(format!("it is not UTF-8: {e}")))?;
        let table: Table = toml::from_str(text).map_err(|e| Error(syntax(text, &e)))?;
        let fields = Fields::new(
            "",
            &table,
            &["id", "version", "wit", "description", "engine", "capabilities", "limits", "actions"],
        )?;
        let id = fields.name("id", '-', "notify")?;
        let version = fields.required("version", "\"1.0.0\"")?;
        if version.is_empty() || version.len() > VERSION_CHARS_MAX || version.contains(char::is_whitespace) {
            return error(format!(
                "version: '{version}' is no version: up to {VERSION_CHARS_MAX} characters without spaces, for example 1.0.0"
            ));
        }
        let wit = fields.required("wit", "\"1.0.0\"")?;
        if !spoken(&wit) {
            return error(format!(
                "wit: '{wit}' is not spoken here: this host has caisson:step {WIT_MAJOR}.x, write wit = \"1.0.0\""
            ));
        }
        let description = fields.text("description", "\"What it is for.\"")?.unwrap_or_default();
        if description.chars().count() > DESCRIPTION_CHARS_MAX {
            return error(format!("description: it has more than {DESCRIPTION_CHARS_MAX} characters"));
        }
        Ok(Self {
            engine: engine(&fields)?,
            actions: actions(&fields)?,
            asks: asks(&fields)?,
            limits: limits(&fields)?,
            id,
            version,
            wit,
            description,
        })
    }
}

/// `1`, `1.0` or `1.0.0`.
fn spoken(wit: &str) -> bool {
    let parts: Vec<Option<u64>> = wit.split('.').map(|part| part.parse().ok()).collect();
    parts.len() <= 3 && parts.first() == Some(&Some(WIT_MAJOR)) && parts.iter().all(Option::is_some)
}

fn engine(fields: &Fields<'_>) -> Result<Engine, Error> {
    match fields.text("engine", "\"javascript\"")?.as_deref() {
        None | Some("component") => Ok(Engine::Component),
        Some("javascript") => Ok(Engine::JavaScript),
        Some(other) => {
            let near = hint(other, &["component", "javascript"]);
            error(format!(
                "engine: '{other}' is no engine{near}: write \"javascript\" for a plugin.js, or leave it out"
            ))
        }
    }
}

fn asks(fields: &Fields<'_>) -> Result<Grants, Error> {
    let Some(value) = fields.table.get("capabilities") else { return Ok(Grants::default()) };
    let value = serde_json::to_value(value).map_err(|e| Error(format!("capabilities: {e}")))?;
    let asks = Grants::parse(&value).map_err(|e| Error(format!("capabilities: {e}")))?;
    if asks.http.as_ref().is_some_and(|http| !http.private.is_empty()) {
        return error(
            "capabilities.http.private: only an operator grants private addresses; leave it out of the manifest",
        );
    }
    Ok(asks)
}

fn limits(fields: &Fields<'_>) -> Result<AskedLimits, Error> {
    let mut limits = AskedLimits::default();
    let Some(value) = fields.table.get("limits") else { return Ok(limits) };
    let Some(table) = value.as_table() else {
        return error(format!(
            "limits: {} is no table: write for example [limits] and below it memory_bytes = 67108864",
            shown(value)
        ));
    };
    Fields::new("limits.", table, &AskedLimits::names())?;
    for (name, value) in table {
        let Some(number) =
            value.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
        else {
            return error(format!("limits.{name}: {} is no limit: write a whole number above 0", shown(value)));
        };
        limits.set(name, number);
    }
    Ok(limits)
}

fn actions(fields: &Fields<'_>) -> Result<Vec<ActionSpec>, Error> {
    let list = match fields.table.get("actions") {
        None => {
            return error(
                "actions: there are none: a plugin has at least one, write [[actions]] and below it name = \"…\"",
            );
        }
        Some(value) => value.as_array().filter(|list| list.iter().all(toml::Value::is_table)).ok_or_else(|| {
            Error(format!("actions: {} is no list of tables: write [[actions]] above each action", shown(value)))
        })?,
    };
    if list.is_empty() || list.len() > ACTIONS_MAX {
        return error(format!("actions: a plugin has 1 to {ACTIONS_MAX} actions, not {}", list.len()));
    }
    let actions = list
        .iter()
        .filter_map(toml::Value::as_table)
        .enumerate()
        .map(|(at, table)| action(at, table))
        .collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    match actions.iter().find(|action| !names.insert(&action.name)) {
        Some(twice) => error(format!("actions: '{}' is there twice: each action has a name of its own", twice.name)),
        None => Ok(actions),
    }
}

fn action(at: usize, table: &Table) -> Result<ActionSpec, Error> {
    let place = format!("actions[{at}].");
    let fields = Fields::new(&place, table, &["name", "description", "config", "input", "output"])?;
    let name = fields.name("name", '_', "post_message")?;
    let description = fields.text("description", "\"What it does.\"")?.unwrap_or_default();
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        return error(format!("{place}description: it has more than {DESCRIPTION_CHARS_MAX} characters"));
    }
    Ok(ActionSpec {
        description,
        config_schema: fields.schema("config")?,
        input_schema: fields.schema("input")?,
        output_schema: fields.schema("output")?,
        name,
    })
}

/// One table and where it stands.
struct Fields<'a> {
    place: &'a str,
    table: &'a Table,
}

impl<'a> Fields<'a> {
    /// Refuses fields that are not known.
    fn new(place: &'a str, table: &'a Table, known: &[&str]) -> Result<Self, Error> {
        match table.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => error(format!(
                "{place}{unknown}: there is no such field{}: there are {}",
                hint(unknown, known),
                known.join(", ")
            )),
            None => Ok(Self { place, table }),
        }
    }

    fn text(&self, name: &str, example: &str) -> Result<Option<String>, Error> {
        match self.table.get(name) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => {
                error(format!("{}{name}: {} is no text: write {name} = {example}", self.place, shown(other)))
            }
        }
    }

    fn required(&self, name: &str, example: &str) -> Result<String, Error> {
        self.text(name, example)?
            .ok_or_else(|| Error(format!("{}{name}: it is missing: write {name} = {example}", self.place)))
    }

    fn name(&self, field: &str, joint: char, example: &str) -> Result<String, Error> {
        let name = self.required(field, &format!("\"{example}\""))?;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == joint || c == '_';
        let ok = name.len() <= NAME_CHARS_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(legal);
        if ok {
            return Ok(name);
        }
        let joints = if joint == '_' { "'_'".to_owned() } else { format!("'{joint}' and '_'") };
        error(format!(
            "{}{field}: '{}' is no {field}: up to {NAME_CHARS_MAX} lower-case letters, digits, {joints}, a letter first, for example {example}",
            self.place,
            short(&name)
        ))
    }

    /// A schema is JSON text, which keeps the order of its keys, or a TOML table.
    fn schema(&self, name: &str) -> Result<Option<Value>, Error> {
        let place = self.place;
        let value = match self.table.get(name) {
            None => return Ok(None),
            Some(toml::Value::String(text)) => {
                serde_json::from_str(text).map_err(|e| Error(format!("{place}{name}: its text is no JSON: {e}")))?
            }
            Some(other) => serde_json::to_value(other).map_err(|e| Error(format!("{place}{name}: {e}")))?,
        };
        check_schema(&value).map_err(|problem| Error(format!("{place}{name}: {problem}")))?;
        Ok(Some(value))
    }
}

/// Whether a value is a schema that may be used.
pub(crate) fn check_schema(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(_) | Value::Bool(_) => Validator::compile(value).map(drop),
        other => Err(format!("{} is no JSON Schema: it is an object, or true or false", short(&other.to_string()))),
    }
}

/// What toml says, and in which line.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let line = line.map_or_else(String::new, |line| format!(" (line {line})"));
    format!("it is no TOML{line}: {}", short(error.message()))
}

fn shown(value: &toml::Value) -> String {
    short(&serde_json::to_string(value).unwrap_or_default())
}

/// The beginning, on one line.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// ` (did you mean 'x'?)`, or nothing.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    /// Nobody misspells longer names.
    const WORD_BYTES_MAX: usize = 64;
    if word.len() > WORD_BYTES_MAX {
        return String::new();
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let sought = plain(word);
    let allowed = (sought.len() / 3).max(1);
    let near = known.iter().map(|known| (strsim::osa_distance(&sought, &plain(known)), known)).min();
    near.filter(|(distance, _)| *distance <= allowed)
        .map_or_else(String::new, |(_, known)| format!(" (did you mean '{known}'?)"))
}
