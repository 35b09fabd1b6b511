//! The world without the world: a case lists what it expects to be asked, and every question has to be one of these.

mod http;
mod tools;

pub use http::{Body, Exchange};
pub use tools::ToolExchange;

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::compare::Difference;

/// What a case expects to be asked, with its answer.
pub trait Expected {
    /// What is asked.
    type Asked;

    /// The case's field that lists them.
    const FIELD: &'static str;
    /// What becomes of a question.
    const WORD: &'static str;

    /// What it is about, for people.
    fn name(&self) -> String;
    /// How often it answers.
    fn times(&self) -> Times;
    /// What of a question does not fit.
    fn misfits(&self, asked: &Self::Asked) -> Vec<Difference>;
}

/// How often an exchange answers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub enum Times {
    /// So often.
    Exactly(u64),
    /// As often as it is asked, or never.
    Any,
}

impl Default for Times {
    fn default() -> Self {
        Self::Exactly(1)
    }
}

impl TryFrom<Value> for Times {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match (&value, value.as_u64()) {
            (_, Some(times)) => Ok(Self::Exactly(times)),
            (Value::String(text), _) if text == "any" => Ok(Self::Any),
            _ => Err(format!("times is a number or \"any\", not {value}")),
        }
    }
}

/// `null` is a value, not an absence.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a case expects to be asked, and what became of it.
pub struct Expectations<E>(Mutex<State<E>>);

struct State<E> {
    /// With how often each has answered.
    expected: Vec<(E, u64)>,
    problems: Vec<Difference>,
}

impl<E> Default for Expectations<E> {
    fn default() -> Self {
        Self(Mutex::new(State { expected: Vec::new(), problems: Vec::new() }))
    }
}

impl<E: Expected + Clone> Expectations<E> {
    /// Expects these.
    pub fn new(expected: Vec<E>) -> Self {
        let expected = expected.into_iter().map(|one| (one, 0)).collect();
        Self(Mutex::new(State { expected, problems: Vec::new() }))
    }

    /// The first that fits and is not used up; else there is a problem. `shown` is the question for people.
    fn take(&self, asked: &E::Asked, shown: &str) -> Option<E> {
        let mut state = self.0.lock();
        let open = |(expected, used): &(E, u64)| match expected.times() {
            Times::Any => true,
            Times::Exactly(times) => *used < times,
        };
        let fitting = state.expected.iter_mut().find(|one| open(one) && one.0.misfits(asked).is_empty());
        if let Some((expected, used)) = fitting {
            *used += 1;
            return Some(expected.clone());
        }
        let near = state.expected.iter().enumerate().filter(|(_, one)| open(one));
        let near =
            near.map(|(at, (expected, _))| (at, expected.misfits(asked))).min_by_key(|(_, misfits)| misfits.len());
        let why = match near {
            None => "nothing further was expected".to_owned(),
            Some((at, misfits)) => {
                let misfits: Vec<String> = misfits.iter().map(ToString::to_string).collect();
                format!("it fits no exchange; {}[{at}] comes nearest: {}", E::FIELD, misfits.join("; "))
            }
        };
        state.problems.push(Difference::new(E::FIELD, format!("{shown} was {}, but {why}", E::WORD)));
        None
    }

    /// What is expected, each as `look` sees it.
    fn each<T>(&self, look: impl FnMut(&E) -> T) -> Vec<T> {
        self.0.lock().expected.iter().map(|(expected, _)| expected).map(look).collect()
    }

    /// What went wrong, and what was never asked for.
    pub fn problems(&self) -> Vec<Difference> {
        let state = self.0.lock();
        let unused = state.expected.iter().enumerate().filter_map(|(at, (expected, used))| match expected.times() {
            Times::Exactly(times) if *used < times => {
                let name = expected.name();
                let problem = match *used {
                    0 => format!("{name} was not {}", E::WORD),
                    used => format!("{name} was {} {used} times and not {times}", E::WORD),
                };
                Some(Difference::new(format!("{}[{at}]", E::FIELD), problem))
            }
            _ => None,
        });
        state.problems.iter().cloned().chain(unused).collect()
    }
}
