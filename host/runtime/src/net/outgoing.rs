//! A guest's request, read and checked as far as that depends on nothing but its grants.

use std::time::Duration;

use bytes::Bytes;
use caisson_core::plugin::{Effective, Grants, HttpGrant};
use hyper::Method;
use hyper::header::HeaderMap;

use super::headers::{self, Field};
use super::target::Target;
use super::{Caller, REQUEST_BYTES_DEFAULT, RESPONSE_BYTES_DEFAULT, TIMEOUT_DEFAULT, denied};
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::http::Request;

const METHOD_BYTES_MAX: usize = 32;

/// A request that may go out, if its host's addresses may be dialled.
pub(crate) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: Target,
    fields: Vec<Field>,
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
    pub(super) response_bytes: u64,
}

impl Outgoing {
    /// What a trace says of it, by OpenTelemetry's conventions for HTTP. Neither path nor query: they may hold secrets.
    pub(crate) fn seen(&self) -> Vec<(&'static str, String)> {
        vec![
            ("http.request.method", self.method.to_string()),
            ("server.address", self.target.host.clone()),
            ("server.port", self.target.port.to_string()),
        ]
    }

    /// Reads a request, whose body stands by itself. Every error is the same when the guest asks again.
    pub(crate) fn new(effective: &Effective, request: &Request, body: Bytes) -> Result<Self, Error> {
        let method = read_method(&request.method)?;
        let target = Target::parse(&request.url)?;
        effective.http(target.tls, &target.host, target.port, method.as_str()).map_err(denied)?;
        let fields = headers::read(&request.headers, effective, &target)?;
        let least = |default: u64, number: fn(&HttpGrant) -> Option<u64>| {
            effective.least(default, |grants: &Grants| grants.http.as_ref().and_then(number))
        };
        let request_bytes = least(REQUEST_BYTES_DEFAULT, |http| http.max_request_bytes);
        if body.len() as u64 > request_bytes {
            return Err(Error::TooLarge(request_bytes));
        }
        let timeout = Duration::from_millis(least(millis(TIMEOUT_DEFAULT), |http| http.timeout_ms));
        let asked = request.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        Ok(Self {
            method,
            target,
            fields,
            body,
            timeout: asked.map_or(timeout, |asked| asked.min(timeout)),
            response_bytes: least(RESPONSE_BYTES_DEFAULT, |http| http.max_response_bytes),
        })
    }

    /// The headers as the wire has them.
    pub(super) fn fill_in(&self, caller: &Caller<'_>) -> Result<HeaderMap, Error> {
        headers::fill_in(&self.fields, caller, &self.target)
    }
}

/// In upper case, as grants have them.
fn read_method(text: &str) -> Result<Method, Error> {
    let wrong = || Error::Invalid(format!("'{}' is no method", text.escape_debug()));
    if text.len() > METHOD_BYTES_MAX {
        return Err(Error::Invalid("the method is too long".to_owned()));
    }
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes()).map_err(|_| wrong())?;
    // The first makes a tunnel that nobody looks into; the second answers with what was sent, secrets and all.
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Error::Invalid(format!("the method {method} is not for plugins")));
    }
    Ok(method)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
