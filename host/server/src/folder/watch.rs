//! Looks at a folder again when something in it has changed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Folder;
use crate::env::Problem;

/// Saving one file is several events: they are over when nothing came for so long.
const QUIET: Duration = Duration::from_millis(50);

/// Somebody who never stops writing does not keep everybody waiting.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// Watches until told to stop. What cannot be watched is looked at once, at the start.
pub async fn watch(mut folder: Folder, mut said: Vec<Problem>, stop: CancellationToken) {
    let (sender, mut events) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| matters(event.kind)) {
            // Full means that the folder will be looked at anyway.
            let _ = sender.try_send(());
        }
    });
    let mut watches = match watcher {
        Ok(watcher) => Watches { watcher, places: HashSet::new() },
        Err(error) => {
            tracing::warn!(%error, "plugins folders cannot be watched: changes count from the next start");
            return;
        }
    };
    watches.renew(&folder.dirs);
    // What came between the first look and the first watch.
    let mut changed = true;
    loop {
        if changed {
            let problems = folder.scan().await;
            say(&problems, &said);
            said = problems;
            watches.renew(&folder.dirs);
        }
        tokio::select! {
            more = settled(&mut events) => changed = more,
            () = stop.cancelled() => return,
        }
        if !changed {
            return;
        }
    }
}

/// Reading is none of it, or our own looking would be a reason to look again.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Waits for an event, and until no more come; `false` if none can come.
async fn settled(events: &mut Receiver<()>) -> bool {
    if events.recv().await.is_none() {
        return false;
    }
    let end = Instant::now() + QUIET_WAIT_MAX;
    while Instant::now() < end && tokio::time::timeout(QUIET, events.recv()).await.is_ok_and(|event| event.is_some()) {}
    true
}

/// A problem is said once, when it is new.
fn say(problems: &[Problem], said: &[Problem]) {
    for problem in problems {
        if !said.iter().any(|other| other.path == problem.path && other.message == problem.message) {
            tracing::warn!(path = %problem.path.display(), reason = problem.message, "a plugin of the folder is not as it should be");
        }
    }
}

/// What is watched: each folder, the one above it (it may come and go), and the folders in it.
struct Watches {
    watcher: RecommendedWatcher,
    /// With their inodes: a folder that was replaced has to be watched again.
    places: HashSet<(PathBuf, u64)>,
}

impl Watches {
    fn renew(&mut self, dirs: &[PathBuf]) {
        let mut wanted = HashSet::new();
        for dir in dirs {
            wanted.extend(dir.parent().and_then(place));
            wanted.extend(place(dir));
            let below = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
            wanted.extend(below.filter_map(|path| place(&path)));
        }
        for gone in self.places.difference(&wanted) {
            // Often gone by itself.
            let _ = self.watcher.unwatch(&gone.0);
        }
        let mut watched = HashSet::new();
        for place in wanted {
            let known = self.places.contains(&place);
            match if known { Ok(()) } else { self.watcher.watch(&place.0, RecursiveMode::NonRecursive) } {
                Ok(()) => drop(watched.insert(place)),
                Err(error) => tracing::warn!(path = %place.0.display(), %error, "a folder is not watched"),
            }
        }
        self.places = watched;
    }
}

fn place(path: &Path) -> Option<(PathBuf, u64)> {
    let about = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((path.to_path_buf(), about.ino()))
}
