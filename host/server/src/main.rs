//! Caisson: a durable workflow engine whose step executors are sealed WebAssembly components.
//!
//! Who imports whom: `cli` speaks to a host by `client`, or makes one by `app`; `app` wires the adapters; `api` is the surface and `serve`
//! its sockets. Only this file and `cli` use `anyhow`.

mod announce;
mod api;
mod app;
mod archive;
mod author;
mod cli;
mod client;
mod clock;
mod demo;
mod env;
mod files;
mod folder;
mod keys;
mod logkeeper;
mod observe;
mod secrets;
mod serve;
mod sync;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::Cli;
use cli::output::note;

/// The variable that says what is logged, as `info,caisson=debug`.
const LOG_VARIABLE: &str = "CAISSON_LOG";

fn main() -> ExitCode {
    // Started by a host to compile a plugin: nothing else of this program belongs into that process.
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    if first == app::COMPILE_COMMAND {
        return caisson_runtime::compile_main(args);
    }
    // The same, to guard a tool server.
    if first == app::GUARD_COMMAND {
        return caisson_tools::guard_main(args);
    }
    let cli = Cli::parse();
    log_to_stderr(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("error: failed to start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli::execute(cli));
    // Threads that read standard input may wait for ever.
    runtime.shutdown_background();
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            note(&format!("error: {error:#}"));
            cli::exit_code(&error)
        }
    }
}

fn log_to_stderr(cli: &Cli) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(cli.log_filter()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if cli.logs_json() {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
