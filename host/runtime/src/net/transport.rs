//! What carries requests instead of connections: for tools that play the world around a plugin, where nothing leaves the machine.
//!
//! It stands behind every check and before the rest: grants, addresses, filled-in secrets, redirects, limits and redaction are the real ones.

use std::net::IpAddr;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::{Answer, Hop};
use crate::bindings::caisson::step::capability::Error;

/// One request of a chain of redirects, as it would be sent.
#[derive(Clone, Debug)]
pub struct TransportRequest {
    /// In upper case.
    pub method: String,
    /// Absolute.
    pub url: String,
    /// The host's own among them, secrets filled in; a value that is no text is left out.
    pub headers: Vec<(String, String)>,
    /// Empty if there is none.
    pub body: Bytes,
    /// Where it may go.
    pub addresses: Vec<IpAddr>,
}

/// What comes back.
#[derive(Clone, Debug, Default)]
pub struct TransportReply {
    /// From 100 to 999.
    pub status: u16,
    /// In any case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Bytes,
}

/// Why nothing comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// No answer in time.
    Timeout,
    /// May work later.
    Unavailable(String),
    /// Will not.
    Other(String),
}

/// Carries requests.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Answers one. Dropping the future ends it.
    async fn send(&self, request: TransportRequest) -> Result<TransportReply, TransportError>;
}

pub(super) async fn carry(
    transport: &dyn Transport,
    hop: &Hop,
    addresses: Vec<IpAddr>,
) -> Result<hyper::Response<Answer>, Error> {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let request = TransportRequest {
        method: hop.method.as_str().to_owned(),
        url: hop.target.to_string(),
        headers: hop.headers.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect(),
        body: hop.body.clone(),
        addresses,
    };
    let reply = transport.send(request).await.map_err(|error| match error {
        TransportError::Timeout => Error::Timeout,
        TransportError::Unavailable(why) => Error::Unavailable(why),
        TransportError::Other(why) => Error::Other(why),
    })?;
    let wrong = |what: &str| Error::Other(format!("the answer of '{}' is none: {what}", hop.target.host));
    let never = |error: std::convert::Infallible| match error {};
    let mut response = hyper::Response::new(Full::new(reply.body).map_err(never).boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(reply.status).map_err(|_| wrong("its status is no number of three digits"))?;
    for (name, value) in reply.headers {
        let name = HeaderName::try_from(&name).map_err(|_| wrong("a header's name"))?;
        let value = HeaderValue::try_from(value).map_err(|_| wrong("a header's value"))?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}
