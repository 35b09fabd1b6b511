//! One process to a data directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use caisson_core::ports::StoreError;

const LOCK_FILE: &str = "lock";

/// A held lock: the kernel lets go of it with the file, also when the process is killed.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes the directory, for its owner alone, and takes its lock.
pub(crate) fn acquire(dir: &Path) -> Result<Lock, StoreError> {
    let failed = |what: &str, error: &std::io::Error| StoreError::Other(format!("{what} {}: {error}", dir.display()));
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir).map_err(|e| failed("making", &e))?;
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOCK_FILE))
        .map_err(|e| failed("opening the lock file in", &e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(holder(&mut file, dir))),
        Err(TryLockError::Error(error)) => return Err(failed("locking", &error)),
    }
    // For whoever finds it locked. Not being able to say it is no reason not to start.
    let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::warn!(%error, "failed to note the process id in the lock file");
    }
    Ok(Lock { _file: file })
}

fn holder(file: &mut File, dir: &Path) -> String {
    let mut pid = String::new();
    let known = file.read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
    let who = if known { format!("process {}", pid.trim()) } else { "another process".to_owned() };
    format!("{who} holds {}; stop it, or choose another --data-dir", dir.display())
}
