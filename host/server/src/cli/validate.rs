//! `caisson validate`: findings as a good compiler shows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use caisson_core::definition::{self, Catalog, Format, Schemas};
use caisson_core::plugin::{ActionSpec, Package};
use caisson_runtime::{built_in_packages, inspect};
use clap::Args;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use reqwest::Method;
use serde::Serialize;

use super::output::{Style, json_line, line};
use super::serve::report;
use super::workflows::definition_body;
use super::{Connection, Outcome, Usage};
use crate::api::Known;
use crate::api::wire::{Finding, Validation};
use crate::client::Client;
use crate::env::{self, Environment, prompt, read_text};
use crate::folder;

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Workflow files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// An environment directory in which agents and plugins must exist; may be repeated.
    #[arg(long = "env", value_name = "DIR")]
    environments: Vec<PathBuf>,
    /// Which of several environments; that of the file's own directory when absent.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
}

#[derive(Serialize)]
struct Checked<'a> {
    file: &'a Path,
    #[serde(flatten)]
    validation: &'a Validation,
}

/// What the definitions are checked against.
enum Against {
    /// Nothing is known.
    Nothing,
    /// The files of environments.
    Environments(Vec<Files>),
    /// A host.
    Host(Client),
}

pub async fn execute(args: ValidateArgs, connection: &Connection) -> anyhow::Result<Outcome> {
    let against = against(&args, connection)?;
    let mut outcome = Outcome::Done;
    let (mut errors, mut warnings) = (0, 0);
    for file in &args.files {
        let (source, validation) = match read_text(file) {
            Ok(source) => {
                let validation = check(&source, file, &against, args.environment.as_deref()).await?;
                (source, validation)
            }
            Err(error) => (Vec::new(), unreadable(&error.to_string())),
        };
        errors += validation.errors.len();
        warnings += validation.warnings.len();
        if !validation.errors.is_empty() {
            outcome = Outcome::Failed;
        }
        if connection.json {
            json_line(&serde_json::to_string(&Checked { file, validation: &validation })?);
        } else {
            print_findings(file, &source, &validation);
        }
    }
    if !connection.json {
        let files = if args.files.len() == 1 { "1 file".to_owned() } else { format!("{} files", args.files.len()) };
        line(&format!("{files}: {errors} errors, {warnings} warnings"));
    }
    Ok(outcome)
}

fn against(args: &ValidateArgs, connection: &Connection) -> anyhow::Result<Against> {
    if !args.environments.is_empty() {
        let (environments, problems) = env::read(&args.environments).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
        report(&problems);
        return Ok(Against::Environments(environments.iter().map(Files::of).collect()));
    }
    if connection.is_named() {
        return Ok(Against::Host(connection.client()?));
    }
    Ok(Against::Nothing)
}

async fn check(source: &[u8], file: &Path, against: &Against, environment: Option<&str>) -> anyhow::Result<Validation> {
    let local = |catalog: &dyn Catalog| definition::read(source, Format::Detect).validation(catalog).into();
    match against {
        Against::Nothing => Ok(local(&Unknown)),
        Against::Environments(all) => match pick(all, file, environment) {
            Some(files) => Ok(local(&files.known)),
            None => Err(Usage(format!(
                "which environment is meant? Say so with --environment (there are: {})",
                all.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ")
            ))
            .into()),
        },
        Against::Host(client) => {
            let query: Vec<_> = environment.iter().map(|name| ("environment", (*name).to_owned())).collect();
            let text = client.send(Method::POST, "/workflows/validate", &query, definition_body(source)).await?;
            Ok(client.parse(&text)?)
        }
    }
}

/// The environment that is named, else the one whose file it is, else the only one.
fn pick<'a>(all: &'a [Files], file: &Path, name: Option<&str>) -> Option<&'a Files> {
    if let Some(name) = name {
        return all.iter().find(|known| known.name == name);
    }
    let file = file.canonicalize().ok();
    let own = all.iter().find(|known| file.as_ref().is_some_and(|file| known.workflows.contains(file)));
    own.or(if let [only] = all { Some(only) } else { None })
}

/// What the files of an environment hold.
struct Files {
    name: String,
    known: Known,
    workflows: Vec<PathBuf>,
}

impl Files {
    fn of(environment: &Environment) -> Self {
        let agents = environment.agents.iter().filter_map(|source| match prompt::read(source) {
            Ok(agent) => Some((agent.name.clone(), agent.schemas())),
            Err(problem) => {
                report(&[problem]);
                None
            }
        });
        let mut actions: BTreeMap<String, Schemas> = built_in_packages().iter().flat_map(actions_of).collect();
        for (path, read) in environment.plugins.iter().flat_map(|dir| folder::packages(dir)) {
            match read.and_then(|bytes| inspect(&bytes).map_err(|error| error.to_string())) {
                Ok(package) => actions.extend(actions_of(&package)),
                Err(message) => report(&[env::Problem::new(&path, message)]),
            }
        }
        let ids = environment.workflows.iter().filter_map(|source| {
            definition::read(&source.bytes, Format::Detect).definition.map(|definition| definition.id.to_string())
        });
        Self {
            name: environment.name.clone(),
            known: Known { agents: agents.collect(), actions, workflows: Some(ids.collect()) },
            workflows: environment.workflows.iter().map(|source| source.path.clone()).collect(),
        }
    }
}

/// A plugin's actions by full name.
fn actions_of(package: &Package) -> Vec<(String, Schemas)> {
    let named = |action: &ActionSpec| {
        let schemas = Schemas { input: action.input_schema.clone(), output: action.output_schema.clone() };
        (format!("{}.{}", package.id, action.name), schemas)
    };
    package.actions.iter().map(named).collect()
}

/// Nothing is known: nothing is refused for it, and the findings say so.
struct Unknown;

impl Catalog for Unknown {
    fn actions(&self) -> Option<Vec<String>> {
        None
    }
    fn agents(&self) -> Option<Vec<String>> {
        None
    }
}

fn unreadable(reason: &str) -> Validation {
    let finding = Finding {
        code: "UNREADABLE".to_owned(),
        path: String::new(),
        line: None,
        column: None,
        message: format!("cannot be read: {reason}"),
        suggestion: None,
    };
    Validation { errors: vec![finding], warnings: Vec::new() }
}

/// Prints findings with the lines that they are about.
pub fn print_findings(file: &Path, source: &[u8], validation: &Validation) {
    let style = Style::stdout();
    let theme = if style.rich { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_context_lines(1);
    let text = printable(source);
    let all = validation.errors.iter().map(|finding| (Severity::Error, finding));
    for (severity, finding) in all.chain(validation.warnings.iter().map(|finding| (Severity::Warning, finding))) {
        let diagnostic = diagnostic(severity, finding, &text);
        let report =
            Report::from(diagnostic).with_source_code(NamedSource::new(file.display().to_string(), text.clone()));
        let mut shown = String::new();
        match handler.render_report(&mut shown, report.as_ref()) {
            Ok(()) => line(shown.trim_end()),
            Err(_) => line(&format!("{}: {}", finding.code, super::output::clean(&finding.message))),
        }
    }
}

fn diagnostic(severity: Severity, finding: &Finding, text: &str) -> MietteDiagnostic {
    let message = super::output::clean(&finding.message).into_owned();
    let mut diagnostic = MietteDiagnostic::new(message).with_severity(severity).with_code(finding.code.clone());
    if let Some(suggestion) = &finding.suggestion {
        diagnostic = diagnostic.with_help(super::output::clean(suggestion));
    }
    if let (Some(line), Some(column)) = (finding.line, finding.column) {
        let (offset, length) = span(text, line, column);
        let label = if finding.path.is_empty() { None } else { Some(super::output::clean(&finding.path).into_owned()) };
        diagnostic = diagnostic.with_label(LabeledSpan::new(label, offset, length));
    }
    diagnostic
}

/// The word at a line and a column, in bytes.
fn span(text: &str, line: usize, column: usize) -> (usize, usize) {
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text[start..].split('\n').next().unwrap_or_default();
    let (before, at) = rest.char_indices().nth(column - 1).map_or((rest.len(), ""), |(at, _)| (at, &rest[at..]));
    let quoted = at.starts_with('"').then(|| at[1..].find('"').map(|end| end + 2)).flatten();
    let word = at.find([' ', ',', ':', ']', '}', '\t', '\r']).unwrap_or(at.len());
    (start + before, quoted.unwrap_or(word))
}

/// A source of any origin, safe for a terminal; every byte keeps its place, or nearly so if it was not text.
fn printable(source: &[u8]) -> String {
    let text = String::from_utf8_lossy(source);
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let harmless = matches!(c, '\n' | '\t') || super::output::clean(c.encode_utf8(&mut [0; 4])).chars().eq([c]);
        if harmless {
            safe.push(c);
        } else {
            safe.extend(std::iter::repeat_n('?', c.len_utf8()));
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_points_at_its_word() {
        let text = "id: a\nstates:\n  - name: \"é b\"\n    next: nowhere\n";
        for (line, column, word) in [(1, 1, "id"), (3, 11, "\"é b\""), (4, 11, "nowhere"), (4, 99, ""), (9, 1, "")] {
            let (offset, length) = span(text, line, column);
            assert_eq!(&text[offset..offset + length], word, "{line}:{column}");
        }
    }

    #[test]
    fn a_source_cannot_steer_the_terminal() {
        let source = "a: \x1b[31m\r\n\tb: \u{202e}é";
        let safe = printable(source.as_bytes());
        assert_eq!(safe, "a: ?[31m?\n\tb: ???é");
        assert_eq!(safe.len(), source.len());
    }
}
