//! The files of runs, in the data directory.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ports::RunFiles;

/// The directory of artifacts.
pub struct ArtifactDir(pub PathBuf);

#[async_trait]
impl RunFiles for ArtifactDir {
    async fn remove(&self, paths: &[Arc<str>]) -> Result<(), String> {
        for path in paths {
            let relative = Path::new(&**path);
            // We wrote the row; still, nothing outside of the directory is ever removed.
            if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(format!("'{path}' is no place below the directory of artifacts"));
            }
            match tokio::fs::remove_file(self.0.join(relative)).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(format!("'{path}': {error}")),
                Ok(()) | Err(_) => {}
            }
            self.remove_empty(relative).await;
        }
        Ok(())
    }
}

impl ArtifactDir {
    /// Directories that have nothing left in them; one that has is refused by the system.
    async fn remove_empty(&self, relative: &Path) {
        for above in relative.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            if tokio::fs::remove_dir(self.0.join(above)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_go_with_the_directories_that_they_leave_empty_and_nothing_else() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("artifacts");
        std::fs::create_dir_all(root.join("r/s")).expect("makes");
        for file in ["r/s/a", "r/b", "../outside"] {
            std::fs::write(root.join(file), "x").expect("writes");
        }
        let dir = ArtifactDir(root.clone());
        dir.remove(&["r/s/a".into(), "r/s/gone".into()]).await.expect("removes");
        assert!(!root.join("r/s").exists() && root.join("r/b").exists());
        for bad in ["../outside", "/etc/passwd", "r/../../outside"] {
            dir.remove(&[bad.into()]).await.expect_err(bad);
        }
        assert!(place.path().join("outside").exists());
        dir.remove(&["r/b".into()]).await.expect("removes");
        assert!(root.exists() && !root.join("r").exists());
    }
}
