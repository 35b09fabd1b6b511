//! Plays one case: sets the stage, enters the action, wakes it as often as the case says.

use std::sync::Arc;

use anyhow::Context;
use caisson_core::json::Json;
use caisson_core::ports::{Effect, Journal, LogLine, Outcome, Resumption, Usage};
use caisson_runtime::model::{AgentSpec, Scripted};
use serde_json::{Map, Value, json};

use super::super::compare::{DIFFERENCES_MAX, Difference, Mode, differences, shown};
use super::super::local::{Local, Place, Ran, Turn};
use super::super::mock::Expectations;
use super::super::stage::Stage;
use super::super::{lines, wake};
use super::case::Case;
use super::verdict::{self, Ended};

/// The model that answers in cases.
const MODEL: &str = "case";
/// The realm's environment has these agents.
const ENVIRONMENT: &str = "default";

/// What came of a case.
pub struct Played {
    /// What is not as expected; nothing if it passed.
    pub problems: Vec<Difference>,
    /// How often the action was entered.
    pub entries: u32,
    /// What all entries used.
    pub usage: Usage,
    /// What they executed.
    pub fuel: Option<u64>,
    /// How far the clock was moved.
    pub elapsed_ms: u64,
    /// What was logged.
    pub lines: Vec<String>,
}

/// Plays a case. An error is a fault of the case or of this machine, not of the plugin.
pub async fn play(local: &Local, case: &Case, replay: bool) -> anyhow::Result<Played> {
    let place = case.place();
    let stage = Arc::new(stage(local, case, &place).await?);
    local.current.set(Arc::clone(&stage));
    set_models(local, &case.models, &stage)?;
    let grants = case.grants.clone().unwrap_or_else(|| local.package.asks.clone());
    local.place(grants, Json::of(&case.config)).await?;
    let mut show = Show {
        local,
        case,
        place,
        stage,
        replay,
        turn: Turn { now: case.now(), ..Turn::default() },
        played: Played::new(),
    };
    show.run().await?;
    Ok(show.played)
}

async fn stage(local: &Local, case: &Case, place: &Place) -> anyhow::Result<Stage> {
    let stage = Stage {
        secrets: case.secrets.clone(),
        http: Expectations::new(case.http.clone()),
        tools: Expectations::new(case.tools.clone()),
        ..Stage::default()
    };
    let scope = local.kv_scope(place);
    let preset = case.kv.iter().map(|(key, value)| Effect::SetKey {
        scope: scope.clone(),
        key: key.clone(),
        value: stored(value),
        max_keys: u64::MAX,
        max_bytes: u64::MAX,
    });
    stage.journal.apply(&preset.collect::<Vec<_>>()).await.context("kv")?;
    Ok(stage)
}

/// A text is its bytes, anything else its JSON.
pub fn stored(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// The agents of a case may call whatever tool it has: what they may is in files that a case does not know.
fn set_models(local: &Local, models: &Map<String, Value>, stage: &Stage) -> anyhow::Result<()> {
    let script = Scripted::parse(&json!({"agents": models}).to_string()).context("models")?;
    local.models.set_provider(MODEL, Arc::new(script));
    let tools: Vec<String> = stage.tools.names().into_iter().collect();
    let agents = models
        .keys()
        .map(|name| AgentSpec { tools: tools.clone(), ..AgentSpec::new(name, format!("{MODEL}/{name}"), "") });
    local.models.set_agents(ENVIRONMENT, agents);
    Ok(())
}

impl Played {
    fn new() -> Self {
        Self { problems: Vec::new(), entries: 0, usage: Usage::default(), fuel: None, elapsed_ms: 0, lines: Vec::new() }
    }

    fn problem(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(Difference::new(path, problem));
    }
}

/// A case that is being played.
struct Show<'a> {
    local: &'a Local,
    case: &'a Case,
    place: Place,
    stage: Arc<Stage>,
    replay: bool,
    turn: Turn,
    played: Played,
}

impl Show<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        let action = self.local.action(&self.case.action)?;
        let input = Json::of(&self.case.input);
        let mut wakes = self.case.wakes.iter().enumerate();
        let ended = loop {
            let ended = self.enter(&action, &input).await?;
            let Some((at, waking)) = wakes.next() else { break ended };
            let Ok(Outcome::Suspend(suspension)) = &ended else {
                self.played.problem(format!("wakes[{at}]"), "the step did not suspend, so there is nothing to wake");
                break ended;
            };
            if let Some(expected) = &waking.suspended {
                let path = format!("wakes[{at}].suspended");
                let found = differences(&path, expected, &wake::shown(suspension), Mode::Subset);
                self.played.problems.extend(found);
            }
            let event = waking.event().map_err(|problem| anyhow::anyhow!("wakes[{at}]: {problem}"))?;
            if let Err(problem) = event.fits(suspension) {
                self.played.problem(format!("wakes[{at}]"), problem);
                break ended;
            }
            let jump = waking.after_ms.unwrap_or_else(|| event.due_ms(suspension));
            self.played.elapsed_ms += jump;
            self.turn = Turn {
                entry: self.turn.entry + 1,
                now: self.turn.now.plus_ms(jump),
                resumed: Some(Resumption { state: suspension.state.clone(), wake: event.wake() }),
            };
        };
        let expect = &self.case.expect;
        self.played.lines = self.stage.lines.lock().iter().map(lines::text).collect();
        self.played.problems.extend(self.stage.http.problems());
        self.played.problems.extend(self.stage.tools.problems());
        self.played.problems.extend(verdict::end(expect, &ended));
        let around = verdict::around(self.local, &self.stage, &self.place, expect, &self.played.lines).await?;
        self.played.problems.extend(around);
        if let Some(expected) = expect.elapsed_ms.filter(|expected| *expected != self.played.elapsed_ms) {
            self.played.problem("elapsedMs", format!("expected {expected}, got {}", self.played.elapsed_ms));
        }
        self.played.problems.truncate(DIFFERENCES_MAX);
        Ok(())
    }

    async fn enter(&mut self, action: &Arc<str>, input: &Json) -> anyhow::Result<Ended> {
        let Ran { entry, fuel } = self.local.enter(action, input, &self.place, self.turn.clone()).await?;
        self.played.entries += 1;
        self.played.usage = self.played.usage.plus(entry.usage);
        self.played.fuel = fuel.map(|fuel| fuel + self.played.fuel.unwrap_or(0));
        for warning in &entry.warnings {
            self.played.problem("warning", format!("{}: {}", warning.code, warning.message));
        }
        if self.replay {
            self.replayed(action, input, &entry.result).await?;
        }
        Ok(entry.result)
    }

    /// The same entry on a host that found its records. What it logs then was logged before.
    async fn replayed(&mut self, action: &Arc<str>, input: &Json, first: &Ended) -> anyhow::Result<()> {
        let before: Vec<LogLine> = self.stage.lines.lock().clone();
        let second = self.local.enter(action, input, &self.place, self.turn.clone()).await?.entry.result;
        *self.stage.lines.lock() = before;
        if second != *first {
            let (first, second) = (shown(&verdict::ended(first)), shown(&verdict::ended(&second)));
            let path = format!("replay of entry {}", self.turn.entry);
            self.played.problem(path, format!("first it gave {first}, from its journal it gives {second}"));
        }
        Ok(())
    }
}
