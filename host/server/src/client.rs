//! A small client of the HTTP surface: what the command line speaks.

mod sse;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use sse::Events;

use crate::api::PREFIX;
use crate::api::wire::Validation;

/// Where a host is when nothing else is said.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";

/// A host that does not pick up by then is not there.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// An answer takes so long at most: the longest long poll and some.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(90);

/// As long as the host takes an upload.
const UPLOAD_TIME_MAX: Duration = Duration::from_mins(10);

/// The largest answer that is read: a run's context of 16 MiB and what is around it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer, or not the hoped-for one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("'{0}' is no server address; expected something like {DEFAULT_SERVER}")]
    Address(String),
    /// The key cannot stand in a header.
    #[error("the API key holds characters that no key has")]
    Key,
    /// Nobody answers.
    #[error("{server} does not answer: {reason}")]
    Connection {
        /// Whom.
        server: String,
        /// Why.
        reason: String,
    },
    /// The host said no.
    #[error("{message} ({code})")]
    Refused {
        /// Its status.
        status: u16,
        /// Its stable code.
        code: String,
        /// Its words.
        message: String,
        /// What is wrong with the definition, if that is it.
        validation: Option<Box<Validation>>,
    },
    /// The answer is not one of ours.
    #[error("{server} gave an answer that is none: {reason}")]
    Answer {
        /// Whose.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Speaks to one host with one key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
    #[serde(default)]
    validation: Option<Box<Validation>>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    code: String,
    message: String,
}

/// What a request carries.
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// JSON text.
    Json(String),
    /// YAML text.
    Yaml(&'a [u8]),
    /// A component.
    Wasm(Vec<u8>),
}

impl Payload<'_> {
    /// JSON of something.
    pub fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_string(value).unwrap_or_default())
    }
}

impl Client {
    /// For a host at an address.
    pub fn new(server: &str, key: Option<&str>) -> Result<Self, Error> {
        let invalid = || Error::Address(server.to_owned());
        let base = Url::parse(server).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(invalid());
        }
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| Error::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // An error means that there is a provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("caisson/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| Error::Connection { server: server.to_owned(), reason: error.to_string() })?;
        Ok(Self { http, base })
    }

    /// Where the host is.
    pub fn server(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// Asks; the answer is JSON text, empty where the host answers nothing.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        payload: Payload<'_>,
    ) -> Result<String, Error> {
        let patience = if matches!(payload, Payload::Wasm(_)) { UPLOAD_TIME_MAX } else { ANSWER_TIME_MAX };
        let mut request = self.http.request(method, self.url(path)).query(query).timeout(patience);
        request = match payload {
            Payload::Wasm(bytes) => request.header("content-type", "application/wasm").body(bytes),
            Payload::Empty => request,
            Payload::Json(text) => request.header("content-type", "application/json").body(text),
            Payload::Yaml(text) => request.header("content-type", "application/yaml").body(text.to_vec()),
        };
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let text = self.text(response).await?;
        if status.is_success() { Ok(text) } else { Err(self.refused(status, &text)) }
    }

    /// Asks for one thing.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Error> {
        let text = self.send(Method::GET, path, query, Payload::Empty).await?;
        self.parse(&text)
    }

    /// Reads an answer.
    pub fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|error| self.unreadable(error.to_string()))
    }

    /// A run's events from now on, or after a number.
    pub fn events(&self, run: &str, after: u64) -> Events {
        Events::new(self.clone(), run, after)
    }

    async fn stream(&self, run: &str, after: u64) -> Result<Option<reqwest::Response>, Error> {
        let path = format!("/workflow-runs/{}/stream", segment(run));
        let request = self.http.get(self.url(&path)).header("last-event-id", after.to_string());
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => Ok(Some(response)),
            status => {
                let text = self.text(response).await?;
                Err(self.refused(status, &text))
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{PREFIX}{path}", self.server())
    }

    async fn text(&self, mut response: reqwest::Response) -> Result<String, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(self.unreadable(format!("it is larger than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        String::from_utf8(bytes).map_err(|_| self.unreadable("it is not UTF-8".to_owned()))
    }

    fn refused(&self, status: StatusCode, text: &str) -> Error {
        match serde_json::from_str::<ErrorBody>(text) {
            Ok(body) => Error::Refused {
                status: status.as_u16(),
                code: body.error.code,
                message: body.error.message,
                validation: body.validation,
            },
            Err(_) => self.unreadable(format!("status {status} without an error of ours")),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Error::Connection { server: self.server(), reason: reason.to_string() }
    }

    fn unreadable(&self, reason: String) -> Error {
        Error::Answer { server: self.server(), reason }
    }
}

/// Whether an address means this machine.
pub fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && text.len() > 2) {
            path.push(char::from(byte));
        } else {
            path.push('%');
            path.push(char::from(DIGITS[usize::from(byte >> 4)]));
            path.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_leaves_its_place_in_the_path() {
        for (text, path) in [
            ("incident-triage", "incident-triage"),
            ("a/b", "a%2Fb"),
            ("..", "%2E%2E"),
            ("é?", "%C3%A9%3F"),
            ("v1.2", "v1.2"),
        ] {
            assert_eq!(segment(text), path);
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for address in ["", "7070", "ftp://x", "127.0.0.1:7070"] {
            assert!(matches!(Client::new(address, None), Err(Error::Address(_))), "{address}");
        }
        assert!(matches!(Client::new(DEFAULT_SERVER, Some("a\nb")), Err(Error::Key)));
    }
}
