//! Spans as OTLP writes them in JSON.

use caisson_core::ids::hex;
use caisson_core::time::Timestamp;
use caisson_core::trace::{SpanId, TraceId};
use serde_json::{Value, json};

/// Something that took time.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Texts by key.
    pub attributes: Vec<(&'static str, String)>,
    /// The code of the error that it ended with.
    pub error: Option<String>,
}

/// One message with spans of that host.
pub fn message(host: &str, spans: &[Span]) -> String {
    let resource = attributes(&[
        ("service.name", "caisson".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", host.to_owned()),
    ]);
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": {"name": "caisson"}, "spans": spans}]}]})
        .to_string()
}

fn span(span: &Span) -> Value {
    /// Within one process, as far as the protocol is concerned.
    const INTERNAL: u8 = 1;
    const OK: u8 = 1;
    const ERROR: u8 = 2;
    let status = match &span.error {
        Some(code) => json!({"code": ERROR, "message": code}),
        None => json!({"code": OK}),
    };
    json!({
        "traceId": hex(&span.trace),
        "spanId": hex(&span.id),
        "parentSpanId": span.parent.map(|id| hex(&id)).unwrap_or_default(),
        "name": span.name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end),
        "attributes": attributes(&span.attributes),
        "status": status,
    })
}

fn attributes(texts: &[(&str, String)]) -> Vec<Value> {
    texts.iter().map(|(key, text)| json!({"key": key, "value": {"stringValue": text}})).collect()
}

/// 64-bit numbers are text in the JSON of protocol buffers.
fn nanos(at: Timestamp) -> String {
    (i128::from(at.0) * 1_000_000).to_string()
}
