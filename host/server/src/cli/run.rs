//! `caisson run`: a workflow file to its end in this process, or a workflow of a host.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use caisson_core::json::Json;
use clap::Args;
use reqwest::Method;
use tokio::net::TcpListener;

use super::output::{Style, clean, json_line, line};
use super::runs::{outcome, print_end};
use super::serve::{config, report, stop_on_signals};
use super::validate::print_findings;
use super::watch::{Decider, watch};
use super::workflows::save;
use super::{Connection, Environment, HostArgs, Outcome, Usage};
use crate::api::auth::Role;
use crate::api::runs::{RunAnswer, StartBody};
use crate::api::wire::Any;
use crate::api::workflows::SavedAnswer;
use crate::app::Host;
use crate::client::{Client, Error, Payload};
use crate::env::{self, read_text};

/// The largest input that is read: what a request may carry.
const INPUT_BYTES_MAX: u64 = 2 << 20;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// A workflow file, or the id of a workflow of a host.
    #[arg(value_name = "FILE|ID")]
    target: String,
    /// The input: JSON, @FILE, or - for standard input [default: {}].
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// A name for people.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The version, by label or number [default: the one in force].
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Without a host: an environment directory with agents, plugins and models; may be repeated.
    #[arg(long = "env", value_name = "DIR")]
    environments: Vec<PathBuf>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Debug, Args)]
struct Who {
    /// Without a host: who you are, for approvals that name their approvers.
    #[arg(long = "as", value_name = "NAME", default_value = "cli")]
    actor: String,
    /// Without a host: a team of yours; may be repeated.
    #[arg(long = "team", value_name = "NAME")]
    teams: Vec<String>,
}

pub async fn execute(args: RunArgs, connection: &Connection) -> anyhow::Result<Outcome> {
    let input = args.input.as_deref().map(read_value).transpose()?.map(Any);
    let start = StartBody {
        workflow_id: None,
        version: args.version,
        environment: args.environment.environment.clone(),
        input,
        name: args.name,
        project_id: None,
    };
    let file = is_file(&args.target).then(|| PathBuf::from(&args.target));
    match file {
        Some(file) if connection.is_named() => {
            let client = connection.client()?;
            apply_and_run(&client, &file, start, &args.environment, connection.json).await
        }
        Some(file) => {
            embedded(&file, start, &args.environments, args.who, &args.environment, args.host, connection.json).await
        }
        None => {
            let client = connection.client()?;
            start_and_watch(&client, StartBody { workflow_id: Some(args.target), ..start }, connection.json).await
        }
    }
}

fn is_file(target: &str) -> bool {
    let path = Path::new(target);
    path.is_file() || target.contains('/') || env::is_workflow(target)
}

/// A value from the command line: JSON, `@FILE`, or `-` for standard input.
pub fn read_value(text: &str) -> anyhow::Result<Json> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            let bytes = read_text(Path::new(path)).with_context(|| format!("failed to read {path}"))?;
            String::from_utf8(bytes).with_context(|| format!("failed to read {path}"))?
        }
        None if text == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .take(INPUT_BYTES_MAX)
                .read_to_string(&mut text)
                .context("failed to read standard input")?;
            text
        }
        None => text.to_owned(),
    };
    Json::parse(text.trim()).map_err(|error| Usage(format!("this is not JSON: {error}")).into())
}

/// In this process: a host that lives as long as the run.
async fn embedded(
    file: &Path,
    start: StartBody,
    dirs: &[PathBuf],
    who: Who,
    environment: &Environment,
    args: HostArgs,
    json: bool,
) -> anyhow::Result<Outcome> {
    let (environments, problems) = env::read(dirs).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    report(&problems);
    let stop = stop_on_signals()?;
    let temporary = tempfile::tempdir().context("failed to make a temporary directory")?;
    let mut config = config(args, temporary.path().join("data"));
    // Compiled code outlives a temporary directory: compiling takes seconds.
    config.environments = environments;
    let host = Host::start(config, stop.clone()).await.map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    report(&host.problems);
    let key = host.temporary_key(&who.actor, Role::Admin, who.teams).await.context("failed to make a key")?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to listen on this machine")?;
    let client = Client::new(&format!("http://{}", listener.local_addr()?), Some(&key.key))?;
    let api = host.api.clone();
    let serving = tokio::spawn(host.serve(listener));
    let result = tokio::select! {
        result = apply_and_run(&client, file, start, environment, json) => result,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the run had ended")),
    };
    // A key of a kept data directory must not outlive its process.
    if let Err(error) = key.revoke(&api).await {
        tracing::warn!(%error, "the temporary key could not be revoked");
    }
    stop.cancel();
    serving.await.context("failed to stop the host")?;
    result
}

async fn apply_and_run(
    client: &Client,
    file: &Path,
    start: StartBody,
    environment: &Environment,
    json: bool,
) -> anyhow::Result<Outcome> {
    let source = read_text(file).with_context(|| format!("failed to read {}", file.display()))?;
    let text = match save(client, &source, environment).await {
        Ok(text) => text,
        Err(Error::Refused { validation: Some(validation), .. }) => {
            if json {
                json_line(&serde_json::to_string(&serde_json::json!({"file": file, "validation": validation}))?);
            } else {
                print_findings(file, &source, &validation);
            }
            return Ok(Outcome::Failed);
        }
        Err(error) => return Err(error).with_context(|| format!("failed to save {}", file.display())),
    };
    let saved: SavedAnswer = client.parse(&text)?;
    if !json {
        print_findings(file, &source, &saved.validation);
    }
    let version = start.version.or(Some(saved.workflow.version));
    start_and_watch(client, StartBody { workflow_id: Some(saved.workflow.id), version, ..start }, json).await
}

async fn start_and_watch(client: &Client, start: StartBody, json: bool) -> anyhow::Result<Outcome> {
    let text = client.send(Method::POST, "/workflow-runs", &[], Payload::json(&start)).await?;
    let RunAnswer { run } = client.parse(&text)?;
    if !json {
        line(&format!(
            "run {} of {} version {}",
            clean(&run.id),
            clean(&run.workflow_id),
            clean(&run.workflow_version)
        ));
    }
    let decider = if json { Decider::Nobody } else { Decider::ask_or_hint() };
    let run = watch(client, &run.id, decider, json).await?;
    if !matches!(run.status.as_str(), "COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT") {
        bail!("lost sight of run {} while it is {}", run.id, run.status);
    }
    let outcome = outcome(&run);
    if json {
        json_line(&serde_json::to_string(&RunAnswer { run })?);
    } else {
        print_end(Style::stdout(), &run);
    }
    Ok(outcome)
}
