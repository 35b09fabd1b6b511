//! Workflows and their revisions, in memory.

use std::sync::Arc;

use caisson_core::ids::Realm;
use caisson_core::json::sha256_hex;
use caisson_core::ports::{DefinitionFilter, DefinitionRow, NewVersion, RunRow, RunStats, StoreError, VersionRow};
use caisson_core::status::RunStatus;
use caisson_core::time::Timestamp;

use super::state::State;

impl State {
    pub(super) fn definition(&self, realm: &Realm, id: &str) -> Option<&DefinitionRow> {
        self.definitions.get(&(realm.clone(), id.into()))
    }

    pub(super) fn definitions_in_force(
        &self,
        realm: &Realm,
        filter: &DefinitionFilter,
        after: &str,
    ) -> impl Iterator<Item = (DefinitionRow, VersionRow)> {
        let search = filter.search.as_deref().map(str::to_ascii_lowercase);
        let found = move |text: &str| search.as_deref().is_none_or(|wanted| text.to_ascii_lowercase().contains(wanted));
        self.definitions
            .values()
            .filter(move |row| row.realm == *realm && *row.id > *after)
            .filter(|row| filter.enabled.is_none_or(|enabled| row.enabled == enabled))
            .filter_map(|row| Some((row.clone(), self.version(realm, &row.id, None)?.clone())))
            .filter(move |(row, version)| found(&row.id) || version.name.as_deref().is_some_and(&found))
    }

    /// Oldest first.
    pub(super) fn versions(&self, realm: &Realm, id: &str) -> impl DoubleEndedIterator<Item = &VersionRow> {
        let id: Arc<str> = id.into();
        let range = (realm.clone(), Arc::clone(&id), 0)..=(realm.clone(), id, u64::MAX);
        self.versions.range(range).map(|(_, version)| version)
    }

    /// By label first, then by number.
    pub(super) fn version(&self, realm: &Realm, id: &str, wanted: Option<&str>) -> Option<&VersionRow> {
        let Some(wanted) = wanted else {
            let current = self.definition(realm, id)?.current;
            return self.versions.get(&(realm.clone(), id.into(), current));
        };
        let by_label = self.versions(realm, id).find(|version| *version.label == *wanted);
        by_label.or_else(|| self.versions.get(&(realm.clone(), id.into(), wanted.parse().ok()?)))
    }

    pub(super) fn version_by_digest(&self, realm: &Realm, id: &str, digest: &str) -> Option<&VersionRow> {
        self.versions(realm, id).rev().find(|version| *version.digest == *digest)
    }

    pub(super) fn save_version(&mut self, new: NewVersion) -> Result<(VersionRow, bool), StoreError> {
        let (realm, id) = (&new.realm, &new.workflow);
        match (new.must_exist, self.definition(realm, id).is_some()) {
            (Some(true), false) => return Err(StoreError::NotFound(format!("workflow {id}"))),
            (Some(false), true) => return Err(StoreError::Conflict(format!("workflow {id} exists already"))),
            (None, _) | (Some(true), true) | (Some(false), false) => {}
        }
        let digest = sha256_hex(new.definition.get().as_bytes());
        let labelled = |label: &str| self.versions(realm, id).find(|version| *version.label == *label);
        let same = match &new.label {
            Some(label) => labelled(label),
            None => self
                .version(realm, id, None)
                .filter(|current| *current.digest == digest)
                .or_else(|| self.version_by_digest(realm, id, &digest)),
        };
        if let Some(same) = same.cloned() {
            if *same.digest != digest {
                return Err(StoreError::Conflict(format!(
                    "workflow {id} has other content under version {}",
                    same.label
                )));
            }
            self.in_force(&same, new.at);
            return Ok((same, false));
        }
        let mut number = self.versions(realm, id).next_back().map_or(0, |version| version.number) + 1;
        while new.label.is_none() && labelled(&number.to_string()).is_some() {
            number += 1;
        }
        let version = VersionRow {
            label: new.label.clone().unwrap_or_else(|| number.to_string().into()),
            realm: new.realm,
            workflow: new.workflow,
            number,
            digest: digest.into(),
            name: new.name,
            description: new.description,
            definition: new.definition,
            created_by: new.created_by,
            created_at: new.at,
        };
        self.versions.insert((version.realm.clone(), Arc::clone(&version.workflow), number), version.clone());
        self.in_force(&version, new.at);
        Ok((version, true))
    }

    fn in_force(&mut self, version: &VersionRow, at: Timestamp) {
        self.note_time(at);
        let key = (version.realm.clone(), Arc::clone(&version.workflow));
        let row = self.definitions.entry(key).or_insert_with(|| DefinitionRow {
            realm: version.realm.clone(),
            id: Arc::clone(&version.workflow),
            current: version.number,
            enabled: true,
            paused: false,
            created_at: at,
            updated_at: at,
        });
        if row.current != version.number {
            row.current = version.number;
            row.updated_at = at;
        }
    }

    pub(super) fn set_definition(
        &mut self,
        realm: &Realm,
        id: &str,
        enabled: Option<bool>,
        paused: Option<bool>,
        at: Timestamp,
    ) -> bool {
        self.note_time(at);
        let Some(row) = self.definitions.get_mut(&(realm.clone(), id.into())) else { return false };
        row.enabled = enabled.unwrap_or(row.enabled);
        row.paused = paused.unwrap_or(row.paused);
        row.updated_at = at;
        true
    }

    pub(super) fn delete_definition(&mut self, realm: &Realm, id: &str) -> Result<bool, StoreError> {
        if self.runs_of(realm, id).next().is_some() {
            return Err(StoreError::Conflict(format!("workflow {id} has runs")));
        }
        self.versions.retain(|(owner, workflow, _), _| owner != realm || **workflow != *id);
        Ok(self.definitions.remove(&(realm.clone(), id.into())).is_some())
    }

    fn runs_of<'a>(&'a self, realm: &'a Realm, id: &'a str) -> impl Iterator<Item = &'a RunRow> {
        self.runs.values().filter(move |run| run.realm == *realm && *run.workflow_id == *id)
    }

    pub(super) fn run_stats(&self, realm: &Realm, id: &str, since: Timestamp) -> RunStats {
        #[expect(clippy::cast_precision_loss, reason = "a mean of counts and milliseconds needs no more than 52 bits")]
        fn mean(values: &[u64]) -> Option<f64> {
            (!values.is_empty()).then(|| values.iter().sum::<u64>() as f64 / values.len() as f64)
        }
        let (mut completed, mut durations) = (Vec::new(), Vec::new());
        for run in self.runs_of(realm, id) {
            if let Some(end) = run.completed_at.filter(|end| *end >= since) {
                completed.push(u64::from(run.status == RunStatus::Completed));
                durations.push(end.since_ms(run.started_at.unwrap_or(run.created_at)));
            }
        }
        RunStats {
            last_run_at: self.runs_of(realm, id).map(|run| run.created_at).max(),
            runs: self.runs_of(realm, id).count() as u64,
            success_rate: mean(&completed),
            avg_ms: mean(&durations),
        }
    }
}
