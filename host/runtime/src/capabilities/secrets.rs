//! Named secrets: read by who was granted them. A record says that a secret was there, never what it was.

use super::denied;
use super::stored::is_name;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::secrets::Host;
use crate::journal::{Done, Place};
use crate::state::State;

/// One entry reads a secret once and keeps it.
const READS_MAX: u64 = 1_000;
const NAME_BYTES_MAX: usize = 256;

impl Host for State {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if !is_name(&name, NAME_BYTES_MAX) {
            return Ok(Err(Error::Invalid(format!(
                "a secret's name has 1 to {NAME_BYTES_MAX} bytes and no control characters"
            ))));
        }
        if let Err(why) = self.effective.secret(&name) {
            return Ok(Err(denied(why)));
        }
        self.quota.secret_reads += 1;
        if self.quota.secret_reads > READS_MAX {
            return Ok(Err(Error::Quota(format!("one entry of a step may read {READS_MAX} secrets"))));
        }
        let there: Result<(), Error> = self
            .journaled("secrets.get", &[name.as_bytes()], async |state: &mut Self, _: Place| {
                Ok(Done::answer(match state.redactor.secret(&name) {
                    Some(_) => Ok(()),
                    None => Err(missing(&name)),
                }))
            })
            .await?;
        // As it was when this entry began here: what is redacted is exactly what was handed out.
        Ok(there.and_then(|()| {
            self.redactor.secret(&name).map(|secret| secret.expose().to_owned()).ok_or_else(|| missing(&name))
        }))
    }
}

fn missing(name: &str) -> Error {
    Error::NotFound(format!("the secret '{name}' is granted, but there is none of that name in this environment"))
}
