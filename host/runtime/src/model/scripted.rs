//! A model that is no model: it answers from a file. For demonstrations and tests, and called "scripted" wherever it shows.
//!
//! The file is JSON. Each agent (`*` is any other) has a list of rules, of which the first whose `match` is part of the last
//! message answers; a rule without `match` always does. `reply` is text or an object; `replies` are given one after the other, the
//! last one over and over; `delayMs` waits first, as a model would. A reply `{"toolCalls": [{"name": …, "arguments": {…}}]}`, and
//! nothing beside it, calls tools:
//!
//! ```json
//! {"agents": {
//!   "triage": [
//!     {"match": "database", "reply": {"severity": "high"}},
//!     {"replies": ["first", "second"], "delayMs": 200}
//!   ],
//!   "*": [{"reply": "noted"}]
//! }}
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::{Error, Progress, Provider, Reply, StopReason, Tokens, ToolCall, Turn};

/// A scripted model does not pretend to be slower than a real one.
const DELAY_MS_MAX: u64 = 60_000;
const ANY: &str = "*";

/// Answers from a script.
#[derive(Debug)]
pub struct Scripted {
    agents: BTreeMap<String, Vec<Rule>>,
}

/// Why a script does not read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Not JSON of that form.
    #[error("the script does not read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A rule without an answer, or with two kinds of it.
    #[error("rule {rule} of agent '{agent}' has to have either reply or replies")]
    Answer {
        /// The agent.
        agent: String,
        /// Which rule, from 1.
        rule: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agents: BTreeMap<String, Vec<RuleForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleForm {
    #[serde(default, rename = "match")]
    part: Option<String>,
    #[serde(default)]
    reply: Option<Value>,
    #[serde(default)]
    replies: Vec<Value>,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Debug)]
struct Rule {
    part: Option<String>,
    /// Never empty.
    replies: Vec<Value>,
    delay: Duration,
    next: AtomicUsize,
}

impl Scripted {
    /// Reads a script.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let file: File = serde_json::from_str(text)?;
        let mut agents = BTreeMap::new();
        for (agent, forms) in file.agents {
            let mut rules = Vec::with_capacity(forms.len());
            for (at, RuleForm { part, reply, mut replies, delay_ms }) in forms.into_iter().enumerate() {
                if reply.is_some() != replies.is_empty() {
                    return Err(ScriptError::Answer { agent, rule: at + 1 });
                }
                replies.extend(reply);
                let delay = Duration::from_millis(delay_ms.min(DELAY_MS_MAX));
                rules.push(Rule { part, replies, delay, next: AtomicUsize::new(0) });
            }
            agents.insert(agent, rules);
        }
        Ok(Self { agents })
    }
}

#[async_trait]
impl Provider for Scripted {
    async fn complete(&self, turn: &Turn, _: Progress<'_>) -> Result<Reply, Error> {
        let said = turn.messages.last().map_or("", |message| message.content.as_str());
        let rule = [turn.agent.as_str(), ANY]
            .into_iter()
            .filter_map(|name| self.agents.get(name))
            .flatten()
            .find(|rule| rule.part.as_ref().is_none_or(|part| said.contains(part.as_str())))
            .ok_or_else(|| Error::Other(format!("the scripted model has no reply for agent '{}'", turn.agent)))?;
        if !rule.delay.is_zero() {
            tokio::time::sleep(rule.delay).await;
        }
        let at = rule.next.fetch_add(1, Ordering::Relaxed).min(rule.replies.len() - 1);
        let content = rule.replies[at].clone();
        // Whoever counts tokens of a script should see plain zeros.
        let tool_calls = calls(&content);
        let called = !tool_calls.is_empty();
        Ok(Reply {
            content: if called { Value::String(String::new()) } else { content },
            model: "scripted".to_owned(),
            usage: Tokens::default(),
            tool_calls,
            stop_reason: if called { StopReason::ToolCalls } else { StopReason::Done },
        })
    }
}

/// The calls that a reply consists of; none if it is an answer.
fn calls(reply: &Value) -> Vec<ToolCall> {
    let Some(Value::Array(calls)) = reply.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("toolCalls"))
    else {
        return Vec::new();
    };
    let call = |(at, call): (usize, &Value)| ToolCall {
        id: format!("call_{at}"),
        name: call["name"].as_str().unwrap_or_default().to_owned(),
        arguments: call.get("arguments").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new())),
    };
    calls.iter().enumerate().map(call).collect()
}
