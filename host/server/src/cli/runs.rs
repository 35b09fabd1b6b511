//! `caisson runs …`

use clap::Subcommand;
use reqwest::Method;

use super::output::{Colour, Style, Table, clean, duration, json_line, line, moment, or_dash, shorten, step_name};
use super::watch::{Decider, watch};
use super::{Connection, Environment, Outcome};
use crate::api::actions::{CancelBody, SignalAnswer, SignalBody};
use crate::api::approvals::ApprovalList;
use crate::api::runs::{RunAnswer, RunList};
use crate::api::steps::StepList;
use crate::api::wire::{Any, Run};
use crate::client::{Client, Payload, segment};

/// Characters of a value in a table.
const VALUE_CHARS_MAX: usize = 100;

#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List runs, newest first.
    List {
        /// Only of this workflow.
        #[arg(long, value_name = "ID")]
        workflow: Option<String>,
        /// Only with one of these statuses, separated by commas.
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
        /// Only of this project.
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        /// So many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Where the list before ended.
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        environment: Environment,
    },
    /// Show a run and its steps.
    Show {
        /// Its id.
        id: String,
    },
    /// Follow a run to its end.
    Watch {
        /// Its id.
        id: String,
    },
    /// Start nothing new in a run.
    Pause {
        /// Its id.
        id: String,
    },
    /// Let a paused run go on.
    Resume {
        /// Its id.
        id: String,
    },
    /// End a run.
    Cancel {
        /// Its id.
        id: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Deliver a signal to a run.
    Signal {
        /// The run's id.
        id: String,
        /// The signal's name.
        name: String,
        /// Its data: JSON, @FILE or - for standard input.
        #[arg(long, value_name = "JSON")]
        payload: Option<String>,
        /// Which of several like it.
        #[arg(long, value_name = "KEY")]
        correlation: Option<String>,
        /// Unique: the same again changes nothing.
        #[arg(long, value_name = "ID")]
        signal_id: Option<String>,
    },
}

pub async fn execute(command: RunsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    let json = connection.json;
    match command {
        RunsCommand::List { workflow, status, project, limit, cursor, environment } => {
            let mut query = environment.query();
            query.push(("limit", limit.to_string()));
            let optional = [("workflowId", workflow), ("status", status), ("projectId", project), ("cursor", cursor)];
            query.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
            list(&client, json, &query).await
        }
        RunsCommand::Show { id } => show(&client, json, &id).await,
        RunsCommand::Watch { id } => {
            let decider = if json { Decider::Nobody } else { Decider::ask_or_hint() };
            let run = watch(&client, &id, decider, json).await?;
            if json {
                json_line(&serde_json::to_string(&RunAnswer { run: run.clone() })?);
            } else {
                print_end(Style::stdout(), &run);
            }
            Ok(outcome(&run))
        }
        RunsCommand::Pause { id } => act(&client, json, &id, "pause", Payload::Empty).await,
        RunsCommand::Resume { id } => act(&client, json, &id, "resume", Payload::Empty).await,
        RunsCommand::Cancel { id, reason } => {
            act(&client, json, &id, "cancel", Payload::json(&CancelBody { reason })).await
        }
        RunsCommand::Signal { id, name, payload, correlation, signal_id } => {
            let payload = payload.map(|text| super::run::read_value(&text)).transpose()?.map(Any);
            let body = SignalBody { name, correlation_key: correlation, payload, id: signal_id };
            let path = format!("/workflow-runs/{}/signals", segment(&id));
            let text = client.send(Method::POST, &path, &[], Payload::json(&body)).await?;
            if json {
                json_line(&text);
            } else {
                let SignalAnswer { signal } = client.parse(&text)?;
                line(&format!("delivered signal {} ({})", clean(&signal.name), clean(&signal.id)));
            }
            Ok(Outcome::Done)
        }
    }
}

async fn list(client: &Client, json: bool, query: &[(&str, String)]) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, "/workflow-runs", query, Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: RunList = client.parse(&text)?;
    let mut table = Table::new(Style::stdout(), &["ID", "WORKFLOW", "STATUS", "CREATED", "TOOK", "STEPS", "AT"]);
    for run in &list.runs {
        table.row([
            &run.id,
            &run.workflow_id,
            &run.status,
            &moment(&run.created_at),
            or_dash(run.duration_ms.map(duration).as_deref()),
            &run.counts.steps.to_string(),
            or_dash(Some(&shorten(&run.current_states.join(", "), VALUE_CHARS_MAX))),
        ]);
    }
    table.print();
    if let Some(cursor) = list.next_cursor {
        line(&format!("more with --cursor {}", clean(&cursor)));
    }
    Ok(Outcome::Done)
}

async fn show(client: &Client, json: bool, id: &str) -> anyhow::Result<Outcome> {
    let path = format!("/workflow-runs/{}", segment(id));
    let text = client.send(Method::GET, &path, &[], Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let style = Style::stdout();
    let RunAnswer { run } = client.parse(&text)?;
    for (name, value) in [
        ("run", run.id.as_str()),
        ("workflow", &format!("{} version {}", run.workflow_id, run.workflow_version)),
        ("environment", &run.environment),
        ("name", or_dash(run.name.as_deref())),
        ("started by", &run.created_by),
        ("created", &moment(&run.created_at)),
        ("input", &shorten(run.input.0.get(), VALUE_CHARS_MAX)),
    ] {
        line(&format!("{name:<12} {}", clean(value)));
    }
    line(&format!("{:<12} {}", "status", style.status(&run.status)));
    line("");
    let limit = ("limit", "500".to_owned());
    let steps: StepList = client.get(&format!("{path}/steps"), &[limit]).await?;
    let mut table = Table::new(style, &["STEP", "STATUS", "ACTION", "ATTEMPT", "TOOK", "RESULT"]);
    for step in &steps.steps {
        let result = match &step.error {
            Some(error) => format!("{}: {}", error.code, error.message),
            None if step.output.0.get() == "null" => String::new(),
            None => step.output.0.get().to_owned(),
        };
        table.row([
            &step_name(&step.branch_path, &step.state),
            &step.status,
            step.action.as_deref().unwrap_or(&step.kind),
            &format!("{}/{}", step.attempt, step.max_attempts),
            or_dash(step.duration_ms.map(duration).as_deref()),
            &shorten(&result, VALUE_CHARS_MAX),
        ]);
    }
    table.print();
    if steps.next_cursor.is_some() {
        line("… and more: --json, or the API");
    }
    if run.counts.approvals > 0 {
        let approvals: ApprovalList = client.get(&format!("{path}/approvals"), &[]).await?;
        for approval in approvals.approvals.iter().filter(|approval| approval.status == "PENDING") {
            line("");
            line(&format!("{} {}", style.paint(Colour::Yellow, "waits for approval:"), clean(&approval.message)));
            line(&format!("caisson approvals approve {}", clean(&approval.id)));
        }
    }
    line("");
    print_end(style, &run);
    Ok(Outcome::Done)
}

async fn act(client: &Client, json: bool, id: &str, verb: &str, payload: Payload<'_>) -> anyhow::Result<Outcome> {
    let path = format!("/workflow-runs/{}/{verb}", segment(id));
    let text = client.send(Method::POST, &path, &[], payload).await?;
    if json {
        json_line(&text);
    } else {
        let RunAnswer { run } = client.parse(&text)?;
        line(&format!("run {} is {}", clean(&run.id), Style::stdout().status(&run.status)));
    }
    Ok(Outcome::Done)
}

/// How a run ended, and what came of it.
pub fn print_end(style: Style, run: &Run) {
    let took = run.duration_ms.map(|ms| format!(" after {}", duration(ms))).unwrap_or_default();
    line(&format!("run is {}{took}", style.status(&run.status)));
    if let Some(error) = &run.error {
        let state = error.state.as_deref().map(|state| format!(" in state '{state}'")).unwrap_or_default();
        let text = format!("{} ({}){state}: {}", error.code, error.category, error.message);
        line(&format!("error   {}", clean(&text)));
    }
    if run.output.0.get() != "null" {
        line(&format!("output  {}", clean(run.output.0.get())));
    }
}

/// What a run's end means for the exit code. A run that has not ended did not fail.
pub fn outcome(run: &Run) -> Outcome {
    match run.status.as_str() {
        "FAILED" | "CANCELLED" | "TIMED_OUT" => Outcome::Failed,
        _ => Outcome::Done,
    }
}
