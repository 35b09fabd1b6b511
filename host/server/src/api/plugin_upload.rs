//! Uploads of plugins: streamed to a file without a name, then read and installed; or taken from a directory of the operator's.
//!
//! Invariant: what is too large is refused while it arrives, and nothing of it is left: the file ends with its handle, whatever ends us.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json as JsonBody;
use axum::body::BodyDataStream;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use caisson_core::json::{Json, sha256_hex};
use caisson_core::plugin::{Grants, PluginStatus};
use caisson_orchestrator::{Consent, Install};
use futures_util::{Stream, StreamExt};
use multer::{Constraints, Multipart, SizeLimit};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Admin;
use super::error::ApiError;
use super::extract::{Fields, media_type, parse_body, parse_json, read_body, unsupported};
use super::plugin_changes::read_grants;
use super::plugins::{PluginAnswer, answer};
use super::wire::Any;
use super::{AppState, Files};

/// The largest component: Python's have 18 MB.
pub const COMPONENT_BYTES_MAX: u64 = 32 << 20;

/// Everything of a multipart body that is not the component: grants, a configuration, and what stands between the parts.
const FORM_BYTES_MAX: u64 = 1 << 20;

/// A text field of a form: grants and configurations are written by hand.
const FIELD_BYTES_MAX: u64 = 256 << 10;

/// An upload that sends nothing for so long is broken off.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// An upload takes no longer than this: 32 MiB at a slow modem's speed.
const UPLOAD_TIME_MAX: Duration = Duration::from_mins(10);

/// The answer waits so long for the compilation; the version is COMPILING after that.
const COMPILATION_WAIT: Duration = Duration::from_secs(10);

/// Digits of a SHA-256.
const DIGEST_CHARS: usize = 64;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(install))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// `default` when absent.
    environment: Option<String>,
    /// With `true` the request says yes to it: it is in force at once. Without, a new version of a known plugin waits.
    enable: Option<bool>,
    /// What is granted to it: JSON, or short forms separated by commas. A field of the form counts more.
    grants: Option<String>,
    /// The operator's configuration as JSON. A field of the form counts more.
    config: Option<String>,
}

/// A package that the host can reach.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FromBody {
    /// `file://` and a path below a directory that the host was started with (`--plugin-dir`).
    pub from: String,
    /// SHA-256 of the component, hexadecimal: what is found must have it.
    pub digest: String,
    /// As in the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// What is granted to it: a list or an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Any>,
    /// The operator's configuration, an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Any>,
}

/// A package as a form.
#[allow(dead_code, reason = "only described")]
#[derive(ToSchema)]
struct UploadForm {
    /// The component. `file` is read too.
    #[schema(format = Binary)]
    component: String,
    /// As in the query.
    enable: Option<String>,
    /// As in the query.
    grants: Option<String>,
    /// As in the query.
    config: Option<String>,
}

/// What a request brought.
#[derive(Default)]
struct Upload {
    bytes: Bytes,
    source: String,
    enable: bool,
    grants: Option<Grants>,
    config: Option<Json>,
}

/// Installs a plugin: its component as the body (`application/wasm`), as a field of a form, or by a path on the host with its digest. At most
/// 32 MiB. The first version of an id is in force at once, with what it is granted; a new version waits for a yes. Role: admin.
#[utoipa::path(
    post, path = "/plugins", tag = "plugins", params(UploadQuery),
    request_body(content(
        (Vec<u8> = "application/wasm"), (UploadForm = "multipart/form-data"), (FromBody = "application/json"),
    )),
    responses(
        (status = 201, description = "It is installed.", body = PluginAnswer),
        (status = 200, description = "This digest was installed before.", body = PluginAnswer),
        (status = 202, description = "It is still being compiled.", body = PluginAnswer),
    )
)]
async fn install(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Fields(query): Fields<UploadQuery>,
    request: Request,
) -> Result<(StatusCode, JsonBody<PluginAnswer>), ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let receive = receive(&api.files, query, request);
    let upload = tokio::time::timeout(UPLOAD_TIME_MAX, receive).await.map_err(|_| {
        let message = format!("upload did not end within {} s", UPLOAD_TIME_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message)
    })??;
    let install = Install {
        realm,
        bytes: upload.bytes,
        grants: upload.grants,
        config: upload.config,
        consent: if upload.enable { Consent::Given } else { Consent::Wait },
        source: upload.source.into(),
        actor: caller.actor.clone(),
        patience: COMPILATION_WAIT,
    };
    let (row, new) = api.plugins.install(install).await?;
    let status = match row.status {
        PluginStatus::Compiling => StatusCode::ACCEPTED,
        PluginStatus::Failed => return Err(failed(row.error)),
        _ if new => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok((status, answer(&api, &row).await?))
}

fn failed(error: Option<String>) -> ApiError {
    ApiError::invalid("PLUGIN_FAILED", format!("the plugin cannot be used: {}", error.unwrap_or_default()))
}

async fn receive(files: &Files, query: UploadQuery, request: Request) -> Result<Upload, ApiError> {
    let upload = Upload {
        bytes: Bytes::new(),
        source: "upload".to_owned(),
        enable: query.enable.unwrap_or(false),
        grants: query.grants.as_deref().map(grants_of_text).transpose()?,
        config: query.config.as_deref().map(config_of_text).transpose()?,
    };
    let headers = request.headers();
    match media_type(headers).as_deref() {
        None | Some("application/wasm" | "application/octet-stream") => {
            check_length(headers, COMPONENT_BYTES_MAX)?;
            let bytes = spool(files, request.into_body().into_data_stream()).await?;
            Ok(Upload { bytes, ..upload })
        }
        Some("multipart/form-data") => {
            check_length(headers, COMPONENT_BYTES_MAX + FORM_BYTES_MAX)?;
            let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let boundary = multer::parse_boundary(kind).map_err(|error| malformed(&error))?;
            of_form(files, upload, request.into_body().into_data_stream(), boundary).await
        }
        Some(kind) if kind == "application/json" || kind.ends_with("+json") => {
            of_path(files, upload, parse_body(&read_body(request).await?)?).await
        }
        Some(kind) => Err(unsupported(kind, "application/wasm, multipart/form-data or application/json")),
    }
}

/// A body that says it is too large is refused before any of it is read.
fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> ApiError {
    let message = format!("the component is larger than {COMPONENT_BYTES_MAX} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PLUGIN_TOO_LARGE", message)
        .with_details(&json!({"limitBytes": COMPONENT_BYTES_MAX}))
}

fn malformed(error: &impl std::fmt::Display) -> ApiError {
    ApiError::malformed("MALFORMED_BODY", format!("body cannot be read: {error}"))
}

/// Keeps what arrives in a file, so that slow and many uploads cost no memory; then reads it.
async fn spool<E: std::fmt::Display>(
    files: &Files,
    mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Bytes, ApiError> {
    let failed = |error: std::io::Error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "UPLOAD_FAILED", format!("the upload cannot be kept: {error}"))
    };
    let directory = files.uploads.clone();
    let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(directory)).await;
    let mut file = File::from_std(made.map_err(|error| ApiError::internal(error.to_string()))?.map_err(failed)?);
    let mut length = 0_u64;
    while let Some(chunk) = tokio::time::timeout(SILENCE_MAX, chunks.next()).await.map_err(|_| silent())? {
        let chunk = chunk.map_err(|error| malformed(&error))?;
        length += chunk.len() as u64;
        if length > COMPONENT_BYTES_MAX {
            return Err(too_large());
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    file.rewind().await.map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes.into())
}

fn silent() -> ApiError {
    let message = format!("upload sent nothing for {} s", SILENCE_MAX.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message)
}

async fn of_form(
    files: &Files,
    mut upload: Upload,
    body: BodyDataStream,
    boundary: String,
) -> Result<Upload, ApiError> {
    let texts = ["enable", "grants", "config"];
    let limits =
        texts.iter().fold(SizeLimit::new().whole_stream(COMPONENT_BYTES_MAX + FORM_BYTES_MAX), |limits, name| {
            limits.for_field(*name, FIELD_BYTES_MAX)
        });
    let fields = texts.into_iter().chain(["component", "file"]).collect();
    let constraints = Constraints::new().allowed_fields(fields).size_limit(limits);
    let mut form = Multipart::with_constraints(body, boundary, constraints);
    let mut component = None;
    let mut seen: Vec<String> = Vec::new();
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, form.next_field()).await.map_err(|_| silent())?;
        let Some(field) = next.map_err(|error| of_multer(&error))? else { break };
        let name = field.name().unwrap_or_default().to_owned();
        if seen.contains(&name) {
            return Err(malformed(&format!("field '{name}' is given twice")));
        }
        seen.push(name.clone());
        match name.as_str() {
            "component" | "file" if component.is_some() => return Err(malformed(&"it has two components")),
            "component" | "file" => component = Some(spool(files, field).await?),
            _ => {
                let text = tokio::time::timeout(SILENCE_MAX, field.text()).await.map_err(|_| silent())?;
                let text = text.map_err(|error| of_multer(&error))?;
                match name.as_str() {
                    "enable" => upload.enable = read_bool(text.trim())?,
                    "grants" => upload.grants = Some(grants_of_text(&text)?),
                    _ => upload.config = Some(config_of_text(&text)?),
                }
            }
        }
    }
    upload.bytes = component.ok_or_else(|| malformed(&"it has no field 'component'"))?;
    Ok(upload)
}

fn of_multer(error: &multer::Error) -> ApiError {
    match error {
        multer::Error::StreamSizeExceeded { .. } => too_large(),
        multer::Error::FieldSizeExceeded { field_name, limit } => {
            let name = field_name.as_deref().unwrap_or_default();
            let message = format!("field '{name}' is larger than {limit} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
        }
        multer::Error::UnknownField { field_name } => {
            let name = field_name.as_deref().unwrap_or_default();
            malformed(&format!("unknown field '{name}': there are component, enable, grants, config"))
        }
        error => malformed(error),
    }
}

fn read_bool(text: &str) -> Result<bool, ApiError> {
    match text {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(malformed(&format!("enable is '{text}', expected true or false"))),
    }
}

/// JSON, or short forms separated by commas.
fn grants_of_text(text: &str) -> Result<Grants, ApiError> {
    let text = text.trim();
    if text.starts_with(['[', '{']) {
        let (_, value) = parse_json(text.as_bytes())?;
        return read_grants(&Any(Json::of(&value)));
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    read_grants(&Any(Json::of(&parts)))
}

fn config_of_text(text: &str) -> Result<Json, ApiError> {
    parse_json(text.as_bytes())?;
    Json::parse(text.trim()).map_err(|error| malformed(&error))
}

async fn of_path(files: &Files, upload: Upload, body: FromBody) -> Result<Upload, ApiError> {
    let digest = body.digest.strip_prefix("sha256:").unwrap_or(&body.digest).to_ascii_lowercase();
    if digest.len() != DIGEST_CHARS || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ApiError::invalid("PLUGIN_DIGEST_INVALID", "digest is not a SHA-256 in hexadecimal"));
    }
    let path = Url::parse(&body.from).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
    let path = path.ok_or_else(|| {
        let message = format!("'{}' is no place to take a plugin from: write file:// and an absolute path", body.from);
        ApiError::invalid("PLUGIN_SOURCE_INVALID", message)
    })?;
    let directories = files.plugin_dirs.clone();
    let read = tokio::task::spawn_blocking(move || read_below(&directories, &path)).await;
    let bytes = read.map_err(|error| ApiError::internal(error.to_string()))??;
    let found = sha256_hex(&bytes);
    if found != digest {
        let message = format!("the component at {} has digest {found}, not {digest}", body.from);
        return Err(ApiError::invalid("PLUGIN_DIGEST_MISMATCH", message).with_details(&json!({"digest": found})));
    }
    Ok(Upload {
        bytes: bytes.into(),
        source: body.from,
        enable: body.enable.unwrap_or(upload.enable),
        grants: body.grants.as_ref().map(read_grants).transpose()?.or(upload.grants),
        config: body.config.map(|Any(config)| config).or(upload.config),
    })
}

/// Whatever is wrong with a path outside of the directories, the answer is the same: it says nothing of what lies there.
fn read_below(directories: &[PathBuf], path: &Path) -> Result<Vec<u8>, ApiError> {
    use std::io::Read;
    let forbidden = || {
        let message =
            "there is no such file below a directory that this host takes plugins from: start it with --plugin-dir DIR";
        ApiError::new(StatusCode::FORBIDDEN, "PLUGIN_PATH_FORBIDDEN", message)
    };
    let path = path.canonicalize().map_err(|_| forbidden())?;
    let below = |directory: &PathBuf| directory.canonicalize().is_ok_and(|directory| path.starts_with(directory));
    if !directories.iter().any(below) || !path.is_file() {
        return Err(forbidden());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(|_| forbidden())?;
    file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|_| forbidden())?;
    if bytes.len() as u64 > COMPONENT_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_nowhere_but_below_the_operators_directories() {
        let (open, closed) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        std::fs::create_dir(open.path().join("sub")).expect("makes it");
        std::fs::write(open.path().join("sub/p.wasm"), "p").expect("writes");
        std::fs::write(closed.path().join("q.wasm"), "q").expect("writes");
        std::os::unix::fs::symlink(closed.path().join("q.wasm"), open.path().join("link.wasm")).expect("links");
        let directories = [open.path().to_path_buf()];
        let up = open.path().join("..").join(closed.path().file_name().expect("a name")).join("q.wasm");
        for (path, found) in [
            (open.path().join("sub/p.wasm"), true),
            (open.path().join("sub/../sub/p.wasm"), true),
            (open.path().join("sub"), false),
            (open.path().join("none.wasm"), false),
            (open.path().join("link.wasm"), false),
            (closed.path().join("q.wasm"), false),
            (up, false),
            (PathBuf::from("/etc/hostname"), false),
        ] {
            let read = read_below(&directories, &path);
            assert_eq!(read.is_ok(), found, "{}", path.display());
            if let Err(error) = read {
                assert_eq!(error.code(), "PLUGIN_PATH_FORBIDDEN", "{}", path.display());
            }
        }
        assert!(read_below(&[], &open.path().join("sub/p.wasm")).is_err());
    }

    #[test]
    fn grants_are_read_in_either_form() {
        for (text, lines) in [
            ("", Some("")),
            ("kv", Some("kv")),
            ("kv, http:a.example", Some("http:a.example; kv")),
            (r#"["kv"]"#, Some("kv")),
            (r#"{"kv":{"maxKeys":2}}"#, Some("kv; kv.maxKeys = 2")),
            ("vk", None),
            ("[", None),
        ] {
            let found = grants_of_text(text).ok().map(|grants| grants.lines().join("; "));
            assert_eq!(found.as_deref(), lines, "{text}");
        }
    }
}
