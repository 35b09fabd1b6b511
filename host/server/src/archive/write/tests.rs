use caisson_core::ids::{Realm, StepId};
use caisson_core::json::Blob;
use caisson_core::ports::{ArtifactRow, Effect, Stage, VersionRow};
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::MemoryStore;

use super::*;
use crate::api::auth::Role;
use crate::api::tests::Surface;
use crate::archive::read;

/// A store in which another host erases a run while this one writes it down, once its events are read.
struct Raced(Arc<MemoryStore>);

#[async_trait]
impl Pruning for Raced {
    async fn workflows(&self, after: Option<(&Realm, &str)>, limit: u32) -> Result<Vec<VersionRow>, StoreError> {
        self.0.workflows(after, limit).await
    }
    async fn ended(
        &self,
        realm: &Realm,
        workflow: &str,
        stage: Stage,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        self.0.ended(realm, workflow, stage, before, limit).await
    }
    async fn files(&self, run: &RunId, limit: u32) -> Result<Vec<Arc<str>>, StoreError> {
        self.0.files(run, limit).await
    }
    async fn forget_files(&self, run: &RunId, paths: &[Arc<str>]) -> Result<(), StoreError> {
        self.0.forget_files(run, paths).await
    }
    async fn values(&self, run: &RunId, after: Option<&str>, limit: u32) -> Result<Vec<Blob>, StoreError> {
        self.0.erase(run, 0, 100, Timestamp(2_000_000)).await?;
        self.0.values(run, after, limit).await
    }
    async fn erase(&self, run: &RunId, after: u64, limit: u32, at: Timestamp) -> Result<Option<u64>, StoreError> {
        self.0.erase(run, after, limit, at).await
    }
    async fn delete(&self, run: &RunId, limit: u32) -> Result<bool, StoreError> {
        self.0.delete(run, limit).await
    }
}

/// The files that have their name, and those that do not.
fn files(root: &std::path::Path) -> (Vec<PathBuf>, usize) {
    let (mut named, mut aside, mut waiting) = (Vec::new(), 0, vec![root.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            match (path.is_dir(), path.starts_with(root.join(ASIDE))) {
                (true, _) => waiting.push(path),
                (false, true) => aside += 1,
                (false, false) => named.push(path),
            }
        }
    }
    (named, aside)
}

#[tokio::test]
async fn a_run_that_another_host_begins_to_erase_meanwhile_gets_no_file_that_lacks_something() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let definition = r#"{"id": "w", "states": [{"name": "s", "type": "inject", "data": {"n": 1}, "end": true}]}"#;
    let body = format!(r#"{{"definition": {definition}}}"#);
    surface.call(Some(&key), "POST", "/api/v1/workflows", &body).await;
    let start = r#"{"workflowId": "w", "input": {}}"#;
    let (_, started) = surface.call(Some(&key), "POST", "/api/v1/workflow-runs?waitMs=10000", start).await;
    assert_eq!(started["run"]["status"], "COMPLETED", "{started}");
    let run = RunId::new(started["run"]["id"].as_str().expect("an id"));
    let store = surface.store.clone();
    let archive = |pruning: Arc<dyn Pruning>| {
        let dir = tempfile::tempdir().expect("a directory");
        let archive = ArchiveDir::new(dir.path().to_owned(), store.clone(), store.clone(), pruning);
        (dir, archive)
    };

    let artifact = ArtifactRow {
        id: "f".into(),
        realm: store.run(&run).await.expect("answers").expect("is there").realm,
        run: run.clone(),
        step_id: StepId::new("s"),
        plugin: "t".into(),
        name: "report.csv".into(),
        mime_type: "text/csv".into(),
        size: 1,
        sha256: "cd".repeat(32).into(),
        path: "r/s/t/f".into(),
        at: Timestamp(1_000_000),
    };
    store.apply(&[Effect::Artifact(artifact.clone())]).await.expect("applies");

    let (dir, alone) = archive(store.clone());
    alone.keep(&run).await.expect("keeps");
    let (named, aside) = files(dir.path());
    assert_eq!((named.len(), aside), (1, 0));
    read::file(&named[0], drop).expect("is whole");
    let whole = std::fs::read_to_string(&named[0]).expect("is text");
    assert!(whole.contains("report.csv"), "{whole}");
    // Its files go before its events: whoever comes between finds less.
    store.forget_files(&run, &[artifact.path]).await.expect("forgets");
    alone.keep(&run).await.expect("has it");
    assert_eq!(std::fs::read_to_string(&named[0]).expect("is text"), whole);
    assert_eq!(files(dir.path()), (named, 0));

    let (dir, raced) = archive(Arc::new(Raced(store.clone())));
    raced.keep(&run).await.expect("leaves it to the other host");
    assert_eq!(files(dir.path()), (Vec::new(), 0));
}
