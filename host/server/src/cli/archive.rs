//! `caisson archive …`: what `--archive-dir` of a host wrote, read without one.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use caisson_core::json::{Json, Payload};
use clap::Subcommand;
use serde::Serialize;

use super::output::{Colour, Style, Table, clean, json_line, line, moment, or_dash, shorten, step_name};
use super::{Connection, Outcome};
use crate::archive::EXTENSION;
use crate::archive::form::{Line, Run, Step};
use crate::archive::read::{self, Verified};

/// Characters of a value in a line.
const VALUE_CHARS_MAX: usize = 100;

#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Verify files: that they are whole, and that each run's events follow from one another.
    Verify {
        /// Files, and directories to look for them in.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Verify a file and show its run.
    Show {
        /// The file.
        file: PathBuf,
    },
}

pub fn execute(command: ArchiveCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    match command {
        ArchiveCommand::Verify { paths } => verify(&paths, connection.json),
        ArchiveCommand::Show { file } => show(&file, connection.json),
    }
}

/// What came of a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding<'a> {
    file: String,
    /// The run, if the file is whole.
    run_id: Option<&'a str>,
    events: Option<u64>,
    /// What is wrong with it.
    problem: Option<String>,
}

#[derive(Default)]
struct Report {
    json: bool,
    whole: u64,
    events: u64,
    damaged: u64,
}

impl Report {
    fn tell(&mut self, file: &Path, read: &Result<Verified, String>) {
        let problem = read.as_ref().err().cloned();
        match read {
            Ok(verified) => {
                self.whole += 1;
                self.events += verified.events;
            }
            Err(problem) => {
                self.damaged += 1;
                if !self.json {
                    let name = file.display().to_string();
                    let text = format!("{}: {}", clean(&name), clean(problem));
                    line(&Style::stdout().paint(Colour::Red, &text));
                }
            }
        }
        if self.json {
            let whole = read.as_ref().ok();
            let run_id = whole.map(|verified| verified.head.run.id.as_str());
            let file = file.display().to_string();
            let finding = Finding { file, run_id, events: whole.map(|verified| verified.events), problem };
            json_line(Json::of(&finding).get());
        }
    }
}

fn verify(paths: &[PathBuf], json: bool) -> anyhow::Result<Outcome> {
    let mut report = Report { json, ..Report::default() };
    for path in paths {
        // What somebody names is read whatever it is called; a link that is named is followed.
        if !path.is_dir() {
            report.tell(path, &read_file(path));
            continue;
        }
        let before = report.whole + report.damaged;
        below(path, |file| report.tell(file, &read_file(file)))?;
        if report.whole + report.damaged == before {
            anyhow::bail!("no archive lies below {}: files of archives end with .{EXTENSION}", path.display());
        }
    }
    if !json {
        let Report { whole, events, damaged, .. } = report;
        let runs = if whole == 1 { "run" } else { "runs" };
        let files = if damaged == 1 { "file" } else { "files" };
        line(&format!("{whole} {runs} verified ({events} events), {damaged} {files} damaged"));
    }
    Ok(if report.damaged > 0 { Outcome::Failed } else { Outcome::Done })
}

fn read_file(path: &Path) -> Result<Verified, String> {
    read::file(path, drop).map_err(|error| error.to_string())
}

/// Every archive below a directory, by name. Links are not followed, and what is hidden is nobody's archive.
fn below(dir: &Path, mut found: impl FnMut(&Path)) -> anyhow::Result<()> {
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let entries = entries(&dir).with_context(|| format!("failed to look into {}", dir.display()))?;
        for (path, kind) in &entries {
            if kind.is_file() && path.extension().is_some_and(|extension| extension == EXTENSION) {
                found(path);
            }
        }
        // The last one is looked into first.
        waiting.extend(entries.into_iter().rev().filter(|(_, kind)| kind.is_dir()).map(|(path, _)| path));
    }
    Ok(())
}

/// What is not hidden in a directory, by name.
fn entries(dir: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push((entry.path(), entry.file_type()?));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

/// A run as it is shown as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    run: &'a Run,
    events: u64,
    steps: &'a [Step],
}

fn show(file: &Path, json: bool) -> anyhow::Result<Outcome> {
    let mut steps = Vec::new();
    let read = read::file(file, |line| {
        if let Line::Step(step) = line {
            steps.push(*step);
        }
    });
    let Verified { head, events } = read.map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let run = head.run;
    if json {
        json_line(Json::of(&Shown { run: &run, events, steps: &steps }).get());
        return Ok(Outcome::Done);
    }
    let style = Style::stdout();
    let value = |payload: &Payload| Json::of(payload).get().to_owned();
    for (name, value) in [
        ("run", run.id.as_str()),
        ("workflow", &format!("{} version {}", run.workflow_id, run.workflow_version)),
        ("environment", &format!("{} of {}", run.environment, run.tenant)),
        ("name", or_dash(run.name.as_deref())),
        ("started by", &run.created_by),
        ("created", &moment(&run.created_at)),
        ("ended", &moment(or_dash(run.completed_at.as_deref()))),
        ("input", &shorten(&value(&run.input), VALUE_CHARS_MAX)),
        ("output", or_dash(run.output.as_ref().map(value).as_deref())),
        ("error", or_dash(run.error.as_ref().map(|error| error.0.get()))),
        ("events", &format!("{events}, verified")),
    ] {
        line(&format!("{name:<12} {}", clean(&shorten(value, VALUE_CHARS_MAX))));
    }
    line(&format!("{:<12} {}", "status", style.status(&run.status)));
    line("");
    let mut table = Table::new(style, &["STEP", "STATUS", "ACTION", "ATTEMPT", "ENDED", "ERROR"]);
    for step in &steps {
        table.row([
            &step_name(&step.branch_path, &step.state),
            &step.status,
            step.action.as_deref().unwrap_or(&step.kind),
            &format!("{}/{}", step.attempt, step.max_attempts),
            &moment(or_dash(step.completed_at.as_deref())),
            or_dash(step.error.as_ref().map(|error| shorten(error.0.get(), VALUE_CHARS_MAX)).as_deref()),
        ]);
    }
    table.print();
    Ok(Outcome::Done)
}
