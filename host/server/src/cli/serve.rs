//! `caisson serve`

use std::path::PathBuf;

use anyhow::Context;
use caisson_core::model::Retention;
use caisson_orchestrator::Load;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::keep::KeepArgs;
use super::output::{line, note};
use super::places::PlaceArgs;
use super::{DATA_DIR, HostArgs, Outcome};
use crate::app::{Config, Host};
use crate::env::{self, Problem};
use crate::keys::First;
use crate::secrets;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    listen: String,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    places: PlaceArgs,
    #[command(flatten)]
    keep: KeepArgs,
    /// A directory with agents/, workflows/, plugins/, models.toml, or with several of that kind; may be repeated.
    #[arg(long = "env", value_name = "DIR")]
    environments: Vec<PathBuf>,
    /// A file with an admin's key; made, for its owner only, if it is not there.
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// How the log on standard error is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

impl ServeArgs {
    /// Whether the log is JSON.
    pub fn logs_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }
}

pub async fn execute(args: ServeArgs) -> anyhow::Result<Outcome> {
    let places = args.places.places()?;
    let kept = args.keep.kept()?;
    let stop = stop_on_signals()?;
    let (environments, problems) = env::read(&args.environments).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    report(&problems);
    // Before anything else is started: an address in use is the most common mistake.
    let listener =
        TcpListener::bind(&args.listen).await.with_context(|| format!("failed to listen on {}", args.listen))?;
    let config = Config {
        environments,
        admin_key_file: args.admin_key_file.clone(),
        database_url: places.database_url,
        nats: places.nats,
        artifacts_dir: places.artifacts_dir,
        lease: places.lease,
        retention: kept.retention,
        archive_dir: kept.archive_dir,
        load: kept.load,
        ..config(args.host, PathBuf::from(DATA_DIR))
    };
    let host = Host::start(config, stop).await.map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    line(&format!("listening on http://{}", listener.local_addr()?));
    match (&host.first_key, &args.admin_key_file) {
        (First::Shown(key), _) => line(&format!("first API key (admin; shown now and never again): {key}")),
        (First::InFile(_), Some(file)) => line(&format!("the admin's API key is in {}", file.display())),
        (First::InFile(_) | First::Existing, _) => {}
    }
    for workflow in &host.registered {
        tracing::info!(workflow, "registered");
    }
    report(&host.problems);
    host.serve(listener).await;
    tracing::info!("stopped");
    Ok(Outcome::Done)
}

/// How a host is set up by its options.
pub fn config(args: HostArgs, data_dir: PathBuf) -> Config {
    Config {
        data_dir: args.data_dir.unwrap_or(data_dir),
        cache_dir: args.cache_dir,
        environments: Vec::new(),
        admin_key_file: None,
        slots: usize::try_from(args.max_steps).unwrap_or(usize::MAX),
        store_bytes_max: args.max_store_mib.map(|mib| mib << 20),
        secrets: secrets::Paths { files: args.secrets_files, dirs: args.secrets_dirs },
        plugin_dirs: args.plugin_dirs,
        otlp_endpoint: args.otlp_endpoint,
        database_url: None,
        nats: None,
        artifacts_dir: None,
        lease: caisson_orchestrator::LEASE,
        retention: Retention::default(),
        archive_dir: None,
        load: Load::default(),
    }
}

/// Files that could not be used, on standard error.
pub fn report(problems: &[Problem]) {
    for problem in problems {
        note(&format!("warning: {}: {}", problem.path.display(), super::output::clean(&problem.message)));
    }
}

/// Cancelled by SIGTERM or SIGINT. A second one ends the process at once.
pub fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let stopping = stop.clone();
    // Ends with the process: it is what ends it.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                note("stopped at once; what ran is attempted again at the next start");
                std::process::exit(1);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}
