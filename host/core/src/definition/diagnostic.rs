//! What is wrong with a document, said so that its author can mend it.

use serde::Serialize;

/// More diagnostics than this are not shown: the first ones are usually the cause of the others.
pub const DIAGNOSTICS_MAX: usize = 100;

/// Names longer than this are shortened in messages.
const QUOTED_CHARS_MAX: usize = 80;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The definition is refused.
    Error,
    /// It is taken, but it may not be what was meant.
    Warning,
}

/// One finding. Serialises as the API gives it: code, path, line, column, message, suggestion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How bad it is.
    #[serde(skip)]
    pub severity: Severity,
    /// Stable, upper snake case: see [`code`].
    pub code: &'static str,
    /// Where in the document, as `states[2].branches[0].states[0].next`; empty for all of it.
    pub path: String,
    /// Line in the source, from 1; 0 when there is no source.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// Column in characters, from 1; 0 when there is no source.
    #[serde(skip_serializing_if = "is_zero")]
    pub column: usize,
    /// Byte offset in the source.
    #[serde(skip)]
    pub offset: usize,
    /// Length in bytes.
    #[serde(skip)]
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, or where to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Diagnostic {
    /// Whether the definition is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same finding for a document that stands in a larger text, after so many lines and bytes.
    #[must_use]
    pub fn shifted(mut self, lines: usize, bytes: usize) -> Self {
        self.line += lines;
        self.offset += bytes;
        self
    }

    /// The same finding with a suggestion.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion.map(shortened);
        self
    }
}

/// Findings as the API answers them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// For these the definition is refused.
    pub errors: Vec<Diagnostic>,
    /// These are only shown.
    pub warnings: Vec<Diagnostic>,
}

impl Validation {
    /// Sorts findings into errors and warnings.
    pub fn of(diagnostics: Vec<Diagnostic>) -> Self {
        let (errors, warnings) = diagnostics.into_iter().partition(Diagnostic::is_error);
        Self { errors, warnings }
    }

    /// Whether there is no error.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The codes of diagnostics. They never change their meaning.
pub mod code {
    macro_rules! codes {
        ($($(#[$doc:meta])* $name:ident)*) => { $($(#[$doc])* pub const $name: &str = stringify!($name);)* };
    }
    codes! {
        /// The text is not YAML, JSON or UTF-8.
        SYNTAX
        /// A key stands twice in one object.
        DUPLICATE_KEY
        /// Too large, too deep, too many.
        LIMIT_EXCEEDED
        /// A field that does not exist.
        UNKNOWN_FIELD
        /// A field that exists, but whose behaviour has not been built.
        UNSUPPORTED_FIELD
        /// A field that must be there.
        MISSING_FIELD
        /// Text where a number should be, and so on.
        WRONG_TYPE
        /// The right type but not an allowed value.
        INVALID_VALUE
        /// A state type that does not exist.
        UNKNOWN_TYPE
        /// A transition that leads to no state of its block.
        UNKNOWN_TARGET
        /// A phase that `phases` does not list.
        UNKNOWN_PHASE
        /// An action that no plugin has.
        UNKNOWN_ACTION
        /// Two states of one name in one block.
        DUPLICATE_STATE
        /// Two branches of one name.
        DUPLICATE_BRANCH
        /// Not a path into data.
        INVALID_PATH
        /// Broken `{{ … }}`.
        INVALID_TEMPLATE
        /// Not an expression.
        INVALID_EXPRESSION
        /// Not a JSON Schema that can be used.
        INVALID_SCHEMA
        /// An agent that the environment does not have.
        AGENT_NOT_FOUND
        /// What the steps before a step give is not what it takes; a warning where that is not certain.
        SCHEMA_COMPATIBILITY
        /// Warning: a workflow that does not exist (yet).
        WORKFLOW_NOT_FOUND
        /// Warning: no transition leads there.
        UNREACHABLE_STATE
        /// Warning: states that lead back to themselves; legal, but often not meant.
        CIRCULAR_TRANSITION
        /// Warning: `start` is not given.
        DEFAULT_START
        /// Warning: whether the action exists was not known here.
        ACTION_NOT_CHECKED
        /// Warning: an agent is named by `agent_id`.
        AGENT_ID_DEPRECATED
        /// Warning: whether the agents exist was not known here.
        AGENT_NOT_CHECKED
    }
}

/// Collects errors and warnings, each up to [`DIAGNOSTICS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Sink {
    found: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Sink {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let count = if diagnostic.is_error() { &mut self.errors } else { &mut self.warnings };
        *count += 1;
        if *count <= DIAGNOSTICS_MAX {
            self.found.push(diagnostic);
        }
    }

    /// Whether more would be dropped: then nobody need look for good suggestions.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= DIAGNOSTICS_MAX
    }

    pub(crate) fn found_mut(&mut self) -> &mut [Diagnostic] {
        &mut self.found
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// In the order of the source.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| diagnostic.offset);
        let counts = [(Severity::Error, self.errors, "errors"), (Severity::Warning, self.warnings, "warnings")];
        for (severity, count, what) in counts.into_iter().filter(|(_, count, _)| *count > DIAGNOSTICS_MAX) {
            self.found.push(Diagnostic {
                severity,
                code: code::LIMIT_EXCEEDED,
                path: String::new(),
                line: 0,
                column: 0,
                offset: 0,
                length: 0,
                message: format!("{} more {what} are not shown", count - DIAGNOSTICS_MAX),
                suggestion: None,
            });
        }
        self.found
    }
}

/// Longest message: it may quote what somebody wrote.
const MESSAGE_CHARS_MAX: usize = 500;

/// A message of bounded length.
pub(crate) fn shortened(mut message: String) -> String {
    if let Some((at, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(at);
        message.push('…');
    }
    message
}

/// A name in single quotes, shortened if it is very long.
pub(crate) fn quoted(name: &str) -> String {
    match name.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((at, _)) => format!("'{}…'", name[..at].escape_debug()),
        None => format!("'{}'", name.escape_debug()),
    }
}

/// The candidate that was probably meant, if one of them is near: case, dashes and underscores cost nothing.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Nobody misspells names as long as this, and comparing them takes time.
    const WORD_BYTES_MAX: usize = 128;
    /// With a hundred findings this many comparisons still take a tenth of a second.
    const CANDIDATES_MAX: usize = 2000;
    if word.is_empty() || word.len() > WORD_BYTES_MAX {
        return None;
    }
    // Case, dashes and underscores are what people confuse most: they cost nothing.
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let sought = plain(word);
    let allowed = (sought.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter(|candidate| candidate.len() <= WORD_BYTES_MAX && *candidate != word)
        .map(|candidate| (strsim::osa_distance(&sought, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean 'x'?"
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean {}?", quoted(candidate)))
}
