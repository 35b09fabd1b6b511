//! What a file in `mcp-servers/` declares: one server, or several by name.
//!
//! ```json
//! {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything"], "env": {"TOKEN": "{{secret:TOKEN}}"}}
//! {"mcpServers": {"files": {"command": "mcp-server-filesystem", "args": ["/srv/data"]}}}
//! ```
//!
//! Strict: a field that nobody reads is an error with the field that was probably meant.

use std::collections::BTreeMap;
use std::path::PathBuf;

use caisson_core::definition::nearest;
use serde_json::{Map, Value};

/// The field that holds several servers.
const SEVERAL: &str = "mcpServers";
/// What a server has.
const FIELDS: [&str; 8] = ["name", "description", "type", "command", "args", "env", "cwd", "disabled"];
/// A name is shown to models before each tool's, and they take 64 characters in all.
const NAME_CHARS_MAX: usize = 32;
/// What stands before the name of an agent that is a tool.
const AGENTS: &str = "agent";
/// Of a value that is shown, so much.
const SHOWN_CHARS_MAX: usize = 60;

/// How a server is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its name, the first part of its tools' names.
    pub name: String,
    /// The file that declares it, below the environment's directory.
    pub file: String,
    /// The program: a path, or a name that is looked up in its own `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, all of it but `PATH`; `{{secret:NAME}}` stands for a secret of the host.
    pub env: BTreeMap<String, String>,
    /// Where it begins; relative paths begin at the environment's directory.
    pub cwd: Option<PathBuf>,
}

/// Why a file declares nothing: the field, its value, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(String);

impl ServerSpec {
    /// Reads a file. `stem` is its name without `.json`, the server's name where the file gives none.
    pub fn read(stem: &str, text: &str) -> Result<Vec<Self>, SpecError> {
        let value: Value = serde_json::from_str(text).map_err(|error| SpecError(format!("is no JSON: {error}")))?;
        let Value::Object(map) = &value else { return Err(SpecError("is not a JSON object".to_owned())) };
        let file = format!("mcp-servers/{stem}.json");
        let Some(several) = map.get(SEVERAL) else {
            let name = match map.get("name") {
                None | Some(Value::Null) => stem,
                Some(name) => name.as_str().ok_or_else(|| wrong("name", "a text", name))?,
            };
            return Ok(one("", name, map, &file)?.into_iter().collect());
        };
        if let Some(other) = map.keys().find(|key| *key != SEVERAL) {
            return Err(SpecError(format!(
                "{other}: stands beside '{SEVERAL}': a file declares one server or several"
            )));
        }
        let several = several.as_object().ok_or_else(|| wrong(SEVERAL, "an object of servers by name", several))?;
        let mut specs = Vec::new();
        for (name, server) in several {
            let at = format!("{SEVERAL}.{name}");
            let server = server.as_object().ok_or_else(|| wrong(&at, "an object", server))?;
            if let Some(other) = server.get("name").filter(|other| *other != name) {
                return Err(wrong(&format!("{at}.name"), &format!("\"{name}\", or absent"), other));
            }
            specs.extend(one(&format!("{at}."), name, server, &file)?);
        }
        Ok(specs)
    }
}

/// `None` if it is disabled.
fn one(at: &str, name: &str, map: &Map<String, Value>, file: &str) -> Result<Option<ServerSpec>, SpecError> {
    check_name(at, name)?;
    for key in map.keys() {
        if ["url", "serverUrl", "headers"].contains(&key.as_str()) {
            return Err(SpecError(format!(
                "{at}{key}: servers are programs here (stdio); one behind HTTP is not taken"
            )));
        }
        if !FIELDS.contains(&key.as_str()) {
            let near = nearest(key, FIELDS)
                .map_or_else(|| format!("there are {}", FIELDS.join(", ")), |near| format!("did you mean '{near}'?"));
            return Err(SpecError(format!("{at}{key}: unknown field '{key}': {near}")));
        }
    }
    let field = |key: &str| map.get(key).filter(|value| !value.is_null());
    let text = |key: &str| match field(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text.clone())),
        Some(other) => Err(wrong(&format!("{at}{key}"), "a text", other)),
    };
    if let Some(kind) = text("type")?.filter(|kind| kind != "stdio") {
        return Err(SpecError(format!("{at}type: has to be \"stdio\", not \"{}\"", shown(&kind))));
    }
    text("description")?;
    let disabled = match field("disabled") {
        None => false,
        Some(Value::Bool(disabled)) => *disabled,
        Some(other) => return Err(wrong(&format!("{at}disabled"), "true or false", other)),
    };
    let command = text("command")?
        .filter(|command| !command.trim().is_empty())
        .ok_or_else(|| SpecError(format!("{at}command: is missing: the program to start")))?;
    let spec = ServerSpec {
        name: name.to_owned(),
        file: file.to_owned(),
        command,
        args: args(&format!("{at}args"), field("args"))?,
        env: env(&format!("{at}env"), field("env"))?,
        cwd: text("cwd")?.map(PathBuf::from),
    };
    Ok((!disabled).then_some(spec))
}

/// What a tool's name begins with: models see a dot as `__`, so names must be tellable from what follows.
fn check_name(at: &str, name: &str) -> Result<(), SpecError> {
    let at = if at.is_empty() { "name: " } else { "" };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
        let rule = format!("1 to {NAME_CHARS_MAX} letters, digits, '-' and '_'");
        return Err(SpecError(format!("{at}a server's name has {rule}, not '{}'", shown(name))));
    }
    if name.contains("__") || name.ends_with('_') {
        let message = format!("{at}a server's name has no '__' in it and no '_' at its end, unlike '{name}'");
        return Err(SpecError(message));
    }
    if name == AGENTS {
        return Err(SpecError(format!(
            "{at}'{AGENTS}' is taken: `{AGENTS}.NAME` is an agent that is called as a tool"
        )));
    }
    Ok(())
}

fn args(at: &str, value: Option<&Value>) -> Result<Vec<String>, SpecError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| wrong(at, "a list of texts", value))?;
    let mut args = Vec::with_capacity(list.len());
    for (number, arg) in list.iter().enumerate() {
        let at = format!("{at}[{number}]");
        let text = arg.as_str().filter(|text| !text.contains('\0')).ok_or_else(|| wrong(&at, "a text", arg))?;
        if text.contains("{{secret:") {
            let message = format!("{at}: everybody on the machine sees arguments: hand secrets over in 'env'");
            return Err(SpecError(message));
        }
        args.push(text.to_owned());
    }
    Ok(args)
}

fn env(at: &str, value: Option<&Value>) -> Result<BTreeMap<String, String>, SpecError> {
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let map = value.as_object().ok_or_else(|| wrong(at, "an object of texts", value))?;
    let mut env = BTreeMap::new();
    for (name, value) in map {
        let at = format!("{at}.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(SpecError(format!("{at}: is no name of a variable")));
        }
        let text = value.as_str().filter(|text| !text.contains('\0')).ok_or_else(|| wrong(&at, "a text", value))?;
        if let Some((_, rest)) = text.split_once("${") {
            let variable = rest.split_once('}').map_or(rest, |(name, _)| name);
            return Err(SpecError(format!(
                "{at}: nothing of the host's own variables is filled in, write {{{{secret:{}}}}} and keep it among the host's secrets",
                shown(variable)
            )));
        }
        secrets(text).map_err(|_| SpecError(format!("{at}: '{{{{secret:' without a name and '}}}}'")))?;
        env.insert(name.clone(), text.to_owned());
    }
    Ok(env)
}

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
}

/// A value in pieces.
pub(crate) fn secrets(value: &str) -> Result<Vec<Piece<'_>>, SpecError> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some((text, tail)) = rest.split_once("{{secret:") {
        let named = tail.split_once("}}").map(|(name, tail)| (name.trim(), tail)).filter(|(name, _)| !name.is_empty());
        let (name, tail) = named.ok_or_else(|| SpecError("'{{secret:' without a name and '}}'".to_owned()))?;
        pieces.extend([Piece::Text(text), Piece::Secret(name)]);
        rest = tail;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn wrong(at: &str, expected: &str, value: &Value) -> SpecError {
    SpecError(format!("{at}: has to be {expected}, not {}", shown(&value.to_string())))
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_or_several_are_read() {
        let read = |text: &str| ServerSpec::read("stem", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let names = |text: &str| read(text).into_iter().map(|spec| spec.name).collect::<Vec<_>>();
        assert_eq!(names(r#"{"command": "a"}"#), ["stem"]);
        assert_eq!(names(r#"{"name": "other", "type": "stdio", "command": "a"}"#), ["other"]);
        assert_eq!(names(r#"{"mcpServers": {"b": {"command": "x"}, "a": {"command": "y"}}}"#), ["b", "a"]);
        assert_eq!(names(r#"{"command": "a", "disabled": true}"#), [""; 0]);
        let spec = &read(r#"{"command": "a", "args": ["-x"], "env": {"T": "Bearer {{secret:T}}"}, "cwd": "d"}"#)[0];
        assert_eq!((spec.command.as_str(), spec.args.as_slice()), ("a", &["-x".to_owned()][..]));
        assert_eq!((spec.env["T"].as_str(), spec.cwd.as_deref()), ("Bearer {{secret:T}}", Some("d".as_ref())));
    }

    #[test]
    fn mistakes_are_named_with_field_value_and_what_was_meant() {
        for (text, message) in [
            ("{", "is no JSON"),
            ("[]", "is not a JSON object"),
            ("{}", "command: is missing"),
            (r#"{"comand": "a"}"#, "comand: unknown field 'comand': did you mean 'command'?"),
            (r#"{"command": "a", "zzz": 1}"#, "there are name, description, type, command, args, env, cwd, disabled"),
            (r#"{"command": 5}"#, "command: has to be a text, not 5"),
            (r#"{"command": "a", "args": "x"}"#, "args: has to be a list of texts, not \"x\""),
            (r#"{"command": "a", "args": ["x", 5]}"#, "args[1]: has to be a text, not 5"),
            (r#"{"command": "a", "args": ["{{secret:T}}"]}"#, "args[0]: everybody on the machine sees arguments"),
            (r#"{"command": "a", "env": {"T": 5}}"#, "env.T: has to be a text, not 5"),
            (r#"{"command": "a", "env": {"A=B": "x"}}"#, "env.A=B: is no name of a variable"),
            (
                r#"{"command": "a", "env": {"T": "${TOKEN}"}}"#,
                "env.T: nothing of the host's own variables is filled in, write {{secret:TOKEN}}",
            ),
            (r#"{"command": "a", "env": {"T": "{{secret:}}"}}"#, "env.T: '{{secret:' without a name"),
            (r#"{"url": "http://x"}"#, "url: servers are programs here"),
            (r#"{"type": "sse", "command": "a"}"#, "type: has to be \"stdio\", not \"sse\""),
            (r#"{"name": "a.b", "command": "a"}"#, "name: a server's name has 1 to 32 letters"),
            (r#"{"name": "a__b", "command": "a"}"#, "no '__' in it"),
            (r#"{"name": "agent", "command": "a"}"#, "'agent' is taken"),
            (r#"{"mcpServers": {"git": {"comand": "a"}}}"#, "mcpServers.git.comand: unknown field"),
            (r#"{"mcpServers": {"git": 5}}"#, "mcpServers.git: has to be an object, not 5"),
            (r#"{"mcpServers": {}, "command": "a"}"#, "command: stands beside 'mcpServers'"),
        ] {
            let error = ServerSpec::read("stem", text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn values_hold_secrets_by_name() {
        assert_eq!(secrets("plain"), Ok(vec![Piece::Text("plain")]));
        assert_eq!(secrets("a {{secret:B}} c"), Ok(vec![Piece::Text("a "), Piece::Secret("B"), Piece::Text(" c")]));
    }
}
