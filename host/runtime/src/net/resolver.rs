use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use async_trait::async_trait;
use tokio::sync::Semaphore;

/// The system's lookups block a thread each, and cannot be called off: so many at once.
const LOOKUPS_MAX: usize = 32;

/// Finds the addresses of names. Answers are checked by the caller: a resolver may say what it likes.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of a name (lower case, without a dot at its end), the best first. Never asked for addresses.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), 0).to_socket_addrs();
            drop(permit);
            found.map(|addresses| addresses.map(|address| address.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}
