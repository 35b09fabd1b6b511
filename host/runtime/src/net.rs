//! Outgoing HTTP for guests: what was checked is what is dialled.
//!
//! ```text
//! request ─► URL, method, headers ─► is the host granted? ─► its addresses, looked up once ─► is the address granted? ─► dialled ─► answer
//!                                      ▲                                                                               │ redirect
//!                                      └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - a connection goes to an address that was checked for this very request, kept connections too; nothing looks a name up a second time;
//! - kept connections belong to one plugin in one realm;
//! - secrets are filled in last, leave an origin by no redirect, and are gone from an answer or an error before anybody sees it.
//!
//! Deliberately absent: proxies, cookies, caches, decompression, HTTP/2. An answer is what the wire had.

mod connection;
mod headers;
mod outgoing;
mod resolver;
mod target;
#[cfg(test)]
mod tests;
mod transport;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use caisson_core::ids::Realm;
use caisson_core::plugin::{Denied, Effective};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode};
use rustls::ClientConfig;
use tokio::time::Instant;

pub(crate) use self::outgoing::Outgoing;
pub use self::resolver::{Resolver, SystemResolver};
pub use self::transport::{Transport, TransportError, TransportReply, TransportRequest};

use self::connection::{Kept, Lease};
use self::target::Target;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::http::Response;
use crate::redact::Redactor;

/// As many as browsers follow half of.
const REDIRECTS_MAX: u32 = 10;
/// Of one name, so many addresses are tried.
const ADDRESSES_MAX: usize = 8;

/// What requests share: connections that are kept for a while, and trust in certificates. One for a plugin host.
#[derive(Default)]
pub(crate) struct Clients {
    kept: Kept,
    /// Made at the first use of TLS: it reads the system's certificates.
    tls: OnceLock<Arc<ClientConfig>>,
    /// Instead of connections.
    transport: Option<Arc<dyn Transport>>,
}

/// An answer's body, wherever it comes from.
type Answer = UnsyncBoxBody<Bytes, Error>;

/// On whose behalf a request goes out.
pub(crate) struct Caller<'a> {
    pub(crate) realm: &'a Realm,
    pub(crate) effective: &'a Effective,
    pub(crate) redactor: &'a Redactor,
    pub(crate) resolver: &'a dyn Resolver,
    /// What an outside system can tell a repeated request by.
    pub(crate) idempotency_key: &'a str,
}

/// One request of a chain of redirects.
struct Hop {
    method: Method,
    target: Target,
    headers: HeaderMap,
    body: Bytes,
}

impl Clients {
    /// Carried by that instead of by connections, if it is there.
    pub(crate) fn new(transport: Option<Arc<dyn Transport>>) -> Self {
        Self { transport, ..Self::default() }
    }

    /// Trusts other certificates than the system does.
    #[cfg(test)]
    pub(crate) fn trusting(tls: ClientConfig) -> Self {
        Self { tls: OnceLock::from(Arc::new(tls)), ..Self::default() }
    }

    /// Sends a request and follows its redirects, every one checked as if the guest had asked for it.
    pub(crate) async fn send(&self, caller: &Caller<'_>, outgoing: Outgoing) -> Result<Response, Error> {
        let until = Instant::now() + outgoing.timeout;
        let answer = match tokio::time::timeout_at(until, self.follow(caller, outgoing)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout),
        };
        answer.map_err(|error| clean(error, caller.redactor))
    }

    async fn follow(&self, caller: &Caller<'_>, outgoing: Outgoing) -> Result<Response, Error> {
        let headers = outgoing.fill_in(caller)?;
        let Outgoing { method, target, body, response_bytes, .. } = outgoing;
        let mut hop = Hop { method, target, headers, body };
        for _ in 0..=REDIRECTS_MAX {
            let Target { tls, host, port, .. } = &hop.target;
            caller.effective.http(*tls, host, *port, hop.method.as_str()).map_err(denied)?;
            let (response, lease) = self.exchange(caller, &hop).await?;
            let Some(location) = redirected(response.status(), response.headers()) else {
                return self.read(caller, &hop, response, lease, response_bytes).await;
            };
            hop = hop.redirected(caller.redactor, response.status(), location)?;
        }
        Err(Error::Other(format!("'{}' is behind more than {REDIRECTS_MAX} redirects", hop.target.host)))
    }

    /// Sends one request and waits for the head of its answer.
    async fn exchange(
        &self,
        caller: &Caller<'_>,
        hop: &Hop,
    ) -> Result<(hyper::Response<Answer>, Option<Lease>), Error> {
        let addresses = addresses(caller, &hop.target).await?;
        if let Some(transport) = &self.transport {
            return Ok((transport::carry(&**transport, hop, addresses).await?, None));
        }
        let owner = connection::Owner::new(caller.realm, caller.effective.package(), &hop.target);
        while let Some(mut lease) = self.kept.take(&owner, &addresses) {
            match lease.try_send(hop.request()?).await {
                Ok(response) => return Ok((hop.answer(response), Some(lease))),
                // Its other end has closed it meanwhile; the request carries an idempotency key in any case.
                Err(error) if error.stale => {}
                Err(error) => return Err(connection::failed(&hop.target, &error.cause)),
            }
        }
        let tls = if hop.target.tls { Some(self.tls()?) } else { None };
        let mut lease = Lease::dial(owner, &hop.target, addresses, tls).await?;
        match lease.try_send(hop.request()?).await {
            Ok(response) => Ok((hop.answer(response), Some(lease))),
            Err(error) => Err(connection::failed(&hop.target, &error.cause)),
        }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        // What fails is tried again: certificates may be installed meanwhile.
        let tls = connection::system_tls().map_err(|error| {
            Error::Unavailable(format!("TLS cannot be used: the system's certificates do not read: {error}"))
        })?;
        Ok(Arc::clone(self.tls.get_or_init(|| tls)))
    }

    async fn read(
        &self,
        caller: &Caller<'_>,
        hop: &Hop,
        response: hyper::Response<Answer>,
        lease: Option<Lease>,
        bytes_max: u64,
    ) -> Result<Response, Error> {
        let (head, mut stream) = response.into_parts();
        if head.status.is_informational() {
            return Err(Error::Other(format!("'{}' wants to speak another protocol", hop.target.host)));
        }
        if headers::is_disguised(&head.headers) && headers::hidden_for(caller.effective, &hop.target) {
            return Err(Error::Other(format!(
                "'{}' answers in a coding that was not asked for: a secret that the host fills in could not be redacted",
                hop.target.host
            )));
        }
        let too_large = || Error::TooLarge(bytes_max);
        if stream.size_hint().lower() > bytes_max && hop.method != Method::HEAD {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(frame) = stream.frame().await {
            let frame = frame?;
            let Ok(data) = frame.into_data() else { continue };
            if (body.len() + data.len()) as u64 > bytes_max {
                return Err(too_large());
            }
            body.extend_from_slice(&data);
        }
        if let Some(lease) = lease {
            self.kept.keep(lease);
        }
        Ok(Response {
            status: head.status.as_u16(),
            headers: headers::answered(&head.headers, caller.redactor),
            body: match caller.redactor.bytes(&body) {
                std::borrow::Cow::Borrowed(_) => body,
                std::borrow::Cow::Owned(clean) => clean,
            },
        })
    }
}

/// The addresses that may be dialled for a host, in the resolver's order.
async fn addresses(caller: &Caller<'_>, target: &Target) -> Result<Vec<IpAddr>, Error> {
    let Target { tls, host, port, .. } = target;
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => caller.resolver.resolve(host).await.map_err(|error| {
            tracing::debug!(%host, %error, "a name was not found for a plugin");
            Error::Unavailable(format!("no address was found for '{host}'"))
        })?,
    };
    let mut allowed = Vec::new();
    let mut refused = None;
    for address in found.into_iter().map(|address| address.to_canonical()) {
        match caller.effective.address(*tls, host, *port, address) {
            Ok(()) if allowed.contains(&address) => {}
            Ok(()) => allowed.push(address),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    allowed.truncate(ADDRESSES_MAX);
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(why) => Err(denied(why)),
        None => Err(Error::Unavailable(format!("no address was found for '{host}'"))),
    }
}

impl Hop {
    fn request(&self) -> Result<hyper::Request<Full<Bytes>>, Error> {
        let mut request = hyper::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.path()?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(header::HOST, self.target.authority()?);
        Ok(request)
    }

    /// What a connection answered.
    fn answer(&self, response: hyper::Response<Incoming>) -> hyper::Response<Answer> {
        let target = self.target.clone();
        response.map(|body| body.map_err(move |error| connection::failed(&target, &error)).boxed_unsync())
    }

    /// The next request, as browsers make it.
    fn redirected(mut self, redactor: &Redactor, status: StatusCode, location: &[u8]) -> Result<Self, Error> {
        let from = &self.target.host;
        if let Some(name) = redactor.holds(location) {
            return Err(Error::Other(format!("'{from}' redirects to a URL with the secret '{name}'")));
        }
        let target = std::str::from_utf8(location)
            .map_err(|_| Error::Other(format!("'{from}' redirects to something that is no URL")))
            .and_then(|location| self.target.join(location))?;
        let drops_body = match status {
            StatusCode::SEE_OTHER => self.method != Method::GET && self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if drops_body {
            self.method = Method::GET;
            self.body = Bytes::new();
            for name in
                [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_LOCATION]
            {
                self.headers.remove(name);
            }
        }
        if !target.same_origin(&self.target) {
            headers::leave(&mut self.headers, redactor);
        }
        self.target = target;
        Ok(self)
    }
}

/// Where to, if the answer says so.
fn redirected(status: StatusCode, headers: &HeaderMap) -> Option<&[u8]> {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| headers.get(header::LOCATION))
        .flatten()
        .map(header::HeaderValue::as_bytes)
}

fn denied(denied: Denied) -> Error {
    Error::Denied(denied.0)
}

/// An error whose text holds no secret: parts of it are what servers said.
fn clean(error: Error, redactor: &Redactor) -> Error {
    let text = |text: String| redactor.text(&text).into_owned();
    match error {
        Error::Denied(why) => Error::Denied(text(why)),
        Error::NotFound(why) => Error::NotFound(text(why)),
        Error::Invalid(why) => Error::Invalid(text(why)),
        Error::Quota(why) => Error::Quota(text(why)),
        Error::Unavailable(why) => Error::Unavailable(text(why)),
        Error::Other(why) => Error::Other(text(why)),
        Error::TooLarge(_) | Error::Timeout => error,
    }
}

/// Half a minute: an API that takes longer should be asked in two steps.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Requests of one entry.
pub(crate) const REQUESTS_DEFAULT: u64 = 100;
/// What forms and documents have.
pub(crate) const REQUEST_BYTES_DEFAULT: u64 = 4 << 20;
/// Half of what one call may carry over the boundary.
pub(crate) const RESPONSE_BYTES_DEFAULT: u64 = 8 << 20;
