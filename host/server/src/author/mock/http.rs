//! HTTP without a network.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use caisson_runtime::{TransportError, TransportReply, TransportRequest};
use serde::Deserialize;
use serde_json::Value;

use super::super::compare::{Difference, Mode, differences, fits, shortened};
use super::{Expectations, Expected, Times, present};

/// A request and its answer, as a case writes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exchange {
    #[serde(default)]
    request: Request,
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    error: Option<NoAnswer>,
    #[serde(default)]
    times: Times,
}

/// What a request has to look like; what is absent fits anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    method: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "present")]
    json: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    json_contains: Option<Value>,
    body: Option<String>,
    body_contains: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Response {
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(flatten)]
    body: Body,
}

/// Bytes as a case writes them: at most one of the three.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Body {
    #[serde(default, deserialize_with = "present")]
    json: Option<Value>,
    #[serde(rename = "body")]
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum NoAnswer {
    Timeout,
    Refused,
}

impl Body {
    /// The bytes, and whether they are JSON; `None` if nothing is said.
    pub fn bytes(&self) -> Result<Option<(Vec<u8>, bool)>, String> {
        match (&self.json, &self.text, &self.base64) {
            (None, None, None) => Ok(None),
            (Some(json), None, None) => Ok(Some((json.to_string().into_bytes(), true))),
            (None, Some(text), None) => Ok(Some((text.clone().into_bytes(), false))),
            (None, None, Some(text)) => {
                let bytes = STANDARD.decode(text.trim()).map_err(|error| format!("base64: {error}"))?;
                Ok(Some((bytes, false)))
            }
            _ => Err("write one of json, body and base64".to_owned()),
        }
    }
}

impl Exchange {
    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), String> {
        if self.response.is_some() == self.error.is_some() {
            return Err("an exchange has either a response or an error".to_owned());
        }
        if let Some(response) = &self.response {
            response.body.bytes()?;
        }
        Ok(())
    }

    fn reply(&self) -> Result<TransportReply, TransportError> {
        match self.error {
            Some(NoAnswer::Timeout) => return Err(TransportError::Timeout),
            Some(NoAnswer::Refused) => {
                return Err(TransportError::Unavailable("the connection was refused".to_owned()));
            }
            None => {}
        }
        let Response { status, headers, body } = self.response.clone().unwrap_or_default();
        let body = body.bytes().map_err(TransportError::Other)?;
        let mut headers: Vec<(String, String)> = headers.into_iter().collect();
        let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if let Some((_, true)) = &body
            && !typed
        {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let body = body.map_or_else(Bytes::new, |(bytes, _)| bytes.into());
        Ok(TransportReply { status: status.unwrap_or(200), headers, body })
    }
}

impl Expected for Exchange {
    type Asked = TransportRequest;

    const FIELD: &'static str = "http";
    const WORD: &'static str = "sent";

    fn name(&self) -> String {
        let method = self.request.method.as_deref().unwrap_or("any method");
        format!("{method} {}", self.request.url.as_deref().unwrap_or("any address"))
    }

    fn times(&self) -> Times {
        self.times
    }

    fn misfits(&self, request: &TransportRequest) -> Vec<Difference> {
        let Request { method, url, headers, json, json_contains, body, body_contains } = &self.request;
        let mut found = Vec::new();
        let mut text = |path: &str, expected: &str, got: &str| {
            found.push(Difference::new(path, format!("expected {expected:?}, got {:?}", shortened(got))));
        };
        if let Some(method) = method.as_deref().filter(|method| !method.eq_ignore_ascii_case(&request.method)) {
            text("method", method, &request.method);
        }
        if let Some(url) = url.as_deref().filter(|url| !url_fits(url, &request.url)) {
            text("url", url, &request.url);
        }
        for (name, expected) in headers {
            let values: Vec<&str> = request
                .headers
                .iter()
                .filter(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
                .collect();
            if !values.contains(&expected.as_str()) {
                text(&format!("headers.{name}"), expected, &values.join(", "));
            }
        }
        let sent = &request.body[..];
        let sent_text = String::from_utf8_lossy(sent);
        if let Some(expected) = body.as_deref().filter(|expected| *expected != sent_text) {
            text("body", expected, &sent_text);
        }
        if let Some(part) = body_contains.as_deref().filter(|part| !sent_text.contains(*part)) {
            text("bodyContains", part, &sent_text);
        }
        for (path, expected, mode) in [("json", json, Mode::Equal), ("jsonContains", json_contains, Mode::Subset)] {
            let Some(expected) = expected else { continue };
            match serde_json::from_slice::<Value>(sent) {
                Ok(got) if fits(expected, &got, mode) => {}
                Ok(got) => found.extend(differences(path, expected, &got, mode)),
                Err(_) => {
                    found.push(Difference::new(path, format!("the body is no JSON: {:?}", shortened(&sent_text))));
                }
            }
        }
        found
    }
}

/// The same address, or one that begins so.
fn url_fits(expected: &str, got: &str) -> bool {
    match expected.strip_suffix('*') {
        Some(start) => got.starts_with(start),
        // An address without a path is sent with one.
        None => expected == got || format!("{expected}/") == got,
    }
}

impl Expectations<Exchange> {
    /// Answers a request.
    pub fn answer(&self, request: &TransportRequest) -> Result<TransportReply, TransportError> {
        let sent = format!("{} {}", request.method, request.url);
        match self.take(request, &sent) {
            Some(exchange) => exchange.reply(),
            None => Err(TransportError::Other(format!("this test expects no such request: {sent}"))),
        }
    }
}
