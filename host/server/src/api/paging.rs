//! Lists: `limit` and an opaque `cursor`.

use caisson_core::ports::{Cursor, PageRequest};

use super::error::ApiError;

/// The length of a page when none is asked for: a screenful and a bit.
const LIMIT_DEFAULT: u32 = 50;

/// The longest page: 500 runs with values of up to 4 KiB are 6 MiB at most.
pub const LIMIT_MAX: u32 = 500;

/// The longest cursor that can be ours.
const CURSOR_BYTES_MAX: usize = 512;

/// A page by its query fields.
pub fn page(limit: Option<u32>, cursor: Option<String>) -> Result<PageRequest, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::malformed("MALFORMED_QUERY", format!("limit is {limit}, expected 1 to {LIMIT_MAX}")));
    }
    let ours = |cursor: &String| cursor.len() <= CURSOR_BYTES_MAX && Cursor::decode(cursor).is_ok();
    if !cursor.as_ref().is_none_or(ours) {
        return Err(ApiError::malformed("MALFORMED_CURSOR", "cursor is not one of ours"));
    }
    Ok(PageRequest { limit, cursor })
}
