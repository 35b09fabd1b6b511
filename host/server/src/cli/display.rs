//! How a run looks while it runs: a line for what happened, and on a terminal, below, what is under way.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use caisson_core::time::Timestamp;
use serde_json::Value;

use super::output::{Colour, Style, clean, duration, line, raw, shorten};
use crate::api::stream::Live;

/// What is under way is redrawn so often: smooth enough for an eye, nothing for a CPU.
pub const REDRAW: Duration = Duration::from_millis(100);

/// Steps under way that are shown at once.
const OPEN_SHOWN_MAX: usize = 8;

/// Characters of a result in a line.
const RESULT_CHARS_MAX: usize = 90;

/// The width of a terminal that does not tell.
const COLUMNS: usize = 80;

/// Shows a run.
pub struct Display {
    style: Style,
    /// The first event's time.
    begin: Option<Timestamp>,
    /// The latest event's time.
    now: Timestamp,
    open: Vec<Open>,
    /// Lines below that will be drawn over.
    drawn: usize,
    frame: usize,
    question: Option<String>,
}

struct Open {
    id: String,
    name: String,
    action: String,
    begin: Timestamp,
    /// For what is shown while it is under way.
    seen: Instant,
    note: String,
}

impl Display {
    /// From now on.
    pub fn new(style: Style) -> Self {
        Self { style, begin: None, now: Timestamp::default(), open: Vec::new(), drawn: 0, frame: 0, question: None }
    }

    /// Shows what happened.
    pub fn show(&mut self, event: &Live) {
        if let Some(at) = Timestamp::parse(&event.at) {
            self.now = at;
            self.begin.get_or_insert(at);
        }
        let id = event.step_id.clone().unwrap_or_default();
        let data: Value = serde_json::from_str(event.data.0.get()).unwrap_or_default();
        match event.kind.as_str() {
            "step.scheduled" => self.opened(event, id, &data),
            "step.started" if event_number(&data, "entry") == 0 => {
                if let Some(open) = self.open.iter().find(|open| open.id == id)
                    && !self.style.rich
                {
                    let text = format!("started    {}   {}", open.name, open.action);
                    self.tell(&text);
                }
            }
            "step.retrying" => {
                let error = data.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
                let attempt = event_number(&data, "attempt");
                let text = format!("{}   attempt {attempt} follows: {}", name(event), clean(error));
                self.tell_status("RETRYING", &text);
            }
            "step.lost" => self.tell_status("RETRYING", &format!("{}   its host is gone, it goes on", name(event))),
            "step.completed" => self.completed(event, &id, &data),
            "step.progress" | "step.log" => self.noted(event, &id, &data),
            "approval.decided" => {
                let by = data.get("actor").and_then(Value::as_str).map(|who| format!("by {}", clean(who)));
                let text = format!("{}   {}", name(event), by.unwrap_or_default());
                self.tell_status(event.status.as_deref().unwrap_or_default(), text.trim_end());
            }
            "signal.received" => {
                let signal = data.pointer("/signal/name").and_then(Value::as_str).unwrap_or_default();
                self.tell(&format!("signal     {}", clean(signal)));
            }
            "run.status_changed" if event.status.as_deref() == Some("PAUSED") => self.tell_status("PAUSED", "the run"),
            _ => {}
        }
    }

    fn opened(&mut self, event: &Live, id: String, data: &Value) {
        let activity = data.get("activity");
        // An instant is over before it could be shown.
        let Some((kind, fields)) = activity.and_then(Value::as_object).and_then(|map| map.iter().next()) else {
            return;
        };
        let action = fields.get("action").and_then(Value::as_str).unwrap_or(kind);
        self.open.push(Open {
            id,
            name: name(event),
            action: clean(action).into_owned(),
            begin: self.now,
            seen: Instant::now(),
            note: String::new(),
        });
        self.redraw();
    }

    fn completed(&mut self, event: &Live, id: &str, data: &Value) {
        let open = self.open.iter().position(|open| open.id == id).map(|place| self.open.remove(place));
        let took =
            open.as_ref().map(|open| format!("   {}", duration(self.now.since_ms(open.begin)))).unwrap_or_default();
        let action = open.map(|open| format!("   {}", open.action)).unwrap_or_default();
        let result = match data.get("error") {
            Some(error) if !error.is_null() => {
                let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
                format!("   {}: {}", part("code"), part("message"))
            }
            _ => event.output.as_ref().map(|output| format!("   {}", output.0.get())).unwrap_or_default(),
        };
        let result = clean(&shorten(&result, RESULT_CHARS_MAX)).into_owned();
        let text = format!("{}{action}{took}{}", name(event), self.style.paint(Colour::Grey, &result));
        self.tell_status(event.status.as_deref().unwrap_or_default(), &text);
    }

    fn noted(&mut self, event: &Live, id: &str, data: &Value) {
        let message = data.get("message").and_then(Value::as_str).unwrap_or_default();
        let percent = data.get("percent").and_then(Value::as_u64).map(|percent| format!("{percent} % "));
        let note = format!("{}{}", percent.unwrap_or_default(), clean(message));
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
            open.note.clone_from(&note);
        }
        let level = data.get("level").and_then(Value::as_str).unwrap_or("info");
        if !self.style.rich && !matches!(level, "trace" | "debug") {
            self.tell(&format!("  {}: {note}", name(event)));
        }
    }

    fn tell_status(&mut self, status: &str, text: &str) {
        // Widest is WAITING_APPROVAL, which is never told here.
        let word = if self.style.rich { 11 } else { 9 };
        let shown = self.style.status(&clean(status));
        let plain = status.chars().count() + if self.style.rich { 2 } else { 0 };
        let gap = " ".repeat((word + 2_usize).saturating_sub(plain).max(2));
        self.tell(&format!("{shown}{gap}{text}"));
    }

    /// Shows a line above what is under way.
    pub fn tell(&mut self, text: &str) {
        self.clear();
        #[expect(clippy::cast_precision_loss, reason = "seconds with two digits")]
        let seconds = self.begin.map_or(0, |begin| self.now.since_ms(begin)) as f64 / 1000.0;
        line(&format!("{} {text}", self.style.paint(Colour::Grey, &format!("{seconds:>7.2} s "))));
        self.redraw();
    }

    /// Asks; the question stays below until it is answered.
    pub fn ask(&mut self, question: Option<String>) {
        if self.question.take().is_some() {
            raw("\r\x1b[K");
        }
        self.clear();
        self.question = question;
        self.redraw();
    }

    /// Somebody pressed the return key at the question: the cursor stands one line further down.
    pub fn answered(&mut self) {
        if self.question.take().is_some() && self.style.rich {
            self.drawn += 1;
        }
    }

    /// Draws what is under way again.
    pub fn tick(&mut self) {
        self.frame += 1;
        if self.question.is_none() {
            self.redraw();
        }
    }

    /// Nothing is under way any more.
    pub fn end(&mut self) {
        self.clear();
        self.open.clear();
        self.question = None;
    }

    fn clear(&mut self) {
        if self.question.is_some() {
            raw("\r\x1b[K");
        }
        if self.drawn > 0 {
            raw(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn redraw(&mut self) {
        const FRAMES: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];
        if !self.style.rich {
            if let Some(question) = &self.question {
                raw(question);
            }
            return;
        }
        if self.drawn > 0 {
            raw(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        let columns = terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| usize::from(width.0));
        let mut text = String::new();
        self.drawn = 0;
        for open in self.open.iter().take(OPEN_SHOWN_MAX) {
            let frame = FRAMES[self.frame % FRAMES.len()];
            let shown =
                format!("{frame} {}   {}   {}   {}", open.name, open.action, duration(ms(open.seen)), open.note);
            text.push_str(&self.style.paint(Colour::Blue, &shorten(&shown, columns.saturating_sub(1))));
            text.push('\n');
            self.drawn += 1;
        }
        if self.open.len() > OPEN_SHOWN_MAX {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  … and {} more", self.open.len() - OPEN_SHOWN_MAX);
            self.drawn += 1;
        }
        raw(&text);
        if let Some(question) = &self.question {
            raw(question);
        }
    }
}

/// What a step is called: its branch or item, then its state.
fn name(event: &Live) -> String {
    let state = event.step_name.as_deref().unwrap_or("?");
    let name = match event.branch_path.as_deref() {
        Some(path) if !path.is_empty() => format!("{path} / {state}"),
        _ => state.to_owned(),
    };
    clean(&name).into_owned()
}

fn event_number(data: &Value, field: &str) -> u64 {
    data.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
