//! `caisson sessions …`

use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, json_line, line, moment};
use super::{Connection, Outcome};
use crate::api::sessions::{SessionAnswer, SessionList};
use crate::client::{Client, Payload, segment};

#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List the sessions of a run's agents, in the order of their beginning.
    List {
        /// The run's id.
        run: String,
        /// Only of this step.
        #[arg(long, value_name = "ID")]
        step: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Where the page before ended.
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Show one.
    Show {
        /// The run's id.
        run: String,
        /// The session's id.
        session: String,
    },
    /// Write a session's transcript as JSON Lines.
    Logs {
        /// The run's id.
        run: String,
        /// The session's id.
        session: String,
    },
}

pub async fn execute(command: SessionsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    let json = connection.json;
    match command {
        SessionsCommand::List { run, step, limit, cursor } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(step.map(|step| ("stepId", step)));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            list(&client, json, &run, &query).await
        }
        SessionsCommand::Show { run, session } => show(&client, json, &run, &session).await,
        SessionsCommand::Logs { run, session } => logs(&client, &run, &session).await,
    }
}

async fn list(client: &Client, json: bool, run: &str, query: &[(&str, String)]) -> anyhow::Result<Outcome> {
    let path = format!("/workflow-runs/{}/sessions", segment(run));
    let text = client.send(Method::GET, &path, query, Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: SessionList = client.parse(&text)?;
    let head = ["SESSION", "NAME", "AGENT", "STEP", "ATTEMPT", "STATUS", "TURNS", "TOKENS", "BEGAN"];
    let mut table = Table::new(Style::stdout(), &head);
    for session in &list.sessions {
        let tokens = session.usage.input_tokens + session.usage.output_tokens;
        table.row([
            &session.id,
            &session.name,
            &session.agent,
            &session.step_id,
            &session.attempt.to_string(),
            &session.status,
            &session.usage.turns.to_string(),
            &tokens.to_string(),
            &moment(&session.created_at),
        ]);
    }
    table.print();
    if let Some(cursor) = list.next_cursor {
        line(&format!("more: --cursor {}", clean(&cursor)));
    }
    Ok(Outcome::Done)
}

async fn show(client: &Client, json: bool, run: &str, session: &str) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, &path(run, session), &[], Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let SessionAnswer { session } = client.parse(&text)?;
    let status = Style::stdout().status(&session.status);
    line(&format!("{} of agent {} is {status}", clean(&session.name), clean(&session.agent)));
    line(&format!("  step {}, attempt {}", clean(&session.step_id), session.attempt));
    if let Some(parent) = &session.parent_id {
        line(&format!("  called by session {}", clean(parent)));
    }
    let usage = &session.usage;
    line(&format!("  {} turns, {} tokens read, {} written", usage.turns, usage.input_tokens, usage.output_tokens));
    line(&format!("  {} lines, {} bytes", session.lines, session.size_bytes));
    line(&format!("caisson sessions logs {} {}", clean(&session.run_id), clean(&session.id)));
    Ok(Outcome::Done)
}

async fn logs(client: &Client, run: &str, session: &str) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, &format!("{}/logs", path(run, session)), &[], Payload::Empty).await?;
    text.lines().for_each(json_line);
    Ok(Outcome::Done)
}

fn path(run: &str, session: &str) -> String {
    format!("/workflow-runs/{}/sessions/{}", segment(run), segment(session))
}
