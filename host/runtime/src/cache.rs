//! Compiled code on disk.
//!
//! Loading compiled code runs it as native code, so only what this host wrote is loaded: every entry has an HMAC-SHA256
//! under a key that is made at first use and lies beside the entries, mode 0600 in a directory of mode 0700. Entries
//! are written aside and renamed, never changed in place, because they are mapped and not read. What a child process
//! compiled is taken over in the same way.
//!
//! Invariant: a damaged, foreign or outdated entry is compiled anew; the cache can be deleted at any time.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use caisson_core::ids::hex;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::package::Shape;

/// Entries beyond this are removed, the one that was unused for longest first. A host with 500 plugins keeps all of
/// them and some older versions.
const ENTRIES_MAX: usize = 1024;
/// Files that a host left half-written when it was killed are removed after this.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);
const KEY_BYTES: usize = 32;

/// A directory of compiled components.
pub(crate) struct Cache {
    directory: PathBuf,
    key: [u8; KEY_BYTES],
}

impl Cache {
    /// Opens the directory, and makes it and its key at first use.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mode = fs::metadata(directory)?.permissions().mode();
        if mode & 0o022 != 0 {
            let message = format!("others may write to {}: its mode is {:o}", directory.display(), mode & 0o777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        // Children that compile work elsewhere.
        let directory = directory.canonicalize()?;
        let cache = Self { key: key(&directory)?, directory };
        cache.remove_leftovers()?;
        Ok(cache)
    }

    /// The component and its shape if there is a good entry for it.
    #[expect(unsafe_code, reason = "deserialising compiled code; the HMAC shows that this host wrote it")]
    pub(crate) fn load(&self, engine: &Engine, name: &str) -> Option<(Component, Shape)> {
        let (code, mac) = self.paths(name);
        let seal = fs::read(&mac).ok()?;
        let file = fs::File::open(&code).ok()?;
        let good = seal.split_at_checked(SHAPE_BYTES).and_then(|(shape, tag)| {
            let shape = read_shape(shape)?;
            self.mac(name, shape, &file).ok()?.verify_slice(tag).ok().map(|()| shape)
        });
        let Some(shape) = good else {
            tracing::warn!(path = %code.display(), "a compiled plugin in the cache is damaged: compiling it again");
            return None;
        };
        // When it was used last decides what is removed; without it, when it was written does.
        let _ = file.set_modified(SystemTime::now());
        // SAFETY: the bytes under this path were written by this host (the MAC's key is ours), files are never changed
        // in place, and nobody else may write to the directory.
        match unsafe { Component::deserialize_file(engine, &code) } {
            Ok(component) => Some((component, shape)),
            Err(error) => {
                tracing::warn!(path = %code.display(), %error, "a compiled plugin in the cache does not load: compiling it again");
                None
            }
        }
    }

    /// Whether there is an entry, good or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        let (code, mac) = self.paths(name);
        code.exists() && mac.exists()
    }

    /// Writes an entry.
    pub(crate) fn store(&self, name: &str, shape: Shape, compiled: &[u8]) -> io::Result<()> {
        let aside = self.aside()?;
        aside.write(compiled)?;
        self.adopt(name, shape, &aside)
    }

    /// Makes a file that [`Self::aside`] named an entry. The file must be finished: nobody writes to it any more.
    pub(crate) fn adopt(&self, name: &str, shape: Shape, compiled: &Aside) -> io::Result<()> {
        let (code, mac) = self.paths(name);
        let file = fs::File::open(&compiled.0)?;
        let tag = self.mac(name, shape, file)?.finalize().into_bytes();
        let seal = self.aside()?;
        seal.write(&[&write_shape(shape)[..], &tag].concat())?;
        // The code first: a MAC without its code is a miss, and a new code under an old MAC is a miss too.
        fs::rename(&compiled.0, &code)?;
        fs::rename(&seal.0, &mac)?;
        self.prune()
    }

    /// A name for a file that is removed when this goes, unless it was made an entry.
    pub(crate) fn aside(&self) -> io::Result<Aside> {
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(io::Error::other)?;
        Ok(Aside(self.directory.join(format!("{}.tmp", hex(&suffix)))))
    }

    /// Another host may remove the same at the same time.
    fn prune(&self) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(&self.directory)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        entries.sort_unstable();
        let excess = entries.len().saturating_sub(ENTRIES_MAX);
        for (_, path) in entries.into_iter().take(excess) {
            gone(fs::remove_file(&path))?;
            gone(fs::remove_file(path.with_extension("mac")))?;
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)?.filter_map(Result::ok) {
            let path = entry.path();
            let leftover = path.extension().is_some_and(|extension| extension == "tmp");
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
            if leftover && age.is_some_and(|age| age > LEFTOVER_AGE) {
                gone(fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        let code = self.directory.join(format!("{name}.cwasm"));
        let mac = code.with_extension("mac");
        (code, mac)
    }

    fn mac(&self, name: &str, shape: Shape, mut code: impl Read) -> io::Result<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key).map_err(io::Error::other)?;
        // The name is part of it: an entry cannot pass for another.
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(&write_shape(shape));
        let mut buffer = vec![0; 64 << 10];
        loop {
            match code.read(&mut buffer)? {
                0 => return Ok(mac),
                read => mac.update(&buffer[..read]),
            }
        }
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A file on its way into the cache, or never to get there.
pub(crate) struct Aside(PathBuf);

impl Aside {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the file.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0)?.write_all(bytes)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Gone already if it became an entry; else nothing more can be done about a file that cannot be removed.
        drop(fs::remove_file(&self.0));
    }
}

const SHAPE_BYTES: usize = 12;

fn write_shape(shape: Shape) -> [u8; SHAPE_BYTES] {
    let mut bytes = [0; SHAPE_BYTES];
    for (place, number) in bytes.chunks_exact_mut(4).zip([shape.instances, shape.memories, shape.tables]) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn read_shape(bytes: &[u8]) -> Option<Shape> {
    let mut numbers = bytes.chunks_exact(4).map(|four| Some(u32::from_be_bytes(four.try_into().ok()?)));
    let mut next = || numbers.next().flatten();
    Some(Shape { instances: next()?, memories: next()?, tables: next()? })
}

/// The name of an entry: the component, what was done to it, and what the engine's code has to fit.
pub(crate) fn entry_name(engine: &Engine, digest: &str, treatment: &str) -> String {
    let mut hasher = Compatibility(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{treatment}-{}", hex(&hasher.0.finalize()[..8]))
}

/// A stable hasher: the standard one's result may change with a release.
struct Compatibility(Sha256);

impl Hasher for Compatibility {
    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn key(directory: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = directory.join("key");
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(io::Error::other)?;
    let aside = directory.join(format!("key-{}.tmp", hex(&suffix)));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?.write_all(&key)?;
    // A link fails if another process was first; then its key is the key.
    let linked = fs::hard_link(&aside, &path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(&path)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: remove it", path.display()))
        }),
        Err(error) => Err(error),
    }
}

/// The key, if there is a good one. One that others can read, or of another length, is replaced.
fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Nothing for group and others.
    let private = fs::metadata(path)?.permissions().mode().trailing_zeros() >= 6;
    if let (Ok(key), true) = (<[u8; KEY_BYTES]>::try_from(bytes), private) {
        return Ok(Some(key));
    }
    fs::remove_file(path)?;
    Ok(None)
}
