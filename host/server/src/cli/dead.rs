//! `caisson dead …`

use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, json_line, line, moment, or_dash};
use super::{Connection, Environment, Outcome};
use crate::api::dead::DeadList;
use crate::api::runs::RunAnswer;
use crate::api::steps::StepAnswer;
use crate::client::{Client, Payload, segment};

#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List steps that were given up because every host that took them was lost, newest first.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Where the page before ended.
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
        #[command(flatten)]
        environment: Environment,
    },
    /// Show one with its input and its error.
    Show {
        /// The run's id.
        run: String,
        /// The step's id.
        step: String,
    },
    /// Start a new run of the same version and input, which uses again what succeeded.
    Replay {
        /// The run's id.
        run: String,
        /// The step's id.
        step: String,
    },
}

pub async fn execute(command: DeadCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    let json = connection.json;
    match command {
        DeadCommand::List { limit, cursor, environment } => {
            let mut query = environment.query();
            query.push(("limit", limit.to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            list(&client, json, &query).await
        }
        DeadCommand::Show { run, step } => show(&client, json, &run, &step).await,
        DeadCommand::Replay { run, step } => replay(&client, json, &run, &step).await,
    }
}

async fn list(client: &Client, json: bool, query: &[(&str, String)]) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, "/dead", query, Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: DeadList = client.parse(&text)?;
    let mut table = Table::new(Style::stdout(), &["RUN", "STEP", "STATE", "ACTION", "CLAIMS", "FAILED"]);
    for dead in &list.dead {
        table.row([
            &dead.run_id,
            &dead.step_id,
            &dead.state,
            or_dash(dead.action.as_deref()),
            &dead.claims.to_string(),
            &dead.failed_at.as_deref().map_or_else(|| "-".to_owned(), moment),
        ]);
    }
    table.print();
    if let Some(cursor) = list.next_cursor {
        line(&format!("more: --cursor {}", clean(&cursor)));
    }
    Ok(Outcome::Done)
}

async fn show(client: &Client, json: bool, run: &str, step: &str) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, &path(run, step), &[], Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let StepAnswer { step } = client.parse(&text)?;
    line(&format!("{} of run {} is {}", clean(&step.state), clean(&step.run_id), Style::stdout().status(&step.status)));
    if let Some(error) = &step.error {
        line(&format!("  {}: {}", clean(&error.code), clean(&error.message)));
    }
    line(&format!("  input {}", clean(&serde_json::to_string(&step.input)?)));
    line(&format!("caisson dead replay {} {}", clean(&step.run_id), clean(&step.id)));
    Ok(Outcome::Done)
}

async fn replay(client: &Client, json: bool, run: &str, step: &str) -> anyhow::Result<Outcome> {
    let path = format!("{}/replay", path(run, step));
    let text = client.send(Method::POST, &path, &[], Payload::Empty).await?;
    if json {
        json_line(&text);
    } else {
        let RunAnswer { run: new } = client.parse(&text)?;
        line(&format!("run {} goes on where run {} was given up", clean(&new.id), clean(run)));
    }
    Ok(Outcome::Done)
}

fn path(run: &str, step: &str) -> String {
    format!("/dead/{}/{}", segment(run), segment(step))
}
