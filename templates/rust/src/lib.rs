//! The actions of the plugin `{{name}}`. A workflow calls them as `{{name}}.hello`.

use caisson_sdk::{Context, Failure, log};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// Every action of caisson-plugin.toml, by its function's name.
caisson_sdk::plugin!(config = Config, hello);

/// What the operator sets for this plugin.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    /// The word that greets.
    #[serde(default = "Config::greeting")]
    greeting: String,
}

impl Config {
    fn greeting() -> String {
        "Hello".to_owned()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hello {
    /// Who is greeted.
    name: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Greeting {
    /// What to say.
    message: String,
}

fn hello(context: &Context, input: Hello) -> Result<Greeting, Failure> {
    let config: Config = context.config()?;
    if input.name.trim().is_empty() {
        return Err(Failure::validation("NAME_EMPTY", "there is nobody to greet: give a name"));
    }
    log::info(&format!("greeting {}", input.name));
    Ok(Greeting { message: format!("{}, {}!", config.greeting, input.name) })
}
