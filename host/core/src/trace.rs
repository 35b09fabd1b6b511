//! Ids of traces and spans: hashes of what they are about, so that every host gives the same.
//!
//! ```text
//! run ─► state (one visit) ─► step (one attempt) ─► plugin call (one entry by one host) ─► call of the host (model, http, tool)
//!           └► run that it called
//! ```
//!
//! They go from one process to another as a `traceparent` of [W3C Trace Context](https://www.w3.org/TR/trace-context/).

use std::sync::Arc;

use crate::engine::StepNo;
use crate::ids::{RunId, hex};
use sha2::{Digest, Sha256};

/// Names a trace.
pub type TraceId = [u8; 16];
/// Names a span.
pub type SpanId = [u8; 8];

/// The trace of a run that nobody named one for.
pub fn trace(run: &RunId) -> TraceId {
    hash(run.as_str())
}

/// The trace of a run for which a client may have named one, by its `traceparent`.
pub fn of_run(run: &RunId, named: Option<&str>) -> TraceId {
    named.and_then(parse).map_or_else(|| trace(run), |(trace, _)| trace)
}

/// The span of a run.
pub fn run(run: &RunId) -> SpanId {
    hash(&format!("run:{run}"))
}

/// The span of a visit of a state.
pub fn state(run: &RunId, step: StepNo) -> SpanId {
    hash(&format!("state:{run}:{step}"))
}

/// The span of an attempt.
pub fn step(run: &RunId, step: StepNo, attempt: u32) -> SpanId {
    hash(&format!("step:{run}:{step}:{attempt}"))
}

/// The span of an entry; a lost one has the same attempt and entry as its successor, and another claim.
pub fn call(run: &RunId, step: StepNo, claim: u32) -> SpanId {
    hash(&format!("call:{run}:{step}:{claim}"))
}

/// The span of a call of the host by a plugin: the number of the call within its entry. A call that goes out again after its host died is
/// another one.
pub fn host_call(run: &RunId, step: StepNo, claim: u32, number: u32) -> SpanId {
    hash(&format!("host:{run}:{step}:{claim}:{number}"))
}

/// As others are told of it: sampled, since every run is traced.
pub fn traceparent(trace: TraceId, span: SpanId) -> Arc<str> {
    format!("00-{}-{}-01", hex(&trace), hex(&span)).into()
}

fn hash<const N: usize>(text: &str) -> [u8; N] {
    let digest = Sha256::digest(text);
    let mut id = [0; N];
    id.copy_from_slice(&digest[..N]);
    id
}

/// Whether that is a `traceparent` of W3C Trace Context, version 00.
pub fn is_traceparent(text: &str) -> bool {
    parse(text).is_some()
}

/// The trace and the span that a `traceparent` names.
pub fn parse(text: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() || bytes::<1>(flags).is_none() {
        return None;
    }
    let (trace, span) = (bytes(trace)?, bytes(span)?);
    // All zeros names nothing.
    (trace != [0; 16] && span != [0; 8]).then_some((trace, span))
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let run = RunId::new("r");
        assert_eq!(parse(&traceparent(trace(&run), step(&run, 3, 1))), Some((trace(&run), step(&run, 3, 1))));
    }

    #[test]
    fn only_a_whole_traceparent_is_one() {
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for text in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-é7651916cd43dd8448eb211c80319cä-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(text), "{text}");
        }
    }
}
