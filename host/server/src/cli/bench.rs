//! `caisson bench`: what this build does on this machine, over HTTP, with every commit synchronised to the disk.
//!
//! The host is a process of its own, so that its CPU and the load generator's are counted apart. Each part says what it measured.

mod agents;
mod cluster;
mod host;
mod load;
mod parts;
mod workflows;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::output::{Style, Table, json_line, line};
use super::{Connection, Outcome};
use host::BenchHost;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Sizes that fit a continuous integration run: a tenth and less.
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated.
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "hosts")]
    only: Vec<Part>,
    /// Instead of the parts: so many hosts on one PostgreSQL and JetStream, beside one with embedded parts; several numbers in turn, as 1,2,3.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=16), requires = "database_url")]
    hosts: Vec<u8>,
    /// A PostgreSQL server on which a role may make databases: one is made for each number of hosts, and dropped.
    #[arg(long, value_name = "URL", requires = "hosts")]
    database_url: Option<String>,
    /// A nats-server that nobody else uses [default: one is started, found as `--nats managed` finds it].
    #[arg(long, value_name = "URL", requires = "hosts")]
    nats_url: Option<String>,
    /// The nats-server program.
    #[arg(long, value_name = "PROGRAM", requires = "hosts", conflicts_with = "nats_url")]
    nats_server: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Many runs of five steps at once.
    Throughput,
    /// One run at a time.
    Single,
    /// A fresh instance and one call, without a host around it.
    Instance,
    /// A foreach over many items.
    Foreach,
    /// Runs that wait for an approval.
    Waiting,
    /// A guest that loops beside others that do not.
    Neighbour,
    /// Memory of an idle host.
    Idle,
    /// Agents at once, against a model on the loopback.
    Agents,
}

/// One part's figures.
#[derive(Debug, Serialize)]
pub struct Section {
    name: &'static str,
    /// What was measured, in a sentence.
    measured: String,
    figures: Vec<Figure>,
}

/// A number with a name and a unit.
#[derive(Debug, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Section {
    fn new(name: &'static str, measured: impl Into<String>) -> Self {
        Self { name, measured: measured.into(), figures: Vec::new() }
    }

    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    fn print(&self, style: Style) {
        line("");
        line(&format!("{}: {}", self.name, self.measured));
        let mut table = Table::new(style, &["FIGURE", "VALUE", "UNIT"]);
        for figure in &self.figures {
            table.row([&figure.name, &number(figure.value), figure.unit]);
        }
        table.print();
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.3}"),
        10.0..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub async fn execute(args: BenchArgs, connection: &Connection) -> anyhow::Result<Outcome> {
    let style = Style::stdout();
    let wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut sections = Vec::new();
    let mut done = |section: Section| {
        if !connection.json {
            section.print(style);
        }
        sections.push(section);
    };
    let sizes = if args.quick { parts::Sizes::quick() } else { parts::Sizes::full() };
    if let Some(database_url) = &args.database_url {
        let places =
            cluster::Places { database_url, nats_url: args.nats_url.as_deref(), nats_server: args.nats_server };
        cluster::compare(&args.hosts, places, &sizes, &mut done).await?;
        if connection.json {
            json_line(&report(&sections, args.quick)?);
        }
        return Ok(Outcome::Done);
    }
    let host = if connection.is_named() { BenchHost::remote(connection.client()?) } else { BenchHost::start().await? };
    if !connection.json {
        line(&format!(
            "caisson {} ({} build), {} processors, {}{}",
            env!("CARGO_PKG_VERSION"),
            if cfg!(debug_assertions) { "development" } else { "release" },
            std::thread::available_parallelism().map_or(0, usize::from),
            host.describe(),
            if args.quick { ", quick sizes" } else { "" },
        ));
    }
    let result = async {
        workflows::apply_all(host.client()).await?;
        if wanted(Part::Idle) {
            done(parts::idle(&host).await?);
        }
        if wanted(Part::Instance) {
            done(parts::instance(&sizes).await?);
        }
        if wanted(Part::Single) {
            done(parts::single(&host, &sizes).await?);
        }
        if wanted(Part::Throughput) {
            done(parts::throughput(&host, &sizes).await?);
        }
        if wanted(Part::Foreach) {
            done(parts::foreach(&host, &sizes).await?);
        }
        if wanted(Part::Neighbour) {
            done(parts::neighbour(&host, &sizes).await?);
        }
        if wanted(Part::Waiting) {
            done(parts::waiting(&host, &sizes).await?);
        }
        if wanted(Part::Agents) {
            done(agents::agents().await?);
        }
        anyhow::Ok(())
    }
    .await;
    host.stop().await;
    result?;
    if connection.json {
        json_line(&report(&sections, args.quick)?);
    }
    Ok(Outcome::Done)
}

fn report(sections: &[Section], quick: bool) -> serde_json::Result<String> {
    serde_json::to_string(&serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "development" } else { "release" },
        "quick": quick,
        "sections": sections,
    }))
}
