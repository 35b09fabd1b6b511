//! Connections: dialled to addresses that were checked, kept for a moment, taken up again only where the address is allowed anew.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caisson_core::ids::Realm;
use caisson_core::plugin::Package;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::target::Target;
use crate::bindings::caisson::step::capability::Error;

/// A second address is tried beside the first when that has said nothing for so long (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// Common servers close a connection that is idle for five seconds or more: we are always first.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Of one owner.
const KEPT_MAX: usize = 8;
/// Of all. Each is a file descriptor.
const KEPT_MAX_ALL: usize = 256;
/// An answer's headers, all together; what comes with one read beyond it may pass.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Who may use a connection again, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    realm: Realm,
    digest: String,
    tls: bool,
    host: String,
    port: u16,
}

impl Owner {
    pub(super) fn new(realm: &Realm, package: &Package, target: &Target) -> Self {
        let Target { tls, host, port, .. } = target;
        Self { realm: realm.clone(), digest: package.digest.clone(), tls: *tls, host: host.clone(), port: *port }
    }
}

/// Connections that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<Owner, Vec<(Lease, Instant)>>>);

impl Kept {
    /// A connection to one of these addresses.
    pub(super) fn take(&self, owner: &Owner, addresses: &[IpAddr]) -> Option<Lease> {
        let mut kept = self.0.lock();
        let leases = kept.get_mut(owner)?;
        let now = Instant::now();
        leases.retain(|(lease, since)| now - *since < IDLE_MAX && !lease.sender.is_closed());
        let at = leases.iter().rposition(|(lease, _)| addresses.contains(&lease.address));
        at.map(|at| leases.swap_remove(at).0)
    }

    /// Takes it back once its answer was read to the end.
    pub(super) fn keep(&self, lease: Lease) {
        let now = Instant::now();
        let mut kept = self.0.lock();
        kept.retain(|_, leases| {
            leases.retain(|(lease, since)| now - *since < IDLE_MAX && !lease.sender.is_closed());
            !leases.is_empty()
        });
        let all: usize = kept.values().map(Vec::len).sum();
        if lease.sender.is_closed() || all >= KEPT_MAX_ALL {
            return;
        }
        let leases = kept.entry(lease.owner.clone()).or_default();
        if leases.len() < KEPT_MAX {
            leases.push((lease, now));
        }
    }
}

/// A connection in use.
pub(super) struct Lease {
    owner: Owner,
    address: IpAddr,
    sender: SendRequest<Full<Bytes>>,
    used: bool,
}

/// Why a request got no answer.
pub(super) struct SendError {
    pub(super) cause: hyper::Error,
    /// The connection was a kept one and closed at its other end: a new one may do.
    pub(super) stale: bool,
}

impl Lease {
    /// Dials one of the addresses: the first that answers.
    pub(super) async fn dial(
        owner: Owner,
        target: &Target,
        addresses: Vec<IpAddr>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, Error> {
        let dials = (0u32..).zip(addresses).map(|(at, address)| {
            Box::pin(async move {
                tokio::time::sleep(STAGGER * at).await;
                TcpStream::connect(SocketAddr::new(address, target.port)).await.map(|stream| (stream, address))
            })
        });
        let ((stream, address), _) =
            futures_util::future::select_ok(dials).await.map_err(|error| unreachable(target, &error))?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays slow");
        }
        let sender = match tls {
            None => shake_hands(target, TokioIo::new(stream)).await?,
            Some(config) => {
                let name = ServerName::try_from(target.host.clone())
                    .map_err(|_| Error::Invalid(format!("'{}' is no name for TLS", target.host)))?;
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .map_err(|error| untrusted(target, &error))?;
                shake_hands(target, TokioIo::new(stream)).await?
            }
        };
        Ok(Self { owner, address, sender, used: false })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn try_send(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> Result<hyper::Response<Incoming>, SendError> {
        let used = std::mem::replace(&mut self.used, true);
        self.sender.ready().await.map_err(|cause| SendError { cause, stale: used })?;
        self.sender.send_request(request).await.map_err(|cause| {
            let gone = cause.is_canceled() || cause.is_closed() || cause.is_incomplete_message() || reset(&cause);
            SendError { stale: used && gone, cause }
        })
    }
}

async fn shake_hands(
    target: &Target,
    stream: impl Read + Write + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Error> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(stream)
        .await
        .map_err(|error| failed(target, &error))?;
    // Ends with its sender.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of a plugin ended");
        }
    });
    Ok(sender)
}

/// TLS as the system has it.
pub(super) fn system_tls() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_no_client_auth()))
}

// None of these texts has an address in it: what the network behind a name looks like is not the guest's to know.

fn unreachable(target: &Target, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refuses the connection",
        io::ErrorKind::TimedOut => "does not answer",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "cannot be reached",
        _ => "cannot be connected to",
    };
    Error::Unavailable(format!("'{}' {what} on port {}", target.host, target.port))
}

fn untrusted(target: &Target, error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let what = match cause {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for other names"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::UnknownIssuer => "its certificate is from an authority that this host does not trust",
            _ => "its certificate is not accepted",
        },
        Some(_) => "it does not speak TLS as this host does",
        None => "the connection broke",
    };
    tracing::debug!(host = target.host, %error, "TLS failed for a plugin");
    Error::Unavailable(format!("TLS with '{}' failed: {what}", target.host))
}

pub(super) fn failed(target: &Target, error: &hyper::Error) -> Error {
    let host = &target.host;
    Error::Unavailable(if error.is_parse_too_large() {
        format!("'{host}' answers with more than {HEAD_BYTES_MAX} bytes or 100 lines of headers")
    } else if error.is_parse() {
        format!("'{host}' does not answer in HTTP")
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() || reset(error) {
        format!("'{host}' closed the connection before its answer was complete")
    } else {
        format!("the connection to '{host}' broke")
    })
}

fn reset(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    })
}
