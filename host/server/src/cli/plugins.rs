//! `caisson plugin …`: the plugins of a host. Whoever says yes sees first what it is a yes to.

mod change;
mod show;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use caisson_core::json::Json;
use caisson_core::plugin::Grants;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use self::change::{Granting, done, grant, install, put_in_force, remove};
use self::show::{diff_path, diff_query, list, print_diff, show};
use super::output::json_line;
use super::run::read_value;
use super::{Connection, Environment, Outcome, Usage};
use crate::api::plugins::PluginAnswer;
use crate::api::wire::Plugin;
use crate::client::{self, Client, Payload, segment};

/// A compilation is waited for so long: its own limits end it before.
const COMPILATION_TIME_MAX: Duration = Duration::from_mins(10);

/// How often is asked whether it has ended.
const COMPILATION_POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins of a host.
    List {
        #[command(flatten)]
        environment: Environment,
    },
    /// Show a plugin: what it does, asks for and is granted, and its versions.
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Install a component. The first version of an id is in force at once, a new one waits for a yes.
    Install {
        /// The component.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Grant it that, as `kv` or `http:api.example.com`; may be repeated.
        #[arg(long = "grant", value_name = "GRANT")]
        grants: Vec<String>,
        /// Its configuration: JSON, @FILE or - for standard input.
        #[arg(long, value_name = "JSON")]
        config: Option<String>,
        #[command(flatten)]
        consent: ConsentArgs,
        #[command(flatten)]
        environment: Environment,
    },
    /// Grant a plugin more. To a version that waits it is the yes.
    Grant {
        /// The plugin.
        id: String,
        /// What to grant, as `kv` or `http:api.example.com`.
        #[arg(value_name = "GRANT")]
        grants: Vec<String>,
        /// Everything that it asks for.
        #[arg(long)]
        as_asked: bool,
        /// In place of what it was granted, not beside it; with no grants at all, nothing.
        #[arg(long)]
        replace: bool,
        /// Its configuration: JSON, @FILE or - for standard input.
        #[arg(long, value_name = "JSON")]
        config: Option<String>,
        /// A version's label or digest [default: the one in force].
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        #[command(flatten)]
        consent: ConsentArgs,
        #[command(flatten)]
        environment: Environment,
    },
    /// Switch a plugin on again, or put a version in force: the yes to one that waits.
    Enable {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Switch a plugin off: runs that begin now do not find its actions, open ones go on.
    Disable {
        /// The plugin.
        id: String,
        #[command(flatten)]
        environment: Environment,
    },
    /// Go back to the version before, or to the one that is named.
    Rollback {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Delete a plugin, or one version of it.
    Remove {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Show what a version asks for beyond the one in force.
    Diff {
        /// The plugin.
        id: String,
        /// A version's label or digest.
        version: String,
        #[command(flatten)]
        environment: Environment,
    },
    #[command(flatten)]
    Author(crate::author::Command),
}

/// A plugin, or a version of it.
#[derive(Debug, Args)]
pub struct Which {
    /// The plugin.
    id: String,
    /// A version's label or digest.
    version: Option<String>,
    #[command(flatten)]
    environment: Environment,
}

/// Who answers when something is asked.
#[derive(Clone, Copy, Debug, Args)]
pub struct ConsentArgs {
    /// Say yes to whatever is asked.
    #[arg(long, short)]
    yes: bool,
}

/// How a component is to be installed.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// Where; the default environment when absent.
    pub environment: Option<String>,
    /// What is granted to it.
    pub grants: Option<Grants>,
    /// Its configuration, an object.
    pub config: Option<Value>,
    /// Whether it is in force at once, also as a new version.
    pub enable: bool,
}

/// A component that was installed.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// The host's answer.
    pub text: String,
    /// What it says.
    pub plugin: Plugin,
}

pub async fn execute(command: PluginCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let json = connection.json;
    match command {
        PluginCommand::List { environment } => list(&connection.client()?, json, &environment).await,
        PluginCommand::Show { which } => show(&connection.client()?, json, &which).await,
        PluginCommand::Install { file, grants, config, consent, environment } => {
            let upload = Upload {
                environment: environment.environment.clone(),
                grants: if grants.is_empty() { None } else { Some(read_grants(&grants)?) },
                config: config.as_deref().map(read_value).transpose()?.map(|config| config.value()),
                enable: false,
            };
            install(&connection.client()?, json, &file, upload, consent, &environment).await
        }
        PluginCommand::Grant { id, grants, as_asked, replace, config, version, consent, environment } => {
            if grants.is_empty() && !as_asked && !replace && config.is_none() {
                return Err(Usage("say what to grant, or --as-asked for all that it asks for".to_owned()).into());
            }
            let which = Which { id, version, environment };
            let config = config.as_deref().map(read_value).transpose()?;
            grant(&connection.client()?, json, &which, &Granting { grants, as_asked, replace, config }, consent).await
        }
        PluginCommand::Enable { which, consent } => {
            put_in_force(&connection.client()?, json, &which, "enable", consent).await
        }
        PluginCommand::Disable { id, environment } => {
            let path = format!("/plugins/{}/disable", segment(&id));
            let client = connection.client()?;
            let text = client.send(Method::POST, &path, &environment.query(), Payload::Empty).await?;
            done(&client, json, &text)
        }
        PluginCommand::Rollback { which, consent } => {
            put_in_force(&connection.client()?, json, &which, "rollback", consent).await
        }
        PluginCommand::Remove { which, consent } => remove(&connection.client()?, json, &which, consent).await,
        PluginCommand::Diff { id, version, environment } => {
            let client = connection.client()?;
            let text =
                client.send(Method::GET, &diff_path(&id), &diff_query(&version, &environment), Payload::Empty).await?;
            if json {
                json_line(&text);
            } else {
                print_diff(&client.parse(&text)?);
            }
            Ok(Outcome::Done)
        }
        PluginCommand::Author(command) => crate::author::run(command, connection).await,
    }
}

/// Sends a component and waits until it is known what became of it.
pub async fn upload(client: &Client, bytes: Vec<u8>, upload: &Upload) -> Result<Uploaded, client::Error> {
    let mut query: Vec<(&str, String)> = upload.environment.iter().map(|name| ("environment", name.clone())).collect();
    query.extend(upload.grants.as_ref().map(|grants| ("grants", Json::of(grants).get().to_owned())));
    query.extend(upload.config.as_ref().map(|config| ("config", config.to_string())));
    if upload.enable {
        query.push(("enable", "true".to_owned()));
    }
    let mut text = client.send(Method::POST, "/plugins", &query, Payload::Wasm(bytes)).await?;
    let begin = Instant::now();
    loop {
        let PluginAnswer { plugin } = client.parse(&text)?;
        if plugin.status != "COMPILING" || begin.elapsed() > COMPILATION_TIME_MAX {
            return Ok(Uploaded { text, plugin });
        }
        tokio::time::sleep(COMPILATION_POLL).await;
        let path = format!("/plugins/{}/{}", segment(&plugin.id), segment(&plugin.digest));
        let query: Vec<_> = upload.environment.iter().map(|name| ("environment", name.clone())).collect();
        text = client.send(Method::GET, &path, &query, Payload::Empty).await?;
    }
}

fn read_grants(texts: &[String]) -> anyhow::Result<Grants> {
    let mut grants = Grants::default();
    for text in texts {
        grants.add(text).map_err(|error| Usage(error.to_string()))?;
    }
    Ok(grants)
}
