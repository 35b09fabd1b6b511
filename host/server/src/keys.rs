//! Making API keys: `csn_` and 256 bits, of which only the hash is stored.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use caisson_core::json::sha256_hex;
use caisson_core::ports::{ApiKeyRow, Store, StoreError};
use caisson_core::time::Timestamp;
use uuid::Uuid;

use crate::api::api_keys::FIRST_TENANT;
use crate::api::auth::Role;

/// What every key begins with, so that a leaked one can be found by a scanner.
pub const PREFIX: &str = "csn_";

/// Characters after the prefix: 32 bytes in base64url without padding.
const BODY_CHARS: usize = 43;

/// The actor of the first key.
const FIRST_ACTOR: &str = "admin";

/// A new key and the row that knows it.
pub struct Made {
    /// The key itself.
    pub key: String,
    /// What is stored.
    pub row: ApiKeyRow,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gave no random bytes.
    #[error("get random bytes for a key: {0}")]
    Random(getrandom::Error),
    /// The key file could not be read or made.
    #[error("use the key file {path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("use the key file {0}: it does not hold an API key ({PREFIX} and {BODY_CHARS} characters)")]
    NotAKey(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a key.
pub fn make(actor: &str, role: Role, teams: Vec<String>, tenant: Arc<str>, at: Timestamp) -> Result<Made, Error> {
    let key = random_key()?;
    let row = row(&key, actor, role, teams, tenant, at);
    Ok(Made { key, row })
}

fn row(key: &str, actor: &str, role: Role, teams: Vec<String>, tenant: Arc<str>, at: Timestamp) -> ApiKeyRow {
    ApiKeyRow {
        id: Uuid::now_v7().to_string().into(),
        key_hash: sha256_hex(key.as_bytes()).into(),
        tenant,
        actor: actor.into(),
        teams,
        role: role.as_str().into(),
        created_at: at,
        last_used_at: None,
        revoked_at: None,
    }
}

/// How the first key came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// It was made now and is stored nowhere in clear: show it.
    Shown(String),
    /// It is in the file.
    InFile(String),
    /// There are keys already.
    Existing,
}

/// Sees to it that somebody can come in: with a file, its key is an admin's (the file is made if it is not there); without, a key is made
/// if there is none at all.
pub async fn first(store: &dyn Store, file: Option<&Path>, at: Timestamp) -> Result<First, Error> {
    let Some(path) = file else {
        if store.count_keys().await? > 0 {
            return Ok(First::Existing);
        }
        let made = make(FIRST_ACTOR, Role::Admin, Vec::new(), FIRST_TENANT.into(), at)?;
        store.add_key(&made.row).await?;
        return Ok(First::Shown(made.key));
    };
    let key = read_or_make(path)?;
    // A key that was revoked stays revoked, whatever the file says.
    if store.key_by_hash(&sha256_hex(key.as_bytes())).await?.is_none() {
        store.add_key(&row(&key, FIRST_ACTOR, Role::Admin, Vec::new(), FIRST_TENANT.into(), at)).await?;
    }
    Ok(First::InFile(key))
}

/// The 32 bytes that random numbers of guests come from: kept in the data directory, for its owner only, so that a step that is taken up again
/// sees the same ones.
pub fn random_seed(path: &Path) -> Result<[u8; 32], Error> {
    let failed = |source| Error::File { path: path.display().to_string(), source };
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| failed(io::Error::other("it does not hold 32 bytes; remove it"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = random_bytes()?;
            // Written aside: a host that dies here leaves no half of it.
            let aside = path.with_extension("new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)
                .map_err(failed)?;
            file.write_all(&seed).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&aside, path).map_err(failed)?;
            Ok(seed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn read_or_make(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::File { path: path.display().to_string(), source };
    match fs::read_to_string(path) {
        Ok(text) => {
            let key = text.trim();
            if is_key(key) { Ok(key.to_owned()) } else { Err(Error::NotAKey(path.display().to_string())) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random_key()?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
            writeln!(file, "{key}").and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

fn is_key(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|body| {
        body.len() == BODY_CHARS && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    })
}

/// 32 bytes that nobody can guess.
pub fn random_bytes() -> Result<[u8; 32], Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

fn random_key() -> Result<String, Error> {
    Ok(format!("{PREFIX}{}", base64url(&random_bytes()?)))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(ALPHABET[(word >> (18 - 6 * place) & 63) as usize] as char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_base64url() {
        for (bytes, text) in [
            (b"".as_slice(), ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\xfe\xfd", "__79"),
        ] {
            assert_eq!(base64url(bytes), text);
        }
    }

    #[test]
    fn a_key_is_recognised_and_never_the_same_twice() {
        let (one, two) = (random_key().expect("random"), random_key().expect("random"));
        assert!(is_key(&one) && is_key(&two));
        assert_ne!(one, two);
        assert!(!is_key("csn_short") && !is_key(&one[1..]) && !is_key(&format!("{}!", &one[..46])));
    }

    #[test]
    fn a_seed_is_made_private_and_stays_the_same() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("random.key");
        let seed = random_seed(&path).expect("makes it");
        assert_eq!(random_seed(&path).expect("reads it"), seed);
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").expect("writes");
        assert!(matches!(random_seed(&path), Err(Error::File { .. })));
    }

    #[test]
    fn a_key_file_is_made_private_and_read_again() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sub/key");
        let made = read_or_make(&path).expect("makes it");
        assert_eq!(read_or_make(&path).expect("reads it"), made);
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "hello").expect("writes");
        assert!(matches!(read_or_make(&path), Err(Error::NotAKey(_))));
    }
}
