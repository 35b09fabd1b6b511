//! The sessions of agents within one entry: who worked, and what was said, line by line.
//!
//! A call of a model is a session's next lines, and so is the result of a tool that the model called; they are stored with the call's
//! record, so that each is there once, whoever goes on with the entry. When a call is answered from its record its lines are there already:
//! only what the next one goes by is followed, and what is stored is read again before the first line that is new.
//!
//! Invariant: a session belongs to one entry of one step. No id leads to one of another entry, so no plugin writes into another's.

mod line;

use std::borrow::Cow;
use std::sync::Arc;

use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::ports::{SessionChange, SessionRow, SessionStatus};
use caisson_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Of one entry: an agent that calls so many others has lost its way.
pub(crate) const SESSIONS_MAX: usize = 1_000;
/// Of one session: an agent's longest loop of a hundred turns with a hundred calls each.
const LINES_MAX: u32 = 10_000;
/// Of one session's lines: what a run's data may have.
const SESSION_BYTES_MAX: u64 = 16 << 20;
/// Of all sessions of an entry.
const ENTRY_BYTES_MAX: u64 = 64 << 20;
/// The longest name that an author gives.
pub(crate) const NAME_BYTES_MAX: usize = 200;

/// Whose the sessions are.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) realm: Realm,
    pub(crate) run: RunId,
    pub(crate) step: StepId,
    pub(crate) attempt: u32,
}

/// A message as a guest writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Message {
    role: String,
    content: Value,
    tool_calls: Option<Value>,
    tool_call_id: Option<String>,
}

/// What a call means for a session.
pub(crate) enum Call<'a> {
    /// An agent begins.
    Open { agent: &'a str, name: Option<&'a str>, parent: Option<&'a str> },
    /// A turn of a session; the whole conversation.
    Turn { session: &'a str, messages: &'a [Message], last: bool },
    /// A turn without one: what was sent, if it was sent now.
    Alone { agent: &'a str, sent: Vec<Message>, last: bool },
    /// A tool was called and has answered: with that text, which is what the model is to be told.
    Tool { name: &'a str, arguments: &'a Value },
    /// The guest ends a session; the whole conversation again.
    End { session: &'a str, messages: &'a [Message], error: Option<&'a Value> },
}

/// All of an entry, in the order in which they began.
#[derive(Default)]
pub(crate) struct Sessions(Vec<Session>);

struct Session {
    row: SessionRow,
    /// Of turns that named none.
    alone: bool,
    /// The messages of the last turn, hashed.
    seen: Vec<[u8; 16]>,
    /// The answer has its line, and comes back as a message of the next turn.
    answered: bool,
    /// What that answer calls and no tool has answered yet.
    called: Vec<Called>,
    /// Results that have their lines, hashed as messages: they come back in the next turn.
    told: Vec<[u8; 16]>,
    /// The row is not what is stored.
    stale: bool,
    /// There is no room for another line.
    full: bool,
}

/// A call of a tool, as a model asks for it.
#[derive(Deserialize)]
struct Called {
    id: String,
    name: String,
    arguments: Value,
}

/// Where a call belongs.
struct Step<'a> {
    at: usize,
    /// Messages that are new.
    messages: Vec<Cow<'a, Message>>,
    /// The conversation was changed before its end.
    rewritten: bool,
}

impl Sessions {
    /// Whether there is a session of that id, and of that agent.
    pub(crate) fn has(&self, id: &str, agent: Option<&str>) -> bool {
        self.0.iter().any(|one| *one.row.id == *id && agent.is_none_or(|agent| *one.row.agent == *agent))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Ids of those whose rows have to be read again before anything is added.
    pub(crate) fn stale(&self) -> Vec<Arc<str>> {
        self.0.iter().filter(|one| one.stale).map(|one| one.row.id.clone()).collect()
    }

    /// Takes in what is stored of a session, and its last line.
    pub(crate) fn refresh(&mut self, row: SessionRow, last: Option<&Json>) {
        if let Some(one) = self.0.iter_mut().find(|one| one.row.id == row.id) {
            one.full = last.is_some_and(line::is_limit);
            one.row = row;
            one.stale = false;
        }
    }

    /// A call that was answered from its record: its lines are stored.
    pub(crate) fn replayed(&mut self, id: &str, owner: &Owner, at: Timestamp, call: &Call<'_>, answer: Option<&str>) {
        if let Some(step) = self.follow(id, owner, at, call, answer) {
            self.0[step.at].stale = true;
        }
    }

    /// A call that was just answered, `Err` with code and message: what is to be stored with its record. `id` is the call's own. `None`: it
    /// belongs to no session.
    pub(crate) fn answered(
        &mut self,
        id: &str,
        owner: &Owner,
        at: Timestamp,
        call: &Call<'_>,
        answer: Result<&str, (&str, &str)>,
        clean: &dyn Fn(Json) -> Json,
    ) -> Option<SessionChange> {
        let step = self.follow(id, owner, at, call, answer.ok())?;
        let used: u64 = self.0.iter().map(|one| one.row.bytes).sum();
        let one = &mut self.0[step.at];
        let mut writer = Writer { room: ENTRY_BYTES_MAX.saturating_sub(used), at, clean, lines: Vec::new() };
        let first = one.row.lines + 1;
        if one.row.lines == 0 {
            let began = line::began(&one.row);
            writer.add(one, began);
        }
        if step.rewritten {
            writer.add(one, line::rewritten());
        }
        for message in &step.messages {
            writer.add(
                one,
                line::message(
                    &message.role,
                    &message.content,
                    message.tool_calls.as_ref(),
                    message.tool_call_id.as_deref(),
                ),
            );
        }
        match (call, answer) {
            (_, Err((code, message))) => writer.add(one, line::error(code, message)),
            (Call::Open { .. }, Ok(answer)) => opened(one, &mut writer, answer),
            (Call::Turn { last, .. } | Call::Alone { last, .. }, Ok(answer)) => turned(one, &mut writer, answer, *last),
            (Call::End { error, .. }, Ok(_)) => {
                one.row.status = if error.is_some() { SessionStatus::Failed } else { SessionStatus::Completed };
                writer.add(one, line::ended(one.row.status, *error));
            }
            // Its line is a message.
            (Call::Tool { .. }, Ok(_)) => {}
        }
        one.row.updated_at = at;
        Some(SessionChange { row: one.row.clone(), first, lines: writer.lines })
    }

    /// Finds the session of a call, or begins it, and follows the conversation.
    fn follow<'a>(
        &mut self,
        id: &str,
        owner: &Owner,
        at: Timestamp,
        call: &'a Call<'_>,
        answer: Option<&str>,
    ) -> Option<Step<'a>> {
        match call {
            Call::Open { agent, name, parent } => {
                // What does not begin has no session.
                let answer = answer?;
                let at = self.begin(id, owner, at, agent, *name, *parent, false);
                self.0[at].seen = messages_of(answer).iter().map(hash).collect();
                Some(Step { at, messages: Vec::new(), rewritten: false })
            }
            Call::Alone { agent, sent, .. } => {
                let known = self.0.iter().position(|one| one.alone && *one.row.agent == **agent);
                let at = known.unwrap_or_else(|| self.begin(id, owner, at, agent, None, None, true));
                Some(Step { at, messages: sent.iter().map(Cow::Borrowed).collect(), rewritten: false })
            }
            Call::Tool { name, arguments } => self.result(name, arguments, answer?),
            Call::Turn { session, messages, .. } | Call::End { session, messages, .. } => {
                let at = self.0.iter().position(|one| *one.row.id == **session)?;
                let one = &mut self.0[at];
                let hashes: Vec<_> = messages.iter().map(hash).collect();
                let same = one.seen.iter().zip(&hashes).take_while(|(old, new)| old == new).count();
                let rewritten = same < one.seen.len();
                let mut new = &messages[same..];
                if one.answered && !rewritten && new.first().is_some_and(|message| message.role == "assistant") {
                    new = &new[1..];
                }
                // Told anew, a conversation is told whole.
                let told = if rewritten { Vec::new() } else { std::mem::take(&mut one.told) };
                let has_line = |message: &Message| message.role == "tool" && told.contains(&hash(message));
                let new = new.iter().filter(|message| !has_line(message)).map(Cow::Borrowed).collect();
                let asked = answer.filter(|_| matches!(call, Call::Turn { .. }));
                one.seen = hashes;
                one.answered = asked.is_some();
                one.called = asked.map(calls_of).unwrap_or_default();
                one.told.clear();
                Some(Step { at, messages: new, rewritten })
            }
        }
    }

    /// A tool's result belongs to whoever called it. An agent waits for those that it calls, so the last one that called this is meant.
    fn result<'a>(&mut self, name: &str, arguments: &Value, answer: &str) -> Option<Step<'a>> {
        let place =
            |one: &Session| one.called.iter().position(|call| call.name == name && call.arguments == *arguments);
        let (at, call) = self.0.iter().enumerate().rev().find_map(|(at, one)| Some((at, place(one)?)))?;
        let one = &mut self.0[at];
        let message = Message {
            role: "tool".to_owned(),
            content: Value::String(answer.to_owned()),
            tool_calls: None,
            tool_call_id: Some(one.called.remove(call).id),
        };
        one.told.push(hash(&message));
        Some(Step { at, messages: vec![Cow::Owned(message)], rewritten: false })
    }

    #[expect(clippy::too_many_arguments, reason = "they are what a session begins with")]
    fn begin(
        &mut self,
        id: &str,
        owner: &Owner,
        at: Timestamp,
        agent: &str,
        name: Option<&str>,
        parent: Option<&str>,
        alone: bool,
    ) -> usize {
        let row = SessionRow {
            id: id.into(),
            realm: owner.realm.clone(),
            run: owner.run.clone(),
            step_id: owner.step.clone(),
            attempt: owner.attempt,
            parent: parent.map(Arc::from),
            name: self.unused(name.unwrap_or(agent)).into(),
            agent: agent.into(),
            status: SessionStatus::Running,
            turns: 0,
            lines: 0,
            bytes: 0,
            input_tokens: 0,
            output_tokens: 0,
            created_at: at,
            updated_at: at,
        };
        self.0.push(Session {
            row,
            alone,
            seen: Vec::new(),
            answered: false,
            called: Vec::new(),
            told: Vec::new(),
            stale: false,
            full: false,
        });
        self.0.len() - 1
    }

    /// The name, numbered if it is taken.
    fn unused(&self, name: &str) -> String {
        let taken = |name: &str| self.0.iter().any(|one| *one.row.name == *name);
        if !taken(name) {
            return name.to_owned();
        }
        let mut number = 2_usize;
        loop {
            let numbered = format!("{name}-{number}");
            if !taken(&numbered) {
                return numbered;
            }
            number += 1;
        }
    }
}

/// Writes lines while there is room.
struct Writer<'a> {
    room: u64,
    at: Timestamp,
    clean: &'a dyn Fn(Json) -> Json,
    lines: Vec<Json>,
}

impl Writer<'_> {
    fn add(&mut self, one: &mut Session, fields: Map<String, Value>) {
        if one.full {
            return;
        }
        let number = one.row.lines + 1;
        let mut line = line::write(number, self.at, fields, self.clean);
        let bytes = line.get().len() as u64;
        if number >= LINES_MAX || one.row.bytes + bytes > SESSION_BYTES_MAX || bytes > self.room {
            one.full = true;
            line = line::write(number, self.at, line::limit(), self.clean);
        }
        let bytes = line.get().len() as u64;
        one.row.lines = number;
        one.row.bytes += bytes;
        self.room = self.room.saturating_sub(bytes);
        self.lines.push(line);
    }
}

fn opened(one: &mut Session, writer: &mut Writer<'_>, answer: &str) {
    for message in messages_of(answer) {
        writer.add(one, line::message(&message.role, &message.content, None, None));
    }
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    if let Some(problems) = answer.get("problems").filter(|list| list.as_array().is_some_and(|list| !list.is_empty())) {
        one.row.status = SessionStatus::Failed;
        let error = json!({"code": "SCHEMA_VALIDATION_INPUT", "problems": problems});
        writer.add(one, line::ended(SessionStatus::Failed, Some(&error)));
    }
}

fn turned(one: &mut Session, writer: &mut Writer<'_>, answer: &str, last: bool) {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let tokens = |key: &str| answer.pointer(key).and_then(Value::as_u64).unwrap_or_default();
    let filled = |key: &str| answer.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    one.row.turns += 1;
    one.row.input_tokens += tokens("/usage/inputTokens");
    one.row.output_tokens += tokens("/usage/outputTokens");
    let done = !filled("toolCalls") && (last || !filled("problems"));
    one.row.status = if done { SessionStatus::Completed } else { SessionStatus::Running };
    writer.add(one, line::answer(answer));
}

fn messages_of(answer: &str) -> Vec<Message> {
    #[derive(Deserialize)]
    struct Opened {
        messages: Vec<Message>,
    }
    serde_json::from_str::<Opened>(answer).map(|opened| opened.messages).unwrap_or_default()
}

/// What an answer calls.
fn calls_of(answer: &str) -> Vec<Called> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        tool_calls: Vec<Called>,
    }
    serde_json::from_str::<Answer>(answer).map(|answer| answer.tool_calls).unwrap_or_default()
}

/// Of what makes a message, however it is written.
fn hash(message: &Message) -> [u8; 16] {
    let mut hash = Sha256::new();
    let calls = message.tool_calls.as_ref().map(Value::to_string).unwrap_or_default();
    let content = match &message.content {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for part in [&*message.role, &*content, &*calls, message.tool_call_id.as_deref().unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

impl From<&crate::model::Message> for Message {
    fn from(message: &crate::model::Message) -> Self {
        let calls =
            (!message.tool_calls.is_empty()).then(|| serde_json::to_value(&message.tool_calls).unwrap_or_default());
        Self {
            role: message.role.clone(),
            content: Value::String(message.content.clone()),
            tool_calls: calls,
            tool_call_id: message.tool_call_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
