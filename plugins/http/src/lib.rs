//! The built-in plugin `http`: calls HTTP APIs. Written with the public SDK alone; what may be reached is the host's to enforce.
//!
//! Deliberately absent: secrets. `{{secret:NAME}}` in a header's value passes through as it is, and the host fills it in.

mod answer;
mod fields;
mod status;

use std::collections::BTreeMap;
use std::time::Duration;

use caisson_sdk::{Context, Failure, RawJson, Retry, http, log};
use serde::Deserialize;
use serde_json::json;

use answer::{Answer, ResponseType};
use fields::{Fields, Scalar};
use status::Expected;

caisson_sdk::plugin!(call);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Call {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Scalar>,
    #[serde(default)]
    query: Fields,
    #[serde(default, deserialize_with = "present")]
    json: Option<RawJson>,
    body: Option<String>,
    form: Option<Fields>,
    timeout_seconds: Option<f64>,
    #[serde(default)]
    expect_status: Expected,
    #[serde(default)]
    response_type: ResponseType,
}

/// `json: null` is a body.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

fn call(context: &Context, input: Call) -> Result<Answer, Failure> {
    let expected = input.expect_status.clone();
    let response_type = input.response_type;
    let response = request(input, context.traceparent())?.send()?;
    log::with(&json!({"status": response.status(), "bytes": response.bytes().len()})).debug("answered");
    if expected.holds(response.status()) {
        return Answer::of(&response, response_type);
    }
    let failure = response.failure();
    // Success that nobody expected is no error of the server's, and will not pass.
    Err(if response.is_success() { failure.retry(Retry::Never) } else { failure })
}

fn request(input: Call, traceparent: Option<&str>) -> Result<http::Request, Failure> {
    let Call { url, method, headers, query, json, body, form, timeout_seconds, .. } = input;
    if [json.is_some(), body.is_some(), form.is_some()].into_iter().filter(|given| *given).count() > 1 {
        let message = "a request has one body: give json, body or form";
        return Err(Failure::validation("HTTP_BODIES", message).retry(Retry::Never));
    }
    let has_body = json.is_some() || body.is_some() || form.is_some();
    let method = match method {
        Some(method) => method.to_ascii_uppercase(),
        None if has_body => "POST".to_owned(),
        None => "GET".to_owned(),
    };
    let mut request = http::request(method, url);
    for (name, value) in query.pairs() {
        request = request.query(name, &value);
    }
    // Whoever is called hangs its own trace below this step's.
    if let Some(traceparent) =
        traceparent.filter(|_| !headers.keys().any(|name| name.eq_ignore_ascii_case("traceparent")))
    {
        request = request.header("traceparent", traceparent);
    }
    for (name, value) in headers {
        // A null leaves it out, as in a query.
        if let Some(value) = value.text() {
            request = request.header(name, value);
        }
    }
    if let Some(json) = json {
        request = request.json(&json);
    }
    if let Some(body) = body {
        request = request.text(body);
    }
    if let Some(form) = form {
        request = request.form(form.pairs());
    }
    if let Some(seconds) = timeout_seconds {
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        request = request.timeout(timeout.max(Duration::from_millis(1)));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<http::Request, String> {
        let call = serde_json::from_str(text).map_err(|e| e.to_string())?;
        request(call, None).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_method_follows_from_the_body() {
        for (input, expected) in [
            (r#"{"url": "u"}"#, "GET"),
            (r#"{"url": "u", "method": "delete"}"#, "DELETE"),
            (r#"{"url": "u", "json": null}"#, "POST"),
            (r#"{"url": "u", "body": ""}"#, "POST"),
            (r#"{"url": "u", "form": {}}"#, "POST"),
            (r#"{"url": "u", "method": "PUT", "json": {}}"#, "PUT"),
        ] {
            let shown = format!("{:?}", read(input).expect("a request"));
            assert!(shown.contains(&format!("method: \"{expected}\"")), "{input}: {shown}");
        }
    }

    #[test]
    fn a_request_has_one_body() {
        let error = read(r#"{"url": "u", "json": 1, "body": "x"}"#).expect_err("two bodies");
        assert_eq!(error, "HTTP_BODIES: a request has one body: give json, body or form");
        assert!(read(r#"{"url": "u", "bodi": "x"}"#).is_err());
    }

    #[test]
    fn everything_arrives_in_the_request() {
        let input = r#"{"url": "https://a.example/p", "query": {"q": ["x", 1, null], "on": true, "none": null},
            "headers": {"authorization": "Bearer {{secret:T}}", "x-n": 7}, "form": {"a": "1 2"}, "timeoutSeconds": 1.5}"#;
        let shown = format!("{:?}", read(input).expect("a request"));
        for part in [
            r#"url: "https://a.example/p?q=x&q=1&on=true""#,
            r#"("authorization", "Bearer {{secret:T}}"), ("x-n", "7")"#,
            "timeout: Some(1.5s)",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
    }
}
