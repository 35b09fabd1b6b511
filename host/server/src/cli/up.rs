//! `caisson up`: embedded defaults, a demonstration, and a host that keeps serving.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use caisson_core::json::Json;
use clap::Args;
use tokio::net::TcpListener;

use super::output::{Colour, Style, clean, line};
use super::prompt::{Lines, is_interactive};
use super::runs::{outcome, print_end};
use super::serve::{config, report, stop_on_signals};
use super::watch::{Decider, watch};
use super::{DATA_DIR, HostArgs, KEY_FILE, Outcome};
use crate::api::auth::{DEFAULT_ENVIRONMENT, Role};
use crate::api::runs::{RunAnswer, StartBody};
use crate::api::wire::Any;
use crate::app::Host;
use crate::client::{Client, DEFAULT_SERVER, Payload};
use crate::demo;
use crate::keys::First;

/// The port, if it is free.
const PORT: u16 = 7070;

/// Ports tried after it: somebody who has twenty hosts running can name one.
const PORTS_TRIED: u16 = 20;

/// Who decides where there is no terminal.
const STAND_IN: &str = "demo-approver";

#[derive(Debug, Args)]
pub struct UpArgs {
    /// End after the demonstration, with its exit code.
    #[arg(long, visible_alias = "exit")]
    once: bool,
    /// Where to listen [default: 127.0.0.1:7070, or the next free port].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

pub async fn execute(args: UpArgs) -> anyhow::Result<Outcome> {
    let style = Style::stdout();
    let stop = stop_on_signals()?;
    let listener = listen(args.listen.as_deref()).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut config = config(args.host, PathBuf::from(DATA_DIR));
    let key_file = config.data_dir.join(KEY_FILE);
    config.environments = vec![demo::environment()];
    config.admin_key_file = Some(key_file.clone());
    introduce(style, &config.data_dir, &url);

    let host = Host::start(config, stop.clone()).await.map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    report(&host.problems);
    let First::InFile(key) = host.first_key.clone() else {
        anyhow::bail!("failed to read the key of {}", key_file.display())
    };
    let client = Client::new(&url, Some(&key))?;
    let stand_in = host.temporary_key(STAND_IN, Role::Approver, Vec::new()).await.context("failed to make a key")?;
    let stand_in_client = Client::new(&url, Some(&stand_in.key))?;
    let api = host.api.clone();
    let serving = tokio::spawn(host.serve(listener));

    let demonstration = tokio::select! {
        result = demonstrate(style, &client, stand_in_client) => Some(result),
        () = stop.cancelled() => None,
    };
    if let Err(error) = stand_in.revoke(&api).await {
        tracing::warn!(%error, "the stand-in's key could not be revoked");
    }
    let mut result = Ok(Outcome::Done);
    if let Some(demonstrated) = demonstration {
        match demonstrated {
            Ok((run, ended)) => {
                if !args.once {
                    where_next(style, &url, &key, &key_file, &run);
                }
                result = Ok(ended);
            }
            Err(error) => result = Err(error),
        }
        if args.once || result.is_err() {
            stop.cancel();
        } else {
            line("Serving until Ctrl-C.");
        }
    }
    serving.await.context("failed to stop the host")?;
    // Whoever keeps it serving ends it with a signal: that is no failure of the demonstration.
    if args.once { result } else { result.map(|_| Outcome::Done) }
}

async fn listen(address: Option<&str>) -> anyhow::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"));
    }
    for port in PORT..=PORT + PORTS_TRIED {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other.with_context(|| format!("failed to listen on 127.0.0.1:{port}")),
        }
    }
    anyhow::bail!("failed to listen: the ports {PORT} to {} are all in use", PORT + PORTS_TRIED)
}

fn introduce(style: Style, data_dir: &Path, url: &str) {
    line(&style.paint(Colour::Green, &format!("caisson {}", env!("CARGO_PKG_VERSION"))));
    line(&format!("  stores everything in {} (SQLite; delete it to start over)", data_dir.display()));
    line(&format!("  serves on {url}"));
    line(
        "  runs the workflow incident-triage: two checks side by side, a decision, your approval, a repair, a message",
    );
    line("  agents are answered by a scripted model, no LLM is called");
    if !data_dir.join("cache").is_dir() {
        line("  compiles its built-in plugins: that is once, and takes some seconds");
    }
    line("");
}

async fn demonstrate(style: Style, client: &Client, stand_in: Client) -> anyhow::Result<(String, Outcome)> {
    let start = StartBody {
        workflow_id: Some(demo::WORKFLOW.to_owned()),
        input: Some(Any(Json::parse(demo::INPUT).context("failed to read the demonstration's input")?)),
        ..StartBody::default()
    };
    let text = client.send(reqwest::Method::POST, "/workflow-runs", &[], Payload::json(&start)).await?;
    let RunAnswer { run } = client.parse(&text)?;
    line(&format!("run {} of {} with input {}", clean(&run.id), demo::WORKFLOW, demo::INPUT));
    let decider = if is_interactive() {
        Decider::Person(Lines::start())
    } else {
        Decider::StandIn { name: STAND_IN, client: stand_in }
    };
    let run = watch(client, &run.id, decider, false).await?;
    line("");
    print_end(style, &run);
    Ok((run.id.clone(), outcome(&run)))
}

/// Where to look next. The commands work as they stand, from this directory.
fn where_next(style: Style, url: &str, key: &str, key_file: &Path, run: &str) {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().map_or("caisson", |path| path.to_str().unwrap_or("caisson"));
    let program = std::env::current_dir()
        .ok()
        .and_then(|dir| Some(format!("./{}", Path::new(program).strip_prefix(dir).ok()?.display())))
        .unwrap_or_else(|| program.to_owned());
    let server = if url == DEFAULT_SERVER { String::new() } else { format!(" --server {url}") };
    let kept = key_file == Path::new(DATA_DIR).join(KEY_FILE);
    let key_option = if kept { String::new() } else { format!(" --key \"$(cat '{}')\"", key_file.display()) };
    let options = format!("{server}{key_option}");
    line("");
    line(&style.paint(Colour::Green, "Where to look next"));
    line(&format!("  URL  {url}   (API under {url}/api/v1, described by {url}/api/v1/openapi.json)"));
    line(&format!("  key  {key}   (admin; kept in {})", key_file.display()));
    line("  try");
    line(&format!("    {program} runs show {run}{options}"));
    line(&format!("    {program} workflows show {} --environment {DEFAULT_ENVIRONMENT}{options}", demo::WORKFLOW));
    line(&format!(
        "    curl -s -H \"Authorization: Bearer $(cat '{}')\" {url}/api/v1/workflow-runs/{run}/events",
        key_file.display()
    ));
    line("");
}
