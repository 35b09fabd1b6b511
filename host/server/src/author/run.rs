//! `caisson plugin run`: one action of a plugin, here and now, with real HTTP where it is granted.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use caisson_core::error::Failure;
use caisson_core::json::Json;
use caisson_core::ports::{Outcome as Ended, Resumption, Usage};
use caisson_core::time::Timestamp;
use clap::Args;
use serde_json::{Value, json};

use super::build;
use super::grants::GrantArgs;
use super::lines;
use super::local::{Local, Place, Setup, Turn};
use super::project::Project;
use super::show::size;
use super::stage::{Current, Stage};
use super::wake::{self, Event};
use crate::cli::output::{clean, duration, json_line, line, note};
use crate::cli::run::read_value;
use crate::cli::{Outcome, Usage as WrongUsage};

/// Where the value of a secret is looked up that is named without one.
const SECRET_VARIABLE: &str = "CAISSON_SECRET_";

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The action's name.
    #[arg(value_name = "ACTION")]
    action: String,
    /// The plugin's folder, or a built plugin.
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    target: PathBuf,
    /// The operator's configuration: JSON, @FILE, or - for standard input [default: {}].
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// The input: JSON, @FILE, or - for standard input [default: {}].
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    #[command(flatten)]
    grants: GrantArgs,
    /// A secret; without a value it is taken from the variable `CAISSON_SECRET_NAME`; may be repeated.
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
    /// Sends a signal when the step waits for it; may be repeated.
    #[arg(long = "signal", value_name = "NAME[=JSON]")]
    signals: Vec<String>,
    /// Says yes when the step asks for an approval.
    #[arg(long, conflicts_with = "reject")]
    approve: bool,
    /// Says no when the step asks for an approval.
    #[arg(long)]
    reject: bool,
    /// Lets the time pass for which the step waits.
    #[arg(long)]
    fire_timer: bool,
}

/// Runs it and says what came of it.
pub async fn execute(args: RunArgs, json: bool) -> anyhow::Result<Outcome> {
    let config = args.config.as_deref().map_or_else(|| Ok(Json::of(&json!({}))), read_value)?;
    let input = args.input.as_deref().map_or_else(|| Ok(Json::of(&json!({}))), read_value)?;
    let mut events = Waiting::read(&args)?;
    let current = Arc::new(Current::default());
    let stage = Stage { secrets: secrets(&args.secrets)?, live: Some(lines::show), ..Stage::default() };
    current.set(Arc::new(stage));
    let local = Local::start(component(&args.target).await?, current, Setup::default()).await?;
    let action = local.action(&args.action)?;
    local.place(args.grants.read(&local.package)?.unwrap_or_default(), config).await?;

    let began = std::time::Instant::now();
    let (place, mut turn, mut usage) = (Place::default(), Turn { now: now(), ..Turn::default() }, Usage::default());
    let result = loop {
        let entry = local.enter(&action, &input, &place, turn.clone()).await?.entry;
        usage = usage.plus(entry.usage);
        for warning in &entry.warnings {
            note(&format!("warning: {} ({})", clean(&warning.message), warning.code));
        }
        let Ok(Ended::Suspend(suspension)) = &entry.result else { break entry.result };
        let Some(event) = events.take(suspension) else { break entry.result };
        note(&format!("suspended: {}", clean(&wake::shown(suspension).to_string())));
        note(&format!("woken by {}", clean(&event.to_string())));
        turn = Turn {
            entry: turn.entry + 1,
            now: turn.now.plus_ms(event.due_ms(suspension)),
            resumed: Some(Resumption { state: suspension.state.clone(), wake: event.wake() }),
        };
    };
    let took = duration(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    events.warn();
    show(&result, usage, turn.entry + 1, json)?;
    if !json {
        note(&format!("{} in {took}", used(usage)));
    }
    Ok(if result.is_ok() { Outcome::Done } else { Outcome::Failed })
}

async fn component(target: &Path) -> anyhow::Result<Vec<u8>> {
    if target.is_dir() {
        return Ok(build::current(&Project::open(target)?).await?.bytes);
    }
    std::fs::read(target).with_context(|| format!("failed to read {}", target.display()))
}

fn secrets(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let read = |text: &String| {
        let Some((name, value)) = text.split_once('=') else {
            let variable = format!("{SECRET_VARIABLE}{text}");
            let value = std::env::var(&variable).map_err(|_| {
                WrongUsage(format!("secret '{text}' has no value: write {text}=VALUE, or set {variable}"))
            })?;
            return Ok((text.clone(), value));
        };
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(read).collect()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What the command line has in store for a step that suspends: each is used once, when it fits.
struct Waiting(VecDeque<(String, Event)>);

impl Waiting {
    fn read(args: &RunArgs) -> anyhow::Result<Self> {
        let mut events = VecDeque::new();
        for signal in &args.signals {
            let (name, payload) = match signal.split_once('=') {
                Some((name, payload)) => {
                    (name, read_value(payload).with_context(|| format!("--signal {name}"))?.value())
                }
                None => (signal.as_str(), Value::Null),
            };
            events
                .push_back((format!("--signal {name}"), Event::Signal { name: name.to_owned(), payload, actor: None }));
        }
        for (given, flag, approve) in [(args.approve, "--approve", true), (args.reject, "--reject", false)] {
            if given {
                let actor = Some("local".to_owned());
                events.push_back((flag.to_owned(), Event::Decision { approve, actor, comment: None }));
            }
        }
        if args.fire_timer {
            events.push_back(("--fire-timer".to_owned(), Event::Timer));
        }
        Ok(Self(events))
    }

    fn take(&mut self, suspension: &caisson_core::ports::Suspension) -> Option<Event> {
        let at = self.0.iter().position(|(_, event)| event.fits(suspension).is_ok())?;
        self.0.remove(at).map(|(_, event)| event)
    }

    /// About what was never asked for.
    fn warn(&self) {
        for (flag, _) in &self.0 {
            note(&format!("warning: {} was not used: the step never waited for it", clean(flag)));
        }
    }
}

fn show(result: &Result<Ended, Failure>, usage: Usage, entries: u32, json: bool) -> anyhow::Result<()> {
    if json {
        let mut answer = json!({"usage": usage, "entries": entries});
        let (name, value) = match result {
            Ok(Ended::Done(value)) => ("done", value.value()),
            Ok(Ended::Suspend(suspension)) => ("suspended", wake::shown(suspension)),
            Err(failure) => ("failure", Json::of(failure).value()),
        };
        answer[name] = value;
        json_line(&answer.to_string());
        return Ok(());
    }
    match result {
        Ok(Ended::Done(value)) => json_line(&pretty(&value.value())?),
        Ok(Ended::Suspend(suspension)) => {
            line(&format!("suspended {}", pretty(&wake::shown(suspension))?));
            note(&hint(suspension));
        }
        Err(failure) => {
            line(&format!("failed: {} ({}, {})", clean(&failure.message), failure.code, failure.category.as_str()));
            if let Some(details) = &failure.details {
                json_line(&pretty(&details.value())?);
            }
            if failure.code == "CAPABILITY_DENIED" {
                note("here nothing is granted but by --grant, or by --grant-all for what the manifest asks for");
            }
        }
    }
    Ok(())
}

/// What would wake it.
fn hint(suspension: &caisson_core::ports::Suspension) -> String {
    let signals = suspension.signals.iter().map(|name| format!("--signal '{}={{}}'", clean(name)));
    let others = [
        suspension.approval.as_ref().map(|_| "--approve or --reject".to_owned()),
        suspension.wake_after_ms.map(|_| "--fire-timer".to_owned()),
    ];
    let ways: Vec<String> = signals.chain(others.into_iter().flatten()).collect();
    format!("it would go on with {}", ways.join(", "))
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    // Line by line: what is between them must not steer the terminal.
    Ok(text.lines().map(clean).collect::<Vec<_>>().join("\n"))
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn used(usage: Usage) -> String {
    let cpu = usage.cpu_us as f64 / 1000.0;
    let calls =
        if usage.host_calls == 1 { "1 host call".to_owned() } else { format!("{} host calls", usage.host_calls) };
    format!("CPU {cpu:.1} ms, memory {}, {calls}", size(usage.peak_memory_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_value_or_a_variable() {
        let read = |text: &str| secrets(&[text.to_owned()]);
        assert_eq!(read("A=b=c").expect("it reads").get("A").map(String::as_str), Some("b=c"));
        let error = read("SURELY_NOT_SET").map(drop).expect_err("refused");
        assert!(error.to_string().contains("CAISSON_SECRET_SURELY_NOT_SET"), "{error}");
    }
}
