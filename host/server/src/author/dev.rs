//! `caisson plugin dev`: every change is live on a running host in seconds, and what the plugin logs there is shown here.
//!
//! Runs that are under way keep the version that they pinned; the next run uses the new one. What does not build, or what the host refuses,
//! changes nothing: the version before stays.

mod tail;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::build::{self, Effort};
use super::grants::GrantArgs;
use super::project::Project;
use crate::cli::output::{clean, duration, line, note};
use crate::cli::plugins::{Upload, upload};
use crate::cli::{Connection, Environment, Outcome};
use crate::client::Client;
use tail::Tail;
use watch::Watch;

/// Logs are asked for so often: as fast as a person reads.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct DevArgs {
    /// The plugin's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    environment: Environment,
    /// Ends after the plugin was put in force once.
    #[arg(long, hide = true)]
    once: bool,
}

/// Builds, uploads, watches, until it is interrupted.
pub async fn execute(args: DevArgs, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    let environment = args.environment.query().pop().map(|(_, name)| name);
    let id = Project::open(&args.dir)?.manifest.id;
    let mut watch = Watch::start(&args.dir)?;
    let mut tail = Tail::new(client.clone(), &id, environment.clone());
    let mut live = Live { client, environment, args: &args, digest: None };
    line(&format!("watching {}: a change is built and put in force on {}", args.dir.display(), live.client.server()));
    live.swap(Instant::now()).await;
    if args.once {
        return Ok(if live.digest.is_some() { Outcome::Done } else { Outcome::Failed });
    }
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = watch.changed() => {
                let Some(at) = changed else { bail!("the folder cannot be watched any more") };
                live.swap(at).await;
                watch.follow_new_folders()?;
            }
            _ = looks.tick() => tail.look().await,
            stopped = tokio::signal::ctrl_c() => {
                stopped.context("failed to wait for the signal to stop")?;
                return Ok(Outcome::Done);
            }
        }
    }
}

struct Live<'a> {
    client: Client,
    environment: Option<String>,
    args: &'a DevArgs,
    /// What is in force by us.
    digest: Option<String>,
}

impl Live<'_> {
    /// Builds and uploads; what fails is said, and changes nothing.
    async fn swap(&mut self, changed: Instant) {
        if let Err(error) = self.try_swap(changed).await {
            note(&format!("error: {error:#}"));
            note(if self.digest.is_some() { "the version before stays in force" } else { "nothing is in force yet" });
        }
    }

    async fn try_swap(&mut self, changed: Instant) -> anyhow::Result<()> {
        let project = Project::open(&self.args.dir)?;
        let built = build::build(&project, Effort::Sound).await?;
        let took = duration(millis(built.took));
        if self.digest.as_deref() == Some(built.package.digest.as_str()) {
            line(&format!("built in {took}: the same as before"));
            return Ok(());
        }
        let grants = self.args.grants.read(&built.package)?;
        let wish = Upload { environment: self.environment.clone(), grants, config: None, enable: true };
        let sent = Instant::now();
        let plugin = upload(&self.client, built.bytes, &wish).await?.plugin;
        if plugin.status != "ACTIVE" {
            let why = plugin.error.map_or_else(String::new, |error| format!(": {error}"));
            bail!("the host has {} {} as {}{why}", clean(&plugin.id), clean(&plugin.version), clean(&plugin.status));
        }
        line(&format!(
            "live after {}: {} {} ({:.12}), built in {took}, taken in {}",
            duration(millis(changed.elapsed())),
            clean(&plugin.id),
            clean(&plugin.version),
            plugin.digest,
            duration(millis(sent.elapsed())),
        ));
        self.digest = Some(built.package.digest);
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
