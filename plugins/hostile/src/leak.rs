//! A secret that was granted, carried out by every road there is.

use caisson_sdk::{Approval, Category, Context, Failure, Outcome, Suspend, artifacts, events, http, kv, log, secrets};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::told;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretGet {
    name: String,
}

/// Shows that it was read without showing it: length and checksum.
pub(crate) fn secret_get(_: &Context, input: SecretGet) -> Result<Value, Failure> {
    Ok(told(secrets::get(&input.name), |value| {
        let sum = value.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        json!({"length": value.len(), "sum": sum})
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretLeak {
    /// `TEST_SECRET` when absent.
    name: Option<String>,
    mode: Mode,
    /// Where to, for the modes of HTTP.
    url: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Log,
    LogFields,
    Progress,
    Stdout,
    Stderr,
    Panic,
    Output,
    OutputKey,
    Error,
    ErrorCode,
    ErrorDetails,
    Event,
    EventName,
    EventKey,
    Kv,
    KvKey,
    Artifact,
    ArtifactName,
    State,
    SignalName,
    Approval,
    HttpUrl,
    HttpHeader,
    HttpBody,
    /// Asks a server that says back what it is sent.
    HttpEcho,
}

/// Puts the secret where its mode says. What a call refuses is the output; a call that works gives `{"sent": true}`.
#[expect(clippy::print_stdout, clippy::print_stderr, clippy::unit_arg, reason = "a line for each road out")]
pub(crate) fn secret_leak(_: &Context, input: SecretLeak) -> Result<Outcome<Value>, Failure> {
    let secret = secrets::get(input.name.as_deref().unwrap_or("TEST_SECRET"))?;
    let said = format!("the secret is {secret}!");
    let url = input.url.unwrap_or_default();
    let sent = |()| json!({"sent": true});
    let answered = |response: http::Response| json!({"status": response.status(), "body": response.text()});
    let output = match input.mode {
        Mode::Log => sent(log::info(&said)),
        Mode::LogFields => sent(log::with(&json!({"secret": secret, "list": [said]})).info("fields")),
        Mode::Progress => sent(log::progress(Some(1), &said)),
        Mode::Stdout => sent(println!("{said}")),
        Mode::Stderr => sent(eprintln!("{said}")),
        Mode::Panic => panic!("{said}"),
        Mode::Output => json!({"secret": secret, "said": said, "list": [[secret]]}),
        Mode::OutputKey => json!({secret: true}),
        Mode::Error => return Err(Failure::action("LEAK", said)),
        Mode::ErrorCode => return Err(Failure::action(secret, "leak")),
        Mode::ErrorDetails => {
            return Err(Failure::new(Category::Action, "LEAK", "leak").details(&json!({"secret": said})));
        }
        Mode::Event => told(events::emit("leak", &json!({"secret": said})), sent),
        Mode::EventName => told(events::emit(&secret, &Value::Null), sent),
        Mode::EventKey => told(events::emit_for("leak", &secret, &Value::Null), sent),
        Mode::Kv => told(kv::set("leak", &said), sent),
        Mode::KvKey => told(kv::set(&secret, "leak"), sent),
        Mode::Artifact => told(artifacts::put("leak", "text/plain", &said), |_| sent(())),
        Mode::ArtifactName => told(artifacts::put(&secret, "text/plain", "leak"), |_| sent(())),
        Mode::State => return Ok(Suspend::new().keep(&said)?.on_signal("go").into()),
        Mode::SignalName => return Ok(Suspend::new().on_signal(secret).into()),
        Mode::Approval => {
            let approval = Approval { message: said, summary: Some(json!(secret).to_string()), ..Approval::default() };
            return Ok(Suspend::new().on_approval(approval).into());
        }
        Mode::HttpUrl => told(http::get(url).query("leak", &secret).send(), answered),
        Mode::HttpHeader => told(http::get(url).header("x-leak", secret).send(), answered),
        Mode::HttpBody | Mode::HttpEcho => told(http::post(url).text(said).send(), answered),
    };
    Ok(Outcome::Done(output))
}
