//! More than there is: of time, of handles, of the host's patience.

use std::hint::black_box;

use caisson_sdk::{Context, Failure, Outcome, Suspend, artifacts, events, http, kv, log};
use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::{Pollable, poll};

use crate::told;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemcopyStorm {
    /// Of one copy, which is one instruction that nothing interrupts.
    #[serde(default = "eight_mib")]
    bytes: usize,
}

fn eight_mib() -> usize {
    8 << 20
}

/// Copies for ever.
pub(crate) fn memcopy_storm(_: &Context, input: MemcopyStorm) -> Result<Value, Failure> {
    let mut memory = vec![1_u8; input.bytes.max(2)];
    let half = memory.len() / 2;
    loop {
        black_box(&mut memory).copy_within(..half, half);
        black_box(&mut memory).copy_within(half.., 0);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redos {
    #[serde(default = "sixty")]
    length: usize,
}

fn sixty() -> usize {
    60
}

/// What a naive engine does with `^(a+)+$` and a text that does not match: twice as long for each letter.
pub(crate) fn redos(_: &Context, input: Redos) -> Result<Value, Failure> {
    fn groups(text: &[u8]) -> bool {
        let letters = text.iter().take_while(|letter| **letter == b'a').count();
        (1..=letters).rev().any(|taken| black_box(taken) == text.len() || groups(&text[taken..]))
    }
    let text = "a".repeat(input.length) + "!";
    Ok(json!({"matches": groups(text.as_bytes())}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandleFlood {
    #[serde(default)]
    kind: Handle,
    /// For ever when absent.
    count: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Handle {
    /// Timers that are never waited for.
    #[default]
    Pollable,
    /// Standard output, again and again.
    Stream,
    /// Timers of timers: all of them waited for at once.
    Poll,
    /// A number that was never given as a handle.
    Forged,
    /// One that was given back already.
    Twice,
}

/// Takes handles and keeps them.
pub(crate) fn handle_flood(_: &Context, input: HandleFlood) -> Result<Value, Failure> {
    let count = input.count.unwrap_or(u64::MAX);
    match input.kind {
        Handle::Pollable => (0..count).for_each(|_| std::mem::forget(monotonic_clock::subscribe_duration(u64::MAX))),
        Handle::Stream => (0..count).for_each(|_| std::mem::forget(wasip2::cli::stdout::get_stdout())),
        Handle::Poll => {
            let mut kept = vec![monotonic_clock::subscribe_duration(0)];
            for _ in 1..count {
                kept.push(monotonic_clock::subscribe_duration(u64::MAX));
                black_box(poll(&kept.iter().collect::<Vec<_>>()));
            }
        }
        Handle::Forged => forged(0xbad).block(),
        Handle::Twice => {
            let pollable = monotonic_clock::subscribe_duration(0);
            let again = forged(pollable.handle());
            drop(pollable);
            again.block();
        }
    }
    Ok(json!({"kept": count}))
}

#[expect(unsafe_code, reason = "that is the point")]
fn forged(handle: u32) -> Pollable {
    // SAFETY: there is none to be had: the host has to refuse it.
    unsafe { Pollable::from_handle(handle) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostCallFlood {
    #[serde(default)]
    call: Call,
    /// For `http`.
    #[serde(default)]
    url: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Call {
    #[default]
    Kv,
    Log,
    Progress,
    Clock,
    Random,
    Http,
    Event,
    Sleep,
}

/// Calls the host for ever; refusals do not stop it.
pub(crate) fn host_call_flood(_: &Context, input: HostCallFlood) -> Result<Value, Failure> {
    loop {
        match input.call {
            Call::Kv => drop(black_box(kv::get("x"))),
            Call::Log => log::trace(""),
            Call::Progress => log::progress(None, ""),
            Call::Clock => drop(black_box(monotonic_clock::now())),
            Call::Random => drop(black_box(wasip2::random::random::get_random_u64())),
            Call::Http => drop(black_box(http::get(&input.url).send())),
            Call::Event => drop(black_box(events::emit("flood", &Value::Null))),
            Call::Sleep => monotonic_clock::subscribe_duration(1).block(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BigString {
    bytes: usize,
    #[serde(default)]
    into: Place,
    /// For the parts of a request.
    #[serde(default)]
    url: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    #[default]
    Output,
    Error,
    Log,
    LogFields,
    Progress,
    KvKey,
    KvValue,
    EventName,
    EventPayload,
    ArtifactName,
    ArtifactData,
    HttpUrl,
    HttpHeader,
    HttpHeaders,
    HttpBody,
    State,
    SignalName,
    SignalNames,
}

/// A text of so many bytes, or a list of so many, across the boundary.
#[expect(clippy::unit_arg, reason = "a line for each place")]
pub(crate) fn big_string(_: &Context, input: BigString) -> Result<Outcome<Value>, Failure> {
    let big = || "x".repeat(input.bytes);
    let sent = |()| json!({"sent": true});
    let answered = |response: http::Response| json!({"status": response.status()});
    let output = match input.into {
        Place::Output => json!(big()),
        Place::Error => return Err(Failure::action("BIG", big())),
        Place::Log => sent(log::info(&big())),
        Place::LogFields => sent(log::with(&big()).info("big")),
        Place::Progress => sent(log::progress(None, &big())),
        Place::KvKey => told(kv::set(&big(), ""), sent),
        Place::KvValue => told(kv::set("big", big()), sent),
        Place::EventName => told(events::emit(&big(), &Value::Null), sent),
        Place::EventPayload => told(events::emit("big", &big()), sent),
        Place::ArtifactName => told(artifacts::put(&big(), "text/plain", ""), |id| json!({"id": id})),
        Place::ArtifactData => told(artifacts::put("big", "text/plain", big()), |id| json!({"id": id})),
        Place::HttpUrl => told(http::get(input.url + &big()).send(), answered),
        Place::HttpHeader => told(http::get(input.url).header("x-big", big()).send(), answered),
        Place::HttpHeaders => {
            let many = (0..input.bytes).fold(http::get(input.url), |request, n| request.header(format!("x-{n}"), ""));
            told(many.send(), answered)
        }
        Place::HttpBody => told(http::post(input.url).body(big()).send(), answered),
        Place::State => return Ok(Suspend::new().keep(&big())?.on_signal("go").into()),
        Place::SignalName => return Ok(Suspend::new().on_signal(big()).into()),
        Place::SignalNames => {
            let many = (0..input.bytes).fold(Suspend::new(), |suspend, n| suspend.on_signal(n.to_string()));
            return Ok(many.into());
        }
    };
    Ok(Outcome::Done(output))
}
