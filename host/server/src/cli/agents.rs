//! `caisson agents …`

use anyhow::Context;
use caisson_core::json::Json;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::output::{Style, Table, clean, json_line, line, moment, note, or_dash};
use super::{Connection, Environment, Outcome};
use crate::api::agents::{AgentAnswer, AgentList};
use crate::api::plugin_invoke::{InvokeAnswer, InvokeBody};
use crate::api::wire::Any;
use crate::client::{Client, Payload, segment};

#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List agents.
    List {
        #[command(flatten)]
        environment: Environment,
    },
    /// Show an agent and its text.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        environment: Environment,
    },
    /// Let an agent work once, outside of any run.
    Run {
        /// Its name.
        name: String,
        /// Its variables, a JSON object.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        input: String,
        /// What it is asked to do.
        #[arg(long, value_name = "TEXT")]
        task: Option<String>,
        #[command(flatten)]
        environment: Environment,
    },
}

pub async fn execute(command: AgentsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    match command {
        AgentsCommand::List { environment } => list(&client, connection.json, &environment).await,
        AgentsCommand::Show { name, environment } => show(&client, connection.json, &name, &environment).await,
        AgentsCommand::Run { name, input, task, environment } => {
            run(&client, connection.json, &name, &input, task.as_deref(), &environment).await
        }
    }
}

async fn list(client: &Client, json: bool, environment: &Environment) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, "/agents", &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: AgentList = client.parse(&text)?;
    let mut table = Table::new(Style::stdout(), &["NAME", "VERSION", "STATE", "MODEL", "FILE", "UPDATED"]);
    for agent in &list.agents {
        let state = if agent.enabled { "enabled" } else { "disabled" };
        table.row([
            &agent.name,
            &agent.version.to_string(),
            state,
            or_dash(agent.model.as_deref()),
            or_dash(agent.file.as_deref()),
            &moment(&agent.updated_at),
        ]);
    }
    table.print();
    Ok(Outcome::Done)
}

async fn show(client: &Client, json: bool, name: &str, environment: &Environment) -> anyhow::Result<Outcome> {
    let path = format!("/agents/{}", segment(name));
    let text = client.send(Method::GET, &path, &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let AgentAnswer { agent } = client.parse(&text)?;
    line(&format!(
        "{} version {} in {}, {}",
        clean(&agent.name),
        agent.version,
        clean(&agent.environment),
        if agent.enabled { "enabled" } else { "disabled" }
    ));
    line("");
    agent.source.lines().for_each(|text| line(&clean(text)));
    Ok(Outcome::Done)
}

async fn run(
    client: &Client,
    json: bool,
    name: &str,
    input: &str,
    task: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let variables: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(input).map_err(|error| super::Usage(format!("--input is no JSON object: {error}")))?;
    let mut call = json!({"agent": name, "variables": variables});
    if let Some(task) = task {
        call["task"] = task.into();
    }
    let body = InvokeBody { input: Some(Any(Json::of(&call))), config: None };
    let path = "/plugins/agent/actions/run/invoke";
    let text = client.send(Method::POST, path, &environment.query(), Payload::json(&body)).await?;
    if json {
        json_line(&text);
    }
    let answer: InvokeAnswer = client.parse(&text)?;
    for warning in answer.warnings.iter().filter(|_| !json) {
        note(&format!("warning: {} ({})", clean(&warning.message), clean(&warning.code)));
    }
    match (answer.outcome, answer.failure) {
        (_, Some(failure)) => {
            if !json {
                note(&format!("{} ({})", clean(&failure.message), clean(&failure.code)));
            }
            Ok(Outcome::Failed)
        }
        (Some(outcome), None) => {
            if !json {
                let shown = serde_json::to_value(&outcome).context("failed to read the answer")?;
                let output = shown.get("output").cloned().unwrap_or(shown);
                json_line(&serde_json::to_string_pretty(&output).unwrap_or_default());
            }
            Ok(Outcome::Done)
        }
        (None, None) => Ok(Outcome::Failed),
    }
}
