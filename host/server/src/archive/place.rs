//! Where a run's file lies: `TENANT/ENVIRONMENT/WORKFLOW/DATE/RUN.jsonl`, the date that of its end, in UTC.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};

use caisson_core::json::sha256_hex;
use caisson_core::ports::RunRow;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt};

/// What files of an archive end with.
pub const EXTENSION: &str = "jsonl";

/// The longest name as it is: file systems take 255 bytes.
const NAME_BYTES_MAX: usize = 200;

/// Characters of a date in a time: `2026-11-21`.
const DATE_CHARS: usize = 10;

/// A run's file, below the directory of the archive.
pub struct Place {
    /// The directories, outermost first.
    pub dirs: [String; 4],
    /// Its name.
    pub file: String,
}

impl Place {
    /// Of a run that has ended.
    pub fn of(row: &RunRow) -> Self {
        let ended = row.completed_at.unwrap_or(row.created_at).to_string();
        let date: String = ended.chars().take(DATE_CHARS).collect();
        let dirs = [&*row.realm.tenant, &*row.realm.environment, &*row.workflow_id, &date].map(part);
        Self { dirs, file: format!("{}.{EXTENSION}", part(row.id.as_str())) }
    }

    /// Its path, for people.
    pub fn path(&self) -> String {
        format!("{}/{}", self.dirs.join("/"), self.file)
    }

    /// Its directory; made, for this user only, where it is not there. What is made is durable.
    pub fn open(&self, root: &Dir) -> io::Result<Dir> {
        let mut dir = root.try_clone()?;
        for name in &self.dirs {
            dir = open_or_make(&dir, name)?;
        }
        Ok(dir)
    }
}

/// A directory below another.
pub fn open_or_make(above: &Dir, name: &str) -> io::Result<Dir> {
    match above.create_dir_with(name, DirBuilder::new().mode(0o700)) {
        // Somebody may have made it just now and not got to what makes it durable.
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    sync(above)?;
    above.open_dir(name)
}

/// Makes the entries of a directory durable.
pub fn sync(dir: &Dir) -> io::Result<()> {
    // The directory's own handle is one for looking up only.
    dir.open(".")?.sync_all()
}

/// A name as a part of a path: what is not plain is written as its bytes' numbers, so that two names never meet and none
/// leads anywhere else.
pub fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0);
        if plain {
            part.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    if part.is_empty() || part.len() > NAME_BYTES_MAX { sha256_hex(name.as_bytes()) } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_directory_or_to_the_place_of_another() {
        for (name, expected) in [
            ("acme", "acme"),
            ("order-v1.2_b", "order-v1.2_b"),
            ("Ä b", "%C3%84%20b"),
            ("..", "%2E."),
            (".", "%2E"),
            (".partial", "%2Epartial"),
            ("../../etc", "%2E.%2F..%2Fetc"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("a\0b\n", "a%00b%0A"),
        ] {
            assert_eq!(part(name), expected, "{name}");
        }
        for long in [String::new(), "a".repeat(201), "/".repeat(70)] {
            assert_eq!(part(&long), sha256_hex(long.as_bytes()));
        }
    }
}
