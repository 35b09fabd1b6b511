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

    /// What the step kept and why it runs again, `None` when the attempt begins: how a step that waits is written as one function.
    ///
    /// ```
    /// use caisson_sdk::{Context, Failure, Outcome, Suspend, Wake};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Order { id: String }
    ///
    /// fn order(context: &Context, item: String) -> Result<Outcome<String>, Failure> {
    ///     match context.wake::<Order>()? {
    ///         None => {
    ///             let order = Order { id: format!("order of {item}") };
    ///             Ok(Suspend::new().keep(&order)?.on_signal("paid").after_ms(86_400_000).into())
    ///         }
    ///         Some((order, Wake::Signal { .. })) => Ok(Outcome::Done(order.id)),
    ///         Some((order, _)) => Err(Failure::action("NOT_PAID", format!("{} was not paid", order.id))),
    ///     }
    /// }
    /// ```
    ///
    /// A step that kept nothing wakes with `()`. A state that does not read back is a failure `STATE_INVALID`: a run keeps to the version of
    /// the plugin that it started with, so that happens only within one version.
    pub fn wake<S: DeserializeOwned>(&self) -> Result<Option<(S, Wake)>, Failure> {
        match &self.resumed {
            Some(resumed) => Ok(Some((self.kept_as()?, resumed.wake.clone()))),
            None => Ok(None),
        }
    }

    /// Why the step runs again; `None` when the attempt begins.
    pub fn resumed(&self) -> Option<&Wake> {
        self.resumed.as_ref().map(|resumed| &resumed.wake)
    }

    /// The bytes that the step kept when it suspended; empty when the attempt begins.
    pub fn kept(&self) -> &[u8] {
        self.resumed.as_ref().map_or(&[], |resumed| &resumed.state)
    }

    /// What the step kept with [`Suspend::keep`](crate::Suspend::keep).
    pub fn kept_as<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let kept = if self.kept().is_empty() { b"null" } else { self.kept() };
        serde_json::from_slice(kept).map_err(|e| {
            Failure::new(
                Category::Action,
                "STATE_INVALID",
                format!("the state kept by the step does not read back: {e}"),
            )
        })
    }
}

impl Wake {
    /// The data of a signal, typed. One that does not read is a failure `SIGNAL_INVALID`; a wake that is no signal has `null`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let (name, payload) = match self {
            Self::Signal { name, payload, .. } => (name.as_str(), payload),
            Self::Approval { .. } | Self::Timer | Self::Cancelled(_) => ("", &serde_json::Value::Null),
        };
        T::deserialize(payload).map_err(|e| {
            Failure::validation("SIGNAL_INVALID", format!("the data of signal '{name}' does not fit: {e}"))
        })
    }

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

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::outcome::{IntoOutcome, Outcome, Suspend};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        page: u32,
    }

    fn context(resumed: Option<wire::Resumption>) -> Context {
        let ids = wire::Context {
            tenant: "t".to_owned(),
            environment: "e".to_owned(),
            workflow: "w".to_owned(),
            workflow_version: "1".to_owned(),
            run_id: "r".to_owned(),
            step_id: "s".to_owned(),
            state: "a".to_owned(),
            attempt: 1,
            entry: u32::from(resumed.is_some()),
            idempotency_key: "k".to_owned(),
            deadline_ms: None,
            traceparent: None,
        };
        let call = wire::Invocation {
            action: "act".to_owned(),
            config: r#"{"url": "u"}"#.to_owned(),
            input: "null".to_owned(),
            context: ids,
            resumed,
        };
        Context::new(call).expect("an invocation").0
    }

    fn woken(state: &[u8], wake: wire::Wake) -> Context {
        context(Some(wire::Resumption { state: state.to_vec(), wake }))
    }

    /// A step that waits, in one function.
    fn step(context: &Context) -> Result<Outcome<u32>, Failure> {
        match context.wake::<Kept>()? {
            None => Ok(Suspend::new().keep(&Kept { page: 7 })?.on_signal("next").into()),
            Some((kept, wake)) => Ok(Outcome::Done(kept.page + wake.payload::<u32>()?)),
        }
    }

    #[test]
    fn what_was_kept_comes_back_with_the_wake() {
        let wire::Outcome::Suspend(suspension) =
            step(&context(None)).and_then(IntoOutcome::into_wire).expect("it waits")
        else {
            panic!("it does not wait");
        };
        assert_eq!(suspension.signals, ["next"]);
        let signal = |payload: &str| {
            let signal = wire::Signal { name: "next".to_owned(), payload: payload.to_owned(), actor: None };
            woken(&suspension.state, wire::Wake::Signal(signal))
        };
        assert_eq!(step(&signal("3")), Ok(Outcome::Done(10)));
        assert_eq!(step(&signal("\"x\"")).expect_err("no number").code(), "SIGNAL_INVALID");
        assert_eq!(step(&woken(b"{}", wire::Wake::Timer)).expect_err("no state").code(), "STATE_INVALID");
    }

    #[test]
    fn a_step_that_kept_nothing_wakes_without_state() {
        let (state, wake) = woken(b"", wire::Wake::Timer).wake::<()>().expect("a state").expect("a wake");
        assert!(matches!((state, wake), ((), Wake::Timer)));
        assert_eq!(context(None).wake::<()>().map(|wake| wake.is_none()), Ok(true));
        assert_eq!(woken(b"", wire::Wake::Timer).kept_as::<Option<Kept>>(), Ok(None));
    }

    #[test]
    fn configuration_is_typed() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Config {
            url: String,
        }
        assert_eq!(context(None).config::<Config>(), Ok(Config { url: "u".to_owned() }));
        assert_eq!(context(None).config::<Kept>().expect_err("no page").code(), "CONFIG_INVALID");
    }

    #[test]
    fn a_decision_is_read() {
        let decision =
            wire::Decision { verdict: wire::Verdict::Approved, actor: Some("ann".to_owned()), comment: None };
        let context = woken(b"", wire::Wake::Approval(decision));
        let Some(Wake::Approval { verdict, actor, .. }) = context.resumed() else { panic!("no decision") };
        assert_eq!((*verdict, actor.as_deref()), (Verdict::Approved, Some("ann")));
        assert_eq!(context.resumed().map(Wake::payload::<serde_json::Value>), Some(Ok(json!(null))));
    }
}
