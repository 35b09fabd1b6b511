//! The connection to NATS: who we are, and whether the server is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::Error;

/// Steps in the stream at most, over all hosts, unless told otherwise: at 10,000 steps a second it is 0.4 s of work, so that a refill is
/// never late. What waits longer waits in the store, which orders it.
pub(super) const WINDOW: usize = 4096;
/// Publications that wait for the server's word at most: at 1 ms a round trip this is 500,000 a second.
const IN_FLIGHT: usize = 512;
/// Places in the client for each of them.
const PLACES: usize = 16;
/// How long the server may take for an answer. It answers in milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Between two tries to reach the server; soon at first.
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// A server that is not heard of for two of these is gone: a cable that was cut says nothing.
const PING: Duration = Duration::from_secs(5);

/// How to reach NATS, and how much to ask of it.
#[derive(Clone)]
pub struct Options {
    /// `nats://host:port` or `tls://…`, of one cluster; may hold user and password, or a token.
    pub urls: Vec<String>,
    /// A token.
    pub token: Option<String>,
    /// A credentials file (`.creds`): JWT and nkey seed.
    pub credentials: Option<PathBuf>,
    /// Certificates.
    pub tls: Tls,
    /// This host, for people who look at the server's connections.
    pub host: Arc<str>,
    /// Copies of each stream in a cluster.
    pub replicas: usize,
    /// Steps in the stream at most, over all hosts. All hosts have to agree.
    pub window: usize,
    /// Publications that wait for the server's word at most.
    pub in_flight: usize,
}

/// How to know the server, and how it knows us.
#[derive(Clone, Default)]
pub struct Tls {
    /// Whether to refuse a connection without TLS. A `tls://` address does, too.
    pub required: bool,
    /// Roots that are trusted beside the system's (PEM).
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (PEM).
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Options {
    /// One server that asks nothing.
    pub fn new(url: impl Into<String>, host: impl Into<Arc<str>>) -> Self {
        Self {
            urls: vec![url.into()],
            token: None,
            credentials: None,
            tls: Tls::default(),
            host: host.into(),
            replicas: 1,
            window: WINDOW,
            in_flight: IN_FLIGHT,
        }
    }
}

/// Whether the server can be reached. Every change is a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    pub up: bool,
}

/// The connection.
#[derive(Clone)]
pub(super) struct Link {
    pub client: Client,
    pub context: Context,
    state: watch::Receiver<LinkState>,
}

impl Link {
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let addresses = options.urls.iter().map(|url| address(url)).collect::<Result<Vec<_>, _>>()?;
        let servers = addresses.iter().map(shown).collect::<Vec<_>>().join(", ");
        let (sender, state) = watch::channel(LinkState { up: true });
        let connect = identity(options, &addresses).await?.event_callback(move |event| {
            note(&sender, &event);
            std::future::ready(())
        });
        let client = connect.connect(addresses.into_iter().map(bare).collect::<Vec<_>>()).await.map_err(|error| {
            let passing = matches!(error.kind(), ConnectErrorKind::Io | ConnectErrorKind::TimedOut);
            Error::Connect { servers, reason: with_sources(&error), passing }
        })?;
        let context = ContextBuilder::new()
            .timeout(ANSWER_MAX)
            .ack_timeout(ANSWER_MAX)
            // The publisher bounds itself; the client holds a place for a while for what was given up, too.
            .max_ack_inflight(options.in_flight.saturating_mul(PLACES))
            .build(client.clone());
        Ok(Self { client, context, state })
    }

    pub fn is_up(&self) -> bool {
        self.state.borrow().up && self.client.connection_state() == State::Connected
    }

    /// Changes from now on.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    pub async fn wait_up(&self) {
        let mut state = self.state.clone();
        if state.wait_for(|state| state.up).await.is_err() {
            // The client is gone, and so is whoever waits.
            std::future::pending::<()>().await;
        }
    }
}

fn note(state: &watch::Sender<LinkState>, event: &Event) {
    match event {
        Event::Connected => {
            tracing::info!("NATS is there");
            turn(state, true);
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!("NATS is gone");
            turn(state, false);
        }
        other => tracing::warn!(event = %other, "NATS"),
    }
}

/// The client also tells of the first connection, which is no news.
fn turn(state: &watch::Sender<LinkState>, up: bool) {
    state.send_if_modified(|state| std::mem::replace(&mut state.up, up) != up);
}

async fn identity(options: &Options, addresses: &[ServerAddr]) -> Result<ConnectOptions, Error> {
    let mut connect = ConnectOptions::new()
        .name(format!("caisson {}", options.host))
        .connection_timeout(ANSWER_MAX)
        .request_timeout(Some(ANSWER_MAX))
        .ping_interval(PING)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let doubled = RECONNECT_MIN.saturating_mul(1 << u32::try_from(attempts).unwrap_or(u32::MAX).min(10));
            doubled.min(RECONNECT_MAX)
        });
    // The client does not look at what the address holds. A name alone is a token, as everywhere in NATS.
    if let Some(address) = addresses.iter().find(|address| address.has_user_pass()) {
        let name = plain(address.username().unwrap_or_default());
        connect = match address.password() {
            Some(password) => connect.user_and_password(name, plain(password)),
            None => connect.token(name),
        };
    }
    if let Some(token) = &options.token {
        connect = connect.token(token.clone());
    }
    if let Some(path) = &options.credentials {
        let refused = |source| Error::File { what: "the NATS credentials", path: path.clone(), source };
        connect = connect.credentials_file(path).await.map_err(refused)?;
    }
    if options.tls.required {
        connect = connect.require_tls(true);
    }
    if let Some(path) = &options.tls.ca {
        readable("the NATS root certificates", path).await?;
        connect = connect.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.tls.certificate {
        readable("the NATS client certificate", certificate).await?;
        readable("the key of the NATS client certificate", key).await?;
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(connect)
}

/// The client would only say that some file is missing.
async fn readable(what: &'static str, path: &PathBuf) -> Result<(), Error> {
    match tokio::fs::File::open(path).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::File { what, path: path.clone(), source }),
    }
}

fn address(url: &str) -> Result<ServerAddr, Error> {
    url.parse().map_err(|error: std::io::Error| {
        let public = url.rsplit_once('@').map_or(url, |(_, host)| host);
        Error::Address { address: public.to_owned(), reason: error.to_string() }
    })
}

/// A part of an address without its percent signs.
fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Without user and password: the client writes addresses into logs.
fn bare(address: ServerAddr) -> ServerAddr {
    let mut url = address.clone().into_inner();
    let stripped = url.set_username("").and_then(|()| url.set_password(None)).is_ok();
    ServerAddr::from_url(url).ok().filter(|_| stripped).unwrap_or(address)
}

/// Without user and password.
fn shown(address: &ServerAddr) -> String {
    format!("{}:{}", address.host(), address.port())
}

pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_may_hold_anything() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a%40b%3A%2f", "a@b:/"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%C3%A4", "\u{e4}"),
            ("", ""),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
