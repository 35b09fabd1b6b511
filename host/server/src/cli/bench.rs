//! `caisson bench`: what this build does on this machine, over HTTP, with every commit synchronised to the disk.
//!
//! The host is a process of its own, so that its CPU and the load generator's are counted apart. Each part says what it measured.

mod host;
mod load;
mod parts;
mod workflows;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::output::{Style, Table, line};
use super::{Connection, Outcome};
use host::BenchHost;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Sizes that fit a continuous integration run: a tenth and less.
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
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
        anyhow::Ok(())
    }
    .await;
    host.stop().await;
    result?;
    if connection.json {
        line(&serde_json::to_string(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "build": if cfg!(debug_assertions) { "development" } else { "release" },
            "quick": args.quick,
            "sections": sections,
        }))?);
    }
    Ok(Outcome::Done)
}
