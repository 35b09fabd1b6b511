//! One batch: its records and commits in one transaction, and an answer for each.

use std::collections::HashMap;

use caisson_core::ids::RunId;
use caisson_core::ports::{Commit, CommitError, Held, JournalError, SlotKey, StoreError};

use super::Connection;
use super::append::{self, Append};
use super::commit::{self, Then};
use super::jobs::Batch;
use super::read::all;
use super::rows::{self, Columns};
use super::writer::{execute, rollback};
use crate::batch::{self, Accepted, Head, Known};
use crate::encode::{Rows, Writes, slots};
use crate::marks::Marks;

/// What became of a batch's records and commits, in their order.
#[derive(Default)]
struct Results {
    appends: Vec<Result<(), JournalError>>,
    commits: Vec<Result<(), CommitError>>,
}

impl Results {
    fn any_ok(&self) -> bool {
        self.appends.iter().any(Result::is_ok) || self.commits.iter().any(Result::is_ok)
    }
}

/// Writes a batch and answers everyone in it.
pub(super) async fn write(connection: &mut Connection, marks: &mut Marks, batch: Batch) {
    let (commits, commit_answers): (Vec<_>, Vec<_>) = batch.commits.into_iter().unzip();
    let (appends, append_answers): (Vec<_>, Vec<_>) = batch.appends.into_iter().unzip();
    let commits: Vec<&Commit> = commits.iter().map(AsRef::as_ref).collect();
    let appends: Vec<&Append> = appends.iter().map(AsRef::as_ref).collect();
    let results = match patiently(connection, marks, &appends, &commits).await {
        Ok(results) => results,
        Err(error) if matches!(error, StoreError::Full(_)) || commits.len() + appends.len() == 1 => Results {
            appends: vec![Err(JournalError::Store(error.clone())); appends.len()],
            commits: vec![Err(CommitError::Store(error)); commits.len()],
        },
        Err(error) => {
            tracing::warn!(
                %error,
                commits = commits.len(),
                records = appends.len(),
                "a batch failed; what is in it is tried one by one"
            );
            one_by_one(connection, marks, &appends, &commits).await
        }
    };
    for (commit, _) in commits.iter().zip(&results.commits).filter(|(_, result)| result.is_ok()) {
        marks.forget(commit);
    }
    // Nobody may be waiting any more; what was written stands all the same.
    for (answer, result) in append_answers.into_iter().zip(results.appends) {
        drop(answer.send(result));
    }
    for (answer, result) in commit_answers.into_iter().zip(results.commits) {
        drop(answer.send(result));
    }
}

async fn one_by_one(
    connection: &mut Connection,
    marks: &mut Marks,
    appends: &[&Append],
    commits: &[&Commit],
) -> Results {
    let mut results = Results::default();
    for append in appends {
        let alone = patiently(connection, marks, &[*append], &[]).await;
        let alone = alone.map(|mut one| one.appends.pop().unwrap_or(Ok(())));
        results.appends.push(alone.unwrap_or_else(|error| Err(error.into())));
    }
    for commit in commits {
        let alone = patiently(connection, marks, &[], &[*commit]).await;
        let alone = alone.map(|mut one| one.commits.pop().unwrap_or(Ok(())));
        results.commits.push(alone.unwrap_or_else(|error| Err(error.into())));
    }
    results
}

/// Tries again where somebody else was in the way: by then they are gone, or what they wrote is seen.
async fn patiently(
    connection: &mut Connection,
    marks: &mut Marks,
    appends: &[&Append],
    commits: &[&Commit],
) -> Result<Results, StoreError> {
    /// Others are in the way for milliseconds; who is so often in the way is no accident.
    const TRIES_MAX: u32 = 5;
    let mut tries = 1;
    loop {
        match try_batch(connection, marks, appends, commits).await {
            Err(StoreError::Locked(_)) if tries < TRIES_MAX => tries += 1,
            Err(StoreError::Locked(text)) => return Err(StoreError::Other(text)),
            done => return done,
        }
    }
}

/// Writes a batch in one transaction. An error means that nothing of it is stored.
async fn try_batch(
    connection: &mut Connection,
    marks: &mut Marks,
    appends: &[&Append],
    commits: &[&Commit],
) -> Result<Results, StoreError> {
    let done = write_all(connection, marks, appends, commits).await;
    // Where nothing may be written there is no transaction to end well.
    if !done.as_ref().is_ok_and(Results::any_ok) {
        rollback(connection).await;
    }
    done
}

async fn write_all(
    connection: &mut Connection,
    marks: &mut Marks,
    appends: &[&Append],
    commits: &[&Commit],
) -> Result<Results, StoreError> {
    let mut results = Results { appends: Vec::new(), commits: vec![Ok(()); commits.len()] };
    if appends.is_empty() && commit::at_once(connection, marks, commits).await? {
        return Ok(results);
    }
    let mut latest = None;
    if !appends.is_empty() {
        commit::begin(connection).await?;
        results.appends = append::all(connection, appends).await?;
        for (append, _) in appends.iter().zip(&results.appends).filter(|(_, result)| result.is_ok()) {
            latest = latest.max(append.latest_time());
            // A refused one leaves no mark: its step may be over, and nothing would ever forget it.
            if let Some((entry, ..)) = &append.place {
                marks.mark_journal(&entry.run, entry.step);
            }
        }
    }
    let mut any = results.appends.iter().any(Result::is_ok);
    let waves = batch::waves(commits);
    for (number, wave) in waves.iter().enumerate() {
        let first = number == 0 && appends.is_empty();
        let mut known = known(connection, first, wave.iter().map(|place| commits[*place])).await?;
        known.held = held(connection, wave.iter().map(|place| commits[*place])).await?;
        let mut writes = Writes::default();
        let mut accepted = Vec::with_capacity(wave.len());
        for place in wave {
            match known.check(commits[*place]) {
                Ok(Accepted { settled }) => {
                    if !commits[*place].pins.is_empty() {
                        marks.mark_pins();
                    }
                    if commits[*place].admission.is_some() {
                        marks.mark_admissions();
                    }
                    writes.add(commits[*place], settled, marks);
                    accepted.push(commits[*place]);
                }
                Err(refusal) => results.commits[*place] = Err(refusal),
            }
        }
        any |= !accepted.is_empty();
        if !any {
            continue;
        }
        latest = latest.max(accepted.iter().filter_map(|commit| commit.latest_time()).max());
        write_large(connection, &accepted).await?;
        let then = if number + 1 == waves.len() { Then::End(latest) } else { Then::GoOn };
        commit::write_rows(connection, writes, then).await?;
    }
    if waves.is_empty() && any {
        commit::end(connection, latest).await?;
    }
    Ok(results)
}

/// What is stored of the runs and keys that these commits name.
async fn known(
    connection: &mut Connection,
    first: bool,
    commits: impl Iterator<Item = &Commit>,
) -> Result<Known, StoreError> {
    let (mut runs, mut keys) = (Rows::default(), Rows::default());
    for commit in commits {
        if let Some(run) = &commit.run {
            runs.text(run.id.as_str());
        }
        if let Some(key) = &commit.idempotency {
            keys.text(&key.key);
        }
    }
    let rows = commit::check(connection, first, runs.finish(), keys.finish()).await?;
    let mut known = Known { runs: HashMap::with_capacity(rows.len()), ..Known::default() };
    for row in &rows {
        let mut columns = Columns::of(row);
        let is_run = columns.get::<i64>()? == 0;
        let (name, text): (String, String) = (columns.get()?, columns.get()?);
        if is_run {
            known.runs.insert(name, Head { status: text, version: columns.count()?, last_seq: columns.count()? });
        } else {
            known.keys.insert(name, (RunId::new(text), columns.get()?));
        }
    }
    Ok(known)
}

/// What runs and waits of the keys under which runs of a wave count together. Few waves have any.
async fn held(
    connection: &mut Connection,
    commits: impl Iterator<Item = &Commit>,
) -> Result<HashMap<SlotKey, Held>, StoreError> {
    let keys = batch::slots(commits);
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    commit::lock_slots(connection, &keys).await?;
    let counted = rows::every(&all(connection, query!(HELD, slots(&keys))).await?, rows::held)?;
    let mut counted: HashMap<u64, Held> = counted.into_iter().collect();
    Ok((0..).zip(keys).map(|(place, key)| (key, counted.remove(&place).unwrap_or_default())).collect())
}

/// Large values and snapshots, each bound as it is.
async fn write_large(connection: &mut Connection, commits: &[&Commit]) -> Result<(), StoreError> {
    let runs = || commits.iter().filter_map(|commit| Some((*commit, commit.run.as_ref()?)));
    // Several hosts may have the same ones: in one order, they never wait for each other in a circle.
    let mut blobs: Vec<_> = runs().flat_map(|(commit, run)| commit.blobs.iter().map(move |blob| (blob, run))).collect();
    blobs.sort_by(|(a, _), (b, _)| a.id.sha256.cmp(&b.id.sha256));
    for (blob, run) in blobs {
        let query = query!(
            BLOB_INSERT,
            run.realm.tenant.as_ref(),
            run.realm.environment.as_ref(),
            blob.id.sha256.as_ref(),
            blob.id.size.cast_signed(),
            blob.json.get(),
            run.id.as_str()
        );
        execute(connection, query).await?;
    }
    for (commit, run) in runs() {
        if let Some(state) = &commit.snapshot {
            let query = query!(
                SNAPSHOT_UPSERT,
                run.id.as_str(),
                run.realm.tenant.as_ref(),
                run.realm.environment.as_ref(),
                run.last_seq.cast_signed(),
                state.get()
            );
            execute(connection, query).await?;
        }
    }
    Ok(())
}
