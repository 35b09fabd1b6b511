//! `caisson plugin test`: cases in files, played on the real runtime with its limits and grants; only what lies outside is an actor.

mod case;
mod play;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::build;
use super::compare::Difference;
use super::local::{Local, Setup};
use super::project::Project;
use super::show::size;
use super::stage::Current;
use crate::cli::Outcome;
use crate::cli::output::{Colour, Style, clean, line};
use case::Case;
use play::Played;

/// Where a plugin's cases are.
const FOLDER: &str = "tests";
const ENDS: [&str; 3] = [".test.yaml", ".test.yml", ".test.json"];

#[derive(Debug, Args)]
pub struct TestArgs {
    /// The plugin's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Only cases with this in their name or their file's.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Plays each entry again from its journal, as after a crash of the host: it has to do the same.
    #[arg(long)]
    replay: bool,
}

/// Plays all cases and says how each ended.
pub async fn execute(args: TestArgs, json: bool) -> anyhow::Result<Outcome> {
    let project = Project::open(&args.dir)?;
    let files = files(&project.dir.join(FOLDER))?;
    let mut all = Vec::new();
    for path in &files {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let cases = case::read(path).with_context(|| format!("{FOLDER}/{name}"))?;
        all.extend(cases.into_iter().map(|case| (name.clone(), case)));
    }
    if let Some(filter) = &args.filter {
        all.retain(|(file, case)| file.contains(filter.as_str()) || case.name.contains(filter.as_str()));
    }
    if all.is_empty() {
        bail!(
            "there is no case to play: write one in {FOLDER}/NAME.test.yaml{}",
            if args.filter.is_some() { ", or another --filter" } else { "" }
        );
    }
    let built = build::current(&project).await?;
    let setup = Setup { mocked: true, fuel: true };
    let local = Local::start(built.bytes, Arc::new(Current::default()), setup).await?;
    let mut failed = 0;
    for (file, case) in &all {
        let played = play::play(&local, case, args.replay).await.with_context(|| format!("{file}: {}", case.name))?;
        failed += usize::from(!played.problems.is_empty());
        if json { line(&answer(file, case, &played).to_string()) } else { report(file, case, &played) }
    }
    if !json {
        // As test runners say it.
        line(&format!("{} passed, {failed} failed", all.len() - failed));
    }
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Failed })
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if ENDS.iter().any(|end| name.ends_with(end)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn answer(file: &str, case: &Case, played: &Played) -> Value {
    let problems: Vec<Value> =
        played.problems.iter().map(|one| json!({"path": one.path, "problem": one.problem})).collect();
    json!({
        "file": file, "case": case.name, "passed": problems.is_empty(), "problems": problems,
        "entries": played.entries, "usage": played.usage, "fuel": played.fuel, "elapsedMs": played.elapsed_ms,
    })
}

fn report(file: &str, case: &Case, played: &Played) {
    let style = Style::stdout();
    let (word, colour) = if played.problems.is_empty() { ("ok  ", Colour::Green) } else { ("FAIL", Colour::Red) };
    line(&format!("{} {}", style.paint(colour, word), clean(&format!("{file}: {}  ({})", case.name, used(played)))));
    for Difference { path, problem } in &played.problems {
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        line(&format!("       {}", clean(&format!("{path}{problem}"))));
    }
    if !played.problems.is_empty() {
        for text in &played.lines {
            line(&format!("       | {}", clean(text)));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn used(played: &Played) -> String {
    let cpu = played.usage.cpu_us as f64 / 1000.0;
    let fuel = played.fuel.map_or_else(String::new, |fuel| format!(", fuel {}", grouped(fuel)));
    let entries = if played.entries == 1 { String::new() } else { format!("{} entries, ", played.entries) };
    format!("{entries}CPU {cpu:.1} ms{fuel}, memory {}", size(played.usage.peak_memory_bytes))
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
