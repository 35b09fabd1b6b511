//! Parameters of a query and fields of a form: an object whose values are texts, or lists of them.

use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// A value that has a plain text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Text(String),
    Number(Number),
    Flag(bool),
    Nothing(()),
}

impl Scalar {
    /// `None` is left out.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(number.to_string()),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::Nothing(()) => None,
        }
    }
}

/// Names with values, in the author's order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.clone()))
    }
}

impl TryFrom<Map<String, Value>> for Fields {
    type Error = String;

    fn try_from(map: Map<String, Value>) -> Result<Self, String> {
        let mut fields = Vec::new();
        for (name, value) in map {
            let values = match value {
                Value::Array(values) => values,
                one => vec![one],
            };
            for value in values {
                let scalar: Scalar = serde_json::from_value(value)
                    .map_err(|_| format!("'{name}' has to be text, a number, true or false, or a list of these"))?;
                fields.extend(scalar.text().map(|text| (name.clone(), text)));
            }
        }
        Ok(Self(fields))
    }
}
