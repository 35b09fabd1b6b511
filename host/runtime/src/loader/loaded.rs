//! Which plugins are loaded, and which are on their way.

use std::collections::HashMap;
use std::sync::Arc;

use caisson_core::error::Failure;
use tokio::sync::watch;

use crate::plugin::Compiled;

/// What came of loading, once something has.
pub(super) type Settled = Option<Result<Arc<Compiled>, Failure>>;

#[derive(Default)]
pub(super) struct Loaded {
    max: usize,
    /// Counts uses: who has the smallest was unused for longest.
    uses: u64,
    plugins: HashMap<Arc<str>, (Arc<Compiled>, u64)>,
    loading: HashMap<Arc<str>, watch::Receiver<Settled>>,
}

/// What there is of a plugin.
pub(super) enum Found {
    Loaded(Arc<Compiled>),
    Loading(watch::Receiver<Settled>),
    /// Whoever gets this loads it.
    Neither(watch::Sender<Settled>, watch::Receiver<Settled>),
}

impl Loaded {
    /// At most so many, and one at least.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), ..Self::default() }
    }

    /// Counts as a use.
    pub(super) fn find(&mut self, digest: &str) -> Found {
        self.uses += 1;
        if let Some((compiled, used)) = self.plugins.get_mut(digest) {
            *used = self.uses;
            return Found::Loaded(Arc::clone(compiled));
        }
        // A loader that went without a word (its thread panicked, the host stops) leaves its place to the next.
        if let Some(loading) = self.loading.get(digest).filter(|loading| loading.has_changed().is_ok()) {
            return Found::Loading(loading.clone());
        }
        let (done, loading) = watch::channel(None);
        self.loading.insert(digest.into(), loading.clone());
        Found::Neither(done, loading)
    }

    /// What came of it: it is loaded, or anybody may try again.
    pub(super) fn settle(&mut self, digest: &str, result: &Result<Arc<Compiled>, Failure>) {
        self.loading.remove(digest);
        let Ok(compiled) = result else { return };
        while self.plugins.len() >= self.max {
            let longest = self.plugins.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| Arc::clone(digest));
            let Some(longest) = longest else { break };
            self.plugins.remove(&longest);
        }
        self.uses += 1;
        self.plugins.insert(digest.into(), (Arc::clone(compiled), self.uses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_that_load_at_once_one_does_it() {
        let mut loaded = Loaded::new(2);
        let Found::Neither(done, _) = loaded.find("a") else { panic!("nobody had it") };
        assert!(matches!(loaded.find("a"), Found::Loading(_)));
        drop(done);
        assert!(matches!(loaded.find("a"), Found::Neither(..)), "who gave up leaves it to the next");
    }
}
