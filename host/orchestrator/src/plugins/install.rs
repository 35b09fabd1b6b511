//! Packages on their way in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caisson_core::error::Failure;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Package, PluginStatus};
use caisson_core::ports::PluginRow;
use tokio_util::sync::CancellationToken;

use super::{Consent, Plugins, decide, no_config, not_found};
use crate::error::{Error, Kind};

/// A package to install.
#[derive(Clone, Debug)]
pub struct Install {
    /// Where.
    pub realm: Realm,
    /// The package, one `.wasm`.
    pub bytes: Bytes,
    /// What is granted to it; what the row has, or nothing, when absent.
    pub grants: Option<Grants>,
    /// The operator's configuration, a JSON object; what the row has, or `{}`, when absent.
    pub config: Option<Json>,
    /// Whether somebody says yes to it.
    pub consent: Consent,
    /// Where it came from: `upload`, or a path.
    pub source: Arc<str>,
    /// Who installs it.
    pub actor: Arc<str>,
    /// How long to wait for its compilation. It goes on after that.
    pub patience: Duration,
}

impl Plugins {
    /// What a package is, without installing it.
    pub async fn inspect(&self, bytes: Bytes) -> Result<Package, Error> {
        let host = self.0.host.clone();
        // Megabytes are read and hashed: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || host.inspect(&bytes)).await;
        read.map_err(|error| Error::new(Kind::Internal, "INTERNAL", error.to_string()))?.map_err(refused)
    }

    /// Installs a package; the boolean says whether it is new. The same again changes nothing but what the request itself says.
    pub async fn install(&self, install: Install) -> Result<(PluginRow, bool), Error> {
        let package = self.inspect(install.bytes.clone()).await?;
        let (id, digest) = (package.id.clone(), package.digest.clone());
        if self.built_in_package(&id).is_some() {
            let message = format!("the id '{id}' belongs to a built-in plugin: choose another");
            return Err(Error::new(Kind::Invalid, "PLUGIN_ID_RESERVED", message));
        }
        if let Some(config) = &install.config {
            decide::check_config(&package, config)?;
        }
        let (realm, patience) = (install.realm.clone(), install.patience);
        let (compilation, new) = {
            let _turn = self.turn(&realm, &id).await;
            let rows = self.0.store.plugin(&realm, &id).await?;
            match rows.iter().position(|row| row.package.digest == digest) {
                Some(at) => (self.install_again(rows, at, install).await?, false),
                None => (Some(self.install_new(package, install).await?), true),
            }
        };
        if let Some(compilation) = compilation {
            // Whoever does not wait so long finds it COMPILING.
            let _ = tokio::time::timeout(patience, compilation.cancelled()).await;
        }
        let rows = self.0.store.plugin(&realm, &id).await?;
        let row = rows.into_iter().find(|row| row.package.digest == digest);
        row.map(|row| (row, new)).ok_or_else(|| not_found(&id))
    }

    async fn install_new(&self, package: Package, install: Install) -> Result<CancellationToken, Error> {
        let now = self.0.clock.now();
        self.0.store.put_component(&package.digest, &install.bytes).await?;
        let mut row = PluginRow {
            realm: install.realm,
            package,
            status: PluginStatus::Compiling,
            grants: install.grants.unwrap_or_default(),
            config: install.config.unwrap_or_else(no_config),
            source: install.source,
            error: None,
            installed_by: install.actor.clone(),
            installed_at: now,
            decided_by: None,
            decided_at: None,
        };
        if install.consent != Consent::Wait {
            decide::decided(&mut row, &install.actor, now);
        }
        self.0.store.save_plugins(std::slice::from_ref(&row)).await?;
        tracing::info!(plugin = row.package.id, version = row.package.version, digest = row.package.digest, by = %install.actor, "plugin arrived");
        Ok(self.begin_compiling(&row.realm, &row.package.id, &row.package.digest))
    }

    async fn install_again(
        &self,
        before: Vec<PluginRow>,
        at: usize,
        install: Install,
    ) -> Result<Option<CancellationToken>, Error> {
        let now = self.0.clock.now();
        let mut rows = before.clone();
        let row = &mut rows[at];
        let configured = set(row, install.grants, install.config);
        let compiling = matches!(row.status, PluginStatus::Compiling | PluginStatus::Failed);
        // What is only configured beside a version in force is no yes.
        let decides =
            if compiling { install.consent != Consent::Wait } else { configured && row.status == PluginStatus::Active };
        if decides {
            decide::decided(row, &install.actor, now);
        }
        if row.status == PluginStatus::Failed {
            // What failed for want of time or memory may do better now.
            row.status = PluginStatus::Compiling;
            row.error = None;
        }
        if decide::again(&before, at, install.consent, &install.actor) {
            decide::put_in_force(&mut rows, at, &install.actor, now);
            tracing::info!(plugin = rows[at].package.id, version = rows[at].package.version, by = %install.actor, "plugin is in force");
        }
        self.apply(&before, &rows).await?;
        let package = &rows[at].package;
        Ok(compiling.then(|| self.begin_compiling(&install.realm, &package.id, &package.digest)))
    }
}

/// Whether anything of it is new.
pub(super) fn set(row: &mut PluginRow, grants: Option<Grants>, config: Option<Json>) -> bool {
    let grants = grants.filter(|grants| *grants != row.grants);
    let config = config.filter(|config| config.value() != row.config.value());
    let changed = grants.is_some() || config.is_some();
    if let Some(grants) = grants {
        row.grants = grants;
    }
    if let Some(config) = config {
        row.config = config;
    }
    changed
}

/// What the host has against a package.
pub(super) fn refused(failure: Failure) -> Error {
    /// Codes are part of the API: one that is not known here is not passed on as if it were.
    const CODES: [&str; 12] = [
        "PLUGIN_MALFORMED",
        "PLUGIN_MANIFEST",
        "PLUGIN_IMPORT_UNDECLARED",
        "PLUGIN_IMPORT_UNKNOWN",
        "PLUGIN_ID_RESERVED",
        "PLUGIN_NO_EXECUTOR",
        "PLUGIN_SCHEMA",
        "PLUGIN_SHAPE",
        "PLUGIN_COMPILE",
        "PLUGIN_LINK",
        "PLUGIN_TOO_LARGE",
        "PLUGIN_ACTION_TAKEN",
    ];
    let code = CODES.into_iter().find(|code| *code == failure.code).unwrap_or("PLUGIN_REFUSED");
    let kind = match code {
        "PLUGIN_TOO_LARGE" => Kind::TooLarge,
        "PLUGIN_ACTION_TAKEN" => Kind::Conflict,
        _ => Kind::Invalid,
    };
    let error = Error::new(kind, code, failure.message);
    match failure.details {
        Some(details) => error.with_details(details),
        None => error,
    }
}
