//! What people see: tables, statuses, times. Text from outside is made harmless before it reaches a terminal.
//!
//! Invariant: nothing is written but by [`line`], [`json_line`], [`note`] and, of our own making, [`raw`]. Whoever forgets to [`clean`] what is
//! put into a line shows a colour too many, and nothing else.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// How output looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Icons and colours: on a terminal, unless `NO_COLOR` is set.
    pub rich: bool,
}

/// A colour of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Went well.
    Green,
    /// Went wrong.
    Red,
    /// Waits for somebody.
    Yellow,
    /// Is under way.
    Blue,
    /// Of less weight.
    Grey,
}

impl Style {
    /// For standard output.
    pub fn stdout() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { rich: io::stdout().is_terminal() && !no_colour && !dumb }
    }

    /// Text in a colour, if colours are shown.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.rich {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Blue => 34,
            Colour::Grey => 90,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A status as icon, word and colour; without a terminal the word alone.
    pub fn status(self, status: &str) -> String {
        let (icon, colour) = look(status);
        if self.rich { self.paint(colour, &format!("{icon} {status}")) } else { status.to_owned() }
    }
}

fn look(status: &str) -> (char, Colour) {
    match status {
        "COMPLETED" | "SUCCEEDED" | "APPROVED" | "ACTIVE" => ('✔', Colour::Green),
        "FAILED" | "TIMED_OUT" | "REJECTED" => ('✖', Colour::Red),
        "WAITING_APPROVAL" | "WAITING_SIGNAL" | "PAUSED" | "RETRYING" => ('◆', Colour::Yellow),
        "RUNNING" | "COMPILING" => ('●', Colour::Blue),
        "PENDING" => ('○', Colour::Blue),
        _ => ('–', Colour::Grey),
    }
}

/// Writes lines; a reader that has gone away ends the program quietly. Of escape sequences, colours are left where colours are shown.
pub fn line(text: &str) {
    write_line(&shown(text, Style::stdout().rich));
}

/// Writes JSON. What could steer a terminal is escaped, which is the same JSON.
pub fn json_line(text: &str) {
    write_line(&escaped(text));
}

/// Writes lines to standard error, without any escape sequence.
pub fn note(text: &str) {
    eprintln!("{}", shown(text, false));
}

fn write_line(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() == ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// Writes without a line's end, as it is: only for what this program makes itself.
pub fn raw(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that has gone away shows nothing; the next line notices.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Text from outside without control characters, escape sequences and marks that turn the direction of writing.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' | '\u{9b}' | '\u{9d}' => skip_sequence(c, &mut rest),
            '\n' | '\t' => clean.push(' '),
            c if is_dangerous(c) => {}
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// Lines without what could steer a terminal, but for colours if they are wanted.
fn shown(text: &str, colours: bool) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !is_dangerous(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = colour(rest).filter(|_| colours);
        if let Some(length) = colour {
            shown.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let mut after = rest[c.len_utf8()..].chars().peekable();
        if matches!(c, '\x1b' | '\u{9b}' | '\u{9d}') {
            skip_sequence(c, &mut after);
        } else if harmless(c) {
            shown.push(c);
        }
        let left: usize = after.map(char::len_utf8).sum();
        rest = &rest[rest.len() - left..];
    }
    Cow::Owned(shown)
}

/// The length of a sequence that sets a colour, if one stands here.
fn colour(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\x1b[")?;
    let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    codes[end..].starts_with('m').then_some("\x1b[".len() + end + "m".len())
}

/// JSON in which every character that could steer a terminal is written as its number.
fn escaped(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t' | '\r') || !is_dangerous(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(escaped)
}

fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an escape character: `[…letter`, or `]…` up to a bell or `ESC \`.
fn skip_sequence(first: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let kind = match first {
        '\u{9b}' => Some('['),
        '\u{9d}' => Some(']'),
        _ => rest.next(),
    };
    match kind {
        Some('[') => while rest.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {},
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                if c == '\x07' || c == '\u{9c}' {
                    return;
                }
                if c == '\x1b' {
                    rest.next_if_eq(&'\\');
                    return;
                }
            }
        }
        _ => {}
    }
}

/// At most so many characters, the last one an ellipsis if there were more.
pub fn shorten(text: &str, chars_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars_max) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()),
    }
}

/// A table with aligned columns. Cells are cleaned.
pub struct Table {
    style: Style,
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

struct Cell {
    /// As it is measured.
    plain: String,
    /// As it is written.
    shown: String,
}

impl Table {
    /// With these columns.
    pub fn new(style: Style, head: &[&'static str]) -> Self {
        Self { style, head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. A cell that is a status is shown as one.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        let cell = |text: &str, name: &str| {
            let plain = clean(text).into_owned();
            if name == "STATUS" && self.style.rich && !plain.is_empty() {
                return Cell { shown: self.style.status(&plain), plain: format!("x {plain}") };
            }
            Cell { shown: plain.clone(), plain }
        };
        let row = cells.iter().zip(&self.head).map(|(text, name)| cell(text, name)).collect();
        self.rows.push(row);
    }

    /// Writes it.
    pub fn print(&self) {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].plain.chars().count());
            cells.chain([self.head[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut head = String::new();
        for (name, width) in self.head.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(head, "{name:<width$}  ");
        }
        line(&self.style.paint(Colour::Grey, head.trim_end()));
        for row in &self.rows {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(&cell.shown);
                text.push_str(&" ".repeat(width - cell.plain.chars().count() + 2));
            }
            line(text.trim_end());
        }
    }
}

/// A duration as people say it.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// A time without its fraction.
pub fn moment(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replace('T', " ")),
        None => time.to_owned(),
    }
}

/// An optional text, `-` when there is none.
pub fn or_dash(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("-")
}

/// A step's name where several may have the same: the branch or item that it is in, and its state.
pub fn step_name(branch_path: &str, state: &str) -> String {
    if branch_path.is_empty() { state.to_owned() } else { format!("{branch_path} / {state}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        for (text, expected) in [
            ("plain é ✔", "plain é ✔"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link", "link"),
            ("a\rb\x08c\x7f", "abc"),
            ("two\nlines", "two lines"),
            ("\u{9b}2Jgone", "gone"),
            ("right\u{202e}left", "rightleft"),
            ("cut \x1b", "cut "),
            ("\x1b]unfinished", ""),
        ] {
            assert_eq!(clean(text), expected);
        }
    }

    #[test]
    fn whoever_forgets_to_clean_shows_a_colour_and_nothing_else() {
        let text = "\x1b[32mgreen\x1b[0m\nnext\t\x1b[2J\x1b]0;t\x07\u{9b}1A\u{202e}\r\x08end\x1b[31";
        assert_eq!(shown(text, true), "\x1b[32mgreen\x1b[0m\nnext\tend");
        assert_eq!(shown(text, false), "green\nnext\tend");
        assert_eq!(shown("plain é", false), "plain é");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a": "\u{1b}[31m \u{9b}2J \u{202e} \u{7f} é 😀"});
        let text = serde_json::to_string_pretty(&value).expect("JSON");
        let shown = escaped(&text);
        assert!(shown.chars().all(|c| c == '\n' || !is_dangerous(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }

    #[test]
    fn durations_and_times_are_short() {
        for (ms, text) in
            [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min")]
        {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(moment("2026-11-21T04:03:02.123Z"), "2026-11-21 04:03:02Z");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
