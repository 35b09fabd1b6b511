//! Definitions on their way in: as a JSON value in a body, as YAML text in a body, or as YAML itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use caisson_core::definition::{self, Catalog, Format, Reading, Schemas};
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::model::{Definition, StateKind};
use caisson_core::ports::{ActionInfo, DefinitionFilter, PageRequest};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Api;
use super::error::ApiError;
use super::extract::{media_type, parse_body, read_body, unsupported, utf8};
use super::paging::LIMIT_MAX;
use super::wire::Validation;

/// Workflows of an environment that are looked up for a `call`: more than that and the check says "not known" rather than read on.
const WORKFLOWS_KNOWN_MAX: usize = 10_000;

#[derive(Deserialize)]
struct DefinitionBody<'a> {
    #[serde(borrow)]
    definition: &'a RawValue,
}

/// Only for the names of the fields: the probe that finds them owns what it reads.
#[derive(Deserialize)]
struct DefinitionFields {
    #[serde(rename = "definition")]
    _definition: serde_json::Value,
}

/// Reads the definition of a request, whatever form it has. Positions are those of the body as it was sent.
pub async fn of_request(request: Request) -> Result<Reading, ApiError> {
    let kind = media_type(request.headers());
    let bytes = read_body(request).await?;
    match kind.as_deref() {
        Some("application/yaml" | "text/yaml" | "application/x-yaml" | "text/x-yaml") => {
            Ok(definition::read(&bytes, Format::Yaml))
        }
        None => of_json(&bytes),
        Some(kind) if kind == "application/json" || kind.ends_with("+json") => of_json(&bytes),
        Some(kind) => Err(unsupported(kind, "application/json or application/yaml")),
    }
}

fn of_json(bytes: &[u8]) -> Result<Reading, ApiError> {
    // Refuses what is no JSON, or has other fields, before anything is read out of it.
    parse_body::<DefinitionFields>(bytes)?;
    let text = utf8(bytes)?;
    let body: DefinitionBody<'_> =
        serde_json::from_str(text).map_err(|error| ApiError::malformed("MALFORMED_BODY", error.to_string()))?;
    let source = body.definition.get();
    if source.starts_with('"') {
        let yaml: String =
            serde_json::from_str(source).map_err(|error| ApiError::malformed("MALFORMED_BODY", error.to_string()))?;
        return Ok(definition::read(yaml.as_bytes(), Format::Detect));
    }
    Ok(definition::read(in_place(text, source).as_bytes(), Format::Json))
}

/// The part of a text at the line and column where it stood: what is before it becomes space.
fn in_place(text: &str, part: &str) -> String {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    let mut padded: String = text[..start].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    padded.push_str(part);
    padded
}

/// Reads, checks and gives back a definition without errors; else everything that is wrong with it.
pub async fn accept(api: &Api, realm: &Realm, reading: &Reading) -> Result<(Json, Validation), ApiError> {
    let findings = validate(api, realm, reading).await?;
    match (&reading.definition, &reading.json) {
        (Some(_), Some(json)) if findings.errors.is_empty() => Ok((Json::of(json), findings)),
        _ => {
            let first = findings.errors.first().map_or_else(String::new, |finding| format!(": {}", finding.message));
            let count = findings.errors.len();
            let plural = if count == 1 { "error" } else { "errors" };
            Err(ApiError::malformed("DEFINITION_INVALID", format!("definition has {count} {plural}{first}"))
                .with_validation(findings))
        }
    }
}

/// Everything that is wrong or odd, with what exists in the realm.
pub async fn validate(api: &Api, realm: &Realm, reading: &Reading) -> Result<Validation, ApiError> {
    validate_with(api, realm, reading, &BTreeMap::new()).await
}

/// The same, with agents that are about to be registered.
pub async fn validate_with(
    api: &Api,
    realm: &Realm,
    reading: &Reading,
    agents: &BTreeMap<String, Schemas>,
) -> Result<Validation, ApiError> {
    let workflows = match &reading.definition {
        Some(definition) if calls_others(definition) => known_workflows(api, realm, definition).await?,
        _ => Some(Vec::new()),
    };
    let known = Known {
        actions: api.service.ports().runner.actions(realm).into_iter().map(named).collect(),
        agents: api.catalog.agents(realm).into_iter().chain(agents.clone()).collect(),
        workflows,
    };
    Ok(reading.validation(&known).into())
}

fn named(action: ActionInfo) -> (String, Schemas) {
    let schema = |schema: Option<Arc<Value>>| schema.map(Arc::unwrap_or_clone);
    (action.name.to_string(), Schemas { input: schema(action.input_schema), output: schema(action.output_schema) })
}

fn calls_others(definition: &Definition) -> bool {
    definition.states.iter().any(|state| matches!(state.kind, StateKind::Call(_)))
}

async fn known_workflows(api: &Api, realm: &Realm, definition: &Definition) -> Result<Option<Vec<String>>, ApiError> {
    // A workflow may call itself.
    let mut known = vec![definition.id.to_string()];
    let mut page = PageRequest { limit: LIMIT_MAX, cursor: None };
    loop {
        let found = api.store().definitions(realm, &DefinitionFilter::default(), &page).await?;
        known.extend(found.items.iter().map(|(row, _)| row.id.to_string()));
        match found.next {
            None => return Ok(Some(known)),
            Some(_) if known.len() >= WORKFLOWS_KNOWN_MAX => return Ok(None),
            next => page.cursor = next,
        }
    }
}

/// What there is in a realm, for [`Reading::validation`].
pub struct Known {
    /// Actions by full name.
    pub actions: BTreeMap<String, Schemas>,
    /// Agents by name.
    pub agents: BTreeMap<String, Schemas>,
    /// Ids of workflows; `None` if they are too many to say.
    pub workflows: Option<Vec<String>>,
}

impl Catalog for Known {
    fn actions(&self) -> Option<Vec<String>> {
        Some(self.actions.keys().cloned().collect())
    }
    fn agents(&self) -> Option<Vec<String>> {
        Some(self.agents.keys().cloned().collect())
    }
    fn agent_schemas(&self, agent: &str) -> Option<Schemas> {
        self.agents.get(agent).cloned()
    }
    fn action_schemas(&self, action: &str) -> Option<Schemas> {
        self.actions.get(action).cloned()
    }
    fn workflows(&self) -> Option<Vec<String>> {
        self.workflows.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_in_a_body_keeps_its_line_and_column() {
        let text = "{\n  \"é\": 1, \"definition\": {\"id\": 1}}";
        let part = &text[text.find("{\"id").expect("is there")..text.len() - 1];
        assert_eq!(in_place(text, part), format!(" \n{}{{\"id\": 1}}", " ".repeat(24)));
    }
}
