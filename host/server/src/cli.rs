//! The command line: what can be said, and who does it.
//!
//! Exit codes: 0 it went well, 1 a run or a request failed, 2 the command line itself is wrong.

mod agents;
mod approvals;
mod archive;
mod bench;
mod dead;
mod display;
mod hosts;
mod keep;
mod keys;
pub mod output;
mod places;
pub mod plugins;
pub mod prompt;
pub mod run;
mod runs;
pub mod serve;
mod sessions;
mod sync;
mod tools;
mod up;
mod validate;
mod watch;
mod workflows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use reqwest::Url;

use crate::client::{self, Client, DEFAULT_SERVER, is_loopback};

/// The data directory when none is named.
const DATA_DIR: &str = "./.caisson";

/// The file in a data directory in which `up` keeps its admin's key.
const KEY_FILE: &str = "admin.key";

/// A durable workflow engine whose step executors are sealed WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "caisson", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// Which host, and how its answers are shown.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The host's address [default: port 7070 of this machine].
    #[arg(long, global = true, env = "CAISSON_SERVER", value_name = "URL")]
    server: Option<String>,
    /// The API key [default: of a host on this machine, the one in ./.caisson/admin.key].
    #[arg(long, global = true, env = "CAISSON_KEY", value_name = "KEY", hide_env_values = true)]
    key: Option<String>,
    /// Answers as JSON, as the host gave them.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start with embedded defaults, run a demonstration, keep serving.
    Up(up::UpArgs),
    /// Serve the API.
    Serve(Box<serve::ServeArgs>),
    /// Run a workflow file to its end, or start a workflow of a host.
    Run(run::RunArgs),
    /// Check workflow files.
    Validate(validate::ValidateArgs),
    /// Workflows of a host.
    #[command(subcommand)]
    Workflows(workflows::WorkflowsCommand),
    /// Runs of a host.
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Sessions of a run's agents, and their transcripts.
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Agents of a host.
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Tool servers of a host.
    #[command(subcommand)]
    Tools(tools::ToolsCommand),
    /// Bring a host up to date with an environment's files.
    Sync(sync::SyncArgs),
    /// Approvals of a host.
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// Steps that were given up because every host that took them was lost.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Plugins: those of a host, and writing one.
    #[command(subcommand, visible_alias = "plugins")]
    Plugin(plugins::PluginCommand),
    /// API keys of a host.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// The hosts that work on one store.
    Hosts,
    /// Files in which a host keeps finished runs (`serve --archive-dir`).
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Bring a PostgreSQL database's schema up to date, and nothing else.
    Migrate(places::MigrateArgs),
    /// Measure this build on this machine.
    Bench(bench::BenchArgs),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Done,
    /// The run, or what was asked, failed.
    Failed,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
        }
    }
}

/// What was said on the command line is wrong, although it could be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// How a failed command ends.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    /// As clap ends.
    const USAGE: u8 = 2;
    let usage =
        error.is::<Usage>() || matches!(error.downcast_ref(), Some(client::Error::Address(_) | client::Error::Key));
    if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Does what was asked.
pub async fn execute(cli: Cli) -> anyhow::Result<Outcome> {
    let connection = cli.connection;
    match cli.command {
        Command::Up(args) => up::execute(args).await,
        Command::Serve(args) => serve::execute(*args).await,
        Command::Run(args) => run::execute(args, &connection).await,
        Command::Validate(args) => validate::execute(args, &connection).await,
        Command::Workflows(command) => workflows::execute(command, &connection).await,
        Command::Runs(command) => runs::execute(command, &connection).await,
        Command::Sessions(command) => sessions::execute(command, &connection).await,
        Command::Agents(command) => agents::execute(command, &connection).await,
        Command::Tools(command) => tools::execute(command, &connection).await,
        Command::Sync(args) => sync::execute(args, &connection).await,
        Command::Approvals(command) => approvals::execute(command, &connection).await,
        Command::Dead(command) => dead::execute(command, &connection).await,
        Command::Plugin(command) => plugins::execute(command, &connection).await,
        Command::Keys(command) => keys::execute(command, &connection).await,
        Command::Hosts => hosts::execute(&connection).await,
        Command::Archive(command) => archive::execute(command, &connection),
        Command::Migrate(args) => places::migrate(args).await,
        Command::Bench(args) => bench::execute(args, &connection).await,
    }
}

impl Cli {
    /// How much is written to standard error when nothing else is said.
    pub fn log_filter(&self) -> &'static str {
        match self.command {
            Command::Serve(_) => "info",
            _ => "error",
        }
    }

    /// Whether what is written to standard error is JSON.
    pub fn logs_json(&self) -> bool {
        matches!(&self.command, Command::Serve(args) if args.logs_json())
    }
}

impl Connection {
    /// A client for the host that is meant.
    pub fn client(&self) -> anyhow::Result<Client> {
        let server = self.server.as_deref().unwrap_or(DEFAULT_SERVER);
        let own = match &self.key {
            Some(_) => None,
            None => key_of_this_machine(server),
        };
        Ok(Client::new(server, self.key.as_deref().or(own.as_deref()))?)
    }

    /// Whether a host was named.
    pub fn is_named(&self) -> bool {
        self.server.is_some()
    }

    /// Whether answers are shown as JSON.
    pub fn json(&self) -> bool {
        self.json
    }
}

/// The key that `up` keeps here, for a host on this machine only.
fn key_of_this_machine(server: &str) -> Option<String> {
    let url = Url::parse(server).ok().filter(is_loopback)?;
    drop(url);
    let key = std::fs::read_to_string(Path::new(DATA_DIR).join(KEY_FILE)).ok()?;
    Some(key.trim().to_owned())
}

/// Which environment of the host.
#[derive(Clone, Debug, Default, Args)]
pub struct Environment {
    /// The environment [default: default].
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
}

impl Environment {
    /// As a field of a query.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        self.environment.iter().map(|name| ("environment", name.clone())).collect()
    }
}

/// The host's own options, shared by the commands that start one.
#[derive(Clone, Debug, Args)]
pub struct HostArgs {
    /// Where everything is stored.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where compiled plugins are kept [default: caisson/ in `$XDG_CACHE_HOME` or ~/.cache].
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Steps that may run at once.
    #[arg(long, value_name = "N", default_value_t = crate::app::SLOTS_DEFAULT as u64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    max_steps: u64,
    /// The most that the database may hold, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    max_store_mib: Option<u64>,
    /// A TOML file of secrets: [ENVIRONMENT] with NAME = "…" below; may be repeated.
    #[arg(long = "secrets-file", value_name = "FILE")]
    secrets_files: Vec<PathBuf>,
    /// A directory of secrets, a file each: DIR/NAME or DIR/ENVIRONMENT/NAME; may be repeated.
    #[arg(long = "secrets-dir", value_name = "DIR")]
    secrets_dirs: Vec<PathBuf>,
    /// A directory that plugins may be installed from by a file:// address; may be repeated.
    #[arg(long = "plugin-dir", value_name = "DIR")]
    plugin_dirs: Vec<PathBuf>,
    /// An OpenTelemetry collector for traces, by OTLP over HTTP, as `http://HOST:4318`.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<Url>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_ends_with_2() {
        for line in [
            "caisson",
            "caisson nonsense",
            "caisson serve --listen",
            "caisson serve --max-steps 0",
            "caisson serve --backlog-max 0",
            "caisson serve --retain-runs soon",
            "caisson run",
            "caisson validate",
            "caisson runs",
            "caisson runs show",
            "caisson runs signal one",
            "caisson approvals approve",
            "caisson workflows apply",
            "caisson dead show one",
            "caisson tools show",
            "caisson archive",
            "caisson archive verify",
            "caisson archive show",
            "caisson sessions list",
            "caisson sessions logs run",
            "caisson keys create",
            "caisson keys create bob --role king",
            "caisson runs list --limit 0",
            "caisson plugin inspect",
            "caisson plugin show",
            "caisson plugin install",
            "caisson plugin grant",
            "caisson plugin diff notify",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    /// Commands as pages show them, one by one: without their comments, and with quotes as a shell reads them.
    fn shown(page: &str) -> impl Iterator<Item = Vec<String>> {
        let fenced = page.split("```").skip(1).step_by(2).flat_map(str::lines);
        fenced.filter(|line| line.starts_with("caisson ")).map(|line| {
            let (mut words, mut quote) = (vec![String::new()], None);
            for c in line.split(" #").next().unwrap_or_default().trim().chars() {
                match (quote, c) {
                    (Some(open), c) if c == open => quote = None,
                    (None, '\'' | '"') => quote = Some(c),
                    (None, ' ') => words.push(String::new()),
                    (_, c) => words.last_mut().expect("a word").push(c),
                }
            }
            words.retain(|word| !word.is_empty());
            words
        })
    }

    #[test]
    fn every_command_that_a_page_shows_is_understood() {
        let pages = [
            include_str!("../../../README.md"),
            include_str!("../../../docs/agents.md"),
            include_str!("../../../docs/deploy.md"),
            include_str!("../../../docs/nats.md"),
            include_str!("../../../docs/plugins.md"),
        ];
        let mut count = 0;
        for words in pages.into_iter().flat_map(shown) {
            // `a | b` and `a, b` name several; `…` stands for more.
            if words.iter().any(|word| word == "|" || word == "&" || word.contains('…') || word.ends_with(',')) {
                continue;
            }
            count += 1;
            assert!(Cli::try_parse_from(&words).is_ok(), "{}", words.join(" "));
        }
        assert!(count >= 20, "{count} commands are found");
    }

    #[test]
    fn every_command_of_the_documentation_is_understood() {
        for line in [
            "caisson up --once",
            "caisson serve --listen 127.0.0.1:0 --data-dir d --env a --env b --admin-key-file k",
            "caisson run f.workflow.yaml --input {} --env e --as alice --team sre --team dba",
            "caisson run some-id --input @file --server http://h --key k",
            "caisson validate a b --json --env e",
            "caisson workflows apply a b",
            "caisson workflows disable a --environment prod",
            "caisson runs list --workflow w --status FAILED,RUNNING",
            "caisson runs signal id name --payload {} --correlation c",
            "caisson runs cancel id --reason because",
            "caisson approvals approve id --comment fine",
            "caisson sessions list run --step s",
            "caisson sessions show run session",
            "caisson sessions logs run session",
            "caisson dead list --environment prod",
            "caisson dead show run step",
            "caisson dead replay run step",
            "caisson keys create bob --role viewer --team a --team b",
            "caisson plugin inspect p.wasm",
            "caisson plugins list --environment prod",
            "caisson plugin show notify 1.0.0",
            "caisson plugin install p.wasm --grant kv --grant http:a.example --config {} --yes",
            "caisson plugin grant notify http:hooks.example.com secrets:TOKEN",
            "caisson plugin grant notify --as-asked --version 2 -y",
            "caisson plugin enable notify 2",
            "caisson plugin disable notify",
            "caisson plugin rollback notify",
            "caisson plugin remove notify 1 --yes",
            "caisson plugin diff notify 2",
            "caisson serve --secrets-file s.toml --secrets-dir s --plugin-dir p",
            "caisson serve --retain-payloads 30d --retain-runs P90D --backlog-max 1000",
            "caisson agents run triage --input {}",
            "caisson sync environments --dry-run",
            "caisson tools list --environment prod",
            "caisson tools show everything",
            "caisson hosts --json",
            "caisson serve --archive-dir a",
            "caisson archive verify a b.jsonl --json",
            "caisson archive show b.jsonl",
            "caisson bench --quick --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
