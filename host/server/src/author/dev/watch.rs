//! Waits for changes of sources: by the folders that hold any, so that what tools write wakes nobody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::project::source_folders;

/// Editors write a file in several steps, and formatters after them: a change is over after so much silence.
const SILENCE: Duration = Duration::from_millis(60);

/// Watches a folder.
pub struct Watch {
    root: PathBuf,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    changes: UnboundedReceiver<()>,
    /// The change that is under way.
    began: Option<Instant>,
}

impl Watch {
    /// From now on.
    pub fn start(root: &Path) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("failed to find {}", root.display()))?;
        let (send, changes) = unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| matters(&event)) {
                // Nobody listens any more: then nothing has to be said.
                let _ = send.send(());
            }
        })
        .context("failed to watch files")?;
        let mut watch = Self { root, watcher, watched: BTreeSet::new(), changes, began: None };
        watch.follow_new_folders()?;
        Ok(watch)
    }

    /// Watches folders that were made since.
    pub fn follow_new_folders(&mut self) -> anyhow::Result<()> {
        for folder in source_folders(&self.root).with_context(|| format!("failed to read {}", self.root.display()))? {
            if !self.watched.contains(&folder) && folder.is_dir() {
                let failed = || format!("failed to watch {}", folder.display());
                self.watcher.watch(&folder, RecursiveMode::NonRecursive).with_context(failed)?;
                self.watched.insert(folder);
            }
        }
        // A folder that is made again under the same name has to be watched again.
        self.watched.retain(|folder| folder.is_dir());
        Ok(())
    }

    /// Waits for a change and for its end; gives when it began. `None` if there is nothing to wait for. May be dropped and called again:
    /// a change that has begun is not forgotten.
    pub async fn changed(&mut self) -> Option<Instant> {
        if self.began.is_none() {
            self.changes.recv().await?;
            self.began = Some(Instant::now());
        }
        while tokio::time::timeout(SILENCE, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        self.began.take()
    }
}

/// Reading changes nothing, and neither do the folders of tools that lie in a watched one.
fn matters(event: &notify::Event) -> bool {
    let changes =
        matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any);
    let source = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        super::super::project::may_hold_sources(name) && !is_left_by_an_editor(name)
    };
    changes && event.paths.iter().any(source)
}

fn is_left_by_an_editor(name: &str) -> bool {
    let end = name.rsplit('.').next().unwrap_or_default();
    name.ends_with('~') || matches!(end, "swp" | "tmp") || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_changed_source_is_noticed_and_a_built_file_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        for folder in ["src", "target", ".caisson"] {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        let mut watch = Watch::start(dir.path()).expect("it watches");
        let write = |name: &str| std::fs::write(dir.path().join(name), "x").expect("it writes");
        write("target/out.wasm");
        write(".caisson/component.wasm");
        write("src/plugin.js~");
        write("src/plugin.js");
        assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.expect("in time").is_some());
        assert!(watch.changes.try_recv().is_err(), "one change is one");
        write("src/plugin.js");
        let until = Instant::now() + PATIENCE;
        while watch.began.is_none() {
            assert!(Instant::now() < until, "the change is not seen");
            // Looked at for an instant only, as by a loop that has other things to do.
            let _ = tokio::time::timeout(Duration::from_millis(1), watch.changed()).await;
        }
        assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.expect("in time").is_some());
        std::fs::create_dir(dir.path().join("src/deep")).expect("a folder");
        assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.expect("in time").is_some());
        watch.follow_new_folders().expect("it follows");
        write("src/deep/more.js");
        assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.expect("in time").is_some());
    }
}
