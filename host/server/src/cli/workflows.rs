//! `caisson workflows …`

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, duration, json_line, line, moment, or_dash};
use super::validate::print_findings;
use super::{Connection, Environment, Outcome};
use crate::api::workflows::{SavedAnswer, WorkflowAnswer, WorkflowList};
use crate::client::{Client, Error, Payload, segment};
use crate::env::read_text;

#[derive(Debug, Subcommand)]
pub enum WorkflowsCommand {
    /// List workflows.
    List {
        /// Only those whose id or name holds this text.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        #[command(flatten)]
        environment: Environment,
    },
    /// Show a workflow and its definition.
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        environment: Environment,
    },
    /// Save workflow files: new ones are made, others get a version.
    Apply {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        environment: Environment,
    },
    /// Delete a workflow that has no runs.
    Delete {
        /// Its id.
        id: String,
        #[command(flatten)]
        environment: Environment,
    },
    /// Let new runs start.
    Enable {
        /// Its id.
        id: String,
        #[command(flatten)]
        environment: Environment,
    },
    /// Start no new runs.
    Disable {
        /// Its id.
        id: String,
        #[command(flatten)]
        environment: Environment,
    },
}

pub async fn execute(command: WorkflowsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    match command {
        WorkflowsCommand::List { search, environment } => list(&client, connection.json, search, &environment).await,
        WorkflowsCommand::Show { id, environment } => show(&client, connection.json, &id, &environment).await,
        WorkflowsCommand::Apply { files, environment } => apply(&client, connection.json, &files, &environment).await,
        WorkflowsCommand::Delete { id, environment } => {
            let path = format!("/workflows/{}", segment(&id));
            client.send(Method::DELETE, &path, &environment.query(), Payload::Empty).await?;
            if !connection.json {
                line(&format!("deleted {}", clean(&id)));
            }
            Ok(Outcome::Done)
        }
        WorkflowsCommand::Enable { id, environment } => {
            switch(&client, connection.json, &id, "enable", &environment).await
        }
        WorkflowsCommand::Disable { id, environment } => {
            switch(&client, connection.json, &id, "disable", &environment).await
        }
    }
}

async fn list(
    client: &Client,
    json: bool,
    search: Option<String>,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let mut query = environment.query();
    query.extend(search.map(|text| ("search", text)));
    query.push(("limit", "500".to_owned()));
    let text = client.send(Method::GET, "/workflows", &query, Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: WorkflowList = client.parse(&text)?;
    let mut table = Table::new(Style::stdout(), &["ID", "VERSION", "STATE", "RUNS", "SUCCESS", "AVERAGE", "NAME"]);
    for workflow in &list.workflows {
        let state = match (workflow.enabled, workflow.paused) {
            (false, _) => "disabled",
            (true, true) => "paused",
            (true, false) => "active",
        };
        let success = workflow.stats.success_rate_30d.map(|rate| format!("{:.0} %", rate * 100.0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean duration, shown")]
        let average = workflow.stats.avg_ms.map(|ms| duration(ms as u64));
        table.row([
            &workflow.id,
            &workflow.version,
            state,
            &workflow.stats.runs.to_string(),
            or_dash(success.as_deref()),
            or_dash(average.as_deref()),
            or_dash(workflow.name.as_deref()),
        ]);
    }
    table.print();
    Ok(Outcome::Done)
}

async fn show(client: &Client, json: bool, id: &str, environment: &Environment) -> anyhow::Result<Outcome> {
    let path = format!("/workflows/{}", segment(id));
    let text = client.send(Method::GET, &path, &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let WorkflowAnswer { workflow } = client.parse(&text)?;
    for (name, value) in [
        ("id", workflow.id.as_str()),
        ("version", &workflow.version),
        ("environment", &workflow.environment),
        ("name", or_dash(workflow.name.as_deref())),
        ("description", or_dash(workflow.description.as_deref())),
        ("enabled", if workflow.enabled { "yes" } else { "no" }),
        ("digest", &workflow.digest),
        ("changed", &moment(&workflow.updated_at)),
    ] {
        line(&format!("{name:<12} {}", clean(value)));
    }
    line("");
    for text in
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(workflow.definition.0.get())?)?.lines()
    {
        // Indentation is not dangerous; what stands in strings is escaped, all but marks of direction.
        line(&clean(text));
    }
    Ok(Outcome::Done)
}

async fn apply(client: &Client, json: bool, files: &[PathBuf], environment: &Environment) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    for file in files {
        let source = read_text(file).with_context(|| format!("failed to read {}", file.display()))?;
        match save(client, &source, environment).await {
            Ok(text) if json => json_line(&text),
            Ok(text) => {
                let saved: SavedAnswer = client.parse(&text)?;
                print_findings(file, &source, &saved.validation);
                line(&format!("saved {} version {}", clean(&saved.workflow.id), clean(&saved.workflow.version)));
            }
            Err(Error::Refused { validation: Some(validation), .. }) => {
                outcome = Outcome::Failed;
                if json {
                    json_line(&serde_json::to_string(&serde_json::json!({"file": file, "validation": validation}))?);
                } else {
                    print_findings(file, &source, &validation);
                }
            }
            Err(error) => return Err(error).with_context(|| format!("failed to save {}", file.display())),
        }
    }
    Ok(outcome)
}

/// Makes a workflow, or a version of the one that is there.
pub async fn save(client: &Client, source: &[u8], environment: &Environment) -> Result<String, Error> {
    let query = environment.query();
    let body = || definition_body(source);
    match client.send(Method::POST, "/workflows", &query, body()).await {
        Err(Error::Refused { status: 409, code, message, validation }) => {
            let reading = caisson_core::definition::read(source, caisson_core::definition::Format::Detect);
            let Some(definition) = reading.definition else {
                return Err(Error::Refused { status: 409, code, message, validation });
            };
            let path = format!("/workflows/{}", segment(&definition.id));
            client.send(Method::PUT, &path, &query, body()).await
        }
        other => other,
    }
}

/// The text as it is, for the host to read: YAML or JSON, with the lines and columns of the file.
pub fn definition_body(source: &[u8]) -> Payload<'_> {
    match std::str::from_utf8(source) {
        Ok(text) => Payload::json(&serde_json::json!({"definition": text})),
        Err(_) => Payload::Yaml(source),
    }
}

async fn switch(
    client: &Client,
    json: bool,
    id: &str,
    verb: &str,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let path = format!("/workflows/{}/{verb}", segment(id));
    let text = client.send(Method::POST, &path, &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
    } else {
        line(&format!("{verb}d {}", clean(id)));
    }
    Ok(Outcome::Done)
}
