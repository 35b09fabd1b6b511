//! `models.toml`: what answers when an agent asks its model.
//!
//! ```toml
//! [providers.scripted]
//! kind = "scripted"
//! script = "answers.json"
//!
//! [providers.openai]
//! kind = "openai"
//! baseUrl = "https://api.openai.com/v1"
//! apiKeyEnv = "OPENAI_API_KEY"
//! maxConcurrent = 16
//! idleSeconds = 60
//!
//! [providers.claude]
//! kind = "anthropic"
//! apiKeyEnv = "ANTHROPIC_API_KEY"
//! ```
//!
//! `openai` is every service that speaks its chat completions. `stream = false` asks for answers in one piece: then `idleSeconds` has to
//! be as long as the slowest of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caisson_runtime::model::{Anthropic, CallLimits, OpenAi, Provider, Scripted, ServiceConfig};
use serde::Deserialize;

use super::{Problem, Source, read_text};

/// The service that is meant when only a key is given.
const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";
/// Where Anthropic's is.
const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";

/// A provider and its name.
pub type Named = (String, Arc<dyn Provider>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    providers: BTreeMap<String, Kind>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Kind {
    Scripted { script: String },
    OpenAi(Remote),
    Anthropic(Remote),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Remote {
    base_url: Option<String>,
    api_key_env: Option<String>,
    max_concurrent: Option<usize>,
    idle_seconds: Option<u64>,
    stream: Option<bool>,
}

impl Remote {
    fn config(self, base_url: &str) -> ServiceConfig {
        let mut limits = CallLimits::default();
        limits.concurrent = self.max_concurrent.unwrap_or(limits.concurrent);
        limits.idle = self.idle_seconds.map_or(limits.idle, Duration::from_secs);
        ServiceConfig {
            base_url: self.base_url.unwrap_or_else(|| base_url.to_owned()),
            api_key_env: self.api_key_env,
            stream: self.stream.unwrap_or(true),
            limits,
        }
    }
}

/// Makes the providers of a file; `dir` is where its paths begin.
pub fn read(source: &Source, dir: &Path) -> (Vec<Named>, Vec<Problem>) {
    let problem = |message: String| Problem::new(&source.path, message);
    let file = std::str::from_utf8(&source.bytes)
        .map_err(|_| problem("is not UTF-8".to_owned()))
        .and_then(|text| toml::from_str::<File>(text).map_err(|error| problem(error.to_string().trim().to_owned())));
    let file = match file {
        Ok(file) => file,
        Err(problem) => return (Vec::new(), vec![problem]),
    };
    let (mut made, mut problems) = (Vec::new(), Vec::new());
    for (name, kind) in file.providers {
        match make(kind, dir) {
            Ok(provider) => made.push((name, provider)),
            Err(message) => problems.push(problem(format!("provider '{name}': {message}"))),
        }
    }
    (made, problems)
}

fn make(kind: Kind, dir: &Path) -> Result<Arc<dyn Provider>, String> {
    match kind {
        Kind::Scripted { script } => {
            let path = dir.join(script);
            let bytes = read_text(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            scripted(&bytes)
        }
        Kind::OpenAi(remote) => match OpenAi::new(&remote.config(OPENAI_BASE_URL)) {
            Ok(provider) => Ok(Arc::new(provider)),
            Err(error) => Err(error.to_string()),
        },
        Kind::Anthropic(remote) => match Anthropic::new(&remote.config(ANTHROPIC_BASE_URL)) {
            Ok(provider) => Ok(Arc::new(provider)),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// A model that answers from a script.
pub fn scripted(bytes: &[u8]) -> Result<Arc<dyn Provider>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the script is not UTF-8".to_owned())?;
    Ok(Arc::new(Scripted::parse(text).map_err(|error| error.to_string())?))
}

/// Without a file: `openai`, if `OPENAI_BASE_URL` or `OPENAI_API_KEY` is set.
pub fn from_process() -> (Vec<Named>, Vec<Problem>) {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let base_url = set("OPENAI_BASE_URL");
    let api_key_env = set("OPENAI_API_KEY").map(|_| "OPENAI_API_KEY".to_owned());
    if base_url.is_none() && api_key_env.is_none() {
        return (Vec::new(), Vec::new());
    }
    match make(Kind::OpenAi(Remote { base_url, api_key_env, ..Remote::default() }), Path::new("")) {
        Ok(provider) => (vec![("openai".to_owned(), provider)], Vec::new()),
        Err(message) => (Vec::new(), vec![Problem::new(Path::new("OPENAI_BASE_URL"), message)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_made_one_by_one() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a.json"), r#"{"agents": {"*": [{"reply": "yes"}]}}"#).expect("writes");
        for (text, made, problem) in [
            ("[providers.a]\nkind = \"scripted\"\nscript = \"a.json\"", 1, None),
            ("[providers.a]\nkind = \"openai\"\nbaseUrl = \"http://127.0.0.1:1/v1\"", 1, None),
            ("[providers.a]\nkind = \"scripted\"\nscript = \"missing.json\"", 0, Some("missing.json")),
            ("[providers.a]\nkind = \"anthropic\"\nmaxConcurrent = 4\nidleSeconds = 90\nstream = false", 1, None),
            ("[providers.a]\nkind = \"oracle\"", 0, Some("oracle")),
            ("[providers.a]\nkind = \"openai\"\nurl = \"x\"", 0, Some("url")),
            ("not toml", 0, Some("expected")),
        ] {
            let source = Source { path: "models.toml".into(), bytes: text.as_bytes().to_vec() };
            let (providers, problems) = read(&source, dir.path());
            assert_eq!(providers.len(), made, "{text}");
            let message = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
            assert!(message.contains(problem.unwrap_or("")), "{text}: {message}");
            assert_eq!(problems.is_empty(), problem.is_none(), "{text}: {message}");
        }
    }
}
