//! Files that belong to the step and outlive it, for the same plugin of the same run.
//!
//! Invariants:
//! - a guest's words are never part of a path: a file is named by the hash of the call that put it;
//! - a file is whole on disk before the record that speaks of it; what is put again is another file, so that an entry that is run again reads
//!   what it read before.

mod files;

use std::sync::Arc;

use caisson_core::error::{Category, Failure};
use caisson_core::ids::hex;
use caisson_core::json::sha256_hex;
use caisson_core::plugin::{ArtifactsGrant, Capability};
use caisson_core::ports::{ArtifactRow, Effect, PAGE_LIMIT_MAX, PageRequest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(super) use self::files::Folder;
use super::kv::secret_kept;
use super::stored::{self, is_name};
use crate::bindings::caisson::step::artifacts::Host;
use crate::bindings::caisson::step::capability::Error;
use crate::journal::{Done, Ended, Place};
use crate::state::State;

const NAME_BYTES_MAX: usize = 255;
const MIME_BYTES_MAX: usize = 128;
/// Of a step, and as many times an entry may put one.
const MAX_FILES_DEFAULT: u64 = 100;
/// Of a step, and as much an entry may put, whatever it replaces.
const MAX_BYTES_DEFAULT: u64 = 64 << 20;

/// What a record keeps of a file that was read: enough to read the same again.
#[derive(Clone, Serialize, Deserialize)]
struct Found {
    path: Arc<str>,
    sha256: Arc<str>,
}

impl Host for State {
    async fn put(&mut self, name: String, mime: String, data: Vec<u8>) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Artifacts).and_then(|()| check(&name, &mime)) {
            return Ok(Err(error));
        }
        let (max_files, max_bytes) = self.artifact_quota();
        self.quota.artifact_files += 1;
        self.quota.artifact_bytes = self.quota.artifact_bytes.saturating_add(data.len() as u64);
        if self.quota.artifact_files > max_files || self.quota.artifact_bytes > max_bytes {
            return Ok(Err(over(max_files, max_bytes)));
        }
        let sha256 = sha256_hex(&data);
        let request = [name.clone(), mime.clone(), sha256.clone()];
        let parts = request.each_ref().map(String::as_bytes);
        self.journaled("artifacts.put", &parts, async |state: &mut Self, place: Place| {
            if let Some(name) = state.redactor.holds(&data).or_else(|| state.redactor.holds(name.as_bytes())) {
                return Ok(Done::answer(Err(secret_kept(name))));
            }
            let Some(folder) = state.folder() else { return Ok(Done::answer(Err(nowhere()))) };
            let id: Arc<str> = id(state.step.as_str(), state.plugin(), &name).into();
            let rows = state.rows().await?;
            let others = || rows.iter().filter(|row| row.id != id);
            let size = data.len() as u64;
            if others().count() as u64 >= max_files || others().map(|row| row.size).sum::<u64>() + size > max_bytes {
                return Ok(Done::answer(Err(over(max_files, max_bytes))));
            }
            let path: Arc<str> = folder.path(&place.id).into();
            let kept: Vec<Arc<str>> = rows.iter().map(|row| Arc::clone(&row.path)).collect();
            let written = tokio::task::spawn_blocking(move || {
                folder.write(&place.id, &data)?;
                folder.sweep(&kept);
                Ok(())
            });
            if let Err(error) = joined(written.await) {
                tracing::warn!(%error, run = %state.run, "a plugin's file cannot be stored");
                return Ok(Done::answer(Err(Error::Unavailable(
                    "the file cannot be stored: see the host's log".to_owned(),
                ))));
            }
            let row = ArtifactRow {
                id: Arc::clone(&id),
                realm: state.realm.clone(),
                run: state.run.clone(),
                step_id: state.step.clone(),
                plugin: state.plugin().into(),
                name: name.into(),
                mime_type: mime.into(),
                size,
                sha256: sha256.into(),
                path,
                at: state.clock.now(),
            };
            Ok(Done {
                answer: Ok(id.to_string()),
                effects: vec![Effect::Artifact(row)],
                over_quota: Some(|why| Err(Error::Quota(why))),
                seen: None,
            })
        })
        .await
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Artifacts) {
            return Ok(Err(error));
        }
        if !is_name(&id, NAME_BYTES_MAX) {
            return Ok(Err(unknown()));
        }
        let bytes_max = self.limits.call_bytes;
        let found: Result<Found, Error> = self
            .journaled("artifacts.get", &[id.as_bytes()], async |state: &mut Self, _: Place| {
                let store = state.cursor.store();
                let row = stored::read(|| store.artifact(&id)).await?;
                let own = |row: &ArtifactRow| {
                    row.realm == state.realm && row.run == state.run && *row.plugin == *state.plugin()
                };
                Ok(Done::answer(match row.filter(own) {
                    Some(row) if row.size > bytes_max => Err(Error::TooLarge(bytes_max)),
                    Some(ArtifactRow { path, sha256, .. }) => Ok(Found { path, sha256 }),
                    // Whether somebody else has one of that id is nobody's business.
                    None => Err(unknown()),
                }))
            })
            .await?;
        let Found { path, sha256 } = match found {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let Some(folder) = self.folder() else { return Ok(Err(nowhere())) };
        let read = tokio::task::spawn_blocking(move || folder.read(&path, bytes_max));
        match joined(read.await) {
            Ok(data) if sha256_hex(&data) == *sha256 => Ok(Ok(data)),
            Ok(_) => Err(lost("it is not the file that was put").into()),
            Err(error) => Err(lost(&error.to_string()).into()),
        }
    }
}

impl State {
    fn artifact_quota(&self) -> (u64, u64) {
        let number = |default, of: fn(&ArtifactsGrant) -> Option<u64>| {
            self.effective.least(default, |grants| grants.artifacts.as_ref().and_then(of))
        };
        (
            number(MAX_FILES_DEFAULT, |artifacts| artifacts.max_files),
            number(MAX_BYTES_DEFAULT, |artifacts| artifacts.max_bytes),
        )
    }

    fn folder(&self) -> Option<Folder> {
        let root = self.shared.artifacts_dir.as_ref()?;
        Some(Folder::new(root.clone(), [self.run.as_str(), self.step.as_str(), self.plugin()]))
    }

    /// The files of this step and plugin.
    async fn rows(&mut self) -> wasmtime::Result<Vec<ArtifactRow>> {
        let (store, run, step) = (self.cursor.store(), self.run.clone(), self.step.clone());
        let mut rows = Vec::new();
        let mut page = PageRequest { cursor: None, limit: PAGE_LIMIT_MAX };
        loop {
            let got = stored::read(|| store.artifacts(&run, Some(&step), &page)).await?;
            rows.extend(got.items.into_iter().filter(|row| *row.plugin == *self.plugin()));
            match got.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(rows),
            }
        }
    }
}

/// The same for every attempt: a file that is put again under its name is the same artifact.
fn id(step: &str, plugin: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"caisson artifact 1\0");
    for text in [step, plugin, name] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hex(&hash.finalize()[..16])
}

fn check(name: &str, mime: &str) -> Result<(), Error> {
    // No path is made of it; but people will save the file under this name.
    if !is_name(name, NAME_BYTES_MAX) || name.contains(['/', '\\']) || name == "." || name == ".." {
        return Err(Error::Invalid(format!(
            "a file's name has 1 to {NAME_BYTES_MAX} bytes, no '/', no '\\' and no control characters, and is not '.' or '..'"
        )));
    }
    let media = |mime: &str| mime.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && mime.contains('/');
    if !is_name(mime, MIME_BYTES_MAX) || !media(mime) {
        return Err(Error::Invalid("a media type is like text/plain; charset=utf-8".to_owned()));
    }
    Ok(())
}

fn joined<T>(done: Result<std::io::Result<T>, tokio::task::JoinError>) -> std::io::Result<T> {
    done.map_err(std::io::Error::other)?
}

fn over(files: u64, bytes: u64) -> Error {
    Error::Quota(format!("a step may have {files} files of {bytes} bytes together, replaced ones counted"))
}

fn unknown() -> Error {
    Error::NotFound("this plugin has put no file of that id in this run".to_owned())
}

fn nowhere() -> Error {
    Error::Unavailable("this host keeps no files: it was started without a directory for artifacts".to_owned())
}

/// The record says that it was there.
fn lost(why: &str) -> Ended {
    let message = format!("a file that the step had put cannot be read any more: {why}");
    Ended(Failure::new(Category::TransientError, "ARTIFACT_LOST", message))
}
