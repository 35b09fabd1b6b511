//! Operations and retries.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::diagnostic::{code, did_you_mean, quoted};
use super::super::document::{Data, join_key};
use super::fields::{Field, Fields};
use super::{At, Reader, Scope};
use crate::error::Category;
use crate::expr::Path;
use crate::model::{Backoff, Operation, Retry, State, StateId, StateKind};
use crate::plugin::Grants;
use crate::time::seconds_to_ms;

/// Attempts of one step: with the longest pause of an hour that is more than a month of trying.
const ATTEMPTS_MAX: u32 = 1000;
/// When `retry` is given without `maxAttempts`.
const ATTEMPTS_DEFAULT: u32 = 3;
/// When `retry` is given without `backoffSeconds`.
const DELAY_MS_DEFAULT: u64 = 1000;
/// When `retry` is given without `maxBackoffSeconds`: an hour, or `backoffSeconds` if that is more.
const MAX_DELAY_MS_DEFAULT: u64 = 3_600_000;
/// What `jitter: true` means.
const JITTER_DEFAULT: f64 = 0.2;
/// Beyond this the second pause is the longest already.
const MULTIPLIER_MAX: f64 = 100.0;

/// Plugin id, a dot, the action's name.
pub(in super::super) fn is_action_name(text: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    text.len() <= 128 && text.contains('.') && text.split('.').all(part)
}

impl<'a> Reader<'a> {
    pub(super) fn operation(
        &mut self,
        id: StateId,
        fields: &mut Fields<'a>,
        scope: &Scope<'a, '_>,
        state: &mut State,
    ) -> Option<StateKind> {
        state.retry = self.retry(fields);
        let input = fields.get("input");
        let named = self.action(id, fields, input);
        let on_reject = self.target_field(fields, "onReject", scope);
        let idempotency_key = self.text_template(fields, "idempotencyKey");
        let capabilities = self.capabilities(fields);
        let action = named.as_ref().map_or("", |named| named.action);
        let value = match input {
            Some(input) => self.input(fields, input, named.as_ref(), state)?,
            None => Value::Object(Map::new()),
        };
        let input = match input {
            Some(field) => self.template_of(fields, field, &value)?,
            None => crate::expr::Template::Constant(value),
        };
        named.as_ref()?;
        Some(StateKind::Operation(Operation { action: action.into(), input, idempotency_key, on_reject, capabilities }))
    }

    /// What the state leaves of the plugin's capabilities.
    fn capabilities(&mut self, fields: &mut Fields<'a>) -> Option<Arc<Grants>> {
        let field = fields.get("capabilities")?;
        match Grants::parse(&field.node.to_value()) {
            Ok(grants) => Some(Arc::new(grants)),
            Err(error) => {
                let example = "a list like [\"kv\", \"http:api.example.com\"]; an empty one leaves nothing".to_owned();
                self.invalid(fields, field, format!("'capabilities': {error}"), Some(example));
                None
            }
        }
    }

    fn action(&mut self, id: StateId, fields: &mut Fields<'a>, input: Option<Field<'a>>) -> Option<Named<'a>> {
        if let Some(agent) = input.and_then(|field| entry(field, "agent")) {
            let at = At { span: agent.node.span, path: join_key(&join_key(&fields.path, "input"), "agent") };
            let place = self.place(&at);
            self.places.entry(id).or_default().agent = Some(place);
        }
        let named = if fields.has("action") {
            let action = self.text(fields, "action")?;
            let field = fields.get("action")?;
            Named { action, at: fields.at(field), from_task: false }
        } else {
            let task = input.and_then(|field| entry(field, "task"));
            let Some((task, action)) =
                task.and_then(|task| Some((task, task.node.text()?))).filter(|(_, a)| is_action_name(a))
            else {
                let is_agent = input.is_some_and(|field| entry(field, "agent").is_some());
                let example = if is_agent { "agent.run" } else { "PLUGIN.ACTION" };
                self.missing(fields, "action", Some(format!("add action: {example}")));
                return None;
            };
            let path = join_key(&join_key(&fields.path, "input"), "task");
            Named { action, at: At { span: task.node.span, path }, from_task: true }
        };
        let place = self.place(&named.at);
        self.places.entry(id).or_default().action = Some(place);
        if !is_action_name(named.action) {
            let message = fields
                .says(format!("{} is no name of an action: it is a plugin's id, a dot, a name", quoted(named.action)));
            let built_in = super::super::catalog::BUILT_IN_ACTIONS.iter().copied();
            let suggestion = did_you_mean(named.action, built_in).or_else(|| Some("for example agent.run".to_owned()));
            self.error(code::UNKNOWN_ACTION, named.at, message, suggestion);
            return None;
        }
        Some(named)
    }

    /// The input without what the engine reads itself.
    fn input(
        &mut self,
        fields: &Fields<'a>,
        field: Field<'a>,
        named: Option<&Named<'a>>,
        state: &mut State,
    ) -> Option<Value> {
        let mut value = field.node.to_value();
        let Value::Object(map) = &mut value else {
            let is_template = field.node.text().is_some_and(|text| text.trim_start().starts_with("{{"));
            if !is_template {
                self.wrong_type(fields, field, "an object with fields, or one template", None);
            }
            return is_template.then_some(value);
        };
        if named.is_some_and(|named| named.from_task) {
            map.shift_remove("task");
        }
        if entry(field, "timeoutSeconds").is_some() {
            map.shift_remove("timeoutSeconds");
            let mut inner = self.fields(field.node, fields.of.clone(), join_key(&fields.path, "input"))?;
            let from_input = self.duration(&mut inner, "timeoutSeconds");
            state.timeout_ms = state.timeout_ms.or(from_input);
        }
        if named.is_some_and(|named| named.action == "human.approval") && entry(field, "summaryPath").is_some() {
            let mut inner = self.fields(field.node, fields.of.clone(), join_key(&fields.path, "input"))?;
            let path = self.path(&mut inner, "summaryPath")?;
            if map.contains_key("summary") {
                let message = fields.says("the input has both 'summary' and 'summaryPath'");
                self.error(code::INVALID_VALUE, inner.here(), message, Some("leave out one of them".to_owned()));
            }
            *map = std::mem::take(map).into_iter().map(|entry| summarised(entry, &path)).collect();
        }
        Some(value)
    }

    pub(super) fn retry(&mut self, fields: &mut Fields<'a>) -> Option<Retry> {
        let field = fields.get("retry")?;
        let of = fields.says("retry");
        let mut retry = self.fields(field.node, of, join_key(&fields.path, "retry"))?;
        retry.span = field.key_span;
        let max_attempts = self.integer(&mut retry, "maxAttempts", 1, ATTEMPTS_MAX).unwrap_or(ATTEMPTS_DEFAULT);
        let backoff = self.backoff(&mut retry);
        let delay_ms = self.pause(&mut retry, "backoffSeconds").unwrap_or(DELAY_MS_DEFAULT);
        let multiplier = match self.number(&mut retry, "backoffMultiplier", "a number") {
            Some((_, field)) if backoff != Backoff::Exponential => {
                let message = "'backoffMultiplier' is for backoff: exponential alone".to_owned();
                self.invalid(&retry, field, message, Some("add backoff: exponential".to_owned()));
                2.0
            }
            Some((number, field)) if !(1.0..=MULTIPLIER_MAX).contains(&number) => {
                self.invalid(&retry, field, "'backoffMultiplier' should be a number from 1 to 100".to_owned(), None);
                2.0
            }
            Some((number, _)) => number,
            None => 2.0,
        };
        let longest = self.pause(&mut retry, "maxBackoffSeconds");
        if let (Some(longest), Some(field)) = (longest, retry.get("maxBackoffSeconds"))
            && longest < delay_ms
        {
            self.invalid(&retry, field, "'maxBackoffSeconds' is less than 'backoffSeconds'".to_owned(), None);
        }
        let jitter = self.jitter(&mut retry);
        let retry_on = self.selectors(&mut retry, "retryOn");
        if let Some(field) = retry.get("retryOn")
            && retry_on.iter().any(|selector| selector == Category::ValidationError.as_str())
        {
            let message =
                retry.says("'retryOn': a ValidationError is never retried, since the same data does not fit again");
            self.warn(code::INVALID_VALUE, retry.at(field), message);
        }
        let valid =
            ["maxAttempts", "backoff", "backoffSeconds", "backoffMultiplier", "maxBackoffSeconds", "jitter", "retryOn"];
        self.finish(&retry, &valid, |key| match key {
            "attempts" | "max" | "count" | "limit" => Some("did you mean 'maxAttempts'?".to_owned()),
            "delay" | "interval" | "delaySeconds" | "intervalSeconds" => {
                Some("did you mean 'backoffSeconds'?".to_owned())
            }
            "multiplier" | "factor" | "rate" => Some("did you mean 'backoffMultiplier'?".to_owned()),
            _ => None,
        });
        let max_delay_ms = longest.unwrap_or(MAX_DELAY_MS_DEFAULT.max(delay_ms));
        Some(Retry { max_attempts, backoff, delay_ms, multiplier, max_delay_ms, jitter, retry_on })
    }

    fn backoff(&mut self, retry: &mut Fields<'a>) -> Backoff {
        let Some(text) = self.text(retry, "backoff") else { return Backoff::Fixed };
        match text {
            "fixed" => Backoff::Fixed,
            "linear" => Backoff::Linear,
            "exponential" => Backoff::Exponential,
            other => {
                self.not_one_of(retry, "backoff", other, &["fixed", "linear", "exponential"]);
                Backoff::Fixed
            }
        }
    }

    /// A pause may be 0.
    fn pause(&mut self, retry: &mut Fields<'a>, key: &str) -> Option<u64> {
        let (seconds, field) = self.number(retry, key, "a number of seconds")?;
        let ms = seconds_to_ms(seconds);
        if ms.is_none() {
            self.invalid(retry, field, format!("'{key}' should be a number of seconds from 0 to 100 years"), None);
        }
        ms
    }

    fn jitter(&mut self, retry: &mut Fields<'a>) -> f64 {
        match retry.get("jitter").map(|field| &field.node.data) {
            Some(Data::Bool(on)) => return if *on { JITTER_DEFAULT } else { 0.0 },
            None => return 0.0,
            Some(_) => {}
        }
        match self.number(retry, "jitter", "a number from 0 to 1, true or false") {
            Some((number, _)) if (0.0..=1.0).contains(&number) => number,
            Some((_, field)) => {
                let message = "'jitter' should be a number from 0 to 1, true or false".to_owned();
                self.invalid(retry, field, message, Some("0.2 means between 80 % and 120 % of the pause".to_owned()));
                0.0
            }
            None => 0.0,
        }
    }

    /// Categories and codes of errors.
    pub(super) fn selectors(&mut self, fields: &mut Fields<'a>, key: &str) -> Vec<String> {
        let selectors = self.texts(fields, key).unwrap_or_default();
        for (selector, at) in &selectors {
            let is_code = selector.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if *selector == "*" || is_code || Category::parse(selector).is_some() {
                continue;
            }
            let categories = || Category::ALL.iter().map(|category| category.as_str());
            let suggestion = did_you_mean(selector, categories()).or_else(|| {
                Some(format!("a code in upper case, '*', or one of {}", categories().collect::<Vec<_>>().join(", ")))
            });
            let message = fields.says(format!("'{key}': {} is neither a category nor a code", quoted(selector)));
            self.error(code::INVALID_VALUE, at.clone(), message, suggestion);
        }
        selectors.into_iter().map(|(selector, _)| selector.to_owned()).collect()
    }

    pub(super) fn not_one_of(&mut self, fields: &mut Fields<'a>, key: &str, text: &str, allowed: &[&str]) {
        let Some(field) = fields.get(key) else { return };
        let suggestion = did_you_mean(text, allowed.iter().copied());
        let message = format!("'{key}' is {}, it should be one of {}", quoted(text), allowed.join(", "));
        self.invalid(fields, field, message, suggestion);
    }
}

/// An action and where it was named.
struct Named<'a> {
    action: &'a str,
    at: At,
    from_task: bool,
}

/// An entry of the object in a field.
fn entry<'a>(field: Field<'a>, key: &str) -> Option<Field<'a>> {
    let Data::Map(entries) = &field.node.data else { return None };
    let entry = entries.iter().find(|entry| entry.key == key)?;
    Some(Field { key: &entry.key, key_span: entry.key_span, node: &entry.value })
}

/// `summaryPath: p` is short for `summary: "{{ p }}"`.
fn summarised((key, value): (String, Value), path: &Path) -> (String, Value) {
    if key == "summaryPath" {
        let path = if path.is_root() { "ctx".to_owned() } else { path.to_string() };
        ("summary".to_owned(), Value::String(format!("{{{{ {path} }}}}")))
    } else {
        (key, value)
    }
}
