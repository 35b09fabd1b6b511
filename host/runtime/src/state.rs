//! What a store holds: everything of the host that one entry can touch, and nothing of any other entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use caisson_core::ids::Realm;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use crate::capabilities::Random;
use crate::limiter::Limiter;
use crate::limits::Limits;
use crate::logbook::LogBook;
use crate::manifest::Capability;
use crate::model::Models;

pub(crate) struct State {
    pub(crate) wasi: WasiCtx,
    pub(crate) handles: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) limits: Limits,
    pub(crate) log: Arc<LogBook>,
    pub(crate) host_calls: u64,
    pub(crate) random: Random,
    pub(crate) realm: Realm,
    pub(crate) plugin: Arc<Identity>,
    pub(crate) models: Arc<Models>,
}

/// Which plugin this is and what it may.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) digest: Arc<str>,
    /// What it asked for and the operator granted.
    pub(crate) grants: BTreeSet<Capability>,
}
