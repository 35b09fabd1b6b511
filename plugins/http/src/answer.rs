//! What the step gives of a server's answer.

use std::collections::BTreeMap;

use caisson_sdk::http::Response;
use caisson_sdk::{Failure, RawJson};
use serde::{Deserialize, Serialize};

/// What the body is wanted as.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ResponseType {
    #[default]
    Auto,
    Json,
    Text,
    Base64,
}

/// The step's output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    status: u16,
    ok: bool,
    headers: BTreeMap<String, String>,
    #[serde(flatten)]
    body: Body,
}

#[derive(Debug, Serialize)]
#[serde(tag = "bodyType", content = "body", rename_all = "lowercase")]
enum Body {
    Empty(()),
    Json(RawJson),
    Text(String),
    Base64(String),
}

impl Answer {
    pub(crate) fn of(response: &Response, wanted: ResponseType) -> Result<Self, Failure> {
        let body = match wanted {
            _ if response.bytes().is_empty() => Body::Empty(()),
            ResponseType::Auto => by_content_type(response.header("content-type"), response.bytes()),
            ResponseType::Json => Body::Json(response.json()?),
            ResponseType::Text => Body::Text(response.text().into_owned()),
            ResponseType::Base64 => Body::Base64(base64(response.bytes())),
        };
        let headers = joined(response.headers());
        Ok(Self { status: response.status(), ok: response.is_success(), headers, body })
    }
}

/// What says JSON and is none is shown as the text that it is.
fn by_content_type(content_type: Option<&str>, bytes: &[u8]) -> Body {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json" || essence.ends_with("+json");
    if json && let Ok(value) = serde_json::from_slice(bytes) {
        return Body::Json(value);
    }
    let textual = json
        || essence.is_empty()
        || essence.starts_with("text/")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/xml"
                | "application/javascript"
                | "application/x-www-form-urlencoded"
                | "application/yaml"
                | "application/x-ndjson"
        );
    match std::str::from_utf8(bytes) {
        Ok(text) if textual => Body::Text(text.to_owned()),
        // Other character sets: readable is better than exact for what calls itself text.
        Err(_) if essence.starts_with("text/") => Body::Text(String::from_utf8_lossy(bytes).into_owned()),
        _ => Body::Base64(base64(bytes)),
    }
}

/// Cookies have commas of their own.
fn joined(headers: &[(String, String)]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let joint = if name == "set-cookie" { "\n" } else { ", " };
        match all.get_mut(&name) {
            Some(there) => {
                there.push_str(joint);
                there.push_str(value);
            }
            None => drop(all.insert(name, value.clone())),
        }
    }
    all
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or_default()));
        let bits = a << 16 | b << 8 | c;
        for digit in 0..4 {
            let sextet = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn bytes_are_written_as_base64() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn a_body_is_what_its_content_type_says_and_its_bytes_allow() {
        for (content_type, bytes, expected) in [
            (
                Some("application/json; charset=utf-8"),
                b"{\"a\": 1}".as_slice(),
                r#"{"bodyType":"json","body":{"a": 1}}"#,
            ),
            (Some("application/problem+json"), b"7", r#"{"bodyType":"json","body":7}"#),
            (Some("application/json"), b"oops", r#"{"bodyType":"text","body":"oops"}"#),
            (Some("Text/HTML"), b"<p>", r#"{"bodyType":"text","body":"<p>"}"#),
            (None, b"plain", r#"{"bodyType":"text","body":"plain"}"#),
            (None, b"\xff", r#"{"bodyType":"base64","body":"/w=="}"#),
            (Some("image/png"), b"png", r#"{"bodyType":"base64","body":"cG5n"}"#),
            (Some("text/plain; charset=latin1"), b"a\xe4", r#"{"bodyType":"text","body":"a\ufffd"}"#),
        ] {
            let body = serde_json::to_string(&by_content_type(content_type, bytes)).expect("JSON");
            let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            assert_eq!(read(&body), read(expected), "{content_type:?}");
        }
    }

    #[test]
    fn headers_that_come_twice_are_joined() {
        let headers = [("Vary", "a"), ("vary", "b"), ("Set-Cookie", "x=1, y"), ("set-cookie", "z=2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let joined = joined(&headers);
        assert_eq!(joined["vary"], "a, b");
        assert_eq!(joined["set-cookie"], "x=1, y\nz=2");
    }

    #[test]
    fn an_empty_body_is_null() {
        let answer = Answer { status: 204, ok: true, headers: BTreeMap::new(), body: Body::Empty(()) };
        let value = serde_json::to_value(&answer).expect("JSON");
        assert_eq!(value["bodyType"], "empty");
        assert_eq!(value.get("body"), Some(&Value::Null), "there, as the schema says");
    }
}
