//! What comes in, read strictly: bodies, query fields and path parts. Everything here is hostile until it has passed.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Query as AxumQuery, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use caisson_core::json::depth;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};

use super::error::ApiError;

/// The largest body that a request may have: a value may be 1 MiB, and twice that leaves room for a definition around it.
pub const BODY_BYTES_MAX: usize = 2 << 20;

/// The largest body that holds files: a few thousand workflows and agents.
pub const FILES_BYTES_MAX: usize = 16 << 20;

/// How long a body may take to arrive: 2 MiB in that time is a slow modem's speed, and more patience feeds slowloris.
const BODY_READ_TIME_MAX: Duration = Duration::from_secs(30);

/// How deep the JSON of a body may nest. Below `serde_json`'s own limit of 128, because what comes in is nested a few levels deeper when
/// it becomes part of a context or of an answer.
pub const JSON_DEPTH_MAX: usize = 100;

/// A JSON body, required.
pub struct Body<T>(pub T);

/// A JSON body that holds files, required: up to [`FILES_BYTES_MAX`].
pub struct LargeBody<T>(pub T);

/// A JSON body that may be left out.
pub struct MaybeBody<T>(pub T);

/// Query fields. A field that nobody reads is an error, not noise.
pub struct Fields<T>(pub T);

/// Parts of the path.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let bytes = read_body(request).await?;
        parse_body(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for LargeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let bytes = read_body_up_to(request, FILES_BYTES_MAX).await?;
        parse_body(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let content_type = require_json(request.headers());
        let bytes = read_body(request).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(T::default()));
        }
        content_type?;
        parse_body(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Fields<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let malformed = |message: String| ApiError::malformed("MALFORMED_QUERY", message);
        let pairs = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| malformed(format!("query cannot be read: {}", error.body_text())))?;
        let known = field_names::<T>();
        for (position, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(unknown_field("MALFORMED_QUERY", "query field", name, known));
            }
            if pairs.iter().skip(position + 1).any(|(other, _)| other == name) {
                return Err(malformed(format!("query field '{name}' is given twice")));
            }
        }
        AxumQuery::<T>::try_from_uri(&parts.uri)
            .map(|AxumQuery(query)| Self(query))
            .map_err(|error| malformed(format!("query cannot be read: {}", error.body_text())))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        AxumPath::<T>::from_request_parts(parts, state)
            .await
            .map(|AxumPath(params)| Self(params))
            .map_err(|error| ApiError::malformed("MALFORMED_PATH", error.body_text()))
    }
}

/// The bytes of a body within its limits. A body that says it is too large is refused before any of it is read.
pub async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    read_body_up_to(request, BODY_BYTES_MAX).await
}

async fn read_body_up_to(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let collect = Limited::new(request.into_body(), bytes_max).collect();
    match tokio::time::timeout(BODY_READ_TIME_MAX, collect).await {
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "BODY_TIMEOUT",
            format!("body did not arrive within {} s", BODY_READ_TIME_MAX.as_secs()),
        )),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(error)) => Err(ApiError::malformed("MALFORMED_BODY", format!("body cannot be read: {error}"))),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", format!("body is larger than {bytes_max} bytes"))
        .with_details(&json!({"limitBytes": bytes_max}))
}

/// The media type without its parameters, lower case.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The refusal of any other media type.
pub fn unsupported(found: &str, expected: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
        format!("content type is '{found}', expected {expected}"),
    )
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers) {
        None => Ok(()),
        Some(kind) if kind == "application/json" || kind.ends_with("+json") => Ok(()),
        Some(kind) => Err(unsupported(&kind, "application/json")),
    }
}

/// Reads a JSON body into a type whose fields are all named.
pub fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let (text, value) = parse_json(bytes)?;
    let Value::Object(fields) = value else {
        return Err(ApiError::malformed("MALFORMED_BODY", "body must be a JSON object"));
    };
    let known = field_names::<T>();
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(unknown_field("MALFORMED_BODY", "field", name, known));
    }
    serde_json::from_str(text).map_err(|error| {
        ApiError::malformed("MALFORMED_BODY", error.to_string())
            .with_details(&json!({"line": error.line(), "column": error.column()}))
    })
}

/// Checks that the bytes are one JSON value that every part of the host can read: UTF-8, well-formed also where a reader of raw text
/// would not look (escapes, numbers), and not too deep.
pub fn parse_json(bytes: &[u8]) -> Result<(&str, Value), ApiError> {
    let text = utf8(bytes)?;
    let value = serde_json::from_str(text).map_err(|error| {
        ApiError::malformed("MALFORMED_JSON", format!("body is not JSON: {error}"))
            .with_details(&json!({"line": error.line(), "column": error.column()}))
    })?;
    if depth(text) > JSON_DEPTH_MAX {
        return Err(ApiError::malformed("MALFORMED_JSON", format!("body nests deeper than {JSON_DEPTH_MAX} levels"))
            .with_details(&json!({"limitDepth": JSON_DEPTH_MAX})));
    }
    Ok((text, value))
}

/// The text of a body.
pub fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes).map_err(|error| {
        ApiError::malformed("MALFORMED_UTF8", format!("body is not UTF-8: byte {} is wrong", error.valid_up_to()))
            .with_details(&json!({"offset": error.valid_up_to()}))
    })
}

fn unknown_field(code: &'static str, what: &str, name: &str, known: &[&str]) -> ApiError {
    let nearest = nearest(name, known);
    let hint = match nearest {
        Some(near) => format!("; did you mean '{near}'?"),
        None if known.is_empty() => "; there are none here".to_owned(),
        None => format!("; known: {}", known.join(", ")),
    };
    ApiError::malformed(code, format!("unknown {what} '{name}'{hint}"))
        .with_details(&json!({"field": name, "suggestion": nearest, "known": known}))
}

/// The known name that was probably meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Less alike than this and a guess misleads more than it helps.
    const ALIKE_MIN: f64 = 0.75;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), *candidate))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The names of a struct's fields as they are read from the wire.
fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names = None;
    // Ends in an error by design: the probe only looks at what is asked for.
    let _ = T::deserialize(FieldProbe(&mut names));
    names.unwrap_or(&[])
}

/// A deserializer that reads nothing and notes which fields a struct asks for.
struct FieldProbe<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for FieldProbe<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = Some(fields);
        Err(Self::Error::custom("seen"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Start {
        workflow_id: String,
        input: Option<caisson_core::json::Json>,
    }

    #[test]
    fn a_bad_body_is_refused_with_a_code_and_a_hint() {
        let deep = format!("{{\"workflowId\":\"a\",\"input\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let deeper_than_ours = format!("{{\"workflowId\":\"a\",\"input\":{}{}}}", "[".repeat(110), "]".repeat(110));
        for (body, code, part) in [
            (b"{".as_slice(), "MALFORMED_JSON", "line 1 column 1"),
            (b"\xff\xfe".as_slice(), "MALFORMED_UTF8", "byte 0"),
            (b"[]".as_slice(), "MALFORMED_BODY", "object"),
            (br#"{"workflowid":"a"}"#.as_slice(), "MALFORMED_BODY", "did you mean 'workflowId'"),
            (br#"{"workflowId":5}"#.as_slice(), "MALFORMED_BODY", "line 1 column"),
            (br#"{"workflowId":"a","input":"\ud800"}"#.as_slice(), "MALFORMED_JSON", "hex escape"),
            (br#"{"workflowId":"a","input":1e999}"#.as_slice(), "MALFORMED_JSON", "out of range"),
            (br#"{"workflowId":"a","workflowId":"b"}"#.as_slice(), "MALFORMED_BODY", "duplicate field"),
            (deep.as_bytes(), "MALFORMED_JSON", "recursion limit"),
            (deeper_than_ours.as_bytes(), "MALFORMED_JSON", "100 levels"),
        ] {
            let error = parse_body::<Start>(body).expect_err("is refused");
            assert_eq!(error.code(), code, "{}", error.message());
            assert!(error.message().contains(part), "{} has no '{part}'", error.message());
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn a_users_value_keeps_its_bytes() {
        let start: Start = parse_body(br#"{"workflowId":"a","input": {"b": 1.0, "a" :null}}"#).expect("reads");
        assert_eq!(start.input.expect("is there").get(), r#"{"b": 1.0, "a" :null}"#);
    }
}
