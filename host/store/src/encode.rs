//! Rows of a batch as JSON arrays, one text per table: what a set-based statement takes. User data goes in as JSON *strings*, so that
//! the database gives back the very bytes.

use caisson_core::engine::StepNo;
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{
    Admission, ApprovalRow, Commit, EventRow, ItemRow, OutboxRow, Place, RunLease, RunRow, SlotKey, StepRow, TimerRow,
};
use caisson_core::time::Timestamp;

use crate::marks::Marks;

/// A JSON array of rows, being written.
pub(crate) struct Rows {
    text: String,
    count: usize,
}

impl Default for Rows {
    fn default() -> Self {
        Self { text: String::from("["), count: 0 }
    }
}

impl Rows {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The whole array.
    pub(crate) fn finish(mut self) -> String {
        self.text.push(']');
        self.text
    }

    /// Adds the rows of another.
    pub(crate) fn append(&mut self, other: &Self) {
        if other.count > 0 {
            if self.count > 0 {
                self.text.push(',');
            }
            self.text.push_str(&other.text[1..]);
            self.count += other.count;
        }
    }

    /// Adds a row of columns.
    pub(crate) fn row(&mut self, columns: impl FnOnce(&mut Row<'_>)) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.count += 1;
        self.text.push('[');
        columns(&mut Row(&mut self.text));
        // Every column leaves a comma behind.
        self.text.pop();
        self.text.push(']');
    }

    /// Adds a plain text instead of a row.
    pub(crate) fn text(&mut self, text: &str) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.count += 1;
        push_text(&mut self.text, text);
    }
}

/// One row, being written.
pub(crate) struct Row<'a>(&'a mut String);

impl Row<'_> {
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        push_text(self.0, text);
        self.0.push(',');
        self
    }

    pub(crate) fn opt(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    pub(crate) fn int(&mut self, number: i64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            self.0.push('-');
        }
        self.0.extend(digits[at..].iter().map(|digit| char::from(*digit)));
        self.0.push(',');
        self
    }

    /// Counts stay far below 2^63; one that does not is stored as the largest that fits.
    pub(crate) fn count(&mut self, number: u64) -> &mut Self {
        self.int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub(crate) fn opt_count(&mut self, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.count(number),
            None => self.null(),
        }
    }

    pub(crate) fn opt_time(&mut self, time: Option<Timestamp>) -> &mut Self {
        match time {
            Some(time) => self.int(time.0),
            None => self.null(),
        }
    }

    fn payload(&mut self, payload: &Payload) -> &mut Self {
        self.text(&payload_text(payload))
    }

    fn opt_payload(&mut self, payload: Option<&Payload>) -> &mut Self {
        match payload {
            Some(payload) => self.payload(payload),
            None => self.null(),
        }
    }

    fn realm(&mut self, realm: &Realm) -> &mut Self {
        self.text(&realm.tenant).text(&realm.environment)
    }

    fn null(&mut self) -> &mut Self {
        self.0.push_str("null,");
        self
    }
}

/// The stored form of a payload: exact bytes of the user's JSON inside.
pub(crate) fn payload_text(payload: &Payload) -> String {
    match payload {
        Payload::Inline(json) => format!("{{\"json\":{}}}", json.get()),
        Payload::Stored(blob) => format!("{{\"sha256\":\"{}\",\"size\":{}}}", blob.sha256, blob.size),
    }
}

/// A list of texts as JSON.
pub(crate) fn texts<'a>(list: impl IntoIterator<Item = &'a str>) -> String {
    let mut rows = Rows::default();
    for text in list {
        rows.text(text);
    }
    rows.finish()
}

/// Keys under which runs count together, as JSON.
pub(crate) fn slots<'a>(keys: impl IntoIterator<Item = &'a SlotKey>) -> String {
    let mut rows = Rows::default();
    for SlotKey { realm, workflow, key } in keys {
        rows.row(|r| {
            r.realm(realm).text(workflow).text(key);
        });
    }
    rows.finish()
}

/// Adds a JSON string.
fn push_text(out: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let escaped = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.as_bytes().iter().position(escaped) {
        let byte = rest.as_bytes()[at];
        out.push_str(&rest[..at]);
        if byte < 0x20 {
            out.push_str("\\u00");
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        } else {
            out.push('\\');
            out.push(char::from(byte));
        }
        // Only ASCII is escaped, so the next byte begins a character.
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// All rows of a wave of commits, by table.
#[derive(Default)]
pub(crate) struct Writes {
    pub runs_new: Rows,
    pub runs_moved: Rows,
    pub runs_settled: Rows,
    pub events: Rows,
    pub steps: Rows,
    pub timers_cleared: Rows,
    pub timers_set: Rows,
    pub approvals: Rows,
    pub items: Rows,
    pub items_dropped: Rows,
    pub outbox: Rows,
    pub outbox_done: Rows,
    pub idempotency: Rows,
    pub pins: Rows,
    pub admissions: Rows,
    pub runs_ended: Rows,
    pub steps_ended: Rows,
    pub inbox_done: Rows,
}

impl Writes {
    /// Adds what one commit writes. `settled`: the run's status is what it was.
    pub(crate) fn add(&mut self, commit: &Commit, settled: bool, marks: &Marks) {
        for id in &commit.outbox_done {
            self.outbox_done.text(id);
        }
        for id in &commit.inbox_done {
            self.inbox_done.text(id);
        }
        let Some(run) = &commit.run else { return };
        let lease = lease(run, &commit.lease);
        if commit.expected == 0 {
            run_new(&mut self.runs_new, run, lease);
        } else {
            let rows = if settled { &mut self.runs_settled } else { &mut self.runs_moved };
            run_moved(rows, commit, run, lease);
        }
        for row in &commit.events {
            event(&mut self.events, run, row);
        }
        for row in &commit.steps {
            step(&mut self.steps, run, row);
        }
        // One that is set again is moved.
        let set_again = |key: &str| commit.timers_set.iter().any(|timer| *timer.key == *key);
        for key in commit.timers_cleared.iter().filter(|key| !set_again(key)) {
            self.timers_cleared.row(|r| {
                r.text(run.id.as_str()).text(key);
            });
        }
        for row in &commit.timers_set {
            timer(&mut self.timers_set, &run.realm, row);
        }
        for row in &commit.approvals {
            approval(&mut self.approvals, row);
        }
        for row in &commit.items {
            item(&mut self.items, run, row);
        }
        for number in &commit.items_dropped {
            dropped(&mut self.items_dropped, &run.id, *number);
        }
        for row in &commit.outbox {
            message(&mut self.outbox, &run.realm, row);
        }
        if let Some(key) = &commit.idempotency {
            self.idempotency.row(|r| {
                r.text(&key.key).realm(&run.realm).text(&key.request_hash).text(run.id.as_str()).int(run.created_at.0);
            });
        }
        self.add_kept(commit, run, marks);
    }

    /// What is kept of plugins, and of a run's place among others, while the run is open, and of a step's calls while the step is.
    fn add_kept(&mut self, commit: &Commit, run: &RunRow, marks: &Marks) {
        let (begins, ends) = (commit.expected == 0, run.status.is_terminal());
        // Nothing is written that the end of the run would take away.
        if !ends {
            for digest in &commit.pins {
                self.pins.row(|r| {
                    r.text(run.id.as_str()).text(digest).realm(&run.realm).int(run.created_at.0);
                });
            }
            if let Some(admission) = &commit.admission {
                admitted(&mut self.admissions, run, admission);
            }
        }
        if ends && !begins && marks.outlived() {
            self.runs_ended.text(run.id.as_str());
        }
        for step in marks.journals_ended(commit) {
            self.steps_ended.row(|r| {
                r.text(run.id.as_str()).count(step);
            });
        }
    }

    /// Whether the text about what goes with a run or a step has anything to do.
    pub(crate) fn has_kept(&self) -> bool {
        [&self.pins, &self.admissions, &self.runs_ended, &self.steps_ended].iter().any(|rows| !rows.is_empty())
    }

    /// Whether the second text of statements has anything to do.
    pub(crate) fn has_rest(&self) -> bool {
        [&self.approvals, &self.items, &self.items_dropped, &self.outbox, &self.outbox_done, &self.idempotency]
            .iter()
            .any(|rows| !rows.is_empty())
    }
}

/// Who moves a run from now on: empty as before, `-` nobody, else a host. Only stores of many hosts read it.
fn lease<'a>(run: &RunRow, lease: &'a RunLease) -> &'a str {
    match lease {
        _ if run.status.is_terminal() => "-",
        RunLease::Keep => "",
        RunLease::Release => "-",
        RunLease::Hold(host) => host,
    }
}

fn run_new(rows: &mut Rows, run: &RunRow, lease: &str) {
    rows.row(|r| {
        r.text(run.id.as_str()).realm(&run.realm).text(&run.workflow_id).text(&run.workflow_version).text(&run.digest);
        r.opt(run.name.as_deref()).opt(run.project_id.as_deref()).text(&run.created_by).text(run.status.as_str());
        r.opt(run.phase.as_deref()).text(&texts(run.current_states.iter().map(AsRef::as_ref)));
        r.payload(&run.input).opt_payload(run.output.as_ref()).opt(run.error.as_ref().map(Json::get));
        r.opt(run.parent.as_ref().map(|(id, _)| id.as_str())).opt_count(run.parent.as_ref().map(|(_, step)| *step));
        r.opt(run.forked_from.as_ref().map(RunId::as_str)).count(run.steps).int(run.created_at.0);
        r.opt_time(run.started_at).opt_time(run.completed_at).opt_time(run.paused_at).opt_time(run.cancelled_at);
        r.count(run.version).count(run.last_seq).text(&run.last_hash).text(lease);
    });
}

fn run_moved(rows: &mut Rows, commit: &Commit, run: &RunRow, lease: &str) {
    rows.row(|r| {
        r.text(run.id.as_str()).count(commit.expected).text(run.status.as_str()).opt(run.phase.as_deref());
        r.text(&texts(run.current_states.iter().map(AsRef::as_ref))).opt_payload(run.output.as_ref());
        r.opt(run.error.as_ref().map(Json::get)).count(run.steps).opt_time(run.started_at).opt_time(run.completed_at);
        r.opt_time(run.paused_at)
            .opt_time(run.cancelled_at)
            .count(run.version)
            .count(run.last_seq)
            .text(&run.last_hash)
            .text(lease)
            .count(commit.events.first().map_or(run.last_seq, |event| event.seq - 1));
    });
}

fn event(rows: &mut Rows, run: &RunRow, event: &EventRow) {
    rows.row(|r| {
        r.text(run.id.as_str()).count(event.seq).realm(&run.realm).text(&event.kind).int(event.at.0);
        r.opt(event.actor.as_deref()).opt(event.step_id.as_ref().map(StepId::as_str)).count(event.v.into());
        r.text(event.data.get()).text(&event.prev_hash).text(&event.hash);
    });
}

fn step(rows: &mut Rows, run: &RunRow, step: &StepRow) {
    rows.row(|r| {
        r.text(run.id.as_str()).count(step.number).realm(&run.realm).text(step.id.as_str()).text(&step.state);
        r.text(&step.state_type).text(&step.branch_path).opt_count(step.index).opt(step.phase.as_deref());
        r.opt(step.action.as_deref()).opt(step.plugin.as_ref().map(Json::get)).text(step.status.as_str());
        r.count(step.attempt.into()).count(step.max_attempts.into()).count(step.claim.into()).opt(step.host.as_deref());
        r.opt_time(step.ready_at).count(step.dispatch.into()).count(step.input_seq).opt_count(step.result_seq);
        r.opt(step.error.as_ref().map(Json::get)).text(step.usage.get()).opt(step.child.as_ref().map(RunId::as_str));
        r.int(step.created_at.0).opt_time(step.started_at).opt_time(step.completed_at).count(step.entry.into());
    });
}

fn timer(rows: &mut Rows, realm: &Realm, timer: &TimerRow) {
    rows.row(|r| {
        r.text(timer.run.as_str()).text(&timer.key).realm(realm).int(timer.due_at.0);
    });
}

fn approval(rows: &mut Rows, row: &ApprovalRow) {
    rows.row(|r| {
        r.text(row.id.as_str()).realm(&row.realm).text(row.run.as_str()).text(row.step_id.as_str()).count(row.step);
        r.text(row.status.as_str()).text(&row.message).opt_payload(row.summary.as_ref());
        r.text(&texts(row.approvers.iter().map(String::as_str))).opt_time(row.deadline).opt(row.decided_by.as_deref());
        r.opt(row.comment.as_deref()).int(row.created_at.0).opt_time(row.decided_at);
    });
}

fn item(rows: &mut Rows, run: &RunRow, item: &ItemRow) {
    rows.row(|r| {
        r.text(run.id.as_str()).count(item.step).count(item.index).realm(&run.realm).payload(&item.result);
    });
}

fn dropped(rows: &mut Rows, run: &RunId, step: StepNo) {
    rows.row(|r| {
        r.text(run.as_str()).count(step);
    });
}

fn admitted(rows: &mut Rows, run: &RunRow, admission: &Admission) {
    let begun = match admission.place {
        Place::Begin { .. } | Place::Admit => 1,
        Place::Wait { .. } => 0,
    };
    rows.row(|r| {
        r.text(run.id.as_str()).realm(&run.realm).text(&run.workflow_id).text(&admission.key);
        r.count(admission.limit.into()).count(begun).int(run.created_at.0);
    });
}

fn message(rows: &mut Rows, realm: &Realm, message: &OutboxRow) {
    rows.row(|r| {
        r.realm(realm).text(&message.id).text(message.target.as_str()).text(message.message.get());
    });
}
