//! What a guest may send and is shown of headers.

use caisson_core::plugin::Effective;
use caisson_core::ports::Secret;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{Caller, Target, denied};
use crate::bindings::caisson::step::capability::Error;
use crate::redact::Redactor;

/// Servers take a hundred; some are the host's own.
const HEADERS_MAX: usize = 64;
const HEADERS_BYTES_MAX: usize = 32 << 10;

const OPEN: &str = "{{secret:";
const CLOSE: &str = "}}";

/// By these a guest would decide where a message ends or goes on. The host alone does.
const HOSTS_OWN: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "http2-settings",
];

/// By these a guest would get an answer in pieces or disguise, in which no secret can be found any more.
const DISGUISES: [HeaderName; 4] = [header::ACCEPT_ENCODING, header::ACCEPT_CHARSET, header::RANGE, header::IF_RANGE];

/// One header, its secrets not yet filled in.
pub(super) struct Field {
    pub(super) name: HeaderName,
    value: Vec<Piece>,
}

enum Piece {
    Text(String),
    Secret(String),
}

/// Reads a guest's headers and checks that the secrets they name may go where they shall go.
pub(super) fn read(given: &[(String, String)], effective: &Effective, target: &Target) -> Result<Vec<Field>, Error> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the request has more than {HEADERS_MAX} headers or {HEADERS_BYTES_MAX} bytes of them"
        )));
    }
    let hidden = hidden_for(effective, target);
    let mut fields = Vec::with_capacity(given.len());
    for (name, value) in given {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::Invalid(format!("'{}' is no header's name", name.escape_debug())))?;
        if HOSTS_OWN.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            return Err(Error::Invalid(format!("header '{name}' is the host's own: leave it out")));
        }
        if hidden && DISGUISES.contains(&name) {
            return Err(Error::Invalid(format!(
                "header '{name}' cannot go to '{}', for which the host fills in a secret: leave it out",
                target.host
            )));
        }
        let value = pieces(&name, value)?;
        for piece in &value {
            match piece {
                Piece::Text(text) if HeaderValue::from_str(text).is_err() => {
                    return Err(Error::Invalid(format!("header '{name}' has a character that no header may have")));
                }
                Piece::Text(_) => {}
                Piece::Secret(secret) => {
                    effective.inject(secret, name.as_str(), target.tls, &target.host, target.port).map_err(denied)?;
                }
            }
        }
        fields.push(Field { name, value });
    }
    Ok(fields)
}

fn pieces(name: &HeaderName, value: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some((text, after)) = rest.split_once(OPEN) {
        let (secret, after) = after
            .split_once(CLOSE)
            .ok_or_else(|| Error::Invalid(format!("header '{name}' has '{OPEN}' without '{CLOSE}'")))?;
        if secret.is_empty() || secret.contains(|c: char| c.is_control() || c == '{' || c == '}') {
            return Err(Error::Invalid(format!("header '{name}' has a placeholder that names no secret")));
        }
        pieces.push(Piece::Text(text.to_owned()));
        pieces.push(Piece::Secret(secret.to_owned()));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// What goes on the wire: secrets filled in, the host's own headers added.
pub(super) fn fill_in(fields: &[Field], caller: &Caller<'_>, target: &Target) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    for Field { name, value } in fields {
        let mut text = String::new();
        for piece in value {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Secret(secret) => text.push_str(hidden(caller.redactor, secret)?.expose()),
            }
        }
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Error::Other(format!("the secret for header '{name}' has a character that no header may have"))
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let mut add = |name: HeaderName, value: &str| {
        if !headers.contains_key(&name)
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
    };
    add(HeaderName::from_static("idempotency-key"), caller.idempotency_key);
    add(header::USER_AGENT, concat!("caisson/", env!("CARGO_PKG_VERSION")));
    add(header::ACCEPT, "*/*");
    if hidden_for(caller.effective, target) {
        add(header::ACCEPT_ENCODING, "identity");
    }
    Ok(headers)
}

/// A secret that can be filled in: there, and long enough to be found again in an answer.
fn hidden<'a>(redactor: &'a Redactor, name: &str) -> Result<&'a Secret, Error> {
    let secret = redactor.secret(name).ok_or_else(|| {
        Error::NotFound(format!("the secret '{name}' is granted, but there is none of that name in this environment"))
    })?;
    if secret.expose().len() < Secret::BYTES_MIN {
        return Err(Error::Other(format!(
            "the secret '{name}' has less than {} bytes: it could not be redacted in an answer and is not filled in",
            Secret::BYTES_MIN
        )));
    }
    Ok(secret)
}

/// Whether an answer of that target must not come in a disguise.
pub(super) fn hidden_for(effective: &Effective, target: &Target) -> bool {
    effective.hides(target.tls, &target.host, target.port)
}

/// Whether an answer's bytes have to be unpacked before they can be read.
pub(super) fn is_disguised(headers: &HeaderMap) -> bool {
    let other = |name: HeaderName, plain: &str| {
        headers.get_all(name).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(plain.as_bytes()))
    };
    other(header::CONTENT_ENCODING, "identity") || other(header::TRANSFER_ENCODING, "chunked")
}

/// Another origin gets no credentials: neither the usual ones, nor whatever holds a secret.
pub(super) fn leave(headers: &mut HeaderMap, redactor: &Redactor) {
    let mut names = vec![header::AUTHORIZATION, header::COOKIE, header::ACCEPT_ENCODING];
    names.extend(
        headers.iter().filter(|(_, value)| redactor.holds(value.as_bytes()).is_some()).map(|(name, _)| name.clone()),
    );
    for name in names {
        headers.remove(name);
    }
}

/// An answer's headers, in order, each line by itself. What is not UTF-8 is read as Latin-1, as HTTP once had it.
pub(super) fn answered(headers: &HeaderMap, redactor: &Redactor) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    headers
        .iter()
        .map(|(name, value)| {
            // Before and after: a value must not come out of its disguise.
            let value = text(&redactor.bytes(value.as_bytes()));
            (redactor.text(name.as_str()).into_owned(), redactor.text(&value).into_owned())
        })
        .collect()
}
