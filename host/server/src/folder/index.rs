//! What was seen in a folder, over restarts: so that a start reads what has changed, not what is installed.
//!
//! Deliberately absent: any trust in it beyond that. A file that is not known, or looks otherwise than it did, is read.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How the files of a candidate look from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(Vec<(u64, u64, i64, i64)>);

impl Stamp {
    /// Of files; one that is not there makes it a stamp that fits nothing.
    pub fn of(paths: &[&Path]) -> Self {
        let one = |about: Metadata| (about.ino(), about.len(), about.ctime(), about.ctime_nsec());
        Self(paths.iter().map_while(|path| fs::metadata(path).ok().map(one)).collect())
    }
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// How it looked.
    pub stamp: Stamp,
    /// The plugin's id.
    pub id: String,
    /// The package's digest.
    pub digest: String,
}

/// What was seen.
pub struct Index {
    memory: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    changed: bool,
}

impl Index {
    /// Reads it back; one that does not read is empty.
    pub fn open(memory: PathBuf) -> Self {
        let known = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { memory, known, changed: false }
    }

    /// What a path held, if it looks as it did.
    pub fn get(&self, path: &Path, stamp: &Stamp) -> Option<&Known> {
        self.known.get(path).filter(|known| known.stamp == *stamp)
    }

    /// The digest of what a path held last.
    pub fn digest(&self, path: &Path) -> Option<&str> {
        self.known.get(path).map(|known| known.digest.as_str())
    }

    /// Notes what a path holds.
    pub fn put(&mut self, path: PathBuf, known: Known) {
        self.known.insert(path, known);
        self.changed = true;
    }

    /// Forgets paths.
    pub fn retain(&mut self, wanted: impl Fn(&Path) -> bool) {
        let before = self.known.len();
        self.known.retain(|path, _| wanted(path));
        self.changed |= self.known.len() != before;
    }

    /// Writes it down if it has changed. One that cannot be written costs the next start some reading.
    pub fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let aside = self.memory.with_extension("new");
        let written = serde_json::to_vec(&self.known)
            .map_err(std::io::Error::other)
            .and_then(|bytes| fs::write(&aside, bytes))
            .and_then(|()| fs::rename(&aside, &self.memory));
        if let Err(error) = written {
            tracing::warn!(path = %self.memory.display(), %error, "what was seen in the plugins folder cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_until_it_looks_otherwise() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, memory) = (dir.path().join("p.wasm"), dir.path().join("index.json"));
        fs::write(&file, "one").expect("writes");
        let stamp = Stamp::of(&[&file]);
        let mut index = Index::open(memory.clone());
        index.put(file.clone(), Known { stamp: stamp.clone(), id: "p".into(), digest: "d".into() });
        index.save();
        let mut index = Index::open(memory.clone());
        assert_eq!(index.get(&file, &stamp).map(|known| known.id.as_str()), Some("p"));
        fs::write(&file, "another").expect("writes");
        assert_eq!(index.get(&file, &Stamp::of(&[&file])), None);
        index.retain(|_| false);
        index.save();
        assert_eq!(Index::open(memory.clone()).digest(&file), None);
        fs::write(&memory, "{").expect("writes");
        assert_eq!(Index::open(memory).digest(&file), None, "a broken index is an empty one");
    }
}
