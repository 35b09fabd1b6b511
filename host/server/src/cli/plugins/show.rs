//! Plugins on the screen.

use caisson_core::plugin::Grants;
use reqwest::Method;
use serde_json::Value;

use super::Which;
use crate::api::plugins::{DiffAnswer, PluginAnswer, PluginList};
use crate::api::wire::{Any, PermissionDiff, Plugin};
use crate::cli::output::{Colour, Style, Table, clean, json_line, line, moment, or_dash, shorten};
use crate::cli::{Environment, Outcome};
use crate::client::{Client, Payload, segment};

/// Digits of a digest that are shown: 48 bits, enough to name a version by.
const DIGEST_CHARS: usize = 12;

/// Characters of a list in a table.
const LIST_CHARS_MAX: usize = 60;

pub(super) async fn list(client: &Client, json: bool, environment: &Environment) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, "/plugins", &environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: PluginList = client.parse(&text)?;
    let mut table =
        Table::new(Style::stdout(), &["ID", "VERSION", "STATUS", "ORIGIN", "ASKS FOR", "GRANTED", "ACTIONS"]);
    for plugin in &list.plugins {
        let actions: Vec<_> = plugin.actions.iter().map(|action| action.name.as_str()).collect();
        table.row([
            &plugin.id,
            &plugin.version,
            &plugin.status,
            origin(plugin),
            or_dash(Some(&names(&plugin.capabilities))),
            or_dash(Some(&names(&plugin.grants))),
            &shorten(&actions.join(", "), LIST_CHARS_MAX),
        ]);
    }
    table.print();
    for plugin in &list.plugins {
        if let Some(pending) = &plugin.pending {
            line(&format!("version {} of {} waits for a yes:", clean(&pending.version), clean(&plugin.id)));
            line(&format!("caisson plugin enable {} {}", clean(&plugin.id), short(&pending.digest)));
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn origin(plugin: &Plugin) -> &str {
    if plugin.built_in { "built in" } else { &plugin.source }
}

/// The names of capabilities.
pub(super) fn names(Any(grants): &Any) -> String {
    match grants.value() {
        Value::Object(map) => map.keys().cloned().collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}

pub(super) fn short(digest: &str) -> &str {
    digest.get(..DIGEST_CHARS).unwrap_or(digest)
}

pub(super) fn path(which: &Which) -> String {
    match &which.version {
        Some(version) => format!("/plugins/{}/{}", segment(&which.id), segment(version)),
        None => format!("/plugins/{}", segment(&which.id)),
    }
}

pub(super) async fn show(client: &Client, json: bool, which: &Which) -> anyhow::Result<Outcome> {
    let text = client.send(Method::GET, &path(which), &which.environment.query(), Payload::Empty).await?;
    if json {
        json_line(&text);
    } else {
        let PluginAnswer { plugin } = client.parse(&text)?;
        print(&plugin);
    }
    Ok(Outcome::Done)
}

pub(super) fn print(plugin: &Plugin) {
    let style = Style::stdout();
    let installed = plugin.installed_at.as_deref().map(moment);
    for (name, value) in [
        ("id", plugin.id.as_str()),
        ("version", &plugin.version),
        ("what", or_dash(Some(&plugin.description))),
        ("digest", &plugin.digest),
        ("interface", &format!("caisson:step@{}", plugin.wit)),
        ("from", origin(plugin)),
        ("installed", &installed.map_or_else(|| "-".to_owned(), |at| format!("{at} by {}", plugin.installed_by))),
        ("config", plugin.config.0.get()),
    ] {
        line(&format!("{name:<10} {}", clean(value)));
    }
    line(&format!("{:<10} {}", "status", style.status(&plugin.status)));
    if let Some(error) = &plugin.error {
        line(&format!("{:<10} {}", "error", clean(error)));
    }
    section("asks for", &plugin.permissions);
    section("granted", &grant_lines(&plugin.grants));
    line("actions");
    for action in &plugin.actions {
        line(clean(format!("  {}.{}  {}", plugin.id, action.name, action.description).trim_end()).as_ref());
        for (side, schema) in
            [("config", &action.config_schema), ("input", &action.input_schema), ("output", &action.output_schema)]
        {
            if let Some(schema) = schema {
                line(&format!("    {side:<7} {}", clean(schema.0.get())));
            }
        }
    }
    section("imports", &plugin.imports);
    if plugin.versions.len() > 1 {
        line("");
        let mut table = Table::new(style, &["VERSION", "STATUS", "DIGEST", "INSTALLED", "FROM"]);
        for version in &plugin.versions {
            let installed = version.installed_at.as_deref().map(moment);
            table.row([
                &version.version,
                &version.status,
                short(&version.digest),
                or_dash(installed.as_deref()),
                &version.source,
            ]);
        }
        table.print();
    }
    if let Some(runs) = plugin.runs.as_ref().filter(|runs| !runs.is_empty()) {
        section("open runs", runs);
    }
    if let Some(diff) = &plugin.permission_diff {
        line("");
        line("it waits for a yes; beyond the version in force it asks for");
        print_lines(style, diff);
        line(&format!("caisson plugin enable {} {}", clean(&plugin.id), short(&plugin.digest)));
    }
}

pub(super) fn section(head: &str, lines: &[String]) {
    if lines.is_empty() {
        line(&format!("{head:<10} nothing"));
        return;
    }
    line(head);
    for text in lines {
        line(&format!("  {}", clean(text)));
    }
}

pub(super) fn grant_lines(Any(grants): &Any) -> Vec<String> {
    Grants::parse(&grants.value()).map(|grants| grants.lines()).unwrap_or_default()
}

pub(super) fn print_diff(diff: &DiffAnswer) {
    let style = Style::stdout();
    let from =
        diff.from.as_ref().map_or("nothing".to_owned(), |from| format!("{} ({})", from.version, short(&from.digest)));
    line(&format!("from {} to {} ({})", clean(&from), clean(&diff.to.version), short(&diff.to.digest)));
    print_lines(style, &diff.permissions);
}

pub(super) fn print_lines(style: Style, diff: &PermissionDiff) {
    if diff.added.is_empty() && diff.removed.is_empty() {
        line("  nothing else");
    }
    for (sign, colour, lines) in
        [('+', Colour::Yellow, &diff.added), ('-', Colour::Green, &diff.removed), (' ', Colour::Grey, &diff.kept)]
    {
        for text in lines {
            line(&style.paint(colour, &format!("{sign} {}", clean(text))));
        }
    }
}

pub(super) fn diff_path(id: &str) -> String {
    format!("/plugins/{}/diff", segment(id))
}

pub(super) fn diff_query(version: &str, environment: &Environment) -> Vec<(&'static str, String)> {
    let mut query = environment.query();
    query.push(("to", version.to_owned()));
    query
}
