//! `caisson tools …`

use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, json_line, line, or_dash, shorten};
use super::{Connection, Environment, Outcome};
use crate::api::tool_servers::{ToolServerAnswer, ToolServerList};
use crate::client::{Client, Payload, segment};

/// Of what somebody else says in a table.
const TEXT_CHARS_MAX: usize = 80;

#[derive(Debug, Subcommand)]
pub enum ToolsCommand {
    /// List tool servers, and whether they run. Starts none.
    List {
        #[command(flatten)]
        environment: Environment,
    },
    /// Ask a tool server what it offers; starts it if it does not run.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        environment: Environment,
    },
}

pub async fn execute(command: ToolsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    match command {
        ToolsCommand::List { environment } => list(&client, connection.json, &environment).await,
        ToolsCommand::Show { name, environment } => show(&client, connection.json, &name, &environment).await,
    }
}

async fn list(client: &Client, json: bool, environment: &Environment) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, "/tool-servers", &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: ToolServerList = client.parse(&text)?;
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let mut table = Table::new(Style::stdout(), &["NAME", "STATE", "PID", "TOOLS", "CALLS", "FILE", "PROBLEM"]);
    for server in &list.servers {
        table.row([
            &server.name,
            &server.state,
            or_dash(number(server.pid.map(u64::from)).as_deref()),
            or_dash(number(server.tools).as_deref()),
            &server.calls.to_string(),
            &server.file,
            &shorten(or_dash(server.problem.as_deref()), TEXT_CHARS_MAX),
        ]);
    }
    table.print();
    Ok(Outcome::Done)
}

async fn show(client: &Client, json: bool, name: &str, environment: &Environment) -> anyhow::Result<Outcome> {
    let path = format!("/tool-servers/{}/check", segment(name));
    let text = client.send(Method::POST, &path, &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let ToolServerAnswer { server, tools } = client.parse(&text)?;
    line(&format!(
        "{} is {} (process {}, protocol {}), declared in {}",
        clean(&server.name),
        clean(&server.state),
        server.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        clean(or_dash(server.protocol.as_deref())),
        clean(&server.file)
    ));
    line("");
    let mut table = Table::new(Style::stdout(), &["TOOL", "WHAT IT SAYS OF ITSELF"]);
    for tool in &tools {
        table.row([&tool.name, &shorten(&tool.description, TEXT_CHARS_MAX)]);
    }
    table.print();
    Ok(Outcome::Done)
}
