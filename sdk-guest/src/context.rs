use serde::de::DeserializeOwned;

use crate::bindings::caisson::step::types as wire;
use crate::failure::{Category, Failure};

/// Which step of which run this is, and what woke it.
#[derive(Debug)]
pub struct Context {
    pub(crate) action: String,
    config: String,
    ids: wire::Context,
    resumed: Option<Resumed>,
}

#[derive(Debug)]
struct Resumed {
    state: Vec<u8>,
    wake: Wake,
}

/// Why a suspended step runs again.
#[derive(Clone, Debug)]
pub enum Wake {
    /// A signal that it asked for.
    Signal {
        /// Its name.
        name: String,
        /// Its data.
        payload: serde_json::Value,
        /// Who sent it.
        actor: Option<String>,
    },
    /// The decision that it asked for.
    Approval {
        /// Yes, no, or nobody answered in time.
        verdict: Verdict,
        /// Who decided.
        actor: Option<String>,
        /// What they said.
        comment: Option<String>,
    },
    /// Its time came.
    Timer,
    /// The run is being cancelled: clean up within ten seconds; the outcome is ignored.
    Cancelled(String),
}

/// How a request for approval ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approved,
    /// No.
    Rejected,
    /// Nobody answered in time.
    TimedOut,
}

impl Context {
    /// Splits the wire's invocation into the context and the input's JSON text.
    pub(crate) fn new(call: wire::Invocation) -> Result<(Self, String), Failure> {
        let wire::Invocation { action, config, input, context: ids, resumed } = call;
        let resumed = match resumed {
            Some(wire::Resumption { state, wake }) => Some(Resumed { state, wake: Wake::read(wake)? }),
            None => None,
        };
        Ok((Self { action, config, ids, resumed }, input))
    }

    /// The action's name within the plugin.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Whose run it is.
    pub fn tenant(&self) -> &str {
        &self.ids.tenant
    }

    /// The environment that it runs in.
    pub fn environment(&self) -> &str {
        &self.ids.environment
    }

    /// The workflow's id.
    pub fn workflow(&self) -> &str {
        &self.ids.workflow
    }

    /// The workflow's version.
    pub fn workflow_version(&self) -> &str {
        &self.ids.workflow_version
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.ids.run_id
    }

    /// The step's id.
    pub fn step_id(&self) -> &str {
        &self.ids.step_id
    }

    /// The state's name in the definition.
    pub fn state_name(&self) -> &str {
        &self.ids.state
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.ids.attempt
    }

    /// How often this attempt was entered before: 0 first, one more for every wake.
    pub fn entry(&self) -> u32 {
        self.ids.entry
    }

    /// The same for every attempt of this step: hand it to outside systems.
    pub fn idempotency_key(&self) -> &str {
        &self.ids.idempotency_key
    }

    /// What was left of the attempt's time when this entry began, in milliseconds.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.ids.deadline_ms
    }

    /// W3C trace context, to hand on.
    pub fn traceparent(&self) -> Option<&str> {
        self.ids.traceparent.as_deref()
    }

    /// What the operator configured for this plugin and environment.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let text = if self.config.is_empty() { "{}" } else { &self.config };
        serde_json::from_str(text).map_err(|e| {
            Failure::new(
                Category::Validation,
                "CONFIG_INVALID",
                format!("the plugin's configuration does not fit: {e}"),
            )
        })
    }

    /// Why the step runs again; `None` when the attempt begins.
    pub fn resumed(&self) -> Option<&Wake> {
        self.resumed.as_ref().map(|resumed| &resumed.wake)
    }

    /// What the step kept when it suspended; empty when the attempt begins.
    pub fn kept(&self) -> &[u8] {
        self.resumed.as_ref().map_or(&[], |resumed| &resumed.state)
    }

    /// What the step kept with [`Suspend::keep`](crate::Suspend::keep).
    pub fn kept_as<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(self.kept()).map_err(|e| {
            Failure::new(
                Category::Action,
                "STATE_INVALID",
                format!("the state kept by the step does not read back: {e}"),
            )
        })
    }
}

impl Wake {
    fn read(wake: wire::Wake) -> Result<Self, Failure> {
        Ok(match wake {
            wire::Wake::Signal(wire::Signal { name, payload, actor }) => {
                Self::Signal { name, payload: serde_json::from_str(&payload)?, actor }
            }
            wire::Wake::Approval(wire::Decision { verdict, actor, comment }) => {
                let verdict = match verdict {
                    wire::Verdict::Approved => Verdict::Approved,
                    wire::Verdict::Rejected => Verdict::Rejected,
                    wire::Verdict::TimedOut => Verdict::TimedOut,
                };
                Self::Approval { verdict, actor, comment }
            }
            wire::Wake::Timer => Self::Timer,
            wire::Wake::Cancelled(reason) => Self::Cancelled(reason),
        })
    }
}
