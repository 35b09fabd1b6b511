//! Compilations in the background: off the request path, one for each version, taken up again after a crash.

use std::time::Duration;

use caisson_core::error::{Category, Failure};
use caisson_core::ids::Realm;
use caisson_core::plugin::PluginStatus;
use caisson_core::ports::PluginRow;
use tokio_util::sync::CancellationToken;

use super::{Plugins, VERSIONS_KEPT_MAX, decide};
use crate::error::{Error, Kind};

/// Pause after the store failed, or the compiler for a reason that may pass.
const PAUSE: Duration = Duration::from_secs(1);

/// Times that a compilation is begun before a reason that may pass is taken for one that does not.
const TRIES_MAX: u32 = 3;

impl Plugins {
    /// Compiles a version unless that is under way; the token is cancelled when it is over.
    pub(super) fn begin_compiling(&self, realm: &Realm, id: &str, digest: &str) -> CancellationToken {
        let key = (realm.clone(), id.to_owned(), digest.to_owned());
        let mut compiling = self.0.compiling.lock();
        if let Some(over) = compiling.get(&key) {
            return over.clone();
        }
        let over = CancellationToken::new();
        compiling.insert(key.clone(), over.clone());
        drop(compiling);
        let (plugins, ended) = (self.clone(), over.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = plugins.compile(&key.0, &key.1, &key.2) => {}
                () = plugins.0.stopping.cancelled() => {}
            }
            plugins.0.compiling.lock().remove(&key);
            ended.cancel();
        });
        over
    }

    async fn compile(&self, realm: &Realm, id: &str, digest: &str) {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.compile_and_land(realm, id, digest, tries >= TRIES_MAX).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(plugin = id, digest, %error, "plugin is not installed yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `Err` is a store that cannot answer now, or a compiler that cannot work now.
    async fn compile_and_land(&self, realm: &Realm, id: &str, digest: &str, last: bool) -> Result<(), Error> {
        let rows = self.0.store.plugin(realm, id).await?;
        let Some(row) = rows.into_iter().find(|row| row.package.digest == digest) else { return Ok(()) };
        let compiled = match self.0.store.component(digest).await? {
            Some(bytes) => self.0.host.prepare(&row.package, &bytes).await,
            None => Err(Failure::new(Category::ActionError, "PLUGIN_COMPILE", "its component is gone from the store")),
        };
        if let Err(failure) = &compiled
            && failure.category == Category::TransientError
            && !last
        {
            return Err(Error::new(Kind::Unavailable, "PLUGIN_COMPILE", failure.message.clone()));
        }
        let _turn = self.turn(realm, id).await;
        self.land(realm, id, digest, compiled).await
    }

    /// The code is there, or is known never to be: the version gets its place among the others.
    async fn land(&self, realm: &Realm, id: &str, digest: &str, compiled: Result<(), Failure>) -> Result<(), Error> {
        let before = self.0.store.plugin(realm, id).await?;
        let at = before.iter().position(|row| row.package.digest == digest);
        // Removed meanwhile.
        let Some(at) = at.filter(|at| before[*at].status == PluginStatus::Compiling) else { return Ok(()) };
        if let Err(failure) = compiled {
            return self.fail(&before, at, failure.message).await;
        }
        let mut rows = before.clone();
        let others: Vec<PluginRow> = before.iter().filter(|row| row.package.digest != digest).cloned().collect();
        rows[at].status = decide::landed(&others, &before[at]);
        match (rows[at].status, before[at].decided_by.clone(), before[at].decided_at) {
            (PluginStatus::Active, Some(actor), when) => {
                decide::put_in_force(&mut rows, at, &actor, when.unwrap_or(before[at].installed_at));
            }
            // A yes that did not count is none.
            (PluginStatus::Pending, ..) => (rows[at].decided_by, rows[at].decided_at) = (None, None),
            _ => {}
        }
        match self.apply(&before, &rows).await {
            Ok(()) => {}
            Err(error) if error.kind == Kind::Unavailable => return Err(error),
            Err(error) => return self.fail(&before, at, error.message.into_owned()).await,
        }
        let row = &rows[at];
        tracing::info!(
            plugin = id,
            version = row.package.version,
            digest,
            status = row.status.as_str(),
            "plugin is installed"
        );
        if rows.len() > VERSIONS_KEPT_MAX {
            self.drop_superfluous(realm, id, &rows).await;
        }
        Ok(())
    }

    async fn fail(&self, before: &[PluginRow], at: usize, reason: String) -> Result<(), Error> {
        let row = &before[at];
        tracing::warn!(plugin = row.package.id, version = row.package.version, reason, "plugin cannot be used");
        let failed = PluginRow { status: PluginStatus::Failed, error: Some(reason), ..row.clone() };
        Ok(self.0.store.save_plugins(&[failed]).await?)
    }

    /// Old versions that no open run has pinned. One that cannot go now goes with a later version.
    async fn drop_superfluous(&self, realm: &Realm, id: &str, rows: &[PluginRow]) {
        let mut rows = rows.to_vec();
        for digest in decide::superfluous(&rows, VERSIONS_KEPT_MAX) {
            match self.delete(realm, id, std::slice::from_ref(&digest)).await {
                Ok(()) => rows.retain(|row| *row.package.digest != *digest),
                Err(error) => tracing::debug!(plugin = id, %digest, %error, "an old version is kept"),
            }
        }
        // No new run can pin a superseded version, so the host may learn of it afterwards.
        if let Err(failure) = self.tell_host(realm, id, &rows) {
            tracing::error!(plugin = id, reason = failure.message, "plugin is not in use");
        }
    }
}
