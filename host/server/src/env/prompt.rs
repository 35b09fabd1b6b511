//! `*.prompt` files: front matter in YAML between two lines of `---`, then the text of the prompt (dotprompt).

use caisson_core::definition::document::{self, Format};
use caisson_core::schema::Validator;
use caisson_runtime::model::AgentSpec;
use serde_json::Value;

use super::{Problem, Source};

/// The longest name of an agent: it stands in definitions and in tables.
const NAME_BYTES_MAX: usize = 200;

/// Reads an agent from its file.
pub fn read(source: &Source) -> Result<AgentSpec, Problem> {
    let problem = |message: String| Problem::new(&source.path, message);
    let (front, body) = parts(source)?;
    let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let agent = AgentSpec::from_front_matter(stem, &front, &body).map_err(|error| problem(error.to_string()))?;
    if agent.name.is_empty() || agent.name.len() > NAME_BYTES_MAX || agent.name.chars().any(char::is_control) {
        return Err(problem("the agent's name is empty, too long or holds control characters".to_owned()));
    }
    for (what, schema) in [("input", &agent.input_schema), ("output", &agent.output_schema)] {
        if let Some(schema) = schema {
            Validator::compile(schema).map_err(|error| problem(format!("{what}.schema cannot be used: {error}")))?;
        }
    }
    Ok(agent)
}

/// The front matter of a file; `null` if it has none.
pub fn front_matter(source: &Source) -> Result<Value, Problem> {
    parts(source).map(|(front, _)| front)
}

fn parts(source: &Source) -> Result<(Value, String), Problem> {
    let problem = |message: String| Problem::new(&source.path, message);
    let text = std::str::from_utf8(&source.bytes)
        .map_err(|error| problem(format!("is not UTF-8: byte {} is wrong", error.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (front, body, lines_before) = split(text).map_err(|message| problem(message.to_owned()))?;
    // What is said about the body names lines of the file.
    let above = "\n".repeat(text[..text.len() - body.len()].matches('\n').count());
    let front = match document::read_value(front.as_bytes(), Format::Yaml) {
        Ok(document) => document.to_value(),
        Err(_) if front.trim().is_empty() => Value::Null,
        Err(diagnostics) => {
            let first = diagnostics.first();
            let at = first.map_or(0, |diagnostic| diagnostic.line + lines_before);
            let what = first.map_or("cannot be read", |diagnostic| &diagnostic.message);
            return Err(problem(format!("line {at}: {what}")));
        }
    };
    if !front.is_object() && !front.is_null() {
        return Err(problem("the front matter is not an object".to_owned()));
    }
    Ok((front, above + body))
}

/// Front matter, body, and how many lines stand before the front matter. A file without front matter is all body.
fn split(text: &str) -> Result<(&str, &str, usize), &'static str> {
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else {
        return Ok(("", text, 0));
    };
    let mut start = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Ok((&rest[..start], &rest[start + line.len()..], 1));
        }
        start += line.len();
    }
    Err("the front matter has no end: a line of '---' is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<AgentSpec, String> {
        let source = Source { path: "agents/checker.prompt".into(), bytes: text.as_bytes().to_vec() };
        read(&source).map_err(|problem| problem.message)
    }

    #[test]
    fn an_agent_is_read_from_its_file() {
        let agent = read_text(
            "---\nmodel: openai/gpt-4o\nmetadata:\n  name: triage\noutput:\n  schema:\n    type: object\n---\nYou look at pods.\n",
        )
        .expect("reads");
        assert_eq!((agent.name.as_str(), agent.model.as_str()), ("triage", "openai/gpt-4o"));
        assert!(agent.output_schema.is_some());
        assert_eq!(agent.prompt, "You look at pods.");
        assert_eq!(read_text("---\nmodel: a/b\n---\n").expect("reads").name, "checker");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, part) in [
            ("---\nmodel: a\n", "no end"),
            ("---\nmodel: a\nmodel: b\n---\n", "line 3"),
            ("---\n- a\n---\n", "not an object"),
            ("---\nname: \"\"\nmodel: a\n---\n", "name is empty"),
            ("no front matter, so no model", "has no model"),
            (
                "---\nmodel: a/b\n---\n\nHello,\n{{#eech items}}x{{/eech}}\n",
                "line 6, column 1: there is no block 'eech'",
            ),
            (
                "---\nmodel: a/b\noutput: {schema: {$ref: 'http://example.com/s'}}\n---\n",
                "output.schema cannot be used:",
            ),
            (
                "---\nmodel: a/b\ninput: {schema: {type: object, properties: {a: {type: string, pattern: '((('}}}}\n---\n",
                "input.schema cannot be used:",
            ),
            (
                "---\nmodel: a/b\ninput:\n  schema:\n    name: strin\n---\n",
                "input.schema: name: there is no type 'strin'",
            ),
        ] {
            let message = read_text(text).expect_err("is refused");
            assert!(message.contains(part), "{message} has no '{part}'");
        }
    }
}
