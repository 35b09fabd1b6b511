//! Small state, kept per tenant, environment, plugin and workflow. A write commits with its record.

use std::sync::Arc;

use caisson_core::plugin::{Capability, KvGrant};
use caisson_core::ports::{Effect, KvScope};

use super::stored::{self, Blob, is_name};
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::kv::Host;
use crate::journal::{Done, Place};
use crate::state::State;

const KEY_BYTES_MAX: usize = 512;
/// Larger things are artifacts.
const VALUE_BYTES_MAX: u64 = 64 << 10;
/// A page of keys.
const KEYS_MAX: u32 = 1_000;
/// Cursors and counters of every customer of a small shop.
const MAX_KEYS_DEFAULT: u64 = 1_000;
/// What all of them together have.
const MAX_BYTES_DEFAULT: u64 = 1 << 20;

impl Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Kv).and_then(|()| check_key(&key)) {
            return Ok(Err(error));
        }
        let value: Result<Option<Blob>, Error> = self
            .journaled("kv.get", &[key.as_bytes()], async |state: &mut Self, _: Place| {
                let (store, scope) = (state.cursor.store(), state.scope());
                let value = stored::read(|| store.kv_get(&scope, &key)).await?;
                Ok(Done::answer(Ok(value.map(Blob))))
            })
            .await?;
        Ok(value.map(|value| value.map(|Blob(bytes)| bytes)))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Kv).and_then(|()| check_key(&key)) {
            return Ok(Err(error));
        }
        if value.len() as u64 > VALUE_BYTES_MAX {
            return Ok(Err(Error::TooLarge(VALUE_BYTES_MAX)));
        }
        let request = [key.as_bytes().to_vec(), value.clone()];
        self.journaled("kv.set", &[&request[0], &request[1]], async |state: &mut Self, _: Place| {
            if let Some(name) = state.redactor.holds(key.as_bytes()).or_else(|| state.redactor.holds(&value)) {
                return Ok(Done::answer(Err(secret_kept(name))));
            }
            let number = |default, of: fn(&KvGrant) -> Option<u64>| {
                state.effective.least(default, |grants| grants.kv.as_ref().and_then(of))
            };
            let effect = Effect::SetKey {
                scope: state.scope(),
                key,
                value,
                max_keys: number(MAX_KEYS_DEFAULT, |kv| kv.max_keys),
                max_bytes: number(MAX_BYTES_DEFAULT, |kv| kv.max_bytes),
            };
            Ok(Done {
                answer: Ok(()),
                effects: vec![effect],
                over_quota: Some(|why| Err(Error::Quota(why))),
                seen: None,
            })
        })
        .await
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Kv).and_then(|()| check_key(&key)) {
            return Ok(Err(error));
        }
        let request = key.clone();
        self.journaled("kv.delete", &[request.as_bytes()], async |state: &mut Self, _: Place| {
            let effect = Effect::DeleteKey { scope: state.scope(), key };
            Ok(Done { answer: Ok(()), effects: vec![effect], over_quota: None, seen: None })
        })
        .await
    }

    async fn keys(&mut self, prefix: String, limit: u32) -> wasmtime::Result<Result<Vec<String>, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Kv) {
            return Ok(Err(error));
        }
        if !prefix.is_empty()
            && let Err(error) = check_key(&prefix)
        {
            return Ok(Err(error));
        }
        let limit = limit.min(KEYS_MAX);
        self.journaled("kv.keys", &[prefix.as_bytes(), &limit.to_be_bytes()], async |state: &mut Self, _: Place| {
            if limit == 0 {
                return Ok(Done::answer(Ok(Vec::new())));
            }
            let (store, scope) = (state.cursor.store(), state.scope());
            let keys = stored::read(|| store.kv_keys(&scope, &prefix, limit)).await?;
            Ok(Done::answer(Ok(keys)))
        })
        .await
    }
}

impl State {
    fn scope(&self) -> KvScope {
        KvScope { realm: self.realm.clone(), plugin: self.plugin().into(), workflow: Arc::clone(&self.workflow) }
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    if is_name(key, KEY_BYTES_MAX) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a key has 1 to {KEY_BYTES_MAX} bytes and no control characters")))
}

/// What is kept can be read by people who must not know a secret.
pub(super) fn secret_kept(name: &str) -> Error {
    Error::Invalid(format!("the secret '{name}' is in it: secrets are not kept, read them again when they are needed"))
}
