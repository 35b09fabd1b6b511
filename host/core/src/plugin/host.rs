//! Names of hosts in grants, and which addresses are private.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host that a grant names: `[https://]HOST[:PORT]`.
///
/// HOST is a name, `*.` and a suffix (any name below it, not itself), an address, or `*` (every host). PORT is a number or `*`; without one it
/// is the scheme's own, 443 or 80. Without a scheme both are meant. An address of a private range, or `localhost`, is granted by naming it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    tls_only: Option<bool>,
    name: Name,
    port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Any,
    Below(String),
    Exactly(String),
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Default,
    Any,
    One(u16),
}

impl HostPattern {
    /// Whether a URL's scheme (TLS or not), host (as the URL standard writes it, an IPv6 address without brackets) and port are meant.
    pub fn matches(&self, tls: bool, host: &str, port: u16) -> bool {
        let scheme = self.tls_only.is_none_or(|only| only == tls);
        let port = match self.port {
            Port::Any => true,
            Port::One(one) => one == port,
            Port::Default => port == if tls { 443 } else { 80 },
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = match &self.name {
            Name::Any => true,
            Name::Below(suffix) => {
                host.len() > suffix.len() + 1
                    && host.to_ascii_lowercase().ends_with(suffix)
                    && host.as_bytes()[host.len() - suffix.len() - 1] == b'.'
            }
            Name::Exactly(name) => host.eq_ignore_ascii_case(name),
            Name::Address(address) => host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == *address),
        };
        scheme && port && name
    }

    /// Whether it names a machine that is private by itself: an address, or `localhost`.
    pub fn names_private(&self) -> bool {
        match &self.name {
            Name::Address(_) => true,
            Name::Exactly(name) => name == "localhost" || name.ends_with(".localhost"),
            Name::Any | Name::Below(_) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!("'{text}' is no host: {why}, for example api.example.com, *.example.com:8443 or 10.0.0.7:80"))
        };
        let (tls_only, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(true), rest),
            Some(("http", rest)) => (Some(false), rest),
            Some(_) => return wrong("the scheme is https or http"),
            None => (None, text),
        };
        if rest.contains(['/', '?', '#', '@', ' ']) {
            return wrong("write a host and perhaps a port, without a path");
        }
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let Some((host, after)) = bracketed.split_once(']') else { return wrong("a bracket is open") };
            if host.parse::<Ipv6Addr>().is_err() || !(after.is_empty() || after.starts_with(':')) {
                return wrong("in brackets stands an IPv6 address, and after them perhaps a port");
            }
            (host, after.strip_prefix(':'))
        } else if rest.parse::<Ipv6Addr>().is_ok() {
            (rest, None)
        } else {
            rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
        };
        let port = match port {
            None => Port::Default,
            Some("*") => Port::Any,
            Some(number) => match number.parse() {
                Ok(number) if number > 0 => Port::One(number),
                _ => return wrong("the port is a number from 1 to 65535 or *"),
            },
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let legal = |name: &str| {
            !name.is_empty()
                && name.len() <= 253
                && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let name = if host == "*" && !rest.contains('.') {
            Name::Any
        } else if let Ok(address) = host.parse::<IpAddr>() {
            Name::Address(address.to_canonical())
        } else if let Some(suffix) = host.strip_prefix("*.") {
            if !legal(suffix) || reads_as_address(suffix) {
                return wrong("after *. stands a name");
            }
            Name::Below(suffix.to_owned())
        } else if reads_as_address(&host) {
            return wrong("an address is written in full");
        } else if legal(&host) {
            Name::Exactly(host)
        } else {
            return wrong("a name has letters, digits, '-' and dots (names of other scripts in their xn-- form)");
        };
        Ok(Self { tls_only, name, port })
    }
}

/// Whether the URL standard takes it for an IPv4 address in one of its short spellings (`127.1`, `0x7f000001`): no URL has such a host, so a
/// grant for it would never hold.
fn reads_as_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tls_only {
            Some(true) => f.write_str("https://")?,
            Some(false) => f.write_str("http://")?,
            None => {}
        }
        match &self.name {
            Name::Any => f.write_str("*")?,
            Name::Below(suffix) => write!(f, "*.{suffix}")?,
            Name::Exactly(name) => f.write_str(name)?,
            Name::Address(IpAddr::V6(address)) if self.port != Port::Default => write!(f, "[{address}]")?,
            Name::Address(address) => write!(f, "{address}")?,
        }
        match self.port {
            Port::Default => Ok(()),
            Port::Any => f.write_str(":*"),
            Port::One(port) => write!(f, ":{port}"),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

/// A range of addresses, `10.0.0.0/8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                net.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                net.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no range of addresses: write for example 10.0.0.0/8 or fd00::/8");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most {
            return Err(wrong());
        }
        // Addresses are compared in their shortest form: an IPv4 range in IPv6's clothes would never hold.
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(inner)) if bits >= 96 => Ok(Self { address: inner.into(), bits: bits - 96 }),
            _ => Ok(Self { address, bits }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Whether an address is one of the open Internet: every special-purpose range of RFC 6890 and its registries is private here, the metadata
/// service's link-local address with them, and so is whatever carries such an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            // Azure's service for its machines: public by number only.
            | (168, 63, 129)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match s {
        // NAT64 has the IPv4 address in the last 32 bits, 6to4 in the second and third part.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Protocol assignments, Teredo and ORCHID among them; documentation; 5f00::/16 is for segment routing.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // All that is given out as global unicast is 2000::/3.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}
