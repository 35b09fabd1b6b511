//! Steps that are dead: given up because every host that took them was lost. What makes one, and the order of their list.

use super::{Cursor, StepRow, StoreError};
use crate::ids::RunId;
use crate::status::StepStatus;

/// The code of the failure.
pub const STEP_LOST: &str = "STEP_LOST";

/// Between run and number in a cursor: below every character of an id, so that the text sorts as the pair does.
const BETWEEN: char = '\0';

/// Whether a step is one. Stores with an index say the same in its words: the stored failure begins with its code.
pub fn is_dead(step: &StepRow) -> bool {
    let begin = format!("{{\"code\":\"{STEP_LOST}\"");
    step.status == StepStatus::Failed && step.error.as_ref().is_some_and(|error| error.get().starts_with(&begin))
}

/// Where a page that ends with this step ends.
pub fn cursor(run: &RunId, step: &StepRow) -> Cursor {
    let at = step.completed_at.map_or(i64::MIN, |at| at.0);
    Cursor::new(at, format!("{run}{BETWEEN}{:020}", step.number))
}

/// The run and the step's number that a cursor names.
pub fn place(cursor: &Cursor) -> Result<(RunId, u64), StoreError> {
    let parts = cursor.id.split_once(BETWEEN).and_then(|(run, number)| Some((RunId::new(run), number.parse().ok()?)));
    parts.ok_or_else(|| StoreError::Invalid("cursor is not one that this list gave".to_owned()))
}
