//! `caisson plugins …`

use std::path::Path;

use anyhow::Context;
use caisson_runtime::inspect;
use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, line};
use super::{Connection, Environment, Outcome};
use crate::api::plugins::{PluginAnswer, PluginList};
use crate::api::wire::Plugin;
use crate::app::show_plugin;
use crate::client::{Payload, segment};

#[derive(Debug, Subcommand)]
pub enum PluginsCommand {
    /// List the plugins of a host.
    List {
        #[command(flatten)]
        environment: Environment,
    },
    /// Show what a plugin is, does and asks for. Nothing of it runs.
    Inspect {
        /// A file, or the id of a plugin of the host.
        #[arg(value_name = "FILE|ID")]
        target: String,
        #[command(flatten)]
        environment: Environment,
    },
}

pub async fn execute(command: PluginsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    match command {
        PluginsCommand::List { environment } => {
            let client = connection.client()?;
            let text = client.send(Method::GET, "/plugins", &environment.query(), Payload::Empty).await?;
            if connection.json {
                line(&text);
                return Ok(Outcome::Done);
            }
            let list: PluginList = client.parse(&text)?;
            let mut table = Table::new(Style::stdout(), &["ID", "VERSION", "ORIGIN", "CAPABILITIES", "ACTIONS"]);
            for plugin in &list.plugins {
                let actions: Vec<_> = plugin.actions.iter().map(|action| action.name.as_str()).collect();
                let origin = if plugin.built_in { "built in" } else { "file" };
                table.row([&plugin.id, &plugin.version, origin, &capabilities(plugin), &actions.join(", ")]);
            }
            table.print();
        }
        PluginsCommand::Inspect { target, environment } => {
            let plugin = if is_file(&target) {
                let bytes = std::fs::read(&target).with_context(|| format!("failed to read {target}"))?;
                show_plugin(inspect(&bytes).with_context(|| format!("failed to inspect {target}"))?)
            } else {
                let path = format!("/plugins/{}", segment(&target));
                let PluginAnswer { plugin } = connection.client()?.get(&path, &environment.query()).await?;
                plugin
            };
            if connection.json {
                line(&serde_json::to_string(&PluginAnswer { plugin })?);
            } else {
                print(&plugin);
            }
        }
    }
    Ok(Outcome::Done)
}

fn is_file(target: &str) -> bool {
    let path = Path::new(target);
    path.extension().is_some_and(|end| end == "wasm") || path.is_file()
}

fn capabilities(plugin: &Plugin) -> String {
    let names: Vec<String> = serde_json::from_str(plugin.capabilities.0.get()).unwrap_or_default();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn print(plugin: &Plugin) {
    for (name, value) in [
        ("id", plugin.id.as_str()),
        ("version", &plugin.version),
        ("digest", &plugin.digest),
        ("interface", &plugin.wit),
        ("asks for", &capabilities(plugin)),
    ] {
        line(&format!("{name:<10} {}", clean(value)));
    }
    line("actions");
    for action in &plugin.actions {
        line(&format!("  {}", clean(&format!("{}.{}", plugin.id, action.name))));
        for (side, schema) in [("input", &action.input_schema), ("output", &action.output_schema)] {
            if let Some(schema) = schema {
                line(&format!("    {side:<7} {}", clean(schema.0.get())));
            }
        }
    }
    line("imports");
    for import in &plugin.imports {
        line(&format!("  {}", clean(import)));
    }
}
