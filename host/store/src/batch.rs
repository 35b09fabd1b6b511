//! Which commits of a batch may be written, decided in memory from what one query found. Pure: no database here.
//!
//! Invariant: a wave holds at most one commit of a run, so that rows of a wave never overtake each other and a set-based statement
//! per table gives what writing one commit after the other would give. The second commit of a run waits for the next wave, and is
//! checked against what the first one wrote.

use std::collections::{BTreeSet, HashMap};

use caisson_core::ids::RunId;
use caisson_core::ports::{Commit, CommitError, Held, SlotKey};

/// The commits' places, wave by wave.
pub(crate) fn waves(commits: &[&Commit]) -> Vec<Vec<usize>> {
    let mut seen: HashMap<&RunId, usize> = HashMap::with_capacity(commits.len());
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for (place, commit) in commits.iter().enumerate() {
        let wave = match &commit.run {
            Some(run) => {
                let earlier = seen.entry(&run.id).or_default();
                *earlier += 1;
                *earlier - 1
            }
            None => 0,
        };
        if waves.len() <= wave {
            waves.push(Vec::new());
        }
        waves[wave].push(place);
    }
    waves
}

/// The keys under which runs of a wave count with others, each once.
pub(crate) fn slots<'c>(commits: impl Iterator<Item = &'c Commit>) -> BTreeSet<SlotKey> {
    let wanted = commits.filter_map(|commit| Some(SlotKey::of(commit.run.as_ref()?, &commit.admission.as_ref()?.key)));
    wanted.collect()
}

/// What is stored of the runs and idempotency keys that a wave names.
#[derive(Default)]
pub(crate) struct Known {
    /// Runs by id.
    pub runs: HashMap<String, Head>,
    /// A key's run and request.
    pub keys: HashMap<String, (RunId, String)>,
    /// What runs and waits of the keys under which runs count together.
    pub held: HashMap<SlotKey, Held>,
}

/// The head of a stored run.
pub(crate) struct Head {
    pub version: u64,
    pub last_seq: u64,
    pub status: String,
}

/// How a commit that may be written stands to the run's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The status is what it was.
    pub settled: bool,
}

impl Known {
    /// Whether a commit may be written, given those of its wave that were accepted before.
    pub(crate) fn check(&mut self, commit: &Commit) -> Result<Accepted, CommitError> {
        let Some(run) = &commit.run else { return Ok(Accepted { settled: true }) };
        if let Some(key) = &commit.idempotency
            && let Some((holder, request)) = self.keys.get(&key.key)
        {
            let same = *request == key.request_hash;
            return Err(if same { CommitError::Exists(holder.clone()) } else { CommitError::KeyReused });
        }
        let stored = self.runs.get(run.id.as_str());
        let settled = match (commit.expected, stored) {
            (0, Some(_)) => return Err(CommitError::Exists(run.id.clone())),
            (0, None) => false,
            (expected, Some(head)) if expected == head.version => head.status == run.status.as_str(),
            (_, Some(_) | None) => return Err(CommitError::Conflict),
        };
        commit.follows(stored.map_or(0, |head| head.last_seq))?;
        if let Some(admission) = &commit.admission {
            self.held.entry(SlotKey::of(run, &admission.key)).or_default().take(admission)?;
        }
        if let Some(key) = &commit.idempotency {
            self.keys.insert(key.key.clone(), (run.id.clone(), key.request_hash.clone()));
        }
        Ok(Accepted { settled })
    }
}
