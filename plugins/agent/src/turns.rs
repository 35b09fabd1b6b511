//! The loop: the model answers, what it calls is called, until it has nothing more to call.
//!
//! Every answer and every result comes through the host's journal, and nothing else decides what is asked next: run again after its
//! host died, the loop goes on at the turn where it was. A failure of a tool is told to the model, which may know better; what a whole
//! agent cannot go beyond ends the step.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use caisson_sdk::{CapabilityError, Category, Failure, Retry, log, model, tools};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// An agent that has not found its answer by then goes in circles; its file may say more.
const TURNS_DEFAULT: u32 = 20;
/// Answers that do not fit are sent back so often: a model that misses thrice does not understand the schema.
const REPAIRS_MAX: u32 = 2;
/// Agents that call agents: deeper is a circle.
const DEPTH_MAX: u32 = 3;
/// Of a tool's result, the model is shown so much: some fifty thousand tokens, which models still read.
const RESULT_BYTES_MAX: usize = 200_000;
/// What stands before the name of an agent that is a tool.
const AGENT_TOOL: &str = "agent.";

/// What an agent is to do.
pub(crate) struct Work {
    pub(crate) agent: String,
    /// The workflow names it by a number.
    pub(crate) by_id: bool,
    pub(crate) task: Option<String>,
    pub(crate) variables: Map<String, Value>,
    /// What the variables are laid over.
    pub(crate) previous: Map<String, Value>,
    /// What the session is called; the agent's name if absent.
    pub(crate) session: Option<String>,
    /// The session of the agent that calls this one.
    pub(crate) parent: Option<String>,
    /// Goes before the agent's own.
    pub(crate) output_schema: Option<Value>,
    /// How many agents called one another to get here.
    pub(crate) depth: u32,
}

/// What the loop goes by.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    /// Named in every turn: what is said there becomes the session's lines.
    session: Option<String>,
    #[serde(default)]
    problems: Vec<Problem>,
    messages: Vec<Value>,
    tools: Vec<String>,
    agents: Vec<Tool>,
    output_schema: Option<Value>,
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_turns: Option<u32>,
    max_tokens: Option<u64>,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Problem {
    path: String,
    message: String,
}

#[derive(Clone, Deserialize, Serialize)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    content: Value,
    #[serde(default)]
    usage: model::Usage,
    #[serde(default)]
    tool_calls: Vec<Call>,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Deserialize, Serialize)]
struct Call {
    id: String,
    name: String,
    arguments: Value,
}

/// Works until there is an answer.
pub(crate) fn work(work: Work) -> Result<Value, Failure> {
    let Work { agent, by_id, task, variables, previous, session, parent, output_schema, depth } = work;
    let open = json!({"open": {
        "agent": agent, "byId": by_id, "task": task, "variables": variables, "previous": previous, "name": session,
        "parent": parent,
    }});
    let mut opened: Opened = model::complete(&open).map_err(|error| failed(&error))?;
    if !opened.problems.is_empty() {
        let message = format!("the input does not fit agent '{agent}': {}", listed(&opened.problems));
        let failure = Failure::validation("SCHEMA_VALIDATION_INPUT", message).retry(Retry::Never);
        return Err(failure.details(&json!({"problems": opened.problems})));
    }
    opened.output_schema = output_schema.or(opened.output_schema);
    let mut offered = opened.agents.clone();
    if !opened.tools.is_empty() {
        let all: Vec<Tool> = tools::list()?;
        offered.extend(all.into_iter().filter(|tool| opened.tools.iter().any(|pattern| allows(pattern, &tool.name))));
    }
    Loop { agent, opened, offered, depth, tokens: 0, began: SystemTime::now() }.run()
}

struct Loop {
    agent: String,
    opened: Opened,
    offered: Vec<Tool>,
    depth: u32,
    tokens: u64,
    began: SystemTime,
}

impl Loop {
    /// Works, and says in the session why there is no answer.
    fn run(mut self) -> Result<Value, Failure> {
        let done = self.turns();
        if let (Err(failure), Some(session)) = (&done, &self.opened.session) {
            let error = json!({"code": failure.code(), "message": failure.message()});
            let end = json!({"end": {"session": session, "messages": self.opened.messages, "error": error}});
            // The step fails with what it failed with, whatever becomes of its session.
            let _: Result<Value, CapabilityError> = model::complete(&end);
        }
        done
    }

    fn turns(&mut self) -> Result<Value, Failure> {
        let turns = self.opened.limits.max_turns.unwrap_or(TURNS_DEFAULT).max(1);
        let mut repairs = 0;
        for turn in 1..=turns {
            let last = repairs == REPAIRS_MAX || turn == turns;
            let reply = self.ask(last)?;
            if reply.tool_calls.is_empty() {
                if reply.problems.is_empty() || last {
                    return Ok(reply.content);
                }
                repairs += 1;
                self.say("assistant", &text(&reply.content));
                let problems = listed(&reply.problems);
                self.say(
                    "user",
                    &format!("The answer does not fit its schema: {problems}. Give the whole answer again."),
                );
            } else {
                self.opened
                    .messages
                    .push(json!({"role": "assistant", "content": text(&reply.content), "toolCalls": reply.tool_calls}));
                for call in &reply.tool_calls {
                    let content = self.call(call)?;
                    self.opened.messages.push(json!({"role": "tool", "toolCallId": call.id, "content": content}));
                }
            }
            self.within()?;
        }
        Err(limit("AGENT_TURN_LIMIT", format!("agent '{}' has no answer after {turns} turns", self.agent)))
    }

    fn ask(&mut self, last: bool) -> Result<Reply, Failure> {
        let request = json!({
            "agent": self.agent,
            "session": self.opened.session,
            "prepared": true,
            "messages": self.opened.messages,
            "tools": self.offered,
            "outputSchema": self.opened.output_schema,
            "last": last,
        });
        let reply: Reply = model::complete(&request).map_err(|error| failed(&error))?;
        self.tokens += reply.usage.input_tokens + reply.usage.output_tokens;
        log::with(&reply.usage).info(&format!("agent '{}' answered", self.agent));
        Ok(reply)
    }

    fn say(&mut self, role: &str, content: &str) {
        self.opened.messages.push(json!({"role": role, "content": content}));
    }

    /// Before another turn is paid for.
    fn within(&self) -> Result<(), Failure> {
        let Limits { max_tokens, timeout_seconds, .. } = self.opened.limits;
        if let Some(max) = max_tokens.filter(|max| self.tokens >= *max) {
            let message = format!("agent '{}' took {} tokens of {max} without an answer", self.agent, self.tokens);
            return Err(limit("AGENT_TOKEN_LIMIT", message));
        }
        let spent = self.began.elapsed().unwrap_or_default();
        if let Some(max) = timeout_seconds.filter(|max| spent >= Duration::from_secs(*max)) {
            let message = format!("agent '{}' has no answer after {max} seconds", self.agent);
            return Err(limit("AGENT_TIME_LIMIT", message));
        }
        Ok(())
    }

    /// What the model is told of a call.
    fn call(&self, call: &Call) -> Result<String, Failure> {
        if !self.offered.iter().any(|tool| tool.name == call.name) {
            let names: Vec<&str> = self.offered.iter().map(|tool| tool.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Ok(format!("error: there is no tool '{}' (there are: {names})", call.name));
        }
        let Value::Object(arguments) = &call.arguments else {
            return Ok("error: the arguments are not a JSON object".to_owned());
        };
        let result = match call.name.strip_prefix(AGENT_TOOL) {
            Some(agent) => self.delegate(agent, arguments)?,
            None => match tools::call::<Value>(&call.name, arguments) {
                Ok(result) => text(&result),
                Err(error) => format!("error: {}", Failure::of_capability(&error).message()),
            },
        };
        Ok(cut(result))
    }

    fn delegate(&self, agent: &str, arguments: &Map<String, Value>) -> Result<String, Failure> {
        if self.depth >= DEPTH_MAX {
            return Err(limit("AGENT_DEPTH_LIMIT", format!("agents may call agents {DEPTH_MAX} deep, not deeper")));
        }
        let work = Work {
            agent: agent.to_owned(),
            by_id: false,
            task: arguments.get("task").and_then(Value::as_str).map(str::to_owned),
            variables: arguments.clone(),
            previous: Map::new(),
            session: None,
            parent: self.opened.session.clone(),
            output_schema: None,
            depth: self.depth + 1,
        };
        match self::work(work) {
            Ok(answer) => Ok(text(&answer)),
            // The model can mend its arguments and nothing else.
            Err(failure) if failure.category() == Category::Validation => Ok(format!("error: {failure}")),
            Err(failure) => Err(failure),
        }
    }
}

/// `server.tool`, or `server.*` for all of a server.
fn allows(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(server) => name.strip_prefix(server).is_some_and(|rest| rest.starts_with('.')),
        None => pattern == name,
    }
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cut(mut result: String) -> String {
    if result.len() > RESULT_BYTES_MAX {
        let whole = result.len();
        result.truncate(result.floor_char_boundary(RESULT_BYTES_MAX));
        // Writing to a String cannot fail.
        let _ = write!(result, "\n(cut: {whole} bytes in all)");
    }
    result
}

fn listed(problems: &[Problem]) -> String {
    let one = |problem: &Problem| {
        if problem.path.is_empty() { problem.message.clone() } else { format!("{}: {}", problem.path, problem.message) }
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Trying again would pay for the same turns again.
fn limit(code: &str, message: String) -> Failure {
    Failure::new(Category::Limit, code, message).retry(Retry::Never)
}

fn failed(error: &CapabilityError) -> Failure {
    match error {
        CapabilityError::NotFound(message) => Failure::action("AGENT_NOT_FOUND", message).retry(Retry::Never),
        CapabilityError::Invalid(message) => Failure::validation("AGENT_REQUEST_INVALID", message).retry(Retry::Never),
        CapabilityError::Unavailable(message) => Failure::transient("MODEL_UNAVAILABLE", message),
        CapabilityError::Timeout => {
            Failure::new(Category::Transient, "MODEL_TIMEOUT", "the model did not answer in time")
        }
        CapabilityError::Other(message) => Failure::action("MODEL_FAILED", message),
        CapabilityError::Denied(_) | CapabilityError::TooLarge(_) | CapabilityError::Quota(_) => {
            Failure::of_capability(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_a_tool_or_all_of_a_server() {
        for (pattern, name, allowed) in [
            ("git.log", "git.log", true),
            ("git.*", "git.log", true),
            ("git.*", "github.log", false),
            ("git.log", "git.push", false),
            ("*", "git.log", false),
        ] {
            assert_eq!(allows(pattern, name), allowed, "{pattern} {name}");
        }
    }

    #[test]
    fn a_long_result_is_cut_between_characters() {
        let result = cut("é".repeat(RESULT_BYTES_MAX));
        assert!(result.len() < RESULT_BYTES_MAX + 100);
        assert!(result.ends_with("bytes in all)"));
    }
}
