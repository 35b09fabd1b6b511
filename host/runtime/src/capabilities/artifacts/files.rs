//! Where a step's files lie: a directory of its own below one that nothing leads out of.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caisson_core::json::sha256_hex;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use cap_std::time::SystemTime;

/// What no row knows any more goes after a while: an entry that is run again may still read what it has replaced, and another host may be about
/// to record what it has written.
const UNKNOWN_KEPT: Duration = Duration::from_hours(2);
const PART_BYTES_MAX: usize = 64;

/// The directory of one step and plugin.
pub(in crate::capabilities) struct Folder {
    root: PathBuf,
    below: String,
}

impl Folder {
    pub(in crate::capabilities) fn new(root: PathBuf, parts: [&str; 3]) -> Self {
        Self { root, below: parts.map(part).join("/") }
    }

    /// A file's path, below the directory of artifacts.
    pub(in crate::capabilities) fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.below)
    }

    fn root(&self) -> io::Result<Dir> {
        Dir::open_ambient_dir(&self.root, ambient_authority())
    }

    /// Writes a file whole, or not at all; replaces one of that name.
    pub(in crate::capabilities) fn write(&self, file: &str, data: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(&self.root)?;
        let root = self.root()?;
        root.create_dir_all(&self.below)?;
        let dir = root.open_dir(&self.below)?;
        let aside = format!("{file}.{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let written = (|| {
            let mut out = dir.open_with(&aside, OpenOptions::new().write(true).create_new(true))?;
            out.write_all(data)?;
            out.sync_all()?;
            dir.rename(&aside, &dir, file)
        })();
        if written.is_err() {
            // It may not even be there.
            drop(dir.remove_file(&aside));
        }
        written?;
        // The folder's own handle is one for looking up only.
        dir.open(".")?.sync_all()
    }

    /// A file's bytes, by the path that a row has.
    pub(in crate::capabilities) fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = self.root()?.open_with(path, &options)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut data = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut data)?;
        Ok(data)
    }

    /// Removes old files that no row knows. What fails is tried again with the next file that is put.
    pub(in crate::capabilities) fn sweep(&self, kept: &[Arc<str>]) {
        let Ok(dir) = self.root().and_then(|root| root.open_dir(&self.below)) else { return };
        let Ok(entries) = dir.entries() else { return };
        let old = |entry: &cap_std::fs::DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|at| {
                let now = SystemTime::from_std(std::time::SystemTime::now());
                now.duration_since(at).is_ok_and(|age| age > UNKNOWN_KEPT)
            })
        };
        for entry in entries.flatten() {
            let known =
                entry.file_name().to_str().is_some_and(|name| kept.iter().any(|path| **path == *self.path(name)));
            if !known && old(&entry) && dir.remove_file(entry.file_name()).is_ok() {
                tracing::debug!(folder = self.below, "an old file that no step knows was removed");
            }
        }
    }
}

/// An id as a part of a path: as it is where it is plain, else its hash.
fn part(id: &str) -> String {
    let plain = (1..=PART_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if plain { id.to_owned() } else { sha256_hex(id.as_bytes()) }
}
