//! Tools without servers.

use std::collections::BTreeSet;

use caisson_core::json::Json;
use caisson_core::ports::{Tool, ToolCall, ToolError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::compare::{Difference, Mode, differences, shown};
use super::{Expectations, Expected, Times, present};

/// A call of a tool and its answer, as a case writes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolExchange {
    request: Request,
    #[serde(default, deserialize_with = "present")]
    response: Option<Value>,
    #[serde(default)]
    error: Option<NoResult>,
    #[serde(default)]
    times: Times,
}

/// What a call has to look like; what is absent fits anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    /// `SERVER.TOOL`.
    tool: String,
    arguments: Option<Map<String, Value>>,
    arguments_contain: Option<Map<String, Value>>,
}

/// Why there is no result, as the host says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum NoResult {
    Timeout,
    TooLarge,
    NotFound(String),
    Invalid(String),
    Unavailable(String),
    Failed(String),
}

impl ToolExchange {
    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), String> {
        if self.request.tool.split_once('.').is_none_or(|(server, tool)| server.is_empty() || tool.is_empty()) {
            return Err(format!("request.tool is SERVER.TOOL, not '{}'", self.request.tool));
        }
        match (&self.response, &self.error) {
            (Some(Value::String(_) | Value::Object(_)), None) | (None, Some(_)) => Ok(()),
            (Some(_), None) => Err("a tool's response is a text or an object".to_owned()),
            _ => Err("an exchange has either a response or an error".to_owned()),
        }
    }

    fn reply(self, max: u64) -> Result<Json, ToolError> {
        match self.error {
            Some(NoResult::Timeout) => Err(ToolError::Timeout),
            Some(NoResult::TooLarge) => Err(ToolError::TooLarge(max)),
            Some(NoResult::NotFound(why)) => Err(ToolError::NotFound(why)),
            Some(NoResult::Invalid(why)) => Err(ToolError::Invalid(why)),
            Some(NoResult::Unavailable(why)) => Err(ToolError::Unavailable(why)),
            Some(NoResult::Failed(why)) => Err(ToolError::Failed(why)),
            None => {
                let result = Json::of(&self.response);
                if result.get().len() as u64 > max { Err(ToolError::TooLarge(max)) } else { Ok(result) }
            }
        }
    }
}

impl Expected for ToolExchange {
    type Asked = ToolCall;

    const FIELD: &'static str = "tools";
    const WORD: &'static str = "called";

    fn name(&self) -> String {
        self.request.tool.clone()
    }

    fn times(&self) -> Times {
        self.times
    }

    fn misfits(&self, call: &ToolCall) -> Vec<Difference> {
        let Request { tool, arguments, arguments_contain } = &self.request;
        let mut found = Vec::new();
        let called = name(call);
        if *tool != called {
            found.push(Difference::new("tool", format!("expected {tool:?}, got {called:?}")));
        }
        let got = call.arguments.value();
        for (path, expected, mode) in
            [("arguments", arguments, Mode::Equal), ("argumentsContain", arguments_contain, Mode::Subset)]
        {
            if let Some(expected) = expected {
                found.extend(differences(path, &Value::Object(expected.clone()), &got, mode));
            }
        }
        found
    }
}

fn name(call: &ToolCall) -> String {
    format!("{}.{}", call.server, call.tool)
}

impl Expectations<ToolExchange> {
    /// Answers a call.
    pub fn answer(&self, call: &ToolCall) -> Result<Json, ToolError> {
        let name = name(call);
        match self.take(call, &format!("{name} {}", shown(&call.arguments.value()))) {
            Some(exchange) => exchange.reply(call.result_bytes_max),
            None => Err(ToolError::Failed(format!("this test expects no such call of {name}"))),
        }
    }

    /// `SERVER.TOOL` of all that a case expects to be called.
    pub fn names(&self) -> BTreeSet<String> {
        self.each(|one| one.request.tool.clone()).into_iter().collect()
    }

    /// The servers of these.
    pub fn servers(&self) -> BTreeSet<String> {
        self.names().iter().filter_map(|name| name.split_once('.')).map(|(server, _)| server.to_owned()).collect()
    }

    /// What a server has: what the case calls, with any arguments.
    pub fn of_server(&self, server: &str) -> Vec<Tool> {
        let own = |name: &String| Some(name.strip_prefix(server)?.strip_prefix('.')?.to_owned());
        let tool = |name| Tool { name, description: String::new(), parameters: json!({"type": "object"}) };
        self.names().iter().filter_map(own).map(tool).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::local::realm;
    use super::*;

    fn exchanges(list: Value) -> Expectations<ToolExchange> {
        Expectations::new(serde_json::from_value(list).expect("it reads"))
    }

    fn call(tool: &str, arguments: &Value) -> ToolCall {
        let (server, tool) = tool.split_once('.').expect("a name");
        ToolCall {
            realm: realm(),
            server: server.to_owned(),
            tool: tool.to_owned(),
            arguments: Json::of(arguments),
            idempotency_key: "k".to_owned(),
            timeout: Duration::from_secs(1),
            result_bytes_max: 20,
        }
    }

    #[test]
    fn the_first_that_fits_and_is_not_used_up_answers() {
        let tools = exchanges(json!([
            {"request": {"tool": "git.log", "arguments": {"n": 1}}, "response": "one"},
            {"request": {"tool": "git.log", "argumentsContain": {"n": 2}}, "response": {"a": 1}, "times": 2},
            {"request": {"tool": "git.push"}, "error": {"failed": "no way"}, "times": "any"},
            {"request": {"tool": "files.read"}, "response": "x".repeat(30)},
        ]));
        for (tool, arguments, expected) in [
            ("git.log", json!({"n": 2, "all": true}), Ok(json!({"a": 1}))),
            ("git.log", json!({"n": 1.0}), Ok(json!("one"))),
            ("git.push", json!({}), Err(ToolError::Failed("no way".to_owned()))),
            ("files.read", json!({}), Err(ToolError::TooLarge(20))),
            (
                "git.log",
                json!({"n": 1}),
                Err(ToolError::Failed("this test expects no such call of git.log".to_owned())),
            ),
        ] {
            let answer = tools.answer(&call(tool, &arguments)).map(|json| json.value());
            assert_eq!(answer, expected, "{tool} {arguments}");
        }
        let problems: Vec<String> = tools.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "tools: git.log {\"n\":1} was called, but it fits no exchange; tools[1] comes nearest: argumentsContain.n: expected 2, got 1",
                "tools[1]: git.log was called 1 times and not 2",
            ]
        );
        assert_eq!(tools.servers().into_iter().collect::<Vec<_>>(), ["files", "git"]);
        assert_eq!(tools.of_server("git").iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["log", "push"]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (exchange, part) in [
            (json!({"request": {"tool": "log"}, "response": "x"}), "SERVER.TOOL"),
            (json!({"request": {"tool": "a.b"}}), "either a response or an error"),
            (json!({"request": {"tool": "a.b"}, "response": "x", "error": "timeout"}), "either a response or an error"),
            (json!({"request": {"tool": "a.b"}, "response": 1}), "a text or an object"),
        ] {
            let read: ToolExchange = serde_json::from_value(exchange.clone()).expect("it reads");
            let problem = read.check().expect_err("it makes no sense");
            assert!(problem.contains(part), "{exchange}: {problem}");
        }
    }
}
