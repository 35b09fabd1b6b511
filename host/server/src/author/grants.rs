//! What an author grants on the command line.

use caisson_core::plugin::{Grants, Package};
use clap::Args;

use crate::cli::Usage;

#[derive(Clone, Debug, Args)]
pub struct GrantArgs {
    /// Grants something, as `kv` or `http:api.example.com`; may be repeated.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Grants all that the manifest asks for.
    #[arg(long, conflicts_with = "grants")]
    grant_all: bool,
}

impl GrantArgs {
    /// What is granted; `None` if nothing is said.
    pub fn read(&self, package: &Package) -> anyhow::Result<Option<Grants>> {
        if self.grant_all {
            return Ok(Some(package.asks.clone()));
        }
        if self.grants.is_empty() {
            return Ok(None);
        }
        let mut grants = Grants::default();
        for grant in &self.grants {
            grants.add(grant).map_err(|error| Usage(error.to_string()))?;
        }
        Ok(Some(grants))
    }
}
