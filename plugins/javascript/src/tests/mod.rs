//! The engine over a fake host, on the machine that builds it.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test that panics has failed")]

mod api;
mod package;
mod script;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::bindings::caisson::step::types::{Context, Failure, Invocation, Outcome, Resumption, Suspension};
use crate::engine::Engine;
use crate::host::{Host, Level, Refusal, Request, Response};

/// Remembers what it was asked.
#[derive(Default)]
struct Fake {
    assets: BTreeMap<String, String>,
    kv: RefCell<BTreeMap<String, Vec<u8>>>,
    seen: RefCell<Vec<String>>,
    /// What `http.send` answers.
    response: Option<Response>,
    denied: bool,
}

impl Fake {
    fn saw(&self, what: String) {
        self.seen.borrow_mut().push(what);
    }

    fn allowed(&self) -> Result<(), Refusal> {
        if self.denied { Err(Refusal::Denied("add it to the grants".to_owned())) } else { Ok(()) }
    }
}

impl Host for Fake {
    fn log(&self, level: Level, message: &str, fields: Option<&str>) {
        self.saw(format!("{level:?} {message} {}", fields.unwrap_or("-")));
    }

    fn progress(&self, percent: Option<u8>, message: &str) {
        self.saw(format!("progress {percent:?} {message}"));
    }

    fn asset(&self, name: &str) -> Option<Vec<u8>> {
        self.assets.get(name).map(|text| text.clone().into_bytes())
    }

    fn http(&self, request: &Request) -> Result<Response, Refusal> {
        self.allowed()?;
        self.saw(format!(
            "{} {} {:?} {:?} {:?}",
            request.method,
            request.url,
            request.headers,
            request.body.as_deref().map(String::from_utf8_lossy),
            request.timeout_ms
        ));
        let empty = Response { status: 204, headers: Vec::new(), body: Vec::new() };
        Ok(self.response.clone().unwrap_or(empty))
    }

    fn secret(&self, name: &str) -> Result<String, Refusal> {
        self.allowed()?;
        if name == "TOKEN" { Ok("s3cret".to_owned()) } else { Err(Refusal::NotFound(format!("no secret {name}"))) }
    }

    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.allowed()?;
        Ok(self.kv.borrow().get(key).cloned())
    }

    fn kv_set(&self, key: &str, value: &[u8]) -> Result<(), Refusal> {
        if value.len() > 100 {
            return Err(Refusal::TooLarge(100));
        }
        self.kv.borrow_mut().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn kv_delete(&self, key: &str) -> Result<(), Refusal> {
        self.kv.borrow_mut().remove(key);
        Ok(())
    }

    fn kv_keys(&self, prefix: &str, limit: u32) -> Result<Vec<String>, Refusal> {
        let keys = self.kv.borrow();
        Ok(keys.keys().filter(|key| key.starts_with(prefix)).take(limit as usize).cloned().collect())
    }

    fn artifact_put(&self, name: &str, mime: &str, data: &[u8]) -> Result<String, Refusal> {
        self.saw(format!("{name} {mime} {data:?}"));
        Ok(format!("id-{name}"))
    }

    fn artifact_get(&self, _: &str) -> Result<Vec<u8>, Refusal> {
        Ok(vec![0, 255])
    }

    fn emit(&self, name: &str, correlation_key: Option<&str>, payload: &str) -> Result<(), Refusal> {
        self.saw(format!("{name} {correlation_key:?} {payload}"));
        Ok(())
    }

    fn complete(&self, request: &str) -> Result<String, Refusal> {
        self.saw(request.to_owned());
        Ok(r#"{"text":"hello"}"#.to_owned())
    }

    fn tools(&self) -> Result<String, Refusal> {
        self.allowed()?;
        Ok(r#"[{"name":"git.log"}]"#.to_owned())
    }

    fn call_tool(&self, name: &str, arguments: &str) -> Result<String, Refusal> {
        self.saw(format!("{name} {arguments}"));
        Ok(r#""three commits""#.to_owned())
    }
}

fn call(action: &str, input: &str) -> Invocation {
    Invocation {
        action: action.to_owned(),
        config: r#"{"greeting":"hello"}"#.to_owned(),
        input: input.to_owned(),
        context: Context {
            tenant: "default".to_owned(),
            environment: "default".to_owned(),
            workflow: "orders".to_owned(),
            workflow_version: "3".to_owned(),
            run_id: "run-1".to_owned(),
            step_id: "step-1".to_owned(),
            state: "greet".to_owned(),
            attempt: 2,
            entry: 0,
            idempotency_key: "run-1:step-1".to_owned(),
            deadline_ms: Some(1500),
            traceparent: None,
        },
        resumed: None,
    }
}

/// Runs an action of a package with one `plugin.js`.
fn action(source: &str, action: &str, input: &str) -> Result<Outcome, Failure> {
    package(&Rc::new(fake(source)), &call(action, input))
}

fn fake(source: &str) -> Fake {
    Fake { assets: BTreeMap::from([("plugin.js".to_owned(), source.to_owned())]), ..Fake::default() }
}

fn package(host: &Rc<Fake>, call: &Invocation) -> Result<Outcome, Failure> {
    Engine::new(Rc::clone(host) as Rc<dyn Host>)?.enter(call)
}

/// Runs a script step.
fn script(source: &str, input: &Value) -> Result<Outcome, Failure> {
    let input = json!({ "language": "javascript", "source": source, "input": input });
    package(&Rc::new(Fake::default()), &call("run", &input.to_string()))
}

#[track_caller]
fn done(result: Result<Outcome, Failure>) -> String {
    match result {
        Ok(Outcome::Done(text)) => text,
        other => panic!("not done: {other:?}"),
    }
}

#[track_caller]
fn suspended(result: Result<Outcome, Failure>) -> Suspension {
    match result {
        Ok(Outcome::Suspend(suspension)) => suspension,
        other => panic!("not suspended: {other:?}"),
    }
}

#[track_caller]
fn failed(result: Result<Outcome, Failure>) -> Failure {
    match result {
        Err(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

fn resumed(mut call: Invocation, state: &str, wake: crate::bindings::caisson::step::types::Wake) -> Invocation {
    call.context.entry = 1;
    call.resumed = Some(Resumption { state: state.as_bytes().to_vec(), wake });
    call
}
