//! What is decided about versions of a plugin: pure, over the rows as they stand.
//!
//! ```text
//! install ─► COMPILING ─► ACTIVE (the first of its id, or with a yes) │ PENDING ─yes─► ACTIVE ─► SUPERSEDED ─rollback─► ACTIVE
//!                     └─► FAILED                                                      ACTIVE ⇄ DISABLED
//! ```
//!
//! A version that is COMPILING and has somebody in `decided_by` has that somebody's yes already: it counts when the code is there, also
//! after a crash in between.

use std::sync::Arc;

use caisson_core::json::Json;
use caisson_core::plugin::{Package, PermissionDiff, PluginStatus};
use caisson_core::ports::PluginRow;
use caisson_core::schema::Validator;
use caisson_core::time::Timestamp;

use super::{FILES_ACTOR, Plugin};
use crate::error::{Error, Kind};

/// Digits of a digest that name it, at least: 32 bits, more than any list of versions needs.
const DIGEST_DIGITS_MIN: usize = 8;

/// Who says yes to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nobody yet: the first version of an id is in force without it, any other waits.
    Wait,
    /// Whoever sends it, with this request.
    Given,
    /// The operator, beforehand, for what lies in a folder. Gives way to what a person has decided since.
    Standing,
}

/// What becomes of a version whose code is ready, beside the others of its id.
pub(super) fn landed(others: &[PluginRow], new: &PluginRow) -> PluginStatus {
    let known = |row: &PluginRow| {
        matches!(row.status, PluginStatus::Active | PluginStatus::Disabled | PluginStatus::Superseded)
    };
    let waits = match &new.decided_by {
        None => others.iter().any(known),
        Some(by) => by_files(by) && others.iter().any(switched_off_by_a_person),
    };
    if waits { PluginStatus::Pending } else { PluginStatus::Active }
}

/// Whether a version that comes again is put in force with it.
pub(super) fn again(rows: &[PluginRow], at: usize, consent: Consent, actor: &str) -> bool {
    let row = &rows[at];
    let came_back = row.status == PluginStatus::Disabled && decided_by_files(row) && by_files(actor);
    match (consent, row.status) {
        (_, PluginStatus::Active | PluginStatus::Failed | PluginStatus::Compiling) => false,
        (Consent::Given, _) => true,
        (Consent::Wait, _) | (Consent::Standing, PluginStatus::Disabled) => came_back,
        (Consent::Standing, PluginStatus::Pending) => !rows.iter().any(switched_off_by_a_person),
        // An edit that was taken back; but not what an operator rolled back from.
        (Consent::Standing, PluginStatus::Superseded) => rows.iter().filter(|row| in_force(row)).all(decided_by_files),
    }
}

fn by_files(actor: &str) -> bool {
    actor == FILES_ACTOR
}

fn decided_by_files(row: &PluginRow) -> bool {
    row.decided_by.as_deref().is_some_and(by_files)
}

fn switched_off_by_a_person(row: &PluginRow) -> bool {
    row.status == PluginStatus::Disabled && !decided_by_files(row)
}

/// The one version that new runs use, or would if it were not switched off.
pub(super) fn in_force(row: &PluginRow) -> bool {
    matches!(row.status, PluginStatus::Active | PluginStatus::Disabled)
}

/// Puts one version in force; what was in force before is superseded, and hands on what it may if that asks nobody.
pub(super) fn put_in_force(rows: &mut [PluginRow], at: usize, actor: &Arc<str>, now: Timestamp) {
    let former = rows.iter().enumerate().position(|(other, row)| other != at && in_force(row));
    if let Some(former) = former {
        rows[former].status = PluginStatus::Superseded;
        let former = rows[former].clone();
        hand_on(&former, &mut rows[at]);
    }
    rows[at].status = PluginStatus::Active;
    decided(&mut rows[at], actor, now);
}

pub(super) fn decided(row: &mut PluginRow, actor: &Arc<str>, now: Timestamp) {
    row.decided_by = Some(actor.clone());
    row.decided_at = Some(now);
}

/// Grants bind to a digest. A version that has none of its own and asks for nothing more takes over what its predecessor was granted; the
/// configuration goes with it if it fits.
fn hand_on(former: &PluginRow, next: &mut PluginRow) {
    if next.grants.is_empty() && PermissionDiff::between(Some(&former.package), &next.package).added.is_empty() {
        next.grants = former.grants.clone();
    }
    if next.config.get() == NO_CONFIG && check_config(&next.package, &former.config).is_ok() {
        next.config = former.config.clone();
    }
}

/// The configuration of who has none.
pub(super) const NO_CONFIG: &str = "{}";

/// Which version `enable` means when none is named.
pub(super) fn to_enable(rows: &[PluginRow]) -> Result<usize, Error> {
    let pending: Vec<&PluginRow> = rows.iter().filter(|row| row.status == PluginStatus::Pending).collect();
    if let Some(at) = rows.iter().position(in_force) {
        return match pending.first() {
            Some(waiting) if rows[at].status == PluginStatus::Active => Err(Error::new(
                Kind::Conflict,
                "PLUGIN_VERSION_NEEDED",
                format!(
                    "version {} of plugin '{}' is in force and version {} waits: name the version that is meant",
                    rows[at].package.version, rows[at].package.id, waiting.package.version
                ),
            )
            .with_details(versions(rows))),
            _ => Ok(at),
        };
    }
    match pending.as_slice() {
        [only] => Ok(rows.iter().position(|row| row == *only).unwrap_or(0)),
        [] => rows.iter().position(|row| row.status == PluginStatus::Compiling).ok_or_else(|| {
            Error::new(
                Kind::Conflict,
                "PLUGIN_VERSION_NEEDED",
                "no version was in force: name the version that is meant",
            )
            .with_details(versions(rows))
        }),
        _ => Err(Error::new(
            Kind::Conflict,
            "PLUGIN_VERSION_NEEDED",
            "several versions wait: name the one that is meant",
        )
        .with_details(versions(rows))),
    }
}

/// Which version a rollback leads to: the one that is named, else the one that was in force last.
pub(super) fn to_roll_back(rows: &[PluginRow], version: Option<&str>) -> Result<usize, Error> {
    if let Some(version) = version {
        let at = pick(rows, version)?;
        return match rows[at].status {
            PluginStatus::Superseded => Ok(at),
            status => Err(Error::new(
                Kind::Conflict,
                "PLUGIN_NOT_SUPERSEDED",
                format!("version {version} is {}: a rollback leads to one that was in force before", status.as_str()),
            )),
        };
    }
    let superseded = rows.iter().enumerate().filter(|(_, row)| row.status == PluginStatus::Superseded);
    let last = superseded.max_by_key(|(_, row)| (row.decided_at.unwrap_or(row.installed_at), row.installed_at));
    last.map(|(at, _)| at).ok_or_else(|| {
        Error::new(
            Kind::Conflict,
            "PLUGIN_NOT_SUPERSEDED",
            "no other version was in force before: there is nothing to go back to",
        )
        .with_details(versions(rows))
    })
}

/// The version that a label or a digest (its first digits are enough) names. A label may stand on several; then only the digest will do, so
/// that nobody says yes to something else than what was looked at.
pub(super) fn pick(rows: &[PluginRow], version: &str) -> Result<usize, Error> {
    let found: Vec<usize> = match rows.iter().position(|row| row.package.digest == version) {
        Some(at) => return Ok(at),
        None => matching(rows, |row| row.package.version == version),
    };
    let is_digest = version.len() >= DIGEST_DIGITS_MIN && version.bytes().all(|b| b.is_ascii_hexdigit());
    let found = match found.as_slice() {
        [] if is_digest => matching(rows, |row| row.package.digest.starts_with(version)),
        _ => found,
    };
    match found.as_slice() {
        [at] => Ok(*at),
        [] => Err(Error::new(
            Kind::NotFound,
            "PLUGIN_VERSION_UNKNOWN",
            format!("there is no version '{version}' of plugin '{}': there are {}", id(rows), labels(rows)),
        )
        .with_details(versions(rows))),
        [..] => Err(Error::new(
            Kind::Conflict,
            "PLUGIN_VERSION_AMBIGUOUS",
            format!(
                "several versions of plugin '{}' are called '{version}': name the one that is meant by its digest",
                id(rows)
            ),
        )
        .with_details(versions(&found.iter().map(|at| rows[*at].clone()).collect::<Vec<_>>()))),
    }
}

fn matching(rows: &[PluginRow], wanted: impl Fn(&PluginRow) -> bool) -> Vec<usize> {
    rows.iter().enumerate().filter(|(_, row)| wanted(row)).map(|(at, _)| at).collect()
}

fn id(rows: &[PluginRow]) -> &str {
    rows.first().map_or("", |row| &row.package.id)
}

fn labels(rows: &[PluginRow]) -> String {
    let mut labels: Vec<&str> = rows.iter().map(|row| row.package.version.as_str()).collect();
    labels.dedup();
    labels.join(", ")
}

/// For programs: what there is.
fn versions(rows: &[PluginRow]) -> Json {
    let versions: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "version": row.package.version, "digest": row.package.digest, "status": row.status.as_str(),
            })
        })
        .collect();
    Json::of(&serde_json::json!({"versions": versions}))
}

/// Whether a version can be put in force at all.
pub(super) fn usable(row: &PluginRow) -> Result<(), Error> {
    if row.status != PluginStatus::Failed {
        return Ok(());
    }
    let reason = row.error.as_deref().unwrap_or("its code is not usable");
    Err(Error::new(
        Kind::Conflict,
        "PLUGIN_FAILED",
        format!("version {} of plugin '{}' cannot be used: {reason}", row.package.version, row.package.id),
    ))
}

/// Whether a configuration is an object and fits what the actions want of it.
pub(super) fn check_config(package: &Package, config: &Json) -> Result<(), Error> {
    let invalid = |message: String, details: Vec<String>| {
        Error::new(Kind::Invalid, "PLUGIN_CONFIG_INVALID", message).with_details(Json::of(&details))
    };
    let value = config.value();
    if !value.is_object() {
        return Err(invalid(format!("the configuration of plugin '{}' is not a JSON object", package.id), Vec::new()));
    }
    for action in &package.actions {
        let Some(schema) = &action.config_schema else { continue };
        let name = format!("{}.{}", package.id, action.name);
        let problems = match Validator::compile(schema) {
            Ok(validator) => match validator.validate(&value) {
                Ok(()) => continue,
                Err(problems) => problems.iter().map(ToString::to_string).collect(),
            },
            Err(problem) => vec![format!("its config schema is none: {problem}")],
        };
        return Err(invalid(
            format!("the configuration does not fit action '{name}': {}", problems.join("; ")),
            problems,
        ));
    }
    Ok(())
}

/// Versions that nothing will miss, oldest first: superseded and failed ones beyond `kept`.
pub(super) fn superfluous(rows: &[PluginRow], kept: usize) -> Vec<Arc<str>> {
    let old = |row: &&PluginRow| matches!(row.status, PluginStatus::Superseded | PluginStatus::Failed);
    let mut old: Vec<&PluginRow> = rows.iter().filter(old).collect();
    old.sort_by_key(|row| row.installed_at);
    let surplus = rows.len().saturating_sub(kept).min(old.len());
    old[..surplus].iter().map(|row| row.package.digest.as_str().into()).collect()
}

impl Plugin {
    /// The version that new runs use, or would if it were not switched off.
    pub fn in_force(&self) -> Option<&PluginRow> {
        self.versions.iter().find(|row| in_force(row))
    }

    /// The version that stands for the plugin: the one in force, else the newest.
    pub fn foremost(&self) -> Option<&PluginRow> {
        self.in_force().or_else(|| self.versions.first())
    }

    /// The newest version that waits for a yes.
    pub fn pending(&self) -> Option<&PluginRow> {
        self.versions.iter().find(|row| row.status == PluginStatus::Pending)
    }

    /// A version by its label or its digest.
    pub fn version(&self, version: &str) -> Result<&PluginRow, Error> {
        pick(&self.versions, version).map(|at| &self.versions[at])
    }

    /// How a version asks for other things than the one in force; everything is new if there is none.
    pub fn diff(&self, to: &PluginRow) -> PermissionDiff {
        let from = self.in_force().filter(|row| row.package.digest != to.package.digest);
        PermissionDiff::between(from.map(|row| &row.package), &to.package)
    }
}

#[cfg(test)]
mod tests;
