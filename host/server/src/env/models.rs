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
//! apiKeyEnv = "`OPENAI_API_KEY`"
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use caisson_runtime::model::{OpenAi, OpenAiConfig, Provider, Scripted};
use serde::Deserialize;

use super::{Problem, Source, read_text};

/// The service that is meant when only a key is given.
const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

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
    Scripted {
        script: String,
    },
    OpenAi {
        #[serde(default)]
        base_url: Option<String>,
        #[serde(default)]
        api_key_env: Option<String>,
    },
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
        Kind::OpenAi { base_url, api_key_env } => {
            let base_url = base_url.unwrap_or_else(|| OPENAI_BASE_URL.to_owned());
            let provider = OpenAi::new(&OpenAiConfig { base_url, api_key_env }).map_err(|error| error.to_string())?;
            Ok(Arc::new(provider))
        }
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
    match make(Kind::OpenAi { base_url, api_key_env }, Path::new("")) {
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
