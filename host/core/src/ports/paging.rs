//! Pages of a list: the cursor, and where a page is cut. One place, so that every store pages alike.

use super::{Page, PageRequest, StoreError};
use crate::ids::hex;

/// The most that one page holds: 1,000 rows of a few kilobytes keep an answer within a few megabytes.
pub const PAGE_LIMIT_MAX: u32 = 1_000;

/// Where a page ended: the sort key of its last item. Written as hexadecimal, so that it is opaque and safe in a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// A time or a number; 0 in lists that are sorted by id alone.
    pub at: i64,
    /// The id; empty in lists that are sorted by number alone.
    pub id: String,
}

impl Cursor {
    /// The cursor after an item with that sort key.
    pub fn new(at: i64, id: impl Into<String>) -> Self {
        Self { at, id: id.into() }
    }

    /// As clients carry it.
    pub fn encode(&self) -> String {
        hex(format!("{}.{}", self.at, self.id).as_bytes())
    }

    /// Reads it back; [`StoreError::Invalid`] for anything that [`Self::encode`] did not write.
    pub fn decode(text: &str) -> Result<Self, StoreError> {
        decode(text).ok_or_else(|| StoreError::Invalid("cursor is not one that this list gave".to_owned()))
    }
}

fn decode(text: &str) -> Option<Cursor> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let bytes: Vec<u8> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect::<Option<_>>()?;
    let plain = String::from_utf8(bytes).ok()?;
    let (at, id) = plain.split_once('.')?;
    let cursor = Cursor::new(at.parse().ok()?, id);
    // Only the one spelling: no signs, no upper case, no leading zeros.
    (cursor.encode() == text).then_some(cursor)
}

impl PageRequest {
    /// The number of items to give: `limit`, at least 1 and at most [`PAGE_LIMIT_MAX`].
    pub fn size(&self) -> u32 {
        self.limit.clamp(1, PAGE_LIMIT_MAX)
    }

    /// Where the page before ended.
    pub fn after(&self) -> Result<Option<Cursor>, StoreError> {
        self.cursor.as_deref().map(Cursor::decode).transpose()
    }
}

impl<T> Page<T> {
    /// A page from up to one item more than it may hold: the one more says that there is a next page.
    pub fn cut(mut items: Vec<T>, request: &PageRequest, key: impl Fn(&T) -> Cursor) -> Self {
        let size = request.size() as usize;
        let more = items.len() > size;
        items.truncate(size);
        let next = if more { items.last().map(|last| key(last).encode()) } else { None };
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        for cursor in [Cursor::new(-5, ""), Cursor::new(1_795_251_600_123, "0193.a"), Cursor::new(0, "ü\0.")] {
            assert_eq!(Cursor::decode(&cursor.encode()).expect("reads"), cursor);
        }
        for text in ["", "zz", "3", "3030", "2b352e", "ff2e", "é", "302E"] {
            assert!(matches!(Cursor::decode(text), Err(StoreError::Invalid(_))), "{text}");
        }
    }
}
