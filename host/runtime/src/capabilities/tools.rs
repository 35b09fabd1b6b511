//! Tools that the operator connected. A tool's name is `SERVER.TOOL`.
//!
//! Two have a say beside the operator's declaration of the server: the grants, as with every capability, and the `tools` lists of the agents
//! that this entry has opened. A guest that speaks for an agent cannot be talked into a tool that the agent's file does not name.

use std::time::{Duration, Instant};

use caisson_core::definition::nearest;
use caisson_core::json::Json;
use caisson_core::plugin::{Capability, means_tool};
use caisson_core::ports::{LogLevel, ServerStatus, Tool, ToolAnswer, ToolCall, ToolError};
use serde::Serialize;
use serde_json::Value;

use super::{denied, transcript};
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::tools::Host;
use crate::journal::{Done, Place};
use crate::redact::Redactor;
use crate::sessions::Call;
use crate::state::State;

/// Per entry: twenty turns of an agent with ten calls each.
const CALLS_DEFAULT: u64 = 200;
/// One call: what a person would wait for. Longer work belongs into a step of its own.
const TIMEOUT_MS_DEFAULT: u64 = 60_000;
/// One result: as much as a value of a run may have. An agent's model is shown a fifth of it.
const RESULT_BYTES_DEFAULT: u64 = 1 << 20;
/// Longer names nobody gives.
const NAME_BYTES_MAX: usize = 256;
/// What stands before the name of an agent that is a tool: those the guest itself calls.
const AGENTS: &str = "agent.";

/// A tool as guests see it.
#[derive(Serialize)]
struct Offered {
    name: String,
    description: String,
    parameters: Value,
}

impl Host for State {
    async fn list_tools(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Tools) {
            return Ok(Err(error));
        }
        self.journaled("tools.list", &[], async |state: &mut Self, _: Place| {
            Ok(Done::answer(state.offered().await.map(|offered| Json::of(&offered).get().to_owned())))
        })
        .await
    }

    async fn call(&mut self, name: String, arguments: String) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Ok(Err(Error::Invalid(format!(
                "a tool's name has at most {NAME_BYTES_MAX} bytes and no control characters"
            ))));
        }
        if let Err(why) = self.effective.tool(&name) {
            return Ok(Err(denied(why)));
        }
        if let Err(error) = self.of_agents(&name) {
            return Ok(Err(error));
        }
        let arguments = match Json::parse(arguments) {
            Ok(json) if json.get().trim_start().starts_with('{') => json,
            Ok(_) => return Ok(Err(Error::Invalid(format!("the arguments of tool '{name}' are not a JSON object")))),
            Err(error) => {
                return Ok(Err(Error::Invalid(format!("the arguments of tool '{name}' do not read: {error}"))));
            }
        };
        let Some((server, tool)) = name.split_once('.') else {
            return Ok(Err(Error::NotFound(format!("there is no tool '{name}': a tool's name is SERVER.TOOL"))));
        };
        let calls =
            self.effective.least(CALLS_DEFAULT, |grants| grants.tools.as_ref().and_then(|tools| tools.max_calls));
        self.quota.tool_calls += 1;
        if self.quota.tool_calls > calls {
            return Ok(Err(Error::Quota(format!("one entry of a step may call tools {calls} times"))));
        }
        let request = [name.as_bytes(), arguments.get().as_bytes()];
        let (name, asked) = (&name, arguments.value());
        let line = Call::Tool { name, arguments: &asked };
        let call = ToolCall {
            realm: self.realm.clone(),
            server: server.to_owned(),
            tool: tool.to_owned(),
            arguments: arguments.clone(),
            idempotency_key: String::new(),
            timeout: Duration::from_millis(
                self.effective
                    .least(TIMEOUT_MS_DEFAULT, |grants| grants.tools.as_ref().and_then(|tools| tools.timeout_ms)),
            ),
            result_bytes_max: self
                .effective
                .least(RESULT_BYTES_DEFAULT, |grants| grants.tools.as_ref().and_then(|tools| tools.max_result_bytes)),
        };
        let place = self.cursor.next_place();
        let mut is_new = false;
        let answer: Result<String, Error> = self
            .journaled("tools.call", &request, async |state: &mut Self, place: Place| {
                is_new = true;
                let call = ToolCall { idempotency_key: place.idempotency_key.clone(), ..call };
                let seen = vec![
                    ("gen_ai.operation.name", "execute_tool".to_owned()),
                    ("gen_ai.tool.name", format!("{}.{}", call.server, call.tool)),
                ];
                let began = Instant::now();
                let ToolAnswer { result, secrets } = state.shared.tools.call(call).await;
                let ms = began.elapsed().as_millis();
                // Names and numbers alone: what a tool says belongs into the result.
                match &result {
                    Ok(json) => state.say(
                        LogLevel::Info,
                        format!("tool '{name}' answered with {} bytes after {ms} ms", json.get().len()),
                    ),
                    Err(error) => {
                        state.say(LogLevel::Warn, format!("tool '{name}' gave {} after {ms} ms", kind(error)));
                    }
                }
                // What the server was given, and what the guest may know.
                let own = Redactor::new(secrets);
                let answer = match result {
                    Ok(json) => Ok(state.redactor.json(own.json(json)).get().to_owned()),
                    Err(error) => Err(told(error, &own, &state.redactor)),
                };
                // The model is told in its next turn; the transcript has it now.
                let effects = state.note(&place, &line, &Ok(transcript::told(&answer))).await?;
                Ok(Done { effects, ..Done::seen(answer, seen) })
            })
            .await?;
        if !is_new {
            self.note_again(&place, &line, Some(&transcript::told(&answer)));
        }
        Ok(answer)
    }
}

impl State {
    /// What this entry may call, server by server. A server that somebody named has to answer; of those that are only not forbidden, the ones
    /// that do not are left out.
    async fn offered(&mut self) -> Result<Vec<Offered>, Error> {
        let known: Vec<String> = self
            .shared
            .tools
            .servers(&self.realm)
            .into_iter()
            .map(|status: ServerStatus| status.name.to_string())
            .collect();
        let named = self.agent_tools.as_ref();
        let wanted: Vec<String> = match named {
            None => known.clone(),
            Some(patterns) if patterns.iter().any(|one| one == "*") => known.clone(),
            Some(patterns) => {
                let mut servers: Vec<String> = Vec::new();
                for pattern in patterns.iter().filter(|pattern| !pattern.starts_with(AGENTS)) {
                    let server = pattern.split_once('.').map_or(pattern.as_str(), |(server, _)| server);
                    if !known.iter().any(|one| one == server) {
                        return Err(self.no_server(pattern, server, &known));
                    }
                    if !servers.iter().any(|one| one == server) {
                        servers.push(server.to_owned());
                    }
                }
                servers
            }
        };
        let mut offered = Vec::new();
        for server in &wanted {
            if !self.effective.tool_server(server) {
                continue;
            }
            let tools = match self.shared.tools.tools(&self.realm, server).await {
                Ok(tools) => tools,
                Err(error) if named.is_some() => return Err(told(error, &Redactor::none(), &self.redactor)),
                Err(error) => {
                    tracing::warn!(server, %error, "a tool server is left out of a list");
                    continue;
                }
            };
            self.tell_astray(server, &tools);
            for tool in tools {
                let name = format!("{server}.{}", tool.name);
                if self.effective.tool(&name).is_ok() && self.of_agents(&name).is_ok() {
                    offered.push(Offered { name, description: tool.description, parameters: tool.parameters });
                }
            }
        }
        Ok(offered)
    }

    /// An agent's file that names a tool which its server does not have: somebody should know, and the agent works with what there is.
    fn tell_astray(&self, server: &str, tools: &[Tool]) {
        for name in self.agent_tools.iter().flatten() {
            let Some(tool) = name.strip_prefix(server).and_then(|rest| rest.strip_prefix('.')) else { continue };
            if tool == "*" || tools.iter().any(|one| one.name == tool) {
                continue;
            }
            let near = nearest(tool, tools.iter().map(|one| one.name.as_str()))
                .map_or_else(String::new, |near| format!(": did you mean '{server}.{near}'?"));
            self.say(LogLevel::Warn, format!("an agent names the tool '{name}', which its server does not have{near}"));
        }
    }

    /// A line of the host's own in the step's log. What is past the limit of lines is left out: it is no fault of the guest.
    fn say(&self, level: LogLevel, message: String) {
        let _ = self.log.line(Some(level), message, None, None);
    }

    /// Whether the agents that were opened here may call a tool; an entry that opened none speaks for itself.
    fn of_agents(&self, name: &str) -> Result<(), Error> {
        match &self.agent_tools {
            Some(patterns) if !patterns.iter().any(|pattern| means_tool(pattern, name)) => Err(Error::Denied(format!(
                "tool '{name}' is in the list of no agent that works here: add \"{name}\" to 'tools' in the front matter of the agent that is to have it"
            ))),
            _ => Ok(()),
        }
    }

    fn no_server(&self, pattern: &str, server: &str, known: &[String]) -> Error {
        let hint = nearest(server, known.iter().map(String::as_str)).map_or_else(
            || format!(": declare it in mcp-servers/{server}.json of a directory that this host is given with --env"),
            |near| format!(": did you mean '{near}'?"),
        );
        Error::NotFound(format!(
            "an agent names the tools '{pattern}', but there is no tool server '{server}' in environment '{}'{hint}",
            self.realm.environment
        ))
    }
}

/// A word for what went wrong.
fn kind(error: &ToolError) -> &'static str {
    match error {
        ToolError::NotFound(_) => "no such tool",
        ToolError::Invalid(_) => "a refusal of its arguments",
        ToolError::TooLarge(_) => "too large a result",
        ToolError::Timeout => "no answer in time",
        ToolError::Unavailable(_) => "no answer: its server is not available",
        ToolError::Failed(_) => "a failure",
    }
}

/// As the guest sees it, without secrets.
fn told(error: ToolError, own: &Redactor, guest: &Redactor) -> Error {
    let clean = |text: String| guest.text(&own.text(&text)).into_owned();
    match error {
        ToolError::NotFound(text) => Error::NotFound(clean(text)),
        ToolError::Invalid(text) => Error::Invalid(clean(text)),
        ToolError::TooLarge(max) => Error::TooLarge(max),
        ToolError::Timeout => Error::Timeout,
        ToolError::Unavailable(text) => Error::Unavailable(clean(text)),
        ToolError::Failed(text) => Error::Other(clean(text)),
    }
}
