//! Business events: recorded with the call that emits them, so that each is there once.

use std::sync::Arc;

use caisson_core::json::{Json, Payload, VALUE_DEPTH_MAX, depth};
use caisson_core::ports::{Effect, EmittedEvent};

use super::denied;
use super::stored::is_name;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::events::Host;
use crate::journal::{Done, Place};
use crate::state::State;

const NAME_BYTES_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 512;
/// It travels as a message; larger things are artifacts.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;
/// Per entry: more is a log.
const EVENTS_DEFAULT: u64 = 100;

impl Host for State {
    async fn emit(
        &mut self,
        name: String,
        correlation_key: Option<String>,
        payload: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.count()?;
        if !is_name(&name, NAME_BYTES_MAX) {
            return Ok(Err(Error::Invalid(format!(
                "an event's name has 1 to {NAME_BYTES_MAX} bytes and no control characters"
            ))));
        }
        if let Err(why) = self.effective.event(&name) {
            return Ok(Err(denied(why)));
        }
        let payload = match read(correlation_key.as_deref(), payload) {
            Ok(payload) => payload,
            Err(error) => return Ok(Err(error)),
        };
        let events =
            self.effective.least(EVENTS_DEFAULT, |grants| grants.events.as_ref().and_then(|events| events.max_events));
        self.quota.events += 1;
        if self.quota.events > events {
            return Ok(Err(Error::Quota(format!("one entry of a step may emit {events} events"))));
        }
        let said = payload.clone();
        let parts: [&[u8]; 4] = [
            name.as_bytes(),
            if correlation_key.is_some() { b"for" } else { b"" },
            correlation_key.as_deref().unwrap_or_default().as_bytes(),
            said.get().as_bytes(),
        ];
        self.journaled("events.emit", &parts, async |state: &mut Self, place: Place| {
            let clean = |text: &str| Arc::<str>::from(&*state.redactor.text(text));
            let event = EmittedEvent {
                id: place.id.into(),
                realm: state.realm.clone(),
                run: state.run.clone(),
                step_id: state.step.clone(),
                plugin: state.plugin().into(),
                name: clean(&name),
                correlation_key: correlation_key.as_deref().map(clean),
                payload: Payload::Inline(state.redactor.json(payload)),
                at: state.clock.now(),
            };
            Ok(Done {
                answer: Ok(()),
                effects: vec![Effect::Emit(event)],
                over_quota: Some(|why| Err(Error::Quota(why))),
                seen: None,
            })
        })
        .await
    }
}

fn read(correlation_key: Option<&str>, payload: String) -> Result<Json, Error> {
    if correlation_key.is_some_and(|key| !is_name(key, KEY_BYTES_MAX)) {
        return Err(Error::Invalid(format!(
            "a correlation key has 1 to {KEY_BYTES_MAX} bytes and no control characters"
        )));
    }
    if payload.len() as u64 > PAYLOAD_BYTES_MAX {
        return Err(Error::TooLarge(PAYLOAD_BYTES_MAX));
    }
    let wrong = |why: &dyn std::fmt::Display| Error::Invalid(format!("the event's payload is not JSON: {why}"));
    // Read, not only scanned: what is no value must not be stored.
    serde_json::from_str::<serde_json::Value>(&payload).map_err(|error| wrong(&error))?;
    if depth(&payload) > VALUE_DEPTH_MAX {
        return Err(wrong(&format!("lists and objects are nested more than {VALUE_DEPTH_MAX} deep")));
    }
    Json::parse(payload).map_err(|error| wrong(&error))
}
