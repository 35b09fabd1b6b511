//! Files that steps made: a run's list, and one as a download.

use std::fmt::Write as _;
use std::path::{Component, Path};

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use caisson_core::ids::StepId;
use caisson_core::json::Json;
use caisson_core::ports::ArtifactRow;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::paging::page;
use super::wire::{Any, Artifact};
use super::{AppState, runs};

/// Bytes that are read and sent at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Media types that no browser runs anything of. What a plugin says of its file counts only if it is one of them.
const HARMLESS: [&str; 13] = [
    "application/gzip",
    "application/json",
    "application/pdf",
    "application/wasm",
    "application/zip",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/csv",
    "text/markdown",
    "text/plain",
    "text/yaml",
];

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(download))
}

/// A part of the list of files.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactList {
    /// Newest first.
    pub artifacts: Vec<Artifact>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only of this step.
    step_id: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Files that a run's steps made, newest first. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/artifacts", tag = "runs",
    params(("id" = String, Path, description = "The run."), ListQuery), responses((status = 200, body = ArtifactList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<ArtifactList>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let step = query.step_id.map(StepId::new);
    let found = api.journal.artifacts(&run.id, step.as_ref(), &page(query.limit, query.cursor)?).await?;
    Ok(JsonBody(ArtifactList { artifacts: found.items.iter().map(show).collect(), next_cursor: found.next }))
}

/// A file's bytes, always as a download. Role: viewer.
#[utoipa::path(
    get, path = "/artifacts/{id}", tag = "runs", params(("id" = String, Path, description = "The file.")),
    responses((status = 200, description = "Its bytes.", content_type = "application/octet-stream"))
)]
async fn download(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
) -> Result<Response, ApiError> {
    let row = api.journal.artifact(&id).await?.filter(|row| row.realm.tenant == caller.tenant);
    let row = row.ok_or_else(|| ApiError::not_found("ARTIFACT_NOT_FOUND", "artifact", &id))?;
    let file = open(&api.files.artifacts, &row).await.ok_or_else(|| {
        ApiError::new(StatusCode::GONE, "ARTIFACT_GONE", format!("the file of artifact {id} is no longer on this host"))
    })?;
    let mut response = Body::from_stream(chunks(file)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(&row.mime_type)));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(row.size));
    headers.insert(header::CONTENT_DISPOSITION, disposition(&row.name));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    Ok(response)
}

/// The file as it was recorded; `None` if it is not there, or not what the row says.
async fn open(directory: &Path, row: &ArtifactRow) -> Option<File> {
    let path = Path::new(&*row.path);
    // Written where things are made, checked where they are read: a path stays below the directory.
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let file = File::open(directory.join(path)).await.ok()?;
    let about = file.metadata().await.ok()?;
    (about.is_file() && about.len() == row.size).then_some(file)
}

fn chunks(file: File) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await?;
        Ok((read > 0).then(|| (Bytes::from(chunk), file)))
    })
}

/// What the plugin says, if it is harmless and has no parameters that are not.
fn media_type(said: &str) -> &'static str {
    let essence = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match HARMLESS.into_iter().find(|harmless| *harmless == essence) {
        Some("text/plain") => "text/plain; charset=utf-8",
        Some(harmless) => harmless,
        None => "application/octet-stream",
    }
}

/// `attachment` with the name in a form that every client can read, and in its own.
fn disposition(name: &str) -> HeaderValue {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let ascii: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    // A hidden file is nothing that somebody downloads on purpose.
    let ascii = ascii.trim_start_matches(['.', ' ']);
    let ascii = if ascii.is_empty() { "artifact" } else { ascii };
    let own = percent(name.trim_start_matches('.'));
    let text = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{own}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// As RFC 5987 wants it.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A file as it is shown.
pub fn show(row: &ArtifactRow) -> Artifact {
    Artifact {
        id: row.id.to_string(),
        run_id: row.run.to_string(),
        step_id: Some(row.step_id.to_string()),
        session_id: None,
        comment_id: None,
        plugin: Some(row.plugin.to_string()),
        name: row.name.to_string(),
        kind: "file".to_owned(),
        mime_type: row.mime_type.to_string(),
        size_bytes: row.size,
        sha256: row.sha256.to_string(),
        path: row.path.to_string(),
        metadata: Any(Json::of(&serde_json::Map::new())),
        created_at: row.at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_shown_as_something_that_runs() {
        for (said, sent) in [
            ("text/plain", "text/plain; charset=utf-8"),
            ("Application/JSON; charset=x", "application/json"),
            ("text/html", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("text/plain\r\nx: y", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(media_type(said), sent, "{said}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        for (name, text) in [
            ("report.txt", "attachment; filename=\"report.txt\"; filename*=UTF-8''report.txt"),
            ("a\"b\r\nc.txt", "attachment; filename=\"a_b__c.txt\"; filename*=UTF-8''a%22b%0D%0Ac.txt"),
            ("über.txt", "attachment; filename=\"_ber.txt\"; filename*=UTF-8''%C3%BCber.txt"),
            (".bashrc", "attachment; filename=\"bashrc\"; filename*=UTF-8''bashrc"),
            ("...", "attachment; filename=\"artifact\"; filename*=UTF-8''"),
        ] {
            assert_eq!(disposition(name).to_str().expect("is text"), text);
        }
    }
}
