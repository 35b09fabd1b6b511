//! Follows a run to its end, and sees to the approvals that it waits for.

use std::collections::VecDeque;

use serde_json::Value;

use super::approvals::send;
use super::display::{Display, REDRAW};
use super::output::{Colour, Style, clean, json_line};
use super::prompt::{Lines, is_interactive, yes_or_no};
use crate::api::approvals::ApprovalList;
use crate::api::runs::RunAnswer;
use crate::api::stream::Live;
use crate::api::wire::{Any, Approval, Run};
use crate::client::{Client, Error, segment};

/// Lines of what a decision rests on: about a screen.
const SUMMARY_LINES_MAX: usize = 40;

/// Who decides what a run asks.
pub enum Decider {
    /// Whoever sits at this terminal.
    Person(Lines),
    /// Somebody elsewhere; how is said.
    Elsewhere,
    /// Somebody elsewhere; nothing is said.
    Nobody,
    /// A stand-in, who says yes after saying so.
    StandIn {
        /// Its name.
        name: &'static str,
        /// Its own connection.
        client: Client,
    },
}

impl Decider {
    /// Whoever sits here, else somebody elsewhere.
    pub fn ask_or_hint() -> Self {
        if is_interactive() { Self::Person(Lines::start()) } else { Self::Elsewhere }
    }
}

/// Follows a run; with `json` every event is a line of JSON, else it is shown.
pub async fn watch(client: &Client, run: &str, decider: Decider, json: bool) -> Result<Run, Error> {
    let display = (!json).then(|| Display::new(Style::stdout()));
    let mut watcher = Watcher { client, run, decider, display, questions: VecDeque::new() };
    watcher.follow().await?;
    if let Some(display) = &mut watcher.display {
        display.end();
    }
    let answer: RunAnswer = client.get(&format!("/workflow-runs/{}", segment(run)), &[]).await?;
    Ok(answer.run)
}

struct Watcher<'a> {
    client: &'a Client,
    run: &'a str,
    decider: Decider,
    display: Option<Display>,
    /// What a person at this terminal was not asked yet, the first is being asked.
    questions: VecDeque<Approval>,
}

impl Watcher<'_> {
    async fn follow(&mut self) -> Result<(), Error> {
        let mut events = self.client.events(self.run, 0);
        let mut ticks = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) => self.take(&event).await?,
                    None => return Ok(()),
                },
                answer = answer(&mut self.decider, !self.questions.is_empty()) => self.answered(answer).await?,
                _ = ticks.tick(), if self.display.is_some() => {
                    if let Some(display) = &mut self.display {
                        display.tick();
                    }
                }
            }
        }
    }

    async fn take(&mut self, event: &Live) -> Result<(), Error> {
        match &mut self.display {
            Some(display) => display.show(event),
            None => json_line(&serde_json::to_string(event).unwrap_or_default()),
        }
        match event.kind.as_str() {
            "approval.requested" => self.asked(event).await,
            "approval.decided" => {
                let before = self.questions.len();
                let decided = parsed(&event.data);
                let id = decided.get("approval").and_then(|id| id.as_str()).unwrap_or_default();
                self.questions.retain(|question| question.id != id);
                if self.questions.len() < before {
                    self.ask();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn asked(&mut self, event: &Live) -> Result<(), Error> {
        let data = parsed(&event.data);
        let id = data.get("approval").and_then(|id| id.as_str()).unwrap_or_default();
        // A replayed history tells of questions that are long answered.
        let query = [("status", "PENDING".to_owned()), ("limit", "500".to_owned())];
        let path = format!("/workflow-runs/{}/approvals", segment(self.run));
        let pending: ApprovalList = self.client.get(&path, &query).await?;
        let Some(approval) = pending.approvals.into_iter().find(|approval| approval.id == id) else { return Ok(()) };
        self.tell(&format!("approval   {}", clean(&approval.message)));
        for text in summary_lines(&approval) {
            self.tell(&format!("  {text}"));
        }
        match &self.decider {
            Decider::Person(_) => {
                self.questions.push_back(approval);
                if self.questions.len() == 1 {
                    self.ask();
                }
            }
            Decider::Elsewhere => {
                self.tell(&format!("  it waits for: caisson approvals approve {}", clean(&approval.id)));
            }
            Decider::Nobody => {}
            Decider::StandIn { name, client } => {
                let (name, client) = (*name, client.clone());
                self.tell(&format!("  there is no terminal to ask on: {name} decides, and approves"));
                let comment = Some("approved for the demonstration: there was no terminal to ask on".to_owned());
                self.settle(send(&client, &approval, true, comment).await)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self) {
        let question = self.questions.front().map(|approval| {
            let style = Style::stdout();
            let who = match approval.approvers.as_slice() {
                [] => String::new(),
                names => format!(" (only {})", clean(&names.join(", "))),
            };
            style.paint(Colour::Yellow, &format!("approve?{who} [y/n] "))
        });
        if let Some(display) = &mut self.display {
            display.ask(question);
        }
    }

    async fn answered(&mut self, answer: Option<String>) -> Result<(), Error> {
        let Some(answer) = answer else {
            self.decider = Decider::Elsewhere;
            if let Some(display) = &mut self.display {
                display.ask(None);
            }
            for approval in std::mem::take(&mut self.questions) {
                self.tell(&format!(
                    "nobody answers here; it waits for: caisson approvals approve {}",
                    clean(&approval.id)
                ));
            }
            return Ok(());
        };
        if let Some(display) = &mut self.display {
            display.answered();
        }
        let Some(approve) = yes_or_no(&answer) else {
            self.ask();
            return Ok(());
        };
        if let Some(approval) = self.questions.pop_front() {
            let sent = send(self.client, &approval, approve, None).await;
            self.settle(sent)?;
        }
        self.ask();
        Ok(())
    }

    /// A decision that the host refuses (somebody was faster, or somebody else is asked) is no reason to stop watching.
    fn settle(&mut self, sent: Result<String, Error>) -> Result<(), Error> {
        match sent {
            Ok(_) => Ok(()),
            Err(Error::Refused { message, .. }) => {
                self.tell(&format!("not decided: {}", clean(&message)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&mut self, text: &str) {
        if let Some(display) = &mut self.display {
            display.tell(text);
        }
    }
}

/// What a decision rests on, as far as it fits a screen.
fn summary_lines(approval: &Approval) -> Vec<String> {
    let value = parsed(&approval.summary);
    if value.is_null() {
        return Vec::new();
    }
    let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
    let mut lines: Vec<String> = pretty
        .lines()
        .take(SUMMARY_LINES_MAX)
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            format!("{}{}", " ".repeat(indent), clean(line.trim_start()))
        })
        .collect();
    if pretty.lines().count() > SUMMARY_LINES_MAX {
        lines.push("…".to_owned());
    }
    lines
}

/// The next answer of a person that was asked something.
async fn answer(decider: &mut Decider, asked: bool) -> Option<String> {
    match decider {
        Decider::Person(lines) if asked => lines.next().await,
        _ => std::future::pending().await,
    }
}

/// A value of the host's; one that cannot be read is none.
fn parsed(value: &Any) -> Value {
    serde_json::from_str(value.0.get()).unwrap_or_default()
}
