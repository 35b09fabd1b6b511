//! Where a request goes, read from a URL once. What is checked, dialled, named in TLS and sent as `host` is this and nothing else.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::HeaderValue;
use url::{Host, Position, Url};

use crate::bindings::caisson::step::capability::Error;

/// Longer ones are refused by most servers.
const URL_BYTES_MAX: usize = 8 << 10;
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) tls: bool,
    /// A name in lower case and ASCII without a dot at its end, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    url: Url,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url[..Position::AfterQuery])
    }
}

impl Target {
    /// Reads a guest's URL.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > URL_BYTES_MAX {
            return Err(Error::Invalid(format!("the URL has more than {URL_BYTES_MAX} bytes")));
        }
        let url = Url::parse(text).map_err(|error| Error::Invalid(format!("the URL does not read: {error}")))?;
        Self::of(url).map_err(|why| Error::Invalid(format!("the URL is refused: {why}")))
    }

    /// Reads a redirect's.
    pub(super) fn join(&self, location: &str) -> Result<Self, Error> {
        let from = &self.host;
        let wrong = |why: &str| Error::Other(format!("a redirect of '{from}' is refused: {why}"));
        if location.len() > URL_BYTES_MAX {
            return Err(wrong("its URL is too long"));
        }
        let url = self.url.join(location).map_err(|error| wrong(&error.to_string()))?;
        Self::of(url).map_err(|why| wrong(&why))
    }

    fn of(url: Url) -> Result<Self, String> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("its scheme is '{other}', and only http and https are known")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has a user name or a password: use the header authorization".to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name_of(name)?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("it has no host".to_owned()),
        };
        // Neither scheme is without a default.
        let port = url.port_or_known_default().filter(|port| *port > 0).ok_or("its port is 0")?;
        Ok(Self { tls, host, port, url })
    }

    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.tls == other.tls && self.host == other.host && self.port == other.port
    }

    /// As a request's first line has it. A fragment stays at home.
    pub(super) fn path(&self) -> Result<Uri, Error> {
        Uri::try_from(&self.url[Position::BeforePath..Position::AfterQuery])
            .map_err(|error| Error::Invalid(format!("the URL is refused: {error}")))
    }

    /// As the header `host` has it.
    pub(super) fn authority(&self) -> Result<HeaderValue, Error> {
        let bracketed = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        let host = if bracketed { format!("[{}]", self.host) } else { self.host.clone() };
        let own = if self.tls { 443 } else { 80 };
        let text = if self.port == own { host } else { format!("{host}:{}", self.port) };
        HeaderValue::try_from(text).map_err(|error| Error::Invalid(error.to_string()))
    }
}

/// A name that the URL standard has already brought to lower case and ASCII.
fn name_of(name: &str) -> Result<String, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(label) {
        return Err(format!("'{}' is no host's name", name.escape_debug()));
    }
    Ok(name.to_owned())
}
