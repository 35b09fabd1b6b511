//! What changes a plugin of a host: whoever says yes sees first what it is a yes to.

use std::path::Path;

use anyhow::{Context, bail};
use caisson_core::json::Json;
use caisson_core::plugin::Grants;
use reqwest::Method;

use super::show::{diff_path, diff_query, grant_lines, path, print_diff, print_lines, section, short};
use super::{ConsentArgs, Upload, Uploaded, Which, upload};
use crate::api::plugin_changes::{GrantBody, VersionBody};
use crate::api::plugins::{DiffAnswer, PluginAnswer};
use crate::api::wire::{Any, PermissionDiff, Plugin};
use crate::cli::output::{Style, clean, json_line, line, raw};
use crate::cli::prompt::{Lines, is_interactive, yes_or_no};
use crate::cli::{Environment, Outcome, Usage};
use crate::client::{Client, Payload, segment};

/// Asks on a terminal. Where nobody sits there, `--yes` has to have said it.
pub(super) async fn confirmed(question: &str, consent: ConsentArgs) -> anyhow::Result<bool> {
    if consent.yes {
        return Ok(true);
    }
    if !is_interactive() {
        return Err(Usage(format!("{question} Nobody is here to ask: say --yes if that is meant")).into());
    }
    raw(&format!("{question} [y/N] "));
    let answer = Lines::start().next().await.unwrap_or_default();
    Ok(yes_or_no(&answer) == Some(true))
}

pub(super) fn done(client: &Client, json: bool, text: &str) -> anyhow::Result<Outcome> {
    if json {
        line(text);
        return Ok(Outcome::Done);
    }
    let PluginAnswer { plugin } = client.parse(text)?;
    line(&format!(
        "{} {} ({}) is {}",
        clean(&plugin.id),
        clean(&plugin.version),
        short(&plugin.digest),
        Style::stdout().status(&plugin.status)
    ));
    Ok(Outcome::Done)
}

pub(super) fn not_done() -> Outcome {
    line("nothing was changed");
    Outcome::Failed
}

pub(super) async fn install(
    client: &Client,
    json: bool,
    file: &Path,
    install: Upload,
    consent: ConsentArgs,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let bytes = std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let install = Upload { enable: consent.yes, ..install };
    let Uploaded { text, plugin } = upload(client, bytes, &install).await?;
    if json {
        json_line(&text);
        return Ok(if plugin.status == "FAILED" { Outcome::Failed } else { Outcome::Done });
    }
    done(client, false, &text)?;
    match plugin.status.as_str() {
        "FAILED" => bail!("the plugin cannot be used: {}", plugin.error.unwrap_or_default()),
        "PENDING" => {
            let which = Which { id: plugin.id, version: Some(plugin.digest), environment: environment.clone() };
            if is_interactive() {
                return put_in_force(client, false, &which, "enable", consent).await;
            }
            line("it waits for a yes:");
            if let Some(diff) = &plugin.permission_diff {
                print_lines(Style::stdout(), diff);
            }
            let digest = which.version.as_deref().map(short).unwrap_or_default();
            line(&format!("caisson plugin enable {} {digest}", clean(&which.id)));
        }
        _ => hint_grants(&plugin),
    }
    Ok(Outcome::Done)
}

/// What it asks for and does not have, as the command that grants it.
pub(super) fn hint_grants(plugin: &Plugin) {
    let granted = grant_lines(&plugin.grants);
    let missing: Vec<String> =
        grant_lines(&plugin.capabilities).into_iter().filter(|line| !granted.contains(line)).collect();
    if !missing.is_empty() {
        section("it asks for, and is not granted", &missing);
        line(&format!("caisson plugin grant {} --as-asked", clean(&plugin.id)));
    }
}

/// What to set.
pub(super) struct Granting {
    pub(super) grants: Vec<String>,
    pub(super) as_asked: bool,
    pub(super) replace: bool,
    pub(super) config: Option<Json>,
}

pub(super) async fn grant(
    client: &Client,
    json: bool,
    which: &Which,
    granting: &Granting,
    consent: ConsentArgs,
) -> anyhow::Result<Outcome> {
    let query = which.environment.query();
    let PluginAnswer { plugin } = client.get(&path(which), &query).await?;
    let now = Grants::parse(&plugin.grants.0.value()).unwrap_or_default();
    let mut grants = if granting.replace { Grants::default() } else { now.clone() };
    if granting.as_asked {
        grants = Grants::parse(&plugin.capabilities.0.value()).context("failed to read what the plugin asks for")?;
    }
    for text in &granting.grants {
        grants.add(text).map_err(|error| Usage(error.to_string()))?;
    }
    if plugin.status == "PENDING" {
        if !json {
            let diff = client.get(&diff_path(&which.id), &diff_query(&plugin.digest, &which.environment)).await?;
            print_diff(&diff);
        }
        let question = format!("Put version {} of {} in force?", clean(&plugin.version), clean(&plugin.id));
        if !confirmed(&question, consent).await? {
            return Ok(not_done());
        }
    } else if granting.as_asked && !json {
        let (before, after) = (now.lines(), grants.lines());
        let added = after.iter().filter(|line| !before.contains(line)).cloned().collect();
        let removed = before.iter().filter(|line| !after.contains(line)).cloned().collect();
        print_lines(Style::stdout(), &PermissionDiff { added, removed, kept: Vec::new() });
        if !confirmed(&format!("Grant that to {}?", clean(&plugin.id)), consent).await? {
            return Ok(not_done());
        }
    }
    // By the digest: what is granted is granted to what was looked at.
    let body = GrantBody {
        grants: Any(Json::of(&grants)),
        version: Some(plugin.digest),
        config: granting.config.clone().map(Any),
    };
    let path = format!("/plugins/{}/grants", segment(&which.id));
    let text = client.send(Method::PUT, &path, &query, Payload::json(&body)).await?;
    done(client, json, &text)?;
    if !json {
        section("granted", &grants.lines());
    }
    Ok(Outcome::Done)
}

/// Shows what another version may ask for, asks, and puts it in force by its digest: what was looked at and nothing else.
pub(super) async fn put_in_force(
    client: &Client,
    json: bool,
    which: &Which,
    verb: &str,
    consent: ConsentArgs,
) -> anyhow::Result<Outcome> {
    let mut digest = None;
    if let Some(version) = &which.version {
        let diff: DiffAnswer = client.get(&diff_path(&which.id), &diff_query(version, &which.environment)).await?;
        if !json {
            print_diff(&diff);
        }
        let question = format!("Put version {} of {} in force?", clean(&diff.to.version), clean(&which.id));
        // A version that asks for nothing more takes nothing that it was not given before.
        if !diff.permissions.added.is_empty() && !confirmed(&question, consent).await? {
            return Ok(not_done());
        }
        digest = Some(diff.to.digest);
    }
    let path = format!("/plugins/{}/{verb}", segment(&which.id));
    let body = Payload::json(&VersionBody { version: digest });
    let text = client.send(Method::POST, &path, &which.environment.query(), body).await?;
    done(client, json, &text)?;
    if !json {
        let PluginAnswer { plugin } = client.parse(&text)?;
        hint_grants(&plugin);
    }
    Ok(Outcome::Done)
}

pub(super) async fn remove(
    client: &Client,
    json: bool,
    which: &Which,
    consent: ConsentArgs,
) -> anyhow::Result<Outcome> {
    let what = match &which.version {
        Some(version) => format!("version {} of {}", clean(version), clean(&which.id)),
        None => format!("{} with all its versions", clean(&which.id)),
    };
    if !confirmed(&format!("Delete {what}?"), consent).await? {
        return Ok(not_done());
    }
    client.send(Method::DELETE, &path(which), &which.environment.query(), Payload::Empty).await?;
    if !json {
        line(&format!("deleted {what}"));
    }
    Ok(Outcome::Done)
}
