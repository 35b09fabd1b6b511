//! `caisson plugin new|build|run|test|inspect|dev`: from nothing to a running step, in the author's own language.
//!
//! Everything here is a client of what others may use as well: the published toolchains, the interface's text, the plugin host's own checks,
//! the API. What a plugin may do here is what it may do on a host: the same runtime runs it, with the same limits and grants.
//!
//! Deliberately absent: compilers. A toolchain is somebody else's and is run as a program, and what it says is shown as it says it.

mod build;
mod compare;
mod dev;
mod embedded;
mod grants;
mod inspect;
mod lines;
mod local;
mod mock;
mod new;
mod project;
mod run;
mod sdk;
mod show;
mod stage;
mod test;
mod tool;
mod wake;
mod world;

use clap::Subcommand;

use crate::cli::{Connection, Outcome};

/// What an author can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a plugin from a template.
    New(new::NewArgs),
    /// Build a plugin and put it into a running host whenever a file changes; show what it logs there.
    Dev(dev::DevArgs),
    /// Build a plugin: one .wasm with its manifest inside.
    Build(build::BuildArgs),
    /// Run one action here, without a host.
    Run(run::RunArgs),
    /// Play the cases of a plugin's tests.
    Test(test::TestArgs),
    /// Show what a plugin is, does and asks for. Nothing of it runs.
    Inspect(inspect::InspectArgs),
}

/// Does what was asked.
pub async fn run(command: Command, connection: &Connection) -> anyhow::Result<Outcome> {
    match command {
        Command::New(args) => new::execute(args),
        Command::Dev(args) => dev::execute(args, connection).await,
        Command::Build(args) => build::execute(args, connection.json()).await,
        Command::Run(args) => run::execute(args, connection.json()).await,
        Command::Test(args) => test::execute(args, connection.json()).await,
        Command::Inspect(args) => inspect::execute(args, connection.json()).await,
    }
}
