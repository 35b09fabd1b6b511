//! `caisson sync`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use notify::{RecursiveMode, Watcher};
use reqwest::Method;
use tokio::sync::mpsc;

use super::output::{Style, Table, clean, json_line, line, note, or_dash};
use super::{Connection, Outcome};
use crate::api::environments::{ChangeView, SyncAnswer, SyncBody};
use crate::client::{Client, Payload, segment};
use crate::env::{self, Environment, Problem};
use crate::sync::texts;

/// Saving one file is several events: they are over when nothing came for so long.
const QUIET: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub struct SyncArgs {
    /// A directory with agents/, workflows/, schemas/, or with several of that kind in environments/.
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Goes on, and looks again whenever a file changes.
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
}

pub async fn execute(args: SyncArgs, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    if !args.watch {
        return once(&client, &args, connection.json).await;
    }
    let (sender, mut events) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| !event.kind.is_access()) {
            // Full means that the files will be looked at anyway.
            let _ = sender.try_send(());
        }
    })
    .context("failed to watch files")?;
    watcher
        .watch(&args.dir, RecursiveMode::Recursive)
        .with_context(|| format!("failed to watch {}", args.dir.display()))?;
    // Watched before looked at: what is saved in between is seen by one of the two.
    once(&client, &args, connection.json).await?;
    while events.recv().await.is_some() {
        while let Ok(Some(())) = tokio::time::timeout(QUIET, events.recv()).await {}
        // A host that is away for a moment, or a directory that is being moved: the next change tries again.
        if let Err(error) = once(&client, &args, connection.json).await {
            note(&format!("warning: {}", clean(&format!("{error:#}"))));
        }
    }
    Ok(Outcome::Done)
}

async fn once(client: &Client, args: &SyncArgs, json: bool) -> anyhow::Result<Outcome> {
    let (environments, problems) = read(args.dir.clone()).await?;
    super::serve::report(&problems);
    let mut broken = !problems.is_empty();
    for environment in &environments {
        let path = format!("/environments/{}/sync", segment(&environment.name));
        let query = [("dryRun", args.dry_run.to_string())];
        // Tool servers are programs: a host takes them from its own directories only.
        let files = texts(environment).into_iter().filter(|file| !file.path.starts_with("mcp-servers/")).collect();
        let text = client.send(Method::POST, &path, &query, Payload::json(&SyncBody { files })).await?;
        let answer: SyncAnswer = client.parse(&text)?;
        broken |= answer.changes.iter().any(|change| change.problem.is_some());
        if json {
            json_line(&text);
        } else {
            show(&environment.name, &answer);
        }
    }
    Ok(if broken { Outcome::Failed } else { Outcome::Done })
}

async fn read(dir: PathBuf) -> anyhow::Result<(Vec<Environment>, Vec<Problem>)> {
    let read = tokio::task::spawn_blocking(move || env::read(&[dir])).await.context("failed to read files")?;
    read.map_err(|error| anyhow::anyhow!("failed to {error}"))
}

fn show(environment: &str, answer: &SyncAnswer) {
    let moved: Vec<&ChangeView> = answer.changes.iter().filter(|change| change.action != "unchanged").collect();
    let unchanged = answer.changes.len() - moved.len();
    let what = if answer.dry_run { "would be changed" } else { "changed" };
    line(&format!("{}: {} {what}, {unchanged} as they are", clean(environment), moved.len()));
    if moved.is_empty() {
        return;
    }
    let mut table = Table::new(Style::stdout(), &["ACTION", "KIND", "NAME", "FILE", "PROBLEM"]);
    for change in moved {
        table.row([
            change.action.as_str(),
            or_dash(change.kind.as_deref()),
            &change.name,
            file_name(&change.file),
            or_dash(change.problem.as_deref()),
        ]);
    }
    table.print();
}

fn file_name(path: &str) -> &str {
    Path::new(path).to_str().unwrap_or(path)
}
