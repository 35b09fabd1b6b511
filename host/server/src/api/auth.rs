//! Who calls, and what they may do. A handler says what it needs by the type of its first argument.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use caisson_core::engine::Actor;
use caisson_core::ids::Realm;
use caisson_core::json::sha256_hex;
use caisson_core::ports::{ApiKeyRow, Clock, Store, StoreError};
use caisson_core::time::Timestamp;
use parking_lot::Mutex;

use super::AppState;
use super::error::ApiError;

/// The environment that is meant when none is named.
pub const DEFAULT_ENVIRONMENT: &str = "default";

/// The longest name of an environment: it is part of every index.
const ENVIRONMENT_BYTES_MAX: usize = 100;

/// Cached keys at most. Each is a few hundred bytes; a host with more keys asks the store for the rest.
const CACHE_KEYS_MAX: usize = 10_000;

/// A cached key is asked for again after this, so that a key revoked by another host ends within a minute.
const CACHE_TIME_MAX: Duration = Duration::from_mins(1);

/// The longest text that can be a key: ours have 47 characters, and nobody's hash is worth a megabyte.
const KEY_BYTES_MAX: usize = 256;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, writes definitions, moves runs.
    Operator,
    /// Reads, decides approvals.
    Approver,
    /// Everything, keys and plugins too.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// As the API and the database write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether this role may do what needs that one.
    pub fn may(self, need: Self) -> bool {
        match need {
            Self::Viewer => true,
            Self::Operator => matches!(self, Self::Operator | Self::Admin),
            Self::Approver => matches!(self, Self::Approver | Self::Admin),
            Self::Admin => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant of the key: nothing of another one is visible.
    pub tenant: Arc<str>,
    /// Who acts.
    pub actor: Arc<str>,
    /// The actor's teams.
    pub teams: Vec<String>,
    /// What the key is for.
    pub role: Role,
}

impl Caller {
    /// The realm of an environment, the default one when none is named.
    pub fn realm(&self, environment: Option<&str>) -> Result<Realm, ApiError> {
        let name = environment.unwrap_or(DEFAULT_ENVIRONMENT);
        if name.is_empty() || name.len() > ENVIRONMENT_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(ApiError::malformed(
                "MALFORMED_ENVIRONMENT",
                format!("an environment's name has 1 to {ENVIRONMENT_BYTES_MAX} bytes and no control characters"),
            ));
        }
        Ok(Realm::new(self.tenant.clone(), name))
    }

    /// The actor as approvals know one.
    pub fn as_actor(&self) -> Actor {
        Actor { name: self.actor.clone(), teams: self.teams.clone() }
    }
}

macro_rules! needs {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name(pub Caller);

        impl FromRequestParts<AppState> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
                let caller = state.keys.authenticate(parts).await?;
                if caller.role.may(Role::$name) {
                    return Ok(Self(caller));
                }
                Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "FORBIDDEN",
                    format!("this needs the role {}, the key of '{}' has {}", Role::$name, caller.actor, caller.role),
                )
                .with_details(&serde_json::json!({"needs": Role::$name.as_str(), "has": caller.role.as_str()})))
            }
        }
    )*};
}

needs! {
    /// Any key will do.
    Viewer;
    /// Needs operator or admin.
    Operator;
    /// Needs approver or admin.
    Approver;
    /// Needs admin.
    Admin;
}

/// Knows the keys. Keeps the rows of recent ones, and notes when they were used.
pub struct Keys {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    cache: Mutex<HashMap<String, Cached>>,
    used: Mutex<HashMap<Arc<str>, Timestamp>>,
}

struct Cached {
    row: Arc<ApiKeyRow>,
    since: Instant,
}

impl Keys {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, cache: Mutex::default(), used: Mutex::default() }
    }

    /// Whose request it is, from `Authorization: Bearer KEY` or `x-api-key`.
    async fn authenticate(&self, parts: &Parts) -> Result<Caller, ApiError> {
        let key = presented(parts)
            .ok_or_else(|| unauthenticated("no API key; send it as 'Authorization: Bearer KEY' or in 'x-api-key'"))?;
        if key.len() > KEY_BYTES_MAX {
            return Err(unauthenticated("API key is not known"));
        }
        // Comparing hashes leaks nothing of the key by its timing.
        let row = self.row(&sha256_hex(key.as_bytes())).await?;
        let row = row.ok_or_else(|| unauthenticated("API key is not known"))?;
        if row.revoked_at.is_some() {
            return Err(unauthenticated("API key was revoked"));
        }
        let role = Role::parse(&row.role)
            .ok_or_else(|| ApiError::internal(format!("API key {} has an unknown role", row.id)))?;
        self.note_use(&row);
        Ok(Caller { tenant: row.tenant.clone(), actor: row.actor.clone(), teams: row.teams.clone(), role })
    }

    async fn row(&self, hash: &str) -> Result<Option<Arc<ApiKeyRow>>, StoreError> {
        let cached = self.cache.lock().get(hash).filter(|c| c.since.elapsed() < CACHE_TIME_MAX).map(|c| c.row.clone());
        if cached.is_some() {
            return Ok(cached);
        }
        let Some(row) = self.store.key_by_hash(hash).await?.map(Arc::new) else { return Ok(None) };
        let mut cache = self.cache.lock();
        if cache.len() >= CACHE_KEYS_MAX {
            cache.clear();
        }
        cache.insert(hash.to_owned(), Cached { row: row.clone(), since: Instant::now() });
        Ok(Some(row))
    }

    fn note_use(&self, row: &ApiKeyRow) {
        const MINUTE_MS: i64 = 60_000;
        let minute = Timestamp(self.clock.now().0 / MINUTE_MS * MINUTE_MS);
        if row.last_used_at.is_none_or(|last| last < minute) {
            self.used.lock().insert(row.id.clone(), minute);
        }
    }

    /// Forgets a key's row, so that its revocation holds from the next request on.
    pub fn forget(&self, id: &str) {
        self.cache.lock().retain(|_, cached| &*cached.row.id != id);
    }

    /// Stores when keys were used. Called once a minute and at the end.
    pub async fn flush_uses(&self) -> Result<(), StoreError> {
        let used: Vec<_> = std::mem::take(&mut *self.used.lock()).into_iter().collect();
        if used.is_empty() { Ok(()) } else { self.store.touch_keys(&used).await }
    }
}

fn presented(parts: &Parts) -> Option<&str> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| key.trim());
    }
    parts.headers.get("x-api-key")?.to_str().ok().map(str::trim)
}

fn unauthenticated(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message)
}
