//! Where a host keeps runs and how it shares work: the options of one process, of one host with NATS, and of many hosts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::output::line;
use super::{Outcome, Usage};
use crate::app::{NatsAt, NatsConfig};

/// The options.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// PostgreSQL, for runs that many hosts share [default: SQLite in the data directory].
    #[arg(long, env = "CAISSON_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Start a nats-server of this host's own, with its data in the data directory.
    #[arg(long, value_enum, value_name = "managed", conflicts_with = "nats_urls")]
    nats: Option<NatsMode>,
    /// NATS with JetStream, over which hosts share work; may be repeated for a cluster's servers.
    #[arg(
        long = "nats-url",
        env = "CAISSON_NATS_URL",
        value_name = "URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    nats_urls: Vec<String>,
    /// A credentials file for NATS.
    #[arg(long, value_name = "FILE", requires = "nats_urls")]
    nats_creds: Option<PathBuf>,
    /// A file that holds a token for NATS.
    #[arg(long, value_name = "FILE", requires = "nats_urls")]
    nats_token_file: Option<PathBuf>,
    /// Roots to trust for NATS over TLS, beside the system's (PEM).
    #[arg(long, value_name = "FILE", requires = "nats_urls")]
    nats_ca: Option<PathBuf>,
    /// This host's certificate for NATS (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["nats_urls", "nats_key"])]
    nats_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "nats_cert")]
    nats_key: Option<PathBuf>,
    /// Copies of each stream in a NATS cluster.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    nats_replicas: u8,
    /// The nats-server program for `--nats managed` [default: nats-server in the PATH].
    #[arg(long, value_name = "PROGRAM", requires = "nats")]
    nats_server: Option<PathBuf>,
    /// Other hosts take this one's steps when they have not heard of it for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = caisson_orchestrator::LEASE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=600))]
    lease_seconds: u64,
    /// Where files of steps are kept: many hosts need a directory that they share [default: in the data directory].
    #[arg(long, value_name = "DIR")]
    artifacts_dir: Option<PathBuf>,
}

/// Who runs NATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NatsMode {
    /// This host.
    Managed,
}

/// What they mean.
pub struct Places {
    /// PostgreSQL.
    pub database_url: Option<String>,
    /// NATS.
    pub nats: Option<NatsConfig>,
    /// Where files of steps are kept.
    pub artifacts_dir: Option<PathBuf>,
    /// How long the host counts as alive after a beat.
    pub lease: Duration,
}

impl PlaceArgs {
    /// Together they have to make sense.
    pub fn places(self) -> Result<Places, Usage> {
        let nats = match self.nats {
            Some(NatsMode::Managed) => Some(NatsConfig::Managed { program: self.nats_server }),
            None if self.nats_urls.is_empty() => None,
            None => Some(NatsConfig::At(NatsAt {
                urls: self.nats_urls,
                credentials: self.nats_creds,
                token_file: self.nats_token_file,
                ca: self.nats_ca,
                certificate: self.nats_cert.zip(self.nats_key),
                replicas: self.nats_replicas.into(),
            })),
        };
        if self.database_url.is_some() && nats.is_none() {
            let message =
                "--database-url is for many hosts, and they share work over NATS: add --nats-url, or --nats managed";
            return Err(Usage(message.to_owned()));
        }
        Ok(Places {
            database_url: self.database_url,
            nats,
            artifacts_dir: self.artifacts_dir,
            lease: Duration::from_secs(self.lease_seconds),
        })
    }
}

/// `caisson migrate`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The database. A host does this by itself when it starts; this is for those who want to do it before.
    #[arg(long, env = "CAISSON_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
}

/// Brings a schema up to date. Who comes second waits, and finds nothing to do.
pub async fn migrate(args: MigrateArgs) -> anyhow::Result<Outcome> {
    let done = caisson_store::migrate(&args.database_url).await;
    done.map_err(|error| anyhow::anyhow!("failed to migrate the database: {error}"))?;
    line("the schema is up to date");
    Ok(Outcome::Done)
}
