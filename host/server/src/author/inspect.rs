//! `caisson plugin inspect`: what a file is, does and wants. Nothing of it runs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::build;
use super::project::{MANIFEST, Project};
use super::show::{answer, print};
use crate::cli::Outcome;
use crate::cli::output::json_line;

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A built plugin, or a plugin's folder (what is built there).
    #[arg(value_name = "FILE|DIR")]
    target: PathBuf,
}

/// Shows a file.
pub async fn execute(args: InspectArgs, json: bool) -> anyhow::Result<Outcome> {
    let package = if args.target.is_dir() || args.target.ends_with(MANIFEST) {
        let dir = if args.target.is_dir() { &*args.target } else { args.target.parent().unwrap_or(Path::new(".")) };
        build::current(&Project::open(dir)?).await?.package
    } else {
        let shown = args.target.display();
        let bytes = std::fs::read(&args.target).with_context(|| format!("failed to read {shown}"))?;
        caisson_runtime::inspect(&bytes).with_context(|| shown.to_string())?
    };
    if json {
        json_line(&serde_json::to_string(&answer(&package))?);
    } else {
        print(&package);
    }
    Ok(Outcome::Done)
}
