use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Response;
use crate::CapabilityError;
use crate::bindings::caisson::step::http as host;
use crate::capabilities::{secrets, write};

/// A request that is being built. Goes out with [`send`](Request::send).
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until `send`"]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    /// Of the body, unless a header says otherwise.
    content_type: Option<&'static str>,
    timeout: Option<Duration>,
    /// The first thing that went wrong while building.
    wrong: Option<CapabilityError>,
}

/// A GET request.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A POST request.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A PUT request.
pub fn put(url: impl Into<String>) -> Request {
    request("PUT", url)
}

/// A PATCH request.
pub fn patch(url: impl Into<String>) -> Request {
    request("PATCH", url)
}

/// A DELETE request.
pub fn delete(url: impl Into<String>) -> Request {
    request("DELETE", url)
}

/// A HEAD request.
pub fn head(url: impl Into<String>) -> Request {
    request("HEAD", url)
}

/// A request with any method.
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: None,
        content_type: None,
        timeout: None,
        wrong: None,
    }
}

impl Request {
    /// Adds a header. `{{secret:NAME}}` in its value is filled in by the host: see [`secrets::placeholder`].
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// `authorization: Bearer …` with a secret that the host fills in.
    pub fn bearer_secret(self, name: &str) -> Self {
        let value = format!("Bearer {}", secrets::placeholder(name));
        self.header("authorization", value)
    }

    /// Adds a parameter to the URL.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let fragment = self.url.find('#').map(|at| self.url.split_off(at));
        let joint = match self.url.find('?') {
            None => "?",
            Some(at) if at + 1 == self.url.len() || self.url.ends_with('&') => "",
            Some(_) => "&",
        };
        self.url.push_str(joint);
        encode(&mut self.url, name, false);
        self.url.push('=');
        encode(&mut self.url, value, false);
        self.url.extend(fragment);
        self
    }

    /// A body of bytes.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// A body of plain text.
    pub fn text(mut self, body: impl Into<String>) -> Self {
        self.content_type = Some("text/plain; charset=utf-8");
        self.body(body.into())
    }

    /// A body of JSON.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        self.content_type = Some("application/json");
        match write("the request's body", body) {
            Ok(text) => self.body(text),
            Err(error) => {
                self.wrong.get_or_insert(error);
                self
            }
        }
    }

    /// A body as a form in a web page would send it.
    pub fn form<N: AsRef<str>, V: AsRef<str>>(mut self, fields: impl IntoIterator<Item = (N, V)>) -> Self {
        self.content_type = Some("application/x-www-form-urlencoded");
        let mut text = String::new();
        for (name, value) in fields {
            if !text.is_empty() {
                text.push('&');
            }
            encode(&mut text, name.as_ref(), true);
            text.push('=');
            encode(&mut text, value.as_ref(), true);
        }
        self.body(text)
    }

    /// How long the answer may take, redirects included. The host has a limit of its own, 30 s if the operator says nothing.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it. Every answer is an `Ok`, whatever its status: [`Response::error_for_status`] makes an error of it.
    pub fn send(self) -> Result<Response, CapabilityError> {
        let target = self.target();
        Ok(Response::new(target, host::send(&self.into_wire()?)?))
    }

    fn into_wire(self) -> Result<host::Request, CapabilityError> {
        let Self { method, url, mut headers, body, content_type, timeout, wrong } = self;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        let timeout_ms = timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        Ok(host::Request { method, url, headers, body, timeout_ms })
    }

    /// Method and host, for messages: paths may hold secrets, those of webhooks do.
    fn target(&self) -> String {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{} {host}", self.method)
    }
}

/// Percent-encodes all that is not unreserved (RFC 3986). In a form a space is a plus.
fn encode(out: &mut String, text: &str, form: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' if form => out.push('+'),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_added_to_whatever_is_there() {
        for (url, expected) in [
            ("https://a.example", "https://a.example?q=x%20%26%20y"),
            ("https://a.example/p?", "https://a.example/p?q=x%20%26%20y"),
            ("https://a.example/p?a=1", "https://a.example/p?a=1&q=x%20%26%20y"),
            ("https://a.example/p?a=1&#top", "https://a.example/p?a=1&q=x%20%26%20y#top"),
        ] {
            assert_eq!(get(url).query("q", "x & y").url, expected);
        }
        assert_eq!(get("u").query("ä", "€").query("b", "").url, "u?%C3%A4=%E2%82%AC&b=");
    }

    #[test]
    fn a_body_brings_its_content_type_unless_there_is_one() {
        let wire = post("u").json(&json!({"a": 1})).into_wire().expect("a request");
        assert_eq!(wire.headers, [("content-type".to_owned(), "application/json".to_owned())]);
        assert_eq!(wire.body.as_deref(), Some(b"{\"a\":1}".as_slice()));

        let wire = post("u").json(&1).header("Content-Type", "application/ld+json").into_wire().expect("a request");
        assert_eq!(wire.headers, [("Content-Type".to_owned(), "application/ld+json".to_owned())]);

        let wire = post("u").form([("a", "1 2"), ("b", "&")]).into_wire().expect("a request");
        assert_eq!(wire.body.as_deref(), Some(b"a=1+2&b=%26".as_slice()));

        let wire = post("u").body([0, 1]).timeout(Duration::from_millis(1500)).into_wire().expect("a request");
        assert_eq!((wire.headers.len(), wire.timeout_ms), (0, Some(1500)));
    }

    #[test]
    fn a_body_that_cannot_be_written_is_an_invalid_request() {
        let keys_that_are_no_text = BTreeMap::from([((1, 2), 3)]);
        let error = post("u").json(&keys_that_are_no_text).into_wire().expect_err("no request");
        assert!(matches!(error, CapabilityError::Invalid(_)), "{error:?}");
    }

    #[test]
    fn a_secret_is_named_and_not_sent() {
        let wire = get("u").bearer_secret("TOKEN").into_wire().expect("a request");
        assert_eq!(wire.headers, [("authorization".to_owned(), "Bearer {{secret:TOKEN}}".to_owned())]);
    }

    #[test]
    fn messages_name_the_host_and_no_path() {
        for (url, expected) in [
            ("https://hooks.example.com/services/SECRET?x", "POST hooks.example.com"),
            ("https://user:pass@a.example:8443", "POST a.example:8443"),
            ("nonsense", "POST nonsense"),
        ] {
            assert_eq!(post(url).target(), expected);
        }
    }
}
