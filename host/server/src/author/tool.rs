//! Other people's programs: cargo, npm, pip. What they print is shown as they print it.

use std::io;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::cli::output::note;

/// A program to run in a folder. Its output goes to standard error, so that ours stays clean.
pub struct Tool {
    command: Command,
    name: String,
    shown: String,
}

impl Tool {
    /// Runs in that folder; ends when it is dropped.
    pub fn new(name: &str, folder: &Path) -> Self {
        let mut command = Command::new(name);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let shown =
            Path::new(name).file_name().map_or_else(|| name.to_owned(), |name| name.to_string_lossy().into_owned());
        Self { command, name: shown.clone(), shown }
    }

    /// Adds arguments.
    pub fn args<I: AsRef<str>>(mut self, args: impl IntoIterator<Item = I>) -> Self {
        for arg in args {
            self.command.arg(arg.as_ref());
            self.shown.push(' ');
            self.shown.push_str(arg.as_ref());
        }
        self
    }

    /// Runs it after saying so.
    pub async fn run(mut self) -> anyhow::Result<()> {
        note(&format!("running {}", self.shown));
        let status = self.command.status().await.map_err(|error| missing(&self.name, error))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Runs it after saying so, and gives what it wrote to standard output.
    pub async fn output(mut self) -> anyhow::Result<Vec<u8>> {
        note(&format!("running {}", self.shown));
        let output = self.captured().await?;
        if !output.status.success() {
            bail!("`{}` ended with {}", self.shown, output.status);
        }
        Ok(output.stdout)
    }

    /// Runs it without a word, and gives what it wrote to standard output; `None` if it failed.
    pub async fn ask(mut self) -> anyhow::Result<Option<String>> {
        self.command.stderr(Stdio::null());
        let output = self.captured().await?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

impl Tool {
    /// `Command::output` would capture standard error too, and an author would not see how far a build is.
    async fn captured(&mut self) -> anyhow::Result<Output> {
        let child = self.command.stdout(Stdio::piped()).spawn().map_err(|error| missing(&self.name, error))?;
        child.wait_with_output().await.with_context(|| format!("failed to run {}", self.name))
    }
}

fn missing(name: &str, error: io::Error) -> anyhow::Error {
    let found = error.kind() != io::ErrorKind::NotFound;
    let error = anyhow::Error::new(error);
    if found {
        return error.context(format!("failed to run {name}"));
    }
    error.context(match name {
        "cargo" | "rustc" | "rustup" => format!("{name} is not here: install Rust with rustup"),
        "npm" | "npx" | "node" => format!("{name} is not here: install Node.js"),
        "python3" => "python3 is not here: install Python 3 with venv".to_owned(),
        _ => format!("{name} is not here"),
    })
}

/// The bytes that a tool was to write.
pub fn result(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("the tools wrote no {}", path.display()))
}
