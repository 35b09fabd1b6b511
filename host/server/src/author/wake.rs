//! What wakes a suspended step, said by a test or on the command line instead of by the world.

use std::fmt;
use std::sync::Arc;

use caisson_core::engine::{ApprovalStatus, Wake};
use caisson_core::json::{Json, Payload};
use caisson_core::ports::Suspension;
use serde::Deserialize;
use serde_json::{Value, json};

/// One wake, as a case writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waking {
    /// What the suspension before it has to look like, as [`shown`] gives it: a subset.
    pub suspended: Option<Value>,
    /// How long after the suspension.
    pub after_ms: Option<u64>,
    signal: Option<Signal>,
    approve: Option<Word>,
    reject: Option<Word>,
    timer: Option<Nothing>,
    timed_out: Option<Nothing>,
    cancel: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signal {
    name: String,
    #[serde(default)]
    payload: Value,
    actor: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    actor: Option<String>,
    comment: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A signal comes.
    Signal {
        /// Its name.
        name: String,
        /// Its data.
        payload: Value,
        /// Who sent it.
        actor: Option<String>,
    },
    /// Somebody decides.
    Decision {
        /// Yes or no.
        approve: bool,
        /// Who.
        actor: Option<String>,
        /// With which words.
        comment: Option<String>,
    },
    /// The time that the step asked for is over.
    Timer,
    /// The time for the decision is over.
    TimedOut,
    /// The run is cancelled.
    Cancel(String),
}

impl Waking {
    /// What happens; exactly one thing.
    pub fn event(&self) -> Result<Event, String> {
        let decision = |approve, word: &Word| Event::Decision {
            approve,
            actor: word.actor.clone(),
            comment: word.comment.clone(),
        };
        let signal = self.signal.clone().map(|Signal { name, payload, actor }| Event::Signal { name, payload, actor });
        let events = [
            signal,
            self.approve.as_ref().map(|word| decision(true, word)),
            self.reject.as_ref().map(|word| decision(false, word)),
            self.timer.map(|Nothing {}| Event::Timer),
            self.timed_out.map(|Nothing {}| Event::TimedOut),
            self.cancel.clone().map(Event::Cancel),
        ];
        let mut events = events.into_iter().flatten();
        match (events.next(), events.next()) {
            (Some(event), None) => Ok(event),
            _ => Err("a wake has one of signal, approve, reject, timer, timedOut and cancel".to_owned()),
        }
    }
}

impl Event {
    /// Whether a step that suspended so can be woken by it; else why not.
    pub fn fits(&self, suspension: &Suspension) -> Result<(), String> {
        match self {
            Self::Signal { name, .. } if !suspension.signals.contains(name) => {
                let waits =
                    if suspension.signals.is_empty() { "none".to_owned() } else { suspension.signals.join(", ") };
                Err(format!("the step does not wait for the signal '{name}' (it waits for {waits})"))
            }
            Self::Decision { .. } if suspension.approval.is_none() => Err("the step asks for no approval".to_owned()),
            Self::TimedOut if suspension.approval.as_ref().is_none_or(|approval| approval.deadline_ms.is_none()) => {
                Err("the step asks for no approval with a deadline".to_owned())
            }
            Self::Timer if suspension.wake_after_ms.is_none() => Err("the step asks for no timer".to_owned()),
            _ => Ok(()),
        }
    }

    /// When it comes, if nothing else is said, in milliseconds after the suspension.
    pub fn due_ms(&self, suspension: &Suspension) -> u64 {
        match self {
            Self::Timer => suspension.wake_after_ms.unwrap_or(0),
            Self::TimedOut => suspension.approval.as_ref().and_then(|approval| approval.deadline_ms).unwrap_or(0),
            _ => 0,
        }
    }

    /// As the runtime takes it.
    pub fn wake(&self) -> Wake {
        let actor = |name: &Option<String>| name.as_deref().map(Arc::from);
        match self {
            Self::Signal { name, payload, actor: from } => Wake::Signal {
                name: name.as_str().into(),
                payload: Payload::Inline(Json::of(payload)),
                actor: actor(from),
            },
            Self::Decision { approve, actor: by, comment } => Wake::Approval {
                status: if *approve { ApprovalStatus::Approved } else { ApprovalStatus::Rejected },
                actor: actor(by),
                comment: comment.clone(),
            },
            Self::TimedOut => Wake::Approval { status: ApprovalStatus::TimedOut, actor: None, comment: None },
            Self::Timer => Wake::Timer,
            Self::Cancel(reason) => Wake::Cancelled { reason: reason.clone() },
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal { name, payload, .. } => write!(f, "the signal {name} {payload}"),
            Self::Decision { approve: true, .. } => f.write_str("an approval"),
            Self::Decision { approve: false, .. } => f.write_str("a rejection"),
            Self::Timer => f.write_str("its timer"),
            Self::TimedOut => f.write_str("the end of the time for the decision"),
            Self::Cancel(reason) => write!(f, "a cancellation: {reason}"),
        }
    }
}

/// A suspension as a test and a person see it; what is not there is left out.
pub fn shown(suspension: &Suspension) -> Value {
    let mut shown = json!({});
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            shown[name] = value;
        }
    };
    set("signals", (!suspension.signals.is_empty()).then(|| json!(suspension.signals)));
    set("wakeAfterMs", suspension.wake_after_ms.map(Value::from));
    set("approval", suspension.approval.as_ref().map(|approval| Json::of(approval).value()));
    set("state", (!suspension.state.is_empty()).then(|| state(&suspension.state)));
    shown
}

/// What a step keeps is bytes; most keep JSON.
fn state(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waking(value: Value) -> Result<Event, String> {
        serde_json::from_value::<Waking>(value).map_err(|error| error.to_string())?.event()
    }

    #[test]
    fn a_wake_is_one_thing() {
        assert!(matches!(waking(json!({"timer": {}})), Ok(Event::Timer)));
        assert!(matches!(waking(json!({"approve": {}, "afterMs": 5})), Ok(Event::Decision { approve: true, .. })));
        for wrong in [json!({}), json!({"timer": {}, "cancel": "x"}), json!({"signal": "x"}), json!({"approved": {}})] {
            assert!(waking(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_a_step_asked_for_wakes_it() {
        let suspension = Suspension {
            state: b"{\"n\":1}".to_vec(),
            signals: vec!["paid".to_owned()],
            wake_after_ms: None,
            approval: None,
        };
        let signal = |name: &str| waking(json!({"signal": {"name": name}})).expect("it reads");
        assert!(signal("paid").fits(&suspension).is_ok());
        assert!(signal("sold").fits(&suspension).expect_err("refused").contains("paid"));
        for other in [json!({"timer": {}}), json!({"approve": {}}), json!({"timedOut": {}})] {
            assert!(waking(other.clone()).expect("it reads").fits(&suspension).is_err(), "{other}");
        }
        let waiting = Suspension { wake_after_ms: Some(90), ..suspension };
        assert_eq!(Event::Timer.due_ms(&waiting), 90);
        assert!(Event::Timer.fits(&waiting).is_ok());
        assert_eq!(shown(&waiting), json!({"signals": ["paid"], "wakeAfterMs": 90, "state": {"n": 1}}));
    }
}
