//! How many runs may run at once, and how long they are kept: `concurrency` and `retention` at the top of a workflow.

use super::super::diagnostic::{code, quoted};
use super::super::document::{Data, join_key};
use super::fields::{Field, Fields};
use super::{At, Reader};
use crate::expr::{Piece, Template};
use crate::model::{Concurrency, Overflow, Retention};
use crate::time::{parse_duration_ms, seconds_to_ms};

/// Most runs of one key at once: they are counted whenever one begins.
const LIMIT_MAX: u32 = 10_000;
/// Most runs that may wait for one key: they are counted whenever one more comes.
const QUEUED_MAX: u32 = 10_000;
/// When `maxQueued` is not given. One after the other, runs of a minute each wait most of a day behind a thousand others: by then the
/// work comes faster than it is done, and whoever sends it should hear so.
const QUEUED_DEFAULT: u32 = 1000;

const POLICIES: &[&str] = &["queue", "cancel-oldest", "refuse"];

impl<'a> Reader<'a> {
    /// `concurrency: 3`, or an object.
    pub(super) fn concurrency(&mut self, top: &mut Fields<'a>) -> Option<Concurrency> {
        let field = top.get("concurrency")?;
        let whole = |limit| Concurrency { limit, key: None, overflow: Overflow::Queue { queued_max: QUEUED_DEFAULT } };
        if matches!(field.node.data, Data::Number(_)) {
            return self.integer(top, "concurrency", 1, LIMIT_MAX).map(whole);
        }
        if !matches!(field.node.data, Data::Map(_)) {
            self.wrong_type(top, field, "a number, or an object with a limit", Some("concurrency: 1".to_owned()));
            return None;
        }
        let path = join_key(&top.path, "concurrency");
        let mut fields = self.fields(field.node, "concurrency".to_owned(), path)?;
        fields.span = field.key_span;
        if !fields.has("limit") {
            self.missing(&fields, "limit", Some("how many runs may run at once, for example limit: 1".to_owned()));
        }
        let limit = self.integer(&mut fields, "limit", 1, LIMIT_MAX);
        let key = self.concurrency_key(&mut fields);
        let overflow = self.overflow(&mut fields);
        self.finish(&fields, &["limit", "key", "policy", "maxQueued"], |key| match key {
            "max" | "maxConcurrency" | "maxRuns" | "concurrency" | "count" => Some("did you mean 'limit'?".to_owned()),
            "group" | "per" | "by" => Some("did you mean 'key'?".to_owned()),
            "strategy" | "onLimit" | "mode" => Some("did you mean 'policy'?".to_owned()),
            "queue" | "queueSize" | "maxQueue" | "maxPending" => Some("did you mean 'maxQueued'?".to_owned()),
            _ => None,
        });
        Some(Concurrency { limit: limit?, key, overflow })
    }

    /// Only paths: a key is made before the run is, and nothing is evaluated for it.
    fn concurrency_key(&mut self, fields: &mut Fields<'a>) -> Option<Template> {
        let template = self.text_template(fields, "key")?;
        let field = fields.get("key")?;
        let expression = template.pieces().into_iter().find_map(|piece| match piece {
            Piece::Expression(source) => Some(source.clone()),
            Piece::Path(_) => None,
        });
        if let Some(source) = expression {
            let message = format!("'key' may hold paths into the input alone, {} is an expression", quoted(&source));
            let at = fields.at(field);
            let help = "for example key: \"{{ customer.id }}\"".to_owned();
            self.error(code::INVALID_TEMPLATE, at, fields.says(message), Some(help));
            return None;
        }
        if template.is_constant() {
            let message = "'key' is the same for every run: nothing in it is filled in".to_owned();
            self.invalid(fields, field, message, Some("leave it out, or write \"{{ … }}\"".to_owned()));
            return None;
        }
        Some(template)
    }

    fn overflow(&mut self, fields: &mut Fields<'a>) -> Overflow {
        let queued_max = self.integer(fields, "maxQueued", 1, QUEUED_MAX);
        let overflow = match self.text(fields, "policy") {
            None | Some("queue") => return Overflow::Queue { queued_max: queued_max.unwrap_or(QUEUED_DEFAULT) },
            Some("cancel-oldest") => Overflow::CancelOldest,
            Some("refuse") => Overflow::Refuse,
            Some(other) => {
                self.not_one_of(fields, "policy", other, POLICIES);
                return Overflow::Refuse;
            }
        };
        if let Some(field) = fields.get("maxQueued") {
            let message = "'maxQueued' is for policy: queue alone, nothing waits here".to_owned();
            self.invalid(fields, field, message, Some("leave it out".to_owned()));
        }
        overflow
    }

    /// How long data and runs are kept after their end.
    pub(super) fn retention(&mut self, top: &mut Fields<'a>) -> Retention {
        let Some(field) = top.get("retention") else { return Retention::default() };
        if !matches!(field.node.data, Data::Map(_)) {
            let help = "retention: {payloads: 30d, runs: 90d}".to_owned();
            self.wrong_type(top, field, "an object with payloads, runs or both", Some(help));
            return Retention::default();
        }
        let path = join_key(&top.path, "retention");
        let Some(mut fields) = self.fields(field.node, "retention".to_owned(), path) else {
            return Retention::default();
        };
        fields.span = field.key_span;
        let retention =
            Retention { payloads_ms: self.age(&mut fields, "payloads"), runs_ms: self.age(&mut fields, "runs") };
        self.finish(&fields, &["payloads", "runs"], |_| None);
        if !fields.has("payloads") && !fields.has("runs") {
            let at = At { span: field.key_span, path: fields.path.clone() };
            let message = fields.says("neither 'payloads' nor 'runs' is given: nothing would come of it");
            self.error(code::MISSING_FIELD, at, message, Some("for example payloads: 30d".to_owned()));
        }
        if let (Some(payloads), Some(runs), Some(field)) =
            (retention.payloads_ms, retention.runs_ms, fields.get("payloads"))
            && payloads > runs
        {
            let message = "'payloads' is longer than 'runs': a run goes with all that is in it".to_owned();
            self.invalid(&fields, field, message, Some("keep runs at least as long as their payloads".to_owned()));
        }
        retention
    }

    /// A duration above 0: seconds, or text like `30d`.
    fn age(&mut self, fields: &mut Fields<'a>, key: &str) -> Option<u64> {
        let field = fields.get(key)?;
        let ms = match &field.node.data {
            Data::Number(seconds) => seconds.as_f64().and_then(seconds_to_ms),
            Data::Text(text) => parse_duration_ms(text),
            Data::Null | Data::Bool(_) | Data::List(_) | Data::Map(_) => {
                self.wrong_type(fields, field, "a duration", Some("for example 30d".to_owned()));
                return None;
            }
        };
        let ms = ms.filter(|ms| *ms > 0);
        if ms.is_none() {
            self.no_age(fields, field);
        }
        ms
    }

    fn no_age(&mut self, fields: &Fields<'a>, field: Field<'a>) {
        let message = format!("'{}' should be a duration above 0 and under 100 years", field.key);
        let help = "write 30d, 12h, 1h 30m, seconds (90) or ISO 8601 (P30D)".to_owned();
        self.invalid(fields, field, message, Some(help));
    }
}
