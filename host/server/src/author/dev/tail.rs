//! What a plugin's steps log on a host, as far as a person can follow it.
//!
//! Asked for by the API, run by run: there is no stream over all runs, and a run may be over before anybody could listen to its own.

use std::collections::{BTreeMap, BTreeSet};

use super::super::lines;
use crate::api::logs::LogList;
use crate::api::runs::RunList;
use crate::api::steps::StepList;
use crate::api::wire::{LogLine, Run, Step};
use crate::cli::output::{clean, line, note};
use crate::client::{Client, Error, segment};

/// Runs that are followed at once: more than a person reads.
const RUNS_MAX: usize = 20;
/// A run that has ended is looked at so often again: its last lines are stored a moment later.
const LAST_LOOKS: u32 = 4;
/// Lines of one look.
const PAGE: u32 = 500;
/// Of an id.
const ID_CHARS: usize = 8;

/// Shows what the steps of one plugin do.
pub struct Tail {
    client: Client,
    /// What the names of its actions begin with.
    prefix: String,
    environment: Option<String>,
    runs: BTreeMap<String, Followed>,
    /// Not to be looked at (again).
    done: BTreeSet<String>,
    /// Whether the runs that there were at the start are known.
    begun: bool,
    /// Whether it was said that the host does not answer.
    silent: bool,
}

#[derive(Default)]
struct Followed {
    /// Where the page begins that holds the last lines.
    cursor: Option<String>,
    /// Lines of that page that were shown.
    shown: usize,
    /// Steps whose end was shown.
    ended: BTreeSet<String>,
    /// Looks since the run ended.
    looks: u32,
}

impl Tail {
    /// Of one plugin.
    pub fn new(client: Client, plugin: &str, environment: Option<String>) -> Self {
        let (runs, done) = (BTreeMap::new(), BTreeSet::new());
        Self { client, prefix: format!("{plugin}."), environment, runs, done, begun: false, silent: false }
    }

    /// Looks once, and shows what is new.
    pub async fn look(&mut self) {
        match self.try_look().await {
            Ok(()) => self.silent = false,
            Err(error) if self.silent => drop(error),
            Err(error) => {
                note(&format!("no logs for now: {error}"));
                self.silent = true;
            }
        }
    }

    async fn try_look(&mut self) -> Result<(), Error> {
        let mut query = vec![("limit", RUNS_MAX.to_string())];
        query.extend(self.environment.iter().map(|name| ("environment", name.clone())));
        let list: RunList = self.client.get("/workflow-runs", &query).await?;
        let newest: BTreeSet<String> = list.runs.iter().map(|run| run.id.clone()).collect();
        for run in list.runs.into_iter().rev() {
            if !self.begun && has_ended(&run) {
                self.done.insert(run.id);
            } else if !self.done.contains(&run.id) {
                self.follow(&run).await?;
            }
        }
        self.begun = true;
        // What is on the list no more will not come back: runs are listed by age.
        self.runs.retain(|id, _| newest.contains(id));
        self.done.retain(|id| newest.contains(id));
        Ok(())
    }

    async fn follow(&mut self, run: &Run) -> Result<(), Error> {
        let path = format!("/workflow-runs/{}", segment(&run.id));
        let query = [("limit", PAGE.to_string())];
        let list: StepList = self.client.get(&format!("{path}/steps"), &query).await?;
        let own = |step: &&Step| step.action.as_deref().is_some_and(|action| action.starts_with(&self.prefix));
        let steps: BTreeMap<&str, &Step> = list.steps.iter().filter(own).map(|step| (step.id.as_str(), step)).collect();
        let followed = self.runs.entry(run.id.clone()).or_default();
        if !steps.is_empty() {
            for shown in followed.read(&self.client, &path).await? {
                if let Some(step) = steps.get(shown.step_id.as_str()) {
                    say(run, step, &lines::of_host(&shown));
                }
            }
            for step in steps.values().filter(|step| step.completed_at.is_some()) {
                if followed.ended.insert(step.id.clone()) {
                    say(run, step, &end(step));
                }
            }
        }
        if has_ended(run) {
            followed.looks += 1;
            if followed.looks > LAST_LOOKS {
                self.done.insert(run.id.clone());
                self.runs.remove(&run.id);
            }
        }
        Ok(())
    }
}

impl Followed {
    /// Lines that are new.
    async fn read(&mut self, client: &Client, path: &str) -> Result<Vec<LogLine>, Error> {
        let mut lines = Vec::new();
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(self.cursor.iter().map(|cursor| ("cursor", cursor.clone())));
            let list: LogList = client.get(&format!("{path}/logs"), &query).await?;
            let count = list.logs.len();
            lines.extend(list.logs.into_iter().skip(self.shown));
            match list.next_cursor {
                Some(next) => (self.cursor, self.shown) = (Some(next), 0),
                None => {
                    self.shown = count;
                    return Ok(lines);
                }
            }
        }
    }
}

fn has_ended(run: &Run) -> bool {
    run.completed_at.is_some() || run.cancelled_at.is_some()
}

fn end(step: &Step) -> String {
    let took = step.duration_ms.map_or_else(String::new, |ms| format!(" in {ms} ms"));
    match &step.error {
        Some(error) if step.status != "SUCCEEDED" => {
            format!("{}{took}: {} ({})", step.status, error.message, error.code)
        }
        _ => format!("{}{took}", step.status),
    }
}

fn say(run: &Run, step: &Step, text: &str) {
    let id: String = run.id.chars().rev().take(ID_CHARS).collect::<Vec<_>>().into_iter().rev().collect();
    line(&clean(&format!("{} …{id} {}  {text}", run.workflow_id, step.state)));
}
