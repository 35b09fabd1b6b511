use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde_json::json;

use super::date;
use crate::bindings::caisson::step::http as host;
use crate::{Category, Failure, Retry};

/// How much of a body a failure's details show: enough for an error message, little enough for every record of the step.
const EXCERPT_CHARS_MAX: usize = 1_000;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Response {
    target: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    pub(super) fn new(target: String, wire: host::Response) -> Self {
        let host::Response { status, headers, body } = wire;
        Self { target, status, headers, body }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is one of success, 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// All headers, in the server's order.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.body
    }

    /// The body as text; what is not UTF-8 in it is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as JSON. One that does not read is a failure `RESPONSE_INVALID` that shows the body's beginning.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("the answer to {} does not read as the JSON that is expected: {error}", self.target);
            Failure::action("RESPONSE_INVALID", message).details(&self.excerpt())
        })
    }

    /// How long the server asks to wait (`retry-after`).
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = date::parse(value)?;
        // The server's own clock, where it shows it: ours may be ahead.
        let now = match self.header("date").and_then(date::parse) {
            Some(now) => now,
            None => SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs(),
        };
        Some(Duration::from_secs(until.saturating_sub(now)))
    }

    /// The response itself if its status is one of success, else [`failure`](Self::failure).
    pub fn error_for_status(self) -> Result<Self, Failure> {
        if self.is_success() { Ok(self) } else { Err(self.failure()) }
    }

    /// What the status says, as a failure: one that may pass for 408, 425, 429 (`RATE_LIMITED`) and 5xx, not before `retry-after` if the
    /// server sent it; else the action failed. The code is `HTTP_STATUS`; the details are the status and the body's beginning.
    pub fn failure(&self) -> Failure {
        let message = format!("{} answered with status {}", self.target, self.status);
        let code = if self.status == 429 { "RATE_LIMITED" } else { "HTTP_STATUS" };
        let may_pass = matches!(self.status, 408 | 425 | 429 | 500..=599);
        let category = if may_pass { Category::Transient } else { Category::Action };
        let failure = Failure::new(category, code, message).details(&self.excerpt());
        match self.retry_after().filter(|_| may_pass) {
            Some(pause) => failure.retry(Retry::AfterMs(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))),
            None => failure,
        }
    }

    fn excerpt(&self) -> serde_json::Value {
        let body: String = self.text().chars().take(EXCERPT_CHARS_MAX).collect();
        json!({"status": self.status, "body": body})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response::new("GET a.example".to_owned(), host::Response { status, headers, body: body.into() })
    }

    /// The order of keys is that of whoever builds `serde_json`.
    fn details(failure: &Failure) -> serde_json::Value {
        serde_json::from_str(failure.details_json().expect("details")).expect("JSON")
    }

    #[test]
    fn a_status_becomes_a_failure_that_says_whether_it_may_pass() {
        for (status, category, code) in [
            (304, Category::Action, "HTTP_STATUS"),
            (404, Category::Action, "HTTP_STATUS"),
            (408, Category::Transient, "HTTP_STATUS"),
            (429, Category::Transient, "RATE_LIMITED"),
            (503, Category::Transient, "HTTP_STATUS"),
        ] {
            let failure = response(status, &[("retry-after", "x")], "why").error_for_status().expect_err("a failure");
            assert_eq!((failure.category(), failure.code()), (category, code), "{status}");
            assert_eq!(failure.advice(), Retry::Default);
            assert_eq!(failure.message(), format!("GET a.example answered with status {status}"));
            assert_eq!(details(&failure), json!({"status": status, "body": "why"}));
        }
        assert!(response(204, &[], "").error_for_status().is_ok());
    }

    #[test]
    fn the_servers_pause_is_kept() {
        let date = ("date", "Fri, 31 Dec 1999 23:59:00 GMT");
        for (headers, expected) in [
            (vec![("Retry-After", "120")], Retry::AfterMs(120_000)),
            (vec![("retry-after", "Sat, 01 Jan 2000 00:00:00 GMT"), date], Retry::AfterMs(60_000)),
            (vec![("retry-after", "Fri, 31 Dec 1999 00:00:00 GMT"), date], Retry::AfterMs(0)),
            (vec![("retry-after", "soon")], Retry::Default),
            (vec![], Retry::Default),
        ] {
            assert_eq!(response(429, &headers, "").failure().advice(), expected, "{headers:?}");
        }
        assert_eq!(response(404, &[("retry-after", "9")], "").failure().advice(), Retry::Default);
    }

    #[test]
    fn json_that_does_not_read_shows_what_came() {
        let failure = response(200, &[], "<html>").json::<u8>().expect_err("no JSON");
        assert_eq!(failure.code(), "RESPONSE_INVALID");
        assert_eq!(details(&failure), json!({"status": 200, "body": "<html>"}));
        assert_eq!(response(200, &[], " 7").json::<u8>().expect("JSON"), 7);
    }

    #[test]
    fn an_excerpt_is_short() {
        let failure = response(500, &[], &"ä".repeat(5_000)).failure();
        let details = failure.details_json().expect("details");
        assert_eq!(details.chars().filter(|c| *c == 'ä').count(), EXCERPT_CHARS_MAX);
    }
}
