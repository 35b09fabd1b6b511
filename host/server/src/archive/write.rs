//! Writes runs down.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use caisson_core::ids::{RunId, hex};
use caisson_core::ports::{
    Archive, Journal, Page, PageRequest, Pruning, RunRow, SessionRow, SessionStatus, Store, StoreError,
};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use cap_std::time::SystemTime;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::form::{End, FORMAT, Head, Line, Run, Step, Transcript, Value};
use super::place::{Place, open_or_make, part, sync};
use crate::api::values::Values;
use crate::api::wire::Any;
use crate::api::{artifacts, emitted, events, logs, sessions};
use crate::observe::metrics::Reading;

/// Where files are written before they have their name: in the same tree, so that renaming is one step of the file
/// system.
const ASIDE: &str = ".partial";

/// What nobody has written to for so long was left by a host that ended.
const ASIDE_KEPT: Duration = Duration::from_hours(1);

/// Rows that are read at once: with values of up to 4 KiB a few megabytes.
const ROWS: u32 = 500;

/// Large values that are read at once: 16 MiB each, at most.
const VALUES: u32 = 4;

/// Lines of a transcript that are read at once: 1 MiB each, at most.
const TRANSCRIPT_LINES: u32 = 16;

/// Bytes that go to the file at once.
const WRITE_BYTES: usize = 256 << 10;

/// A directory of archives.
pub struct ArchiveDir {
    root: PathBuf,
    store: Arc<dyn Store>,
    journal: Arc<dyn Journal>,
    pruning: Arc<dyn Pruning>,
    /// When files that were left aside were last looked for.
    cleaned: Mutex<Option<Instant>>,
    kept: AtomicU64,
    failed: AtomicU64,
}

/// Why a run could not be kept.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read it: {0}")]
    Store(#[from] StoreError),
    #[error("write '{path}' in the archive: {source}")]
    File { path: String, source: io::Error },
}

/// Whether everything of a run was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Whole,
    /// Something of it is erased, or all of it.
    Erased,
}

impl ArchiveDir {
    /// Below a directory that exists.
    pub fn new(root: PathBuf, store: Arc<dyn Store>, journal: Arc<dyn Journal>, pruning: Arc<dyn Pruning>) -> Self {
        let (cleaned, kept, failed) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        Self { root, store, journal, pruning, cleaned, kept, failed }
    }

    /// How it goes.
    pub fn readings(&self) -> Vec<Reading> {
        let (kept, failed) = (self.kept.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        vec![
            Reading::counter("caisson_runs_archived_total", "Runs that were written to the archive.", kept),
            Reading::counter("caisson_archive_failures_total", "Tries to archive a run that failed.", failed),
        ]
    }

    async fn write(&self, run: &RunId) -> Result<Found, Error> {
        let Some(row) = self.store.run(run).await? else { return Ok(Found::Erased) };
        let place = Place::of(&row);
        let failed = |source| Error::File { path: place.path(), source };
        self.clean().await;
        let (aside, file) = self.aside(run).await.map_err(failed)?;
        let mut lines = Lines::new(file);
        if self.lines(&row, &mut lines).await.map_err(|error| error.at(&place))? == Found::Erased {
            return Ok(Found::Erased);
        }
        lines.close().await.map_err(failed)?;
        let root = self.root.clone();
        let (dirs, file) = (place.dirs.clone(), place.file.clone());
        let named = move || aside.name(&Dir::open_ambient_dir(root, ambient_authority())?, &Place { dirs, file });
        spawn_blocking(named).await.unwrap_or_else(|lost| Err(io::Error::other(lost))).map_err(failed)?;
        Ok(Found::Whole)
    }

    /// A new file aside, for this user only.
    async fn aside(&self, run: &RunId) -> io::Result<(Aside, File)> {
        let (root, name) = (self.root.clone(), format!("{}.{}", part(run.as_str()), Uuid::now_v7()));
        let open = move || {
            let dir = open_or_make(&Dir::open_ambient_dir(root, ambient_authority())?, ASIDE)?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let file = dir.open_with(&name, &options)?;
            Ok((Aside { dir, name, named: false }, File::from_std(file.into_std())))
        };
        spawn_blocking(open).await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
    }

    async fn lines(&self, row: &RunRow, out: &mut Lines) -> Result<Found, Partly> {
        let writer = concat!("caisson ", env!("CARGO_PKG_VERSION")).to_owned();
        out.add(&Line::Archive(Box::new(Head { format: FORMAT, writer, run: Run::from(row) }))).await?;
        let version = self.store.version_by_digest(&row.realm, &row.workflow_id, &row.digest).await?;
        if let Some(version) = version {
            out.add(&Line::Definition(Any(version.definition))).await?;
        }
        if self.events(row, out).await? == Found::Erased {
            return Ok(Found::Erased);
        }
        let mut pages = Pages::default();
        while let Some(request) = pages.next() {
            for step in pages.take(self.store.steps(&row.id, &request).await?) {
                out.add(&Line::Step(Box::new(Step::from(&step)))).await?;
            }
        }
        self.values(row, out).await?;
        let mut pages = Pages::default();
        while let Some(request) = pages.next() {
            for line in pages.take(self.store.logs(&row.id, None, &request).await?) {
                out.add(&Line::Log(logs::show_line(line))).await?;
            }
        }
        let mut pages = Pages::default();
        while let Some(request) = pages.next() {
            for session in pages.take(self.journal.sessions(&row.id, None, &request).await?) {
                self.session(&session, out).await?;
            }
        }
        let mut pages = Pages::default();
        while let Some(request) = pages.next() {
            let found = self.journal.emitted(&row.realm.tenant, None, Some(&row.id), None, &request).await?;
            let values = Values::full(&*self.store, found.items.iter().map(|event| &event.payload)).await?;
            for event in pages.take(found) {
                out.add(&Line::Emitted(emitted::show(&event, &values))).await?;
            }
        }
        let mut pages = Pages::default();
        while let Some(request) = pages.next() {
            for file in pages.take(self.journal.artifacts(&row.id, None, &request).await?) {
                out.add(&Line::Artifact(artifacts::show(&file))).await?;
            }
        }
        // Another host may have begun to erase it while we read, and begins with the first event.
        let first = self.store.events(&row.id, 0, 1).await?;
        if first.first().is_none_or(|event| event.data_sha256.is_some()) {
            return Ok(Found::Erased);
        }
        out.end().await?;
        Ok(Found::Whole)
    }

    async fn events(&self, row: &RunRow, out: &mut Lines) -> Result<Found, Partly> {
        let mut after = 0;
        loop {
            let page = self.store.events(&row.id, after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(Found::Whole) };
            after = last.seq;
            for event in page {
                if event.data_sha256.is_some() {
                    return Ok(Found::Erased);
                }
                out.add(&Line::Event(events::show(event))).await?;
            }
        }
    }

    async fn values(&self, row: &RunRow, out: &mut Lines) -> Result<(), Partly> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.pruning.values(&row.id, after.as_deref(), VALUES).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.sha256.clone());
            for blob in page {
                out.add(&Line::Value(Value { sha256: blob.id.sha256.to_string(), json: blob.json })).await?;
            }
        }
    }

    async fn session(&self, row: &SessionRow, out: &mut Lines) -> Result<(), Partly> {
        let status = match row.status {
            SessionStatus::Running => {
                let step = self.store.step(&row.run, &row.step_id).await?;
                step.map_or(row.status, |step| row.status_in(step.status, step.attempt))
            }
            SessionStatus::Completed | SessionStatus::Failed => row.status,
        };
        out.add(&Line::Session(sessions::show(row, status))).await?;
        let mut after = 0;
        loop {
            let page = self.journal.session_lines(&row.run, &row.id, after, TRANSCRIPT_LINES).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.number;
            for line in page {
                out.add(&Line::Said(Transcript::new(&row.id, line))).await?;
            }
        }
    }

    /// Removes what hosts that ended have left aside. What fails is tried again.
    async fn clean(&self) {
        let due = self.cleaned.lock().is_none_or(|at| at.elapsed() > ASIDE_KEPT);
        if !due {
            return;
        }
        *self.cleaned.lock() = Some(Instant::now());
        let root = self.root.clone();
        let clean = move || -> io::Result<()> {
            let dir = Dir::open_ambient_dir(root, ambient_authority())?.open_dir(ASIDE)?;
            let now = SystemTime::from_std(std::time::SystemTime::now());
            for entry in dir.entries()? {
                let entry = entry?;
                if now.duration_since(entry.metadata()?.modified()?).is_ok_and(|age| age > ASIDE_KEPT) {
                    dir.remove_file(entry.file_name())?;
                }
            }
            Ok(())
        };
        if let Ok(Err(error)) = spawn_blocking(clean).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "what was left aside in the archive is not removed");
        }
    }
}

#[async_trait]
impl Archive for ArchiveDir {
    async fn keep(&self, run: &RunId) -> Result<(), String> {
        match self.write(run).await {
            Ok(Found::Whole) => {
                self.kept.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(Found::Erased) => Ok(()),
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                Err(format!("failed to {error}"))
            }
        }
    }
}

/// A file that has no name yet: gone with this, unless it gets one.
struct Aside {
    dir: Dir,
    name: String,
    named: bool,
}

impl Aside {
    /// Gives it its name, durably. One that has the name stays: whoever wrote it had removed nothing of the run before, and may have by
    /// now, so that this one may lack it.
    fn name(mut self, root: &Dir, place: &Place) -> io::Result<()> {
        let dir = place.open(root)?;
        if !dir.try_exists(&place.file)? {
            self.dir.rename(&self.name, &dir, &place.file)?;
            self.named = true;
        }
        sync(&dir)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.named {
            // What stays is found later.
            drop(self.dir.remove_file(&self.name));
        }
    }
}

/// Why the lines came to no end.
#[derive(Debug)]
enum Partly {
    Store(StoreError),
    File(io::Error),
}

impl From<StoreError> for Partly {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Partly {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl Partly {
    fn at(self, place: &Place) -> Error {
        match self {
            Self::Store(error) => Error::Store(error),
            Self::File(source) => Error::File { path: place.path(), source },
        }
    }
}

/// Lines on their way into a file.
struct Lines {
    file: BufWriter<File>,
    sha256: Sha256,
    count: u64,
    text: Vec<u8>,
}

impl Lines {
    fn new(file: File) -> Self {
        Self { file: BufWriter::with_capacity(WRITE_BYTES, file), sha256: Sha256::new(), count: 0, text: Vec::new() }
    }

    async fn add(&mut self, line: &Line) -> io::Result<()> {
        self.text.clear();
        serde_json::to_writer(&mut self.text, line)?;
        self.text.push(b'\n');
        self.sha256.update(&self.text);
        self.count += 1;
        self.file.write_all(&self.text).await
    }

    async fn end(&mut self) -> io::Result<()> {
        let sha256 = hex(&self.sha256.clone().finalize());
        self.add(&Line::End(End { lines: self.count, sha256 })).await
    }

    /// Makes them durable.
    async fn close(mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await
    }
}

/// Goes through a list.
#[derive(Default)]
struct Pages {
    cursor: Option<String>,
    over: bool,
}

impl Pages {
    fn next(&mut self) -> Option<PageRequest> {
        (!self.over).then(|| PageRequest { limit: ROWS, cursor: self.cursor.take() })
    }

    fn take<T>(&mut self, page: Page<T>) -> Vec<T> {
        self.over = page.next.is_none();
        self.cursor = page.next;
        page.items
    }
}

#[cfg(test)]
mod tests;
