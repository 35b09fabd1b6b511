//! `plugins.toml`: what an operator says of the plugins of a folder, beforehand.
//!
//! ```toml
//! [notify]
//! grants = ["http:hooks.example.com", "secrets:TOKEN"]   # or a table by capability
//! config = { channel = "#ops" }
//! digest = "…"                                           # only this one
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use caisson_core::json::Json;
use caisson_core::plugin::Grants;
use serde::Deserialize;

use crate::env::{Problem, read_text};

/// Its name.
pub const FILE: &str = "plugins.toml";

/// What is said of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is granted; as it is when absent.
    #[serde(default)]
    pub grants: Option<Grants>,
    /// Its configuration, an object; as it is when absent.
    #[serde(default, deserialize_with = "object")]
    pub config: Option<Json>,
    /// The only digest that is meant.
    #[serde(default)]
    pub digest: Option<String>,
}

/// Every entry of a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries(BTreeMap<String, Entry>);

fn object<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    let map = serde_json::Map::deserialize(deserializer)?;
    Ok(Some(Json::of(&map)))
}

impl Entries {
    /// Reads the file; one that is not there has no entries.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        match fs::exists(path) {
            Ok(true) => {}
            Ok(false) => return Ok(Self::default()),
            Err(error) => return Err(Problem::new(path, error.to_string())),
        }
        let bytes = match read_text(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(|error| Problem::new(path, error.to_string()))?,
        };
        Self::parse(&bytes).map_err(|message| Problem::new(path, message))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let entries = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        Ok(Self(entries))
    }

    /// What is said of a plugin.
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.0.get(id)
    }

    /// Everything that is said.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_plugin_is_read_or_refused_with_its_place() {
        for (text, expected) in [
            ("", Ok(String::new())),
            ("[a]\n", Ok("a: None None".to_owned())),
            ("[a]\ngrants = [\"kv\", \"http:x.example\"]\n", Ok("a: Some(\"http:x.example; kv\") None".to_owned())),
            ("[a]\nconfig = { n = 1 }\n", Ok("a: None Some({\"n\":1})".to_owned())),
            ("[a.grants.kv]\nmaxKeys = 3\n", Ok("a: Some(\"kv; kv.maxKeys = 3\") None".to_owned())),
            ("[a]\ngrant = []\n", Err("unknown field `grant`")),
            ("[a]\ngrants = [\"vk\"]\n", Err("did you mean 'kv'")),
            ("[a]\nconfig = 5\n", Err("line 2")),
            ("[a\n", Err("line 1")),
        ] {
            let shown = Entries::parse(text.as_bytes()).map(|entries| {
                let one = |(id, entry): (&String, &Entry)| {
                    format!(
                        "{id}: {:?} {:?}",
                        entry.grants.as_ref().map(|grants| grants.lines().join("; ")),
                        entry.config
                    )
                };
                entries.iter().map(one).collect::<Vec<_>>().join(", ")
            });
            match (shown, expected) {
                (Ok(shown), Ok(expected)) => assert_eq!(shown, expected, "{text}"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message} has no '{part}'"),
                (shown, _) => panic!("{text}: {shown:?}"),
            }
        }
    }
}
